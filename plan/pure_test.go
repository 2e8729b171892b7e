package plan_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/plan"
)

// shuffle puts the keys of every mapping into another order.
func shuffle(t *rapid.T, node *yaml.Node) {
	if node.Kind == yaml.MappingNode {
		pairs := make([]int, len(node.Content)/2)
		for i := range pairs {
			pairs[i] = i
		}
		var content []*yaml.Node
		for _, i := range rapid.Permutation(pairs).Draw(t, "order") {
			content = append(content, node.Content[2*i], node.Content[2*i+1])
		}
		node.Content = content
	}
	for _, child := range node.Content {
		shuffle(t, child)
	}
}

// seedsOf renders every machine, by name and file.
func seedsOf(t interface{ Fatal(...any) }, folder string, text []byte) map[string]string {
	project, rep := plan.Load("g.yaml", text, func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, name)) })
	if project == nil {
		t.Fatal(rep.Err())
	}
	out := map[string]string{}
	for i := range project.Machines {
		m := &project.Machines[i]
		seed, rep := project.Render(m)
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		preview, _ := project.Preview(m)
		for name, data := range seed.Files() {
			if string(preview.Files()[name]) != string(data) {
				t.Fatal("the preview of " + m.Name + " has another " + name)
			}
			out[m.Name+"/"+name] = string(data)
		}
	}
	return out
}

// TestRenderIsPure: the seeds follow from what the configuration says and from
// nothing else: not from the order of its keys, not from the environment.
func TestRenderIsPure(t *testing.T) {
	const folder = "../examples"
	names, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return filepath.Base(name) == "air-gapped.yaml" }) // it needs a lock
	variables := []string{"TZ", "LANG", "HOME", "SOURCE_DATE_EPOCH", "GPUSTRAP_CACHE"}
	for _, variable := range variables {
		t.Setenv(variable, os.Getenv(variable)) // is put back at the end
	}
	want := map[string]map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "example")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if want[name] == nil {
			want[name] = seedsOf(t, folder, text)
		}
		values := rapid.SampledFrom([]string{"", "Asia/Tokyo", "tr_TR.UTF-8", "1700000000"})
		for variable, value := range rapid.MapOf(rapid.SampledFrom(variables), values).Draw(t, "environment") {
			if err := os.Setenv(variable, value); err != nil {
				t.Fatal(err)
			}
		}
		var document yaml.Node
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		shuffle(t, &document)
		shuffled, err := yaml.Marshal(&document)
		if err != nil {
			t.Fatal(err)
		}
		if got := seedsOf(t, folder, shuffled); !maps.Equal(want[name], got) {
			t.Fatalf("the seeds of\n%s\ndiffer:\n%s", shuffled, cmp.Diff(want[name], got))
		}
	})
}
