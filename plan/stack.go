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
	findings []gpu.Finding
}

func newStackCache(tables *gpu.Tables) *stackCache {
	return &stackCache{tables: tables, known: map[string]resolved{}}
}

// resolve returns the machine's Stack, or nil when it has no gpu section, and
// the findings at the positions of the keys they speak of.
func (c *stackCache) resolve(m *config.Machine) (*gpu.Stack, report.Report) {
	if m.GPU == nil {
		return nil, report.Report{}
	}
	request := gpuRequest(m)
	key := fmt.Sprintf("%#v", request)
	r, ok := c.known[key]
	if !ok {
		r.stack, r.findings = c.tables.Resolve(request)
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
	return &r.stack, rep
}

// gpuRequest turns the file's gpu section into the resolver's terms.
func gpuRequest(m *config.Machine) gpu.Request {
	g := m.GPU
	return gpu.Request{
		Models: g.Models, PCI: g.PCI, Auto: g.Auto, Count: g.Count,
		Driver: g.Driver, Modules: g.Modules, Source: g.Source, SecureBoot: g.SecureBoot,
		Kernel: g.Kernel, FabricManager: g.FabricManager, DCGM: g.DCGM,
		Display: g.Display, Override: g.Override,
		Release: m.Ubuntu, Arch: m.Arch,
	}
}
