// Package plan wires the floors below it: a gpustrap.yaml becomes a Fleet, each
// machine's GPUs a Stack, machine and Stack a NoCloud seed, the seed an Overlay
// for an installation medium. The commands and the network server call it; it
// prints nothing and reads only what it is given.
package plan

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/report"
)

// Project is a checked gpustrap.yaml: every machine with its Stack.
type Project struct {
	Machines   []Machine
	SigningKey string // as config.Fleet has it

	renderer *autoinstall.Renderer
	lock     *apt.Lock
}

// Machine is a resolved machine and the driver stack worked out for it.
type Machine struct {
	config.Machine
	Stack *gpu.Stack // nil: the machine gets no GPU stack
	Class string     // in the lock; empty without one

	// With an automatic Stack: gpu's table, by which the machine chooses, and the
	// lists of packages of which it then installs one.
	stacks  []byte
	choices [][]string
	locked  *autoinstall.Locked
	offline *autoinstall.Offline
}

// Load decodes, validates and resolves a configuration. Name is the file's name
// in the report; readFile reads the files it names, relative to its folder. The
// Project is nil when the report has errors.
func Load(name string, data []byte, readFile func(string) ([]byte, error)) (*Project, report.Report) {
	decoded, rep := config.Decode(name, data, readFile)
	fleet, resolved := decoded.Resolve()
	rep.Merge(resolved)
	tables, err := gpu.Load()
	if err != nil {
		rep.Add(report.Diagnostic{Severity: report.Error, Summary: "the built-in GPU tables are damaged: " + err.Error()})
		return nil, rep
	}
	renderer, err := autoinstall.NewRenderer()
	if err != nil {
		rep.Add(report.Diagnostic{Severity: report.Error, Summary: "the built-in scripts are damaged: " + err.Error()})
		return nil, rep
	}
	project := &Project{SigningKey: fleet.SigningKey, renderer: renderer, Machines: make([]Machine, len(fleet.Machines))}
	stacks := newStackCache(tables)
	// A section that could not be read is not judged: what it lacks is no choice.
	unread := func(section string) bool {
		return slices.ContainsFunc(rep.Diagnostics, func(d report.Diagnostic) bool {
			return d.Severity == report.Error && slices.Contains(strings.Split(d.Path, "."), section)
		})
	}
	judgeGPU := !unread("gpu") && !unread("ubuntu") && !unread("arch")
	for i := range fleet.Machines {
		m := &project.Machines[i]
		m.Machine = fleet.Machines[i]
		if judgeGPU {
			rep.Merge(stacks.resolve(m))
		}
		rep.Merge(checkKeys(&m.Machine))
	}
	rep.Sort()
	if rep.HasErrors() {
		return nil, rep
	}
	return project, rep
}

// Select returns the machines that the patterns name, in the order of the file.
// A pattern is a name or a shell pattern such as node0*. No pattern selects all
// machines.
func (p *Project) Select(patterns []string) ([]*Machine, error) {
	matched := make([]bool, len(patterns))
	var out []*Machine
	for i := range p.Machines {
		m := &p.Machines[i]
		selected := len(patterns) == 0
		for j, pattern := range patterns {
			ok, err := path.Match(pattern, m.Name)
			if err != nil {
				return nil, fmt.Errorf("cannot read the pattern %q: %w", pattern, err)
			}
			matched[j] = matched[j] || ok
			selected = selected || ok
		}
		if selected {
			out = append(out, m)
		}
	}
	if i := slices.Index(matched, false); i >= 0 {
		return nil, fmt.Errorf("the configuration has no machine %q; it has %s", patterns[i], p.names())
	}
	return out, nil
}

// One returns the machine that the arguments name; with a single machine in the
// file its name can be left out.
func (p *Project) One(args []string) (*Machine, error) {
	if len(args) == 0 && len(p.Machines) > 1 {
		return nil, fmt.Errorf("the configuration has %d machines; name one of %s", len(p.Machines), p.names())
	}
	selected, err := p.Select(args)
	if err != nil {
		return nil, err
	}
	if len(selected) != 1 {
		return nil, fmt.Errorf("%q names %d machines, and one is wanted", strings.Join(args, " "), len(selected))
	}
	return selected[0], nil
}

// names lists the machines' names for a message, the first few of many.
func (p *Project) names() string {
	const most = 8
	var names []string
	for _, m := range p.Machines[:min(most, len(p.Machines))] {
		names = append(names, m.Name)
	}
	text := strings.Join(names, ", ")
	if rest := len(p.Machines) - most; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

// Render returns the machine's NoCloud seed.
func (p *Project) Render(m *Machine) (autoinstall.Seed, report.Report) {
	rep := p.lacksOffline(m, report.Error)
	if rep.HasErrors() {
		return autoinstall.Seed{}, rep
	}
	rep.Merge(checkImages(m))
	seed, found := p.renderer.Render(m.input())
	rep.Merge(found)
	return seed, rep
}

// Preview returns what Render does, for a comparison with what was rendered
// before.
func (p *Project) Preview(m *Machine) (autoinstall.Seed, report.Report) {
	return p.renderer.Preview(m.input())
}

// Validate reports what Render would complain of in any machine, without
// rendering. What a command has yet to make before a machine can install offline is
// an error in those that are wanted, and a warning in others.
func (p *Project) Validate(wanted ...*Machine) report.Report {
	urgent := make(map[*Machine]bool, len(wanted))
	for _, m := range wanted {
		urgent[m] = true
	}
	found := make([]report.Report, len(p.Machines))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range p.Machines {
		group.Go(func() error {
			m := &p.Machines[i]
			severity := report.Warning
			if urgent[m] {
				severity = report.Error
			}
			found[i] = p.renderer.Validate(m.input())
			found[i].Merge(p.lacksOffline(m, severity))
			found[i].Merge(checkImages(m))
			return nil
		})
	}
	_ = group.Wait() // the functions return no error
	var rep report.Report
	for _, r := range found {
		rep.Merge(r)
	}
	return rep
}

// RenderCloudInit returns a plain cloud-config that turns a cloud image or a VM
// into the machine.
func (p *Project) RenderCloudInit(m *Machine) ([]byte, report.Report) {
	in, rep := m.online("cloud-init")
	data, found := p.renderer.RenderCloudInit(in)
	rep.Merge(found)
	return data, rep
}

// RenderScript returns one bash script that does the same to a machine that
// already runs Ubuntu Server.
func (p *Project) RenderScript(m *Machine) ([]byte, report.Report) {
	in, rep := m.online("script")
	data, found := p.renderer.RenderScript(in)
	rep.Merge(found)
	return data, rep
}

func (m *Machine) input() autoinstall.Input {
	return autoinstall.Input{Machine: m.Machine, Stack: m.Stack, Stacks: m.stacks, Locked: m.locked, Offline: m.offline, Report: m.Report}
}
