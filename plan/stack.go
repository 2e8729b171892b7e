package plan

import (
	"fmt"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/report"
)

// stackCache resolves each distinct request once: ten thousand machines have a
// handful of them.
type stackCache struct {
	tables *gpu.Tables
	known  map[string]resolved
}

type resolved struct {
	stack    gpu.Stack
	table    []byte // by which the machine chooses, when the request is auto
	choices  [][]string
	findings []gpu.Finding
}

func newStackCache(tables *gpu.Tables) *stackCache {
	return &stackCache{tables: tables, known: map[string]resolved{}}
}

// resolve works out the machine's Stack, when it has a gpu section, and returns
// the findings at the positions of the keys they speak of.
func (c *stackCache) resolve(m *Machine) report.Report {
	if m.GPU == nil {
		return report.Report{}
	}
	request := gpuRequest(&m.Machine)
	key := fmt.Sprintf("%#v", request)
	r, ok := c.known[key]
	if !ok {
		r.stack, r.findings = c.tables.Resolve(request)
		if request.Auto {
			r.table, _ = c.tables.AutoTable(request) // Resolve has the same findings
			r.choices = c.tables.AutoPackages(request)
		}
		c.known[key] = r
	}
	var rep report.Report
	for _, f := range r.findings {
		severity := report.Error
		if f.Warning {
			severity = report.Warning
		}
		at := "gpu"
		if f.Field != "" {
			at += "." + f.Field
		}
		rep.Add(report.Diagnostic{
			Severity: severity, Path: at, Pos: m.Origin(at), Summary: f.Summary, Detail: f.Detail,
		})
	}
	m.Stack, m.stacks, m.choices = &r.stack, r.table, r.choices
	return rep
}

// gpuRequest turns the file's gpu section into the resolver's terms.
func gpuRequest(m *config.Machine) gpu.Request {
	g := m.GPU
	return gpu.Request{
		Models: g.Models, PCI: g.PCI, Auto: g.Auto, Count: g.Count,
		Driver: g.Driver, Modules: g.Modules, Source: g.Source, SecureBoot: g.SecureBoot,
		Kernel: g.Kernel, FabricManager: g.FabricManager, DCGM: g.DCGM, MIG: g.MIG,
		Display: g.Display, Override: g.Override,
		Release: m.Ubuntu, Arch: m.Arch,
	}
}
