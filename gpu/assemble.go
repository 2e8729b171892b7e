package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file turns a choice into packages, services, pins and reasons.

// fabric decides which sets of packages the links between the GPUs need.
func (r *resolver) fabric(gpus []gpu) []string {
	var sets []string
	linked := false // some GPU sits on a board that can have a Fabric Manager
	for _, g := range gpus {
		b := g.board
		if b.fabric == "" || slices.Contains(sets, b.fabric) {
			continue
		}
		managed := b.fabric != "imex"
		linked = linked || managed
		enough := r.req.Count == 0 || r.req.Count >= b.from || r.switches[b.fabric]
		switch {
		case managed && r.req.FabricManager == "off":
			if enough {
				r.add(warn("fabric-off", "fabric_manager", fmt.Sprintf("%s on an %s: CUDA does not start there without a Fabric Manager", g, b.name),
					"write fabric_manager: auto, unless the fabric is set up from elsewhere"))
			}
		case managed && r.req.FabricManager == "on" && !enough:
			r.add(warn("fabric-few", "fabric_manager", fmt.Sprintf("machines with fewer than %d %s have no NVSwitch for a Fabric Manager to set up", b.from, g),
				"write fabric_manager: auto"))
			sets = append(sets, b.fabric)
		case enough:
			sets = append(sets, b.fabric)
			r.because("package set "+b.fabric, r.t.sets[b.fabric].why+r.fabricSize(b), r.t.cite(r.t.sets[b.fabric].source, b.source))
		case managed:
			r.because("no Fabric Manager", fmt.Sprintf("%d GPUs: an %s has %d or more behind its switches", r.req.Count, b.name, b.from), r.t.cite(b.source))
		}
	}
	if r.req.FabricManager == "on" && !linked {
		r.doubt(refuse("fabric-none", "fabric_manager", fmt.Sprintf("%s: no NVSwitch for a Fabric Manager to set up, so its service would fail at every boot", list(gpus)),
			"write fabric_manager: auto"))
		sets = append(sets, "nvswitch")
	}
	order := r.t.fabrics()
	slices.SortFunc(sets, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return sets
}

func (r *resolver) fabricSize(b *board) string {
	if r.req.Count == 0 && b.from > 1 && !r.switches[b.fabric] {
		return fmt.Sprintf(" (count is not given: taken for a whole %s of %d or more GPUs)", b.name, b.from)
	}
	return ""
}

// remark adds what a person should know of an accepted set.
func (r *resolver) remark(gpus []gpu) {
	for _, g := range gpus {
		if r.req.Display == "desktop" && g.class == "datacenter" {
			r.add(warn("desktop-on-datacenter", "display", fmt.Sprintf("%s is a data-centre GPU without a display", g), "write display: none"))
		}
		if g.board.page != "" && r.kernel.name != g.board.page {
			r.because("kernel pages of 4 KiB", fmt.Sprintf("asked for; NVIDIA recommends 64 KiB pages for a %s (kernel: %s)", g.board.name, g.board.page), r.t.cite(g.board.source))
		}
	}
	r.checkMIG(gpus)
	if r.req.Override != "" && !r.waived {
		r.add(warn("override-unused", "override", "the override is not needed: nothing here is refused on doubt", "remove it, so that it hides nothing later"))
	}
}

// assemble makes the Stack of a choice.
func (r *resolver) assemble(gpus []gpu, c choice, fabric []string) Stack {
	s := Stack{
		Branch:  c.describe(),
		Flavour: c.flavour,
	}
	r.common(&s)
	for _, g := range gpus {
		if d := r.describe(g); !slices.ContainsFunc(s.GPUs, func(x Device) bool { return x.Model == d.Model && slices.Equal(x.PCI, d.PCI) }) {
			s.GPUs = append(s.GPUs, d)
		}
	}
	own := r.reasons
	r.reasons = nil
	r.explainBranch(gpus, c)
	r.explainFlavour(gpus, c)
	r.explainPackages(c)
	r.reasons = append(r.reasons, own...)

	sets := r.sets(fabric)
	x := r.expand(c, sets)
	s.Packages, s.Components, s.Repositories = x.packages, x.components, x.repositories
	s.Services, s.Modules = x.services, x.modules
	s.FabricManager = slices.Contains(s.Services, "nvidia-fabricmanager.service")
	s.Pins = r.pins(c.branch.number, s.Packages, s.Repositories)
	s.Hold = r.hold(c, s.Packages)
	r.explainRest(s)
	s.Reasons = r.reasons
	return s.filled()
}

// filled replaces nil lists by empty ones, which JSON shows as such.
func (s Stack) filled() Stack {
	for _, list := range []*[]string{&s.Packages, &s.Components, &s.Repositories, &s.Services, &s.Modules, &s.Hold} {
		if *list == nil {
			*list = []string{}
		}
	}
	if s.GPUs == nil {
		s.GPUs = []Device{}
	}
	if s.Pins == nil {
		s.Pins = []Pin{}
	}
	return s
}

// sets returns the package sets in the order of installation. Those for the
// links are last, since a machine that chooses for itself adds them.
func (r *resolver) sets(fabric []string) []string {
	sets := []string{"driver", "headless"}
	if r.req.Display == "desktop" {
		sets[1] = "desktop"
	}
	if r.req.DCGM {
		sets = append(sets, "dcgm")
	}
	return append(sets, fabric...)
}

func (r *resolver) common(s *Stack) {
	s.Source = r.req.Source
	s.Signed = r.signed()
	s.Kernel = Kernel{r.kernel.name, "linux-" + r.kernel.suffix, "linux-headers-" + r.kernel.suffix}
}

// pickKernel takes the kernel asked for, else the one with the pages that suit
// the machine, else the release's first.
func (r *resolver) pickKernel(gpus []gpu) {
	name := cmp.Or(r.req.Kernel, "ga")
	if r.req.Kernel == "" && len(gpus) > 0 && gpus[0].board.page != "" {
		name = gpus[0].board.page
	}
	k, ok := r.t.kernel(r.release.name, r.req.Arch, name)
	if !ok {
		k, _ = r.t.kernel(r.release.name, r.req.Arch, "ga")
	}
	r.kernel = k
}

func (r *resolver) describe(g gpu) Device {
	switch {
	case g.unknown:
		return Device{Product: "unknown to the tables of " + r.t.date, PCI: []string{g.pci}}
	case g.model != "":
		return r.t.product(g.model)
	}
	return g.describe()
}

func (o offer) describe() Branch {
	b := Branch{Name: o.name, Status: o.branch.designation, EOL: o.branch.eol}
	if b.EOL == "past" {
		b.EOL = ""
	}
	return b
}

// expansion is what a list of sets comes to.
type expansion struct {
	packages, components, repositories, services, modules []string
}

// expand lists what the sets bring, in the order of packages.tsv, each once.
func (r *resolver) expand(c choice, sets []string) expansion {
	var x expansion
	components := map[string]bool{}
	for _, id := range sets {
		names, from := r.t.names(id, c.offer, c.flavour, r.req.Arch, r.kernel.suffix)
		for i, name := range names {
			if slices.Contains(x.packages, name) {
				continue
			}
			x.packages = append(x.packages, name)
			if from[i] == "cuda" {
				x.repositories = union(x.repositories, []string{"cuda"})
			} else {
				components[from[i]] = true
			}
		}
		x.services = union(x.services, r.t.sets[id].services)
		x.modules = union(x.modules, r.t.sets[id].modules)
	}
	for _, name := range componentForm {
		if components[name] && name != "main" {
			x.components = append(x.components, name)
		}
	}
	return x
}

// union appends what is not there yet.
func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// driverNames are globs for all packages of NVIDIA's driver, in both repositories.
var driverNames = []string{"nvidia-*", "libnvidia-*", "libnvsdm*", "libxnvctrl*", "cuda-drivers*", "xserver-xorg-video-nvidia-*"}

// pins keeps the two repositories apart. With the driver from the archive,
// NVIDIA's repository may give what it alone has and nothing else. With the
// driver from NVIDIA's repository, the archive gives none of its packages, and
// the branch stays what it is where names do not say it (the pinning package
// does not cover those).
func (r *resolver) pins(branch int, packages, repositories []string) []Pin {
	switch {
	case r.req.Source == "cuda":
		return []Pin{
			{Packages: driverNames, Repository: "ubuntu", Priority: -1},
			{Packages: driverNames, Version: fmt.Sprintf("%d.*", branch), Priority: 1000},
		}
	case slices.Contains(repositories, "cuda"):
		var names []string
		for _, p := range packages {
			switch {
			case strings.HasPrefix(p, "datacenter-gpu-manager-4-"):
				names = union(names, []string{"datacenter-gpu-manager-4-*"})
			case p == "nvlsm":
				names = append(names, p)
			}
		}
		return []Pin{
			{Packages: names, Repository: "cuda", Priority: 500},
			{Packages: []string{"*"}, Repository: "cuda", Priority: -1},
		}
	}
	return nil
}

// hold lists what must not be upgraded by itself.
func (r *resolver) hold(c choice, packages []string) []string {
	family, _ := r.t.names("family", c.offer, c.flavour, r.req.Arch, r.kernel.suffix)
	var out []string
	for _, name := range slices.Concat(packages, family, r.kernelNames()) {
		if slices.Contains([]string{"dkms", "infiniband-diags"}, name) || slices.Contains(out, name) {
			continue
		}
		out = append(out, name)
	}
	return out
}

func (r *resolver) kernelNames() []string {
	return []string{"linux-" + r.kernel.suffix, "linux-image-" + r.kernel.suffix, "linux-headers-" + r.kernel.suffix}
}
