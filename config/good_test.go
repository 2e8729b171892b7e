package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// Every file in testdata/good resolves to the Fleet beside it. UPDATE_GOLDEN=1
// writes the Fleets anew.
func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fleet, rep := Load(file, data, readTestdata)
			if len(rep.Diagnostics) > 0 {
				t.Fatalf("the file was complained of:\n%s", printed(t, file, data, rep))
			}
			got := encodeFleet(t, fleet)
			golden := strings.TrimSuffix(file, ".yaml") + ".json"
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
				t.Errorf("the fleet differs (-want +got):\n%s", diff)
			}
		})
	}
}

// encodeFleet writes a Fleet as JSON without zero values, raw autoinstall
// fragments as YAML text.
func encodeFleet(t testing.TB, fleet *Fleet) string {
	t.Helper()
	type machine struct {
		Machine
		Autoinstall, StorageConfig string
	}
	text := func(n *yaml.Node) string {
		if n == nil {
			return ""
		}
		out, err := yaml.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	machines := make([]machine, len(fleet.Machines))
	for i, m := range fleet.Machines {
		machines[i].Machine = m
		machines[i].Autoinstall, machines[i].StorageConfig = text(m.Autoinstall), text(m.Storage.Config)
		machines[i].Storage.Config = nil
	}
	all, err := json.Marshal(machines)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(all, &value); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(withoutZeros(value), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func withoutZeros(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withoutZeros(v[i])
		}
	case map[string]any:
		for k, item := range v {
			switch item = withoutZeros(item); item {
			case nil, "", false, 0.0:
				delete(v, k)
			default:
				v[k] = item
			}
		}
		if len(v) == 0 {
			return struct{}{} // a section with nothing but defaults is not a missing one
		}
	}
	return v
}
