package plan

import (
	"fmt"
	"slices"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// Served is what a server adds to the seed of a machine that it installs.
type Served struct {
	Report    string // URL of the installer's events, unless the configuration names one
	Receipt   string // URL of gpu-ready's receipts, likewise
	Stamp     string // names this installation on the disk: it is refused where it was done already
	Reinstall bool   // what is installed may be erased
}

// Unserved reports why a server cannot install a machine: its packages come from its
// medium alone, and what a server gives out is the stock medium. Without this it would
// be erased first, and stop then.
func (p *Project) Unserved(m *Machine) report.Report {
	var rep report.Report
	if m.Offline != config.OfflineOnly {
		return rep
	}
	if want, found := p.renderer.Requirements(m.input()); found.HasErrors() || len(want.Packages) == 0 {
		return rep
	}
	rep.Add(report.Diagnostic{
		Severity: report.Error, Path: "offline", Pos: m.Origin("offline"),
		Summary: m.Name + " takes its packages from its medium alone (offline: only), and a server has no repository to give it",
		Detail:  fmt.Sprintf(`write it a medium: "gpustrap remaster --iso ISO -o %s.iso %s"; or say "offline: fallback", which takes them from the network`, m.Name, m.Name),
	})
	return rep
}

// RenderServed returns the NoCloud seed of a machine that a server installs.
func (p *Project) RenderServed(m *Machine, s Served) (autoinstall.Seed, report.Report) {
	rep := p.Unserved(m)
	if rep.Merge(p.lacksOffline(m, report.Error)); rep.HasErrors() {
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
