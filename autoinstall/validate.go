package autoinstall

import "github.com/gpustrap/gpustrap/report"

// Validate reports what Render would complain of, without rendering.
func (r *Renderer) Validate(in Input) report.Report {
	doc, rep := r.document(&in)
	if doc != nil && !rep.HasErrors() {
		rep.Merge(r.checkCommands(&in, doc))
	}
	return rep
}
