package gpu

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// AutoTable returns what a machine needs to choose its stack by the PCI ids that
// it finds, exactly as Resolve would with those ids: lines for a shell script.
// The request's Models, PCI, Auto and Count do not matter; the rest holds. If a
// finding refuses the request, the table is nil.
//
// Lines that start with # are comments. Every other line is a record of fields
// separated by "|" (the table travels in YAML, where a tab would spoil the block
// that a person can read); "-" stands for an empty field. The first field says what
// the record is; records come in this order:
//
//	format  1
//	stack   ID  BRANCH  FLAVOUR  PACKAGES  SERVICES  MODULES  REPOSITORIES
//	fabric  SET  ID  PACKAGES  SERVICES  MODULES  REPOSITORIES
//	switch  PCI  SET
//	gpu     PCI  MODEL  IDS  SET  FROM  PRODUCT
//
// PACKAGES, SERVICES, MODULES and REPOSITORIES are lists separated by spaces,
// as in Stack. IDS, separated by commas, are the stacks that drive the GPU.
//
// To choose: look up the PCI id (vendor:device, lower case) of every NVIDIA
// device whose class is 0300 or 0302 among the gpu records, and of every bridge
// (class 0680) among the switch records. A GPU that is not there, or has no
// IDS, ends in an error. The stack is the first one whose ID every GPU has; if
// there is none, that is an error. For each SET that a GPU names, if the machine
// has FROM GPUs or more, or a switch of that SET, the record of that SET and the
// stack's ID adds its lists to the stack's. Nothing is listed twice.
func (t *Tables) AutoTable(req Request) ([]byte, []Finding) {
	req.Models, req.PCI, req.Auto, req.Count = nil, nil, true, 0
	r := t.begin(req)
	if r.refused() {
		return nil, r.findings
	}
	r.pickKernel(nil)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# gpustrap: driver stacks by PCI id. Ubuntu %s %s, driver from %s, kernel linux-%s; tables of %s\n",
		r.release.name, r.req.Arch, r.req.Source, r.kernel.suffix, t.date)
	record(&b, "format", "1")
	candidates := r.candidates()
	for _, c := range candidates {
		x := r.expand(c, r.sets(nil))
		record(&b, "stack", c.id(), c.name, string(c.flavour), words(x.packages), words(x.services), words(x.modules), words(x.repositories))
	}
	for _, set := range t.fabrics() {
		for _, c := range candidates {
			x := r.expand(c, []string{set})
			record(&b, "fabric", set, c.id(), words(x.packages), words(x.services), words(x.modules), words(x.repositories))
		}
	}
	for _, s := range t.switches {
		record(&b, "switch", s.pci, s.fabric)
	}
	for _, d := range t.devices {
		set, from := r.autoFabric(d.board)
		record(&b, "gpu", d.pci, d.models[0], strings.Join(r.autoIDs(d, candidates), ","), set, from, d.product)
	}
	return b.Bytes(), r.findings
}

// AutoPackages returns the lists of packages, each of which a machine with a
// request's choices may come to install when it chooses by AutoTable: one for each
// stack, and one more for each fabric that adds to it. They stand in the order of
// the table, each once.
func (t *Tables) AutoPackages(req Request) [][]string {
	req.Models, req.PCI, req.Auto, req.Count = nil, nil, true, 0
	r := t.begin(req)
	if r.refused() {
		return nil
	}
	r.pickKernel(nil)
	var all [][]string
	add := func(packages []string) {
		if !slices.ContainsFunc(all, func(have []string) bool { return slices.Equal(have, packages) }) {
			all = append(all, packages)
		}
	}
	candidates := r.candidates()
	for _, c := range candidates {
		own := r.expand(c, r.sets(nil)).packages
		add(own)
		for _, set := range t.fabrics() {
			if slices.ContainsFunc(t.devices, func(d *device) bool {
				fabric, _ := r.autoFabric(d.board)
				return fabric == set && slices.Contains(r.autoIDs(d, candidates), c.id())
			}) {
				add(union(slices.Clone(own), r.expand(c, []string{set}).packages))
			}
		}
	}
	return all
}

func (c choice) id() string { return c.name + "/" + string(c.flavour) }

func record(b *bytes.Buffer, fields ...string) {
	for i, f := range fields {
		if f == "" {
			f = "-"
		}
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(f)
	}
	b.WriteByte('\n')
}

func words(list []string) string { return strings.Join(list, " ") }

// fabrics returns the sets that boards name, each once.
func (t *Tables) fabrics() []string {
	var out []string
	for _, d := range t.devices {
		if f := d.board.fabric; f != "" && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// autoIDs returns the stacks that drive a device in a machine of this
// architecture; none if it cannot be there, or no longer has a driver.
func (r *resolver) autoIDs(d *device, candidates []choice) []string {
	last := r.t.branches[d.architecture.last]
	if d.board.arch != "" && d.board.arch != r.req.Arch || last != nil && last.ended {
		return nil
	}
	var out []string
	for _, c := range candidates {
		if r.accepts(gpu{device: d}, c) {
			out = append(out, c.id())
		}
	}
	return out
}

// autoFabric returns the set that a board needs, and from how many GPUs on.
func (r *resolver) autoFabric(b *board) (set, from string) {
	switch {
	case b.fabric == "", b.fabric != "imex" && r.req.FabricManager == "off":
		return "", ""
	case b.fabric != "imex" && r.req.FabricManager == "on":
		return b.fabric, "1"
	}
	return b.fabric, fmt.Sprint(b.from)
}

// autoStack is the Stack of a machine that chooses for itself: what holds for
// every choice that it may make.
func (r *resolver) autoStack() Stack {
	r.pickKernel(nil)
	var s Stack
	r.common(&s)
	sets := append(r.sets(nil), r.t.fabrics()...)
	var packages []string
	for _, c := range r.candidates() {
		x := r.expand(c, sets)
		packages = union(packages, x.packages)
		s.Components = union(s.Components, x.components)
		s.Repositories = union(s.Repositories, x.repositories)
		s.Hold = union(s.Hold, r.hold(c, x.packages))
	}
	slices.SortFunc(s.Components, func(a, b string) int {
		return slices.Index(componentForm, a) - slices.Index(componentForm, b)
	})
	s.Pins = r.pins(r.branches[0].branch.number, packages, s.Repositories)
	r.because("driver chosen on the machine", fmt.Sprintf("by the PCI ids that it finds, from the tables of %s", r.t.date), r.t.cite([]string{"gpustrap"}))
	s.Reasons = r.reasons
	return s.filled()
}
