// Package report carries what gpustrap has to say about a person's input:
// diagnostics with a severity, a configuration path, a position, a summary of
// what is wrong and a detail that says what to do instead.
//
// Diagnostics are values. Whoever checks something collects all of them;
// whoever talks to the person prints them (Print) or encodes them as JSON.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity ranks a diagnostic. The zero value is invalid.
type Severity int

// Severities, worst first. Only an Error makes the input unusable.
const (
	Error Severity = iota + 1
	Warning
	Note
)

// String returns the lower-case word printed before a diagnostic.
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	case Note:
		return "note"
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// MarshalText encodes the severity as its word, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Position is a place in a text file. Line and Column count from 1, Column in
// Unicode code points. The zero Position means that no place is known.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// IsValid reports whether the position names a line.
func (p Position) IsValid() bool { return p.Line > 0 }

// String returns file:line:column, or the file alone when no line is known.
func (p Position) String() string {
	if !p.IsValid() {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Related is a second place that a diagnostic speaks of, for example the other
// side of a conflict.
type Related struct {
	Pos     Position `json:"position"`
	Message string   `json:"message"`
}

// Diagnostic is one thing to tell about the input. Summary says what is wrong
// in one line without a full stop; Detail says what to do about it.
type Diagnostic struct {
	Severity Severity  `json:"severity"`
	Path     string    `json:"path,omitempty"` // configuration path, such as machines[0].network.gateway
	Pos      Position  `json:"position"`
	Summary  string    `json:"summary"`
	Detail   string    `json:"detail,omitempty"`
	Related  []Related `json:"related,omitempty"`
}

// String returns the diagnostic on one line: position, severity, summary, detail.
func (d Diagnostic) String() string {
	var b strings.Builder
	if pos := d.Pos.String(); pos != "" {
		b.WriteString(pos + ": ")
	}
	b.WriteString(d.Severity.String() + ": " + d.Summary)
	if d.Detail != "" {
		b.WriteString(" (" + d.Detail + ")")
	}
	return b.String()
}

// Report is a list of diagnostics. The zero Report is empty and ready to use.
type Report struct {
	Diagnostics []Diagnostic `json:"diagnostics"`
}

// Add appends diagnostics.
func (r *Report) Add(d ...Diagnostic) { r.Diagnostics = append(r.Diagnostics, d...) }

// Merge appends everything the other report holds.
func (r *Report) Merge(other Report) { r.Add(other.Diagnostics...) }

// HasErrors reports whether any diagnostic is an Error.
func (r Report) HasErrors() bool { return r.Count(Error) > 0 }

// Count returns how many diagnostics have the severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, d := range r.Diagnostics {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// Sort orders the diagnostics by file, line and column, keeping the order of
// insertion within one place, and drops exact repetitions.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Diagnostics, func(a, b Diagnostic) int {
		return cmp.Or(
			strings.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column),
		)
	})
	r.Diagnostics = slices.CompactFunc(r.Diagnostics, func(a, b Diagnostic) bool {
		return a.Pos == b.Pos && a.Severity == b.Severity && a.Summary == b.Summary && a.Detail == b.Detail
	})
}

// Err returns nil when the report has no errors, and otherwise an error whose
// text is the first one and the number of the others.
func (r Report) Err() error {
	if !r.HasErrors() {
		return nil
	}
	return &reportError{r}
}

type reportError struct{ report Report }

func (e *reportError) Error() string {
	n := e.report.Count(Error)
	i := slices.IndexFunc(e.report.Diagnostics, func(d Diagnostic) bool { return d.Severity == Error })
	first := e.report.Diagnostics[i].String()
	if n == 1 {
		return first
	}
	return fmt.Sprintf("%s (and %d more)", first, n-1)
}
