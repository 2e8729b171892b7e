package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/report"
)

func pos(line, column int) report.Position {
	return report.Position{File: "g.yaml", Line: line, Column: column}
}

func TestPrint(t *testing.T) {
	source := []byte("version: 1\n\tgpu: {modell: h200}\nname: é: x\r\nbell: \a\n" + strings.Repeat("a", 500) + "!" + strings.Repeat("b", 499) + "\n")
	tests := []struct {
		name string
		diag report.Diagnostic
		want string
	}{
		{
			name: "excerpt with a caret, tabs kept",
			diag: report.Diagnostic{Severity: report.Error, Pos: pos(2, 8), Summary: `there is no key "modell"`, Detail: `write "model"`},
			want: "error: there is no key \"modell\"\n" +
				" --> g.yaml:2:8\n" +
				"   2 | \tgpu: {modell: h200}\n" +
				"     | \t      ^\n" +
				"  = write \"model\"\n",
		},
		{
			name: "columns count characters, the carriage return is not shown",
			diag: report.Diagnostic{Severity: report.Warning, Pos: pos(3, 8), Summary: "s"},
			want: "warning: s\n --> g.yaml:3:8\n   3 | name: é: x\n     |        ^\n",
		},
		{
			name: "control characters are not sent to the terminal",
			diag: report.Diagnostic{Severity: report.Note, Pos: pos(4, 1), Summary: "s"},
			want: "note: s\n --> g.yaml:4:1\n   4 | bell: \uFFFD\n     | ^\n",
		},
		{
			name: "of a long line the part around the column",
			diag: report.Diagnostic{Severity: report.Error, Pos: pos(5, 501), Summary: "s"},
			want: "error: s\n --> g.yaml:5:501\n   5 | …" + strings.Repeat("a", 60) + "!" + strings.Repeat("b", 139) + "…\n" +
				"     | " + strings.Repeat(" ", 61) + "^\n",
		},
		{
			name: "the end of a long line",
			diag: report.Diagnostic{Severity: report.Error, Pos: pos(5, 1001), Summary: "s"},
			want: "error: s\n --> g.yaml:5:1001\n   5 | …" + strings.Repeat("b", 60) + "\n" +
				"     | " + strings.Repeat(" ", 61) + "^\n",
		},
		{
			name: "the beginning of a long line",
			diag: report.Diagnostic{Severity: report.Error, Pos: pos(5, 2), Summary: "s"},
			want: "error: s\n --> g.yaml:5:2\n   5 | " + strings.Repeat("a", 200) + "…\n     |  ^\n",
		},
		{
			name: "a line beyond the file has no excerpt",
			diag: report.Diagnostic{Severity: report.Error, Pos: pos(99, 1), Summary: "s"},
			want: "error: s\n --> g.yaml:99:1\n",
		},
		{
			name: "no position at all",
			diag: report.Diagnostic{Severity: report.Error, Summary: "s", Detail: "one\ntwo"},
			want: "error: s\n  = one\n    two\n",
		},
		{
			name: "related place",
			diag: report.Diagnostic{
				Severity: report.Error, Pos: pos(1, 1), Summary: "s",
				Related: []report.Related{{Pos: pos(1, 10), Message: "the other"}},
			},
			want: "error: s\n --> g.yaml:1:1\n   1 | version: 1\n     | ^\n" +
				"  note: the other\n --> g.yaml:1:10\n   1 | version: 1\n     |          ^\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r := report.Report{Diagnostics: []report.Diagnostic{tt.diag}}
			if err := r.Print(&out, report.PrintOptions{Sources: map[string][]byte{"g.yaml": source}}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrintFoldsWarningsThatSayTheSame(t *testing.T) {
	var r report.Report
	for line := 1; line <= 6; line++ {
		r.Add(report.Diagnostic{Severity: report.Warning, Pos: pos(line, 1), Summary: "w"},
			report.Diagnostic{Severity: report.Error, Pos: pos(line, 1), Summary: "e"})
	}
	var out strings.Builder
	if err := r.Print(&out, report.PrintOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "error: e\n"); got != 6 {
		t.Errorf("%d of 6 errors were printed", got)
	}
	if got := strings.Count(out.String(), "warning: w\n"); got != 3 {
		t.Errorf("%d warnings were printed, not 3", got)
	}
	if !strings.HasSuffix(out.String(), "\nwarning: w: at 3 more places\n") {
		t.Errorf("the folded ones are not counted:\n%s", out.String())
	}
}

func TestSortDropsRepetitionsAndKeepsOrder(t *testing.T) {
	var r report.Report
	for _, d := range []report.Diagnostic{
		{Severity: report.Error, Pos: pos(9, 1), Summary: "last"},
		{Severity: report.Error, Pos: pos(2, 5), Summary: "b"},
		{Severity: report.Warning, Pos: pos(2, 5), Summary: "a"},
		{Severity: report.Error, Pos: pos(9, 1), Summary: "last"},
	} {
		r.Add(d)
	}
	r.Sort()
	var got []string
	for _, d := range r.Diagnostics {
		got = append(got, d.Summary)
	}
	if diff := cmp.Diff([]string{"b", "a", "last"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestErr(t *testing.T) {
	var r report.Report
	r.Add(report.Diagnostic{Severity: report.Warning, Summary: "only a warning"})
	if err := r.Err(); err != nil {
		t.Errorf("a warning made the error %v", err)
	}
	r.Add(report.Diagnostic{Severity: report.Error, Pos: pos(1, 2), Summary: "bad", Detail: "write good"})
	r.Add(report.Diagnostic{Severity: report.Error, Summary: "worse"})
	if want := "g.yaml:1:2: error: bad (write good) (and 1 more)"; r.Err() == nil || r.Err().Error() != want {
		t.Errorf("got %v, want %s", r.Err(), want)
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(report.Diagnostic{Severity: report.Warning, Path: "gpu.driver", Pos: pos(3, 4), Summary: "s"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"severity":"warning","path":"gpu.driver","position":{"file":"g.yaml","line":3,"column":4},"summary":"s"}`
	if string(data) != want {
		t.Errorf("got %s", data)
	}
}
