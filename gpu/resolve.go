package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Resolve works out the driver stack for a request. If a finding refuses it, that
// is, if one is no warning, the Stack is empty. All complaints are found at once,
// as far as one does not hide another.
func (t *Tables) Resolve(req Request) (Stack, []Finding) {
	r := t.begin(req)
	gpus := r.gpus()
	r.checkMachine(gpus)
	if r.refused() {
		// What was written of driver and modules may be wrong besides.
		if asked := r.req.Driver != "auto" || r.req.Modules != "auto"; asked && len(r.branches) > 0 && len(gpus) > 0 {
			r.choose(gpus)
		}
		return Stack{}, r.findings
	}
	if req.Auto {
		return r.autoStack(), r.findings
	}
	c, ok := r.choose(gpus)
	if !ok {
		return Stack{}, r.findings
	}
	r.pickKernel(gpus)
	fabric := r.fabric(gpus)
	r.remark(gpus)
	if r.refused() {
		return Stack{}, r.findings
	}
	return r.assemble(gpus, c, fabric), r.findings
}

// resolver carries one request through the rules.
type resolver struct {
	t        *Tables
	req      Request // with the defaults filled in
	release  release
	kernel   kernel
	branches []offer // the driver branches to choose from, preferred first
	switches map[string]bool
	waived   bool // the override was needed
	findings []Finding
	reasons  []Reason
}

// gpu is a GPU of the machine, and the field that names it.
type gpu struct {
	*device
	field   string
	model   string // as named; "" if named by its PCI id
	unknown bool   // not in the tables
}

// String names the GPU as the person did, or as NVIDIA does.
func (g gpu) String() string {
	switch {
	case g.model != "":
		return g.model
	case g.unknown:
		return g.pci
	}
	return g.product
}

func refuse(rule, field, summary, detail string) Finding {
	return Finding{Rule: rule, Field: field, Summary: summary, Detail: detail}
}

func warn(rule, field, summary, detail string) Finding {
	return Finding{Rule: rule, Field: field, Warning: true, Summary: summary, Detail: detail}
}

func (r *resolver) add(f Finding) {
	if !slices.Contains(r.findings, f) {
		r.findings = append(r.findings, f)
	}
}

func (r *resolver) refused() bool {
	return slices.ContainsFunc(r.findings, func(f Finding) bool { return !f.Warning })
}

func (r *resolver) because(choice, why, source string) {
	r.reasons = append(r.reasons, Reason{choice, why, source})
}

// doubt adds a finding that an override turns into a warning.
func (r *resolver) doubt(f Finding) {
	if r.req.Override == "" {
		f.Detail += "; `override: {reason: …}` lets it pass"
	} else {
		r.waived = true
		f.Warning = true
		f.Detail = "let pass by the override: " + r.req.Override
	}
	r.add(f)
}

func quote(s string) string { return strconv.Quote(s) }

// begin checks everything that does not depend on the GPUs.
func (t *Tables) begin(req Request) *resolver {
	r := &resolver{t: t, req: req, switches: map[string]bool{}}
	r.defaults()
	r.checkPlatform()
	if r.release.name != "" {
		r.checkSecureBoot()
		r.findBranches()
	}
	return r
}

// defaults fills in what the request leaves open, and refuses words that no
// field knows.
func (r *resolver) defaults() {
	q := &r.req
	for _, f := range []struct {
		name   string
		value  *string
		values []string // the first is the default
	}{
		{"modules", &q.Modules, []string{"auto", string(Open), string(Proprietary)}},
		{"source", &q.Source, []string{"ubuntu", "cuda"}},
		{"secure_boot", &q.SecureBoot, []string{"auto", "required", "off"}},
		{"kernel", &q.Kernel, []string{"", "ga", "hwe", "64k"}},
		{"fabric_manager", &q.FabricManager, []string{"auto", "on", "off"}},
		{"display", &q.Display, []string{"none", "desktop"}},
	} {
		*f.value = cmp.Or(*f.value, f.values[0])
		if !slices.Contains(f.values, *f.value) {
			r.add(refuse("unknown-value", f.name, fmt.Sprintf("%s cannot be %s", f.name, quote(*f.value)),
				"write "+strings.Join(slices.DeleteFunc(f.values, func(s string) bool { return s == "" }), ", ")))
			*f.value = f.values[0]
		}
	}
	q.Driver = cmp.Or(q.Driver, "auto")
	q.Override = strings.TrimSpace(q.Override)
}

func (r *resolver) checkPlatform() {
	rel, ok := r.t.release(r.req.Release)
	if !ok {
		var names []string
		for _, x := range r.t.releases {
			names = append(names, x.name)
		}
		r.add(refuse("unknown-release", "", fmt.Sprintf("gpustrap knows no driver packages of Ubuntu %s", quote(r.req.Release)),
			"use "+strings.Join(names, ", ")))
		return
	}
	if !slices.Contains(rel.archs, r.req.Arch) {
		r.add(refuse("unknown-arch", "", fmt.Sprintf("there are no NVIDIA drivers in Ubuntu %s for architecture %s", rel.name, quote(r.req.Arch)),
			"use "+strings.Join(rel.archs, " or ")))
		return
	}
	if _, ok := r.t.kernel(rel.name, r.req.Arch, r.req.Kernel); !ok && r.req.Kernel != "" {
		r.add(refuse("kernel-absent", "kernel", fmt.Sprintf("Ubuntu %s has no %s kernel for %s", rel.name, r.req.Kernel, r.req.Arch),
			"64 KiB pages exist on arm64 only; write ga or hwe"))
		return
	}
	r.release = rel
}

// signed reports whether the machine's modules carry Canonical's signature.
func (r *resolver) signed() bool {
	return r.req.Source == "ubuntu" && slices.Contains(r.release.signed, r.req.Arch)
}

func (r *resolver) checkSecureBoot() {
	cuda := r.req.Source == "cuda"
	switch {
	case r.req.SecureBoot == "off" || r.signed():
	case r.req.SecureBoot == "required" && cuda:
		r.add(refuse("secure-boot-cuda", "source", "NVIDIA's CUDA repository has no modules that Secure Boot accepts: DKMS builds them on the machine, without Canonical's signature",
			"write source: ubuntu, or secure_boot: off"))
	case r.req.SecureBoot == "required":
		r.add(refuse("secure-boot-unsigned", "secure_boot", fmt.Sprintf("Canonical does not sign NVIDIA's modules for %s in Ubuntu %s", r.req.Arch, r.release.name),
			"use Ubuntu 26.04 or newer, or write secure_boot: off"))
	case cuda:
		r.add(warn("secure-boot-unknown", "source", "modules built on the machine do not load if Secure Boot is on",
			"write secure_boot: off once it is off in the firmware"))
	default:
		r.add(warn("secure-boot-unknown", "secure_boot", fmt.Sprintf("the modules of %s in Ubuntu %s are unsigned and do not load if Secure Boot is on", r.req.Arch, r.release.name),
			"write secure_boot: off once it is off in the firmware"))
	}
}

// gpus returns the GPUs that the request names.
func (r *resolver) gpus() []gpu {
	q := r.req
	ways := 0
	for _, used := range []bool{len(q.Models) > 0, len(q.PCI) > 0, q.Auto} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		r.add(refuse("which-gpu", "", "the GPUs must be named in one way", "write one of model, pci, auto: true"))
	}
	var out []gpu
	for i, name := range q.Models {
		field := "model"
		if len(q.Models) > 1 {
			field = fmt.Sprintf("model[%d]", i)
		}
		devices := r.t.byModel(name)
		if len(devices) == 0 {
			r.add(r.t.unknownModel(field, name))
			continue
		}
		out = append(out, gpu{device: devices[0], field: field, model: name})
	}
	for i, id := range q.PCI {
		if g, ok := r.gpuByPCI(fmt.Sprintf("pci[%d]", i), id); ok {
			out = append(out, g)
		}
	}
	if len(out) == 0 && len(q.PCI) > 0 && !r.refused() {
		r.add(refuse("which-gpu", "pci", "only NVSwitches are named, no GPU", "add the PCI id of the GPUs, as `lspci -nn` prints it"))
	}
	return out
}

func (r *resolver) gpuByPCI(field, text string) (gpu, bool) {
	id := strings.ToLower(strings.TrimSpace(text))
	if !pciForm.MatchString(id) {
		r.add(refuse("pci-form", field, quote(text)+" is no PCI id of an NVIDIA GPU", "write it as `lspci -nn` does, such as 10de:2335"))
		return gpu{}, false
	}
	if s, ok := r.t.nvswitch(id); ok {
		r.switches[s.fabric] = true
		return gpu{}, false
	}
	if d := r.t.byPCI(id); d != nil {
		return gpu{device: d, field: field}, true
	}
	unknown := refuse("unknown-pci", field, "no GPU with the PCI id "+id+" is known to the tables of "+r.t.date, "check it against `lspci -nn`")
	if r.req.Driver == "auto" || r.req.Modules == "auto" {
		unknown.Detail += "; a newer GPU needs driver and modules written, and an override"
		r.add(unknown)
		return gpu{}, false
	}
	r.doubt(unknown)
	// What the person vouches for: the tables cannot contradict them.
	d := &device{
		pci: id, models: []string{""}, product: "unknown", board: r.t.boards["pcie"],
		architecture: &architecture{name: "unknown", modules: []Flavour{Open, Proprietary}},
	}
	return gpu{device: d, field: field, unknown: true}, true
}

// checkMachine holds the GPUs against the machine they are said to be in.
func (r *resolver) checkMachine(gpus []gpu) {
	most := 0
	for _, g := range gpus {
		most += g.board.max
		if g.board.arch != "" && r.req.Arch != "" && g.board.arch != r.req.Arch {
			r.add(refuse("superchip-arch", g.field, fmt.Sprintf("%s is a %s, a machine of architecture %s", g, g.board.name, g.board.arch),
				"write arch: "+g.board.arch))
		}
		if last := r.t.branches[g.architecture.last]; last != nil && last.ended {
			r.add(refuse("architecture-ended", g.field, fmt.Sprintf("%s (%s) was last supported by driver branch %d, which is at its end of life", g, g.architecture.name, last.number),
				"leave gpu out and install that driver by hand, or use a newer GPU"))
		}
	}
	switch n := r.req.Count; {
	case n < 0:
		r.add(refuse("count-impossible", "count", fmt.Sprintf("a machine cannot have %d GPUs", n), "write the number of GPUs, or leave count out"))
	case n > maxGPUs:
		r.add(refuse("count-impossible", "count", fmt.Sprintf("NVIDIA's driver drives %d GPUs in one machine, not %d", maxGPUs, n), "write the number of GPUs in one machine"))
	case n > 0 && n < len(gpus):
		r.add(refuse("count-impossible", "count", fmt.Sprintf("count is %d, but %d GPUs are named", n, len(gpus)), "count all GPUs of the machine, or leave count out"))
	case len(gpus) > 0 && n > most:
		r.doubt(refuse("count-impossible", "count", fmt.Sprintf("%s: a machine has at most %d, not %d", list(gpus), most, n), "count the GPUs of one machine, as `nvidia-smi -L` lists them"))
	}
}

// maxGPUs is NV_MAX_DEVICES of NVIDIA's kernel modules.
const maxGPUs = 32

func list(gpus []gpu) string {
	var names []string
	for _, g := range gpus {
		if !slices.Contains(names, g.String()) {
			names = append(names, g.String())
		}
	}
	return strings.Join(names, ", ")
}
