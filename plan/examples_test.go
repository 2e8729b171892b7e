package plan_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/plan"
)

// TestExamplesByRelease holds the settings that each release's installer gets
// from every example against their golden render, all but the scripts. An example
// is rendered for the releases that its GPUs can run on. UPDATE_GOLDEN=1 writes
// the renders anew.
func TestExamplesByRelease(t *testing.T) {
	examples, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range examples {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(filepath.Base(name), ".yaml")
		rendered := 0
		for _, release := range []string{"22.04", "24.04", "26.04"} {
			text := bytes.ReplaceAll(data, []byte(`ubuntu: "24.04"`), []byte(`ubuntu: "`+release+`"`))
			project, rep := plan.Load(name, text, func(file string) ([]byte, error) {
				return os.ReadFile(filepath.Join(filepath.Dir(name), file))
			})
			if project == nil {
				if release == "24.04" {
					t.Errorf("%s: %v", base, rep.Err())
				}
				continue
			}
			var got bytes.Buffer
			for i := range project.Machines {
				if project.Machines[i].Offline != config.OfflineOff {
					continue // without a lock there is nothing to install
				}
				seed, rep := project.Render(&project.Machines[i])
				if err := rep.Err(); err != nil && release != "24.04" {
					got.Reset() // its packages have no source for this release
					break
				} else if err != nil {
					t.Fatal(err)
				}
				got.WriteString("# " + project.Machines[i].Name + "\n")
				got.Write(settings(t, seed.UserData))
			}
			if got.Len() == 0 {
				continue
			}
			rendered++
			golden := filepath.Join("testdata", "examples", base+"-"+release+".yaml")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s differs; UPDATE_GOLDEN=1 writes it anew\ngot:\n%s", golden, &got)
			}
		}
		if found, err := filepath.Glob(filepath.Join("testdata", "examples", base+"-*")); err != nil || len(found) != rendered {
			t.Errorf("%s: %d golden renders, and it renders for %d releases", base, len(found), rendered)
		}
	}
}

// settings returns an autoinstall without the commands that carry files.
func settings(t *testing.T, userData []byte) []byte {
	t.Helper()
	var doc struct{ Autoinstall map[string]any }
	if err := yaml.Unmarshal(userData, &doc); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"early-commands", "late-commands", "error-commands"} {
		var short []any
		commands, _ := doc.Autoinstall[list].([]any)
		for _, c := range commands {
			if text, ok := c.(string); !ok || strings.Count(text, "\n") < 2 {
				short = append(short, c)
			}
		}
		doc.Autoinstall[list] = short
	}
	out, err := yaml.Marshal(doc.Autoinstall)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
