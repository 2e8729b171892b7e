package plan

import (
	"slices"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/report"
)

// Served is what a server adds to the seed of a machine that it installs.
type Served struct {
	Report    string // URL of the installer's events, unless the configuration names one
	Receipt   string // URL of gpu-ready's receipts, likewise
	Stamp     string // names this installation on the disk: it is refused where it was done already
	Reinstall bool   // what is installed may be erased
}

// RenderServed returns the NoCloud seed of a machine that a server installs.
func (p *Project) RenderServed(m *Machine, s Served) (autoinstall.Seed, report.Report) {
	rep := p.lacksOffline(m, report.Error)
	if rep.HasErrors() {
		return autoinstall.Seed{}, rep
	}
	in := m.input()
	if in.Report == "" {
		in.Report = s.Report
	}
	if in.Machine.Ready.Report == "" {
		in.Machine.Ready.Report = s.Receipt
	}
	in.Machine.Reinstall = in.Machine.Reinstall || s.Reinstall
	in.Stamp = s.Stamp
	return p.renderer.Render(in)
}

// WantsHWE reports whether a machine is to be installed with the medium's kernel for
// new hardware, where it has one.
func WantsHWE(m *Machine) bool { return m.GPU != nil && m.GPU.Kernel == "hwe" }

// ServedArgs returns the kernel arguments with which a machine that a server
// installs starts the installer; seed is the address of its seed, with a slash at
// the end. Whoever armed the machine has answered the question that the installer
// would ask. Each stands as the kernel is to see it: GRUB wants the one with the
// semicolon quoted.
func ServedArgs(m *Machine, seed string) []string {
	args := slices.DeleteFunc(slices.Clone(Menu(m).KernelArgs), func(arg string) bool {
		return arg == argAutoinstall || arg == argDataSource || arg == argNoPersistence
	})
	// casper's url= would be taken for the address of a configuration too.
	return append([]string{argAutoinstall, "ds=nocloud;s=" + seed, "cloud-config-url=/dev/null"}, args...)
}
