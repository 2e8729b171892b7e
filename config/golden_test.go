package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/report"
)

// readTestdata reads what a configuration of testdata names.
func readTestdata(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join("testdata", path)
	}
	return os.ReadFile(path)
}

func printed(t *testing.T, name string, data []byte, rep report.Report) string {
	t.Helper()
	var b strings.Builder
	if err := rep.Print(&b, report.PrintOptions{Sources: map[string][]byte{name: Mask(data)}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every file in testdata/bad is refused with exactly the report beside it.
// UPDATE_GOLDEN=1 writes the reports anew.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d files, want at least 50 (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fleet, rep := Load("gpustrap.yaml", data, readTestdata)
			if fleet != nil || !rep.HasErrors() {
				t.Error("the file was accepted")
			}
			checkPositions(t, rep, data)
			got := printed(t, "gpustrap.yaml", data, rep)
			if strings.Contains(got, "hunter") || strings.Contains(got, "correct horse") || strings.Contains(got, "bm90IGEga2V5") || strings.Contains(got, "Cy2drr8kDR") {
				t.Errorf("the report shows a secret:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".report"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the report differs (-want +got):\n%s", diff)
			}
		})
	}
}

// checkPositions holds that every place lies within the text, that every
// summary is one line without a full stop, and that every error says what to do.
func checkPositions(t *testing.T, rep report.Report, data []byte) {
	t.Helper()
	lines := strings.Split(string(Mask(data)), "\n")
	for _, d := range rep.Diagnostics {
		places := []report.Position{d.Pos}
		for _, r := range d.Related {
			places = append(places, r.Pos)
		}
		for _, p := range places {
			if !p.IsValid() {
				continue
			}
			if p.Line > len(lines) || p.Column < 1 || p.Column > len([]rune(lines[p.Line-1]))+1 {
				t.Errorf("%s lies outside the text: %s", p, d.Summary)
			}
		}
		if d.Summary == "" || strings.HasSuffix(d.Summary, ".") || strings.Contains(d.Summary, "\n") {
			t.Errorf("summary %q is not one line without a full stop", d.Summary)
		}
		if d.Detail == "" {
			t.Errorf("%q does not say what to do", d.Summary)
		}
	}
}
