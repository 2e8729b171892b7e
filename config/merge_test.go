package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// wireOptions compare wire types, whose fields are not exported.
var wireOptions = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmpopts.EquateEmpty(),
}

// drawSettings decodes settings drawn from the schema, with all their keys.
func drawSettings(t *rapid.T, g generator, doc map[string]any, label string) (settings, map[string]any) {
	value := plainNumbers(g.draw(t, doc, label)).(map[string]any)
	delete(value, "machines")
	delete(value, "profiles")
	return decodeSettings(t, value), value
}

func decodeSettings(t rapid.TB, value map[string]any) settings {
	data, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(data, &n); err != nil {
		t.Fatal(err)
	}
	d := &decoder{read: readTestdata, files: map[string]fileText{}}
	return fileForm(nil).decode(d, n.Content[0], "").settings
}

// leaves returns the places of all values but mappings, by path.
func leaves(s settings) map[string]mark {
	all := map[string]mark{}
	m := &machineKeys{settings: s}
	machineForm(settingsFields(nil)).marks(m, "", func(path string, at mark) bool {
		all[path] = at
		return true
	})
	for path := range all {
		for other := range all {
			if path != other && strings.HasPrefix(other, path) && strings.ContainsRune(".[", rune(other[len(path)])) {
				delete(all, path)
				break
			}
		}
	}
	return all
}

// replaced are mappings that replace the inherited value as a whole, or are not
// merged but kept.
var replaced = []string{"autoinstall", "disk", "key", "authorized_keys", "ca_certs", "ca"}

// emptied returns the same document with every mapping and nothing in it.
func emptied(v map[string]any) map[string]any {
	out := map[string]any{}
	for k, item := range v {
		if m, ok := item.(map[string]any); ok && !slices.Contains(replaced, k) {
			out[k] = emptied(m)
		}
	}
	return out
}

// Merging is associative, and a level that says nothing changes nothing.
func TestMergeIsAssociative(t *testing.T) {
	_, doc := compiledSchema(t)
	g := generator{doc["$defs"].(map[string]any)}
	rapid.Check(t, func(t *rapid.T) {
		a, _ := drawSettings(t, g, doc, "a")
		b, _ := drawSettings(t, g, doc, "b")
		c, _ := drawSettings(t, g, doc, "c")
		left, right := mergeSettings(mergeSettings(a, b), c), mergeSettings(a, mergeSettings(b, c))
		if diff := cmp.Diff(left, right, wireOptions); diff != "" {
			t.Errorf("(a b) c differs from a (b c):\n%s", diff)
		}
		if diff := cmp.Diff(a, mergeSettings(a, settings{}), wireOptions); diff != "" {
			t.Errorf("merging nothing changed something:\n%s", diff)
		}
		if diff := cmp.Diff(a, mergeSettings(settings{}, a), wireOptions); diff != "" {
			t.Errorf("merging into nothing changed something:\n%s", diff)
		}
	})
}

// No key is forgotten by the written-out code: merged with empty mappings on
// either side, every value is still there and has its place.
func TestMergeKeepsEveryKey(t *testing.T) {
	text, err := os.ReadFile("testdata/good/every-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	lab := file["profiles"].(map[string]any)["lab"].(map[string]any)
	pci := file["machines"].([]any)[1].(map[string]any)
	for _, level := range []map[string]any{file, lab, pci} {
		for _, key := range []string{"profiles", "machines", "extends", "name", "profile", "match"} {
			delete(level, key)
		}
		checkMergeKeeps(t, level)
	}
	_, doc := compiledSchema(t)
	g := generator{doc["$defs"].(map[string]any)}
	rapid.Check(t, func(t *rapid.T) {
		_, value := drawSettings(t, g, doc, "a")
		checkMergeKeeps(t, value)
	})
}

func checkMergeKeeps(t rapid.TB, value map[string]any) {
	a, empty := decodeSettings(t, value), decodeSettings(t, emptied(value))
	keep := func(path string, _ mark) bool { return isMapping(value, path) }
	want := leaves(a)
	maps.DeleteFunc(want, keep)
	if len(want) == 0 && len(value) > 3 {
		t.Fatal("nothing was compared")
	}
	for name, merged := range map[string]settings{"over": mergeSettings(a, empty), "under": mergeSettings(empty, a)} {
		got := leaves(merged)
		maps.DeleteFunc(got, keep)
		maps.DeleteFunc(got, func(path string, _ mark) bool { _, ok := want[path]; return !ok })
		if diff := cmp.Diff(want, got, wireOptions); diff != "" {
			t.Errorf("empty mappings laid %s changed what is set:\n%s", name, diff)
		}
	}
}

// isMapping reports whether a path leads to an empty mapping, or off.
func isMapping(value any, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		m, ok := value.(map[string]any)
		if !ok {
			return false
		}
		value = m[name]
	}
	m, ok := value.(map[string]any)
	return ok && len(m) == 0
}

// What stands nearer to the machine wins, key by key.
func TestMergeRule(t *testing.T) {
	for _, c := range []struct{ name, base, over, path, want string }{
		{"a scalar replaces", "timezone: Etc/UTC", "timezone: Asia/Tokyo", "timezone", "over"},
		{"a scalar is inherited", "timezone: Etc/UTC", "locale: C", "timezone", "base"},
		{"a list replaces", "packages: [a1, b1]", "packages: [c1]", "packages[0]", "over"},
		{"a list replaces all", "packages: [a1, b1]", "packages: [c1]", "packages[1]", ""},
		{"an empty list replaces", "packages: [a1]", "packages: []", "packages[0]", ""},
		{"mappings merge", "docker: {log: {max_size: 1m}}", "docker: {log: {max_files: 9}}", "docker.log.max_size", "base"},
		{"one of several replaces", "gpu: {model: h200}", "gpu: {auto: true}", "gpu.model", ""},
		{"one of several replaces", "gpu: {model: h200}", "gpu: {auto: true}", "gpu.auto", "over"},
		{"one of several is inherited", "gpu: {model: h200}", "gpu: {count: 8}", "gpu.model[0]", "base"},
		{"a disk replaces", "storage: {disk: {size: largest}}", "storage: {disk: {serial: S1}}", "storage.disk.size", ""},
		{"a password replaces", "user: {name: a, password_hash: x}", "user: {password_file: y}", "user.password_hash", ""},
		{"off keeps", "docker: {data_root: /srv/d}", "docker: off", "docker.data_root", "base"},
		{"raw mappings merge", "autoinstall: {apt: {geoip: true}}", "autoinstall: {apt: {fallback: abort}}", "autoinstall.apt.geoip", "base"},
		{"raw lists replace", "autoinstall: {x: [1, 2]}", "autoinstall: {x: [3]}", "autoinstall.x[1]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, over := yamlSettings(t, "# base\n"+c.base), yamlSettings(t, "# line\n# line\n# over\n"+c.over)
			at, ok := leaves(mergeSettings(base, over))[c.path]
			got := map[int32]string{2: "base", 4: "over"}[at.line]
			if !ok {
				got = ""
			}
			if got != c.want {
				t.Errorf("%s comes from %q, want %q", c.path, got, c.want)
			}
		})
	}
}

func yamlSettings(t *testing.T, text string) settings {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	d := &decoder{read: readTestdata, files: map[string]fileText{}}
	return fileForm(nil).decode(d, n.Content[0], "").settings
}

// Resolve changes nothing and says the same every time.
func TestResolveIsPure(t *testing.T) {
	_, doc := compiledSchema(t)
	g := generator{doc["$defs"].(map[string]any)}
	rapid.Check(t, func(t *rapid.T) {
		data, err := yaml.Marshal(plainNumbers(g.draw(t, doc, "")))
		if err != nil {
			t.Fatal(err)
		}
		c, _ := Decode("x.yaml", data, readTestdata)
		before := fmt.Sprintf("%+v", dump(c))
		first, rep1 := c.Resolve()
		second, rep2 := c.Resolve()
		if diff := cmp.Diff(rep1, rep2); diff != "" {
			t.Errorf("two reports differ:\n%s", diff)
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("two fleets differ:\n%+v\n%+v", first, second)
		}
		if after := fmt.Sprintf("%+v", dump(c)); after != before {
			t.Error("Resolve changed the Config")
		}
		fleet, rep := Load("x.yaml", data, readTestdata)
		if (fleet == nil) != rep.HasErrors() {
			t.Errorf("a fleet and errors, or neither: %v", rep.Err())
		}
	})
}

// dump lists every value's place, in order.
func dump(c *Config) []string {
	if c.keys == nil {
		return nil
	}
	var out []string
	fileForm(nil).marks(c.keys, "", func(path string, at mark) bool {
		out = append(out, fmt.Sprint(path, at))
		return true
	})
	return slices.Clip(out)
}

func TestOrigin(t *testing.T) {
	data := []byte(strings.Join([]string{
		"version: 1",
		"ubuntu: \"24.04\"",
		"profiles:",
		"  base:",
		"    user: {name: ops, authorized_keys: [{file: files/ops.pub}]}",
		"    gpu:",
		"      model: h200",
		"      driver: 580-server",
		"    autoinstall: {storage: {layout: {name: zfs}}}",
		"machines:",
		"  - name: node01",
		"    profile: base",
		"    users: [{name: ada, sudo: no}]",
		"    gpu: {count: 8}",
	}, "\n"))
	fleet, rep := Load("f.yaml", data, readTestdata)
	if rep.HasErrors() {
		t.Fatal(rep.Err())
	}
	for path, want := range map[string]string{
		"":                            "f.yaml:11:5",
		"ubuntu":                      "f.yaml:2:9",
		"gpu":                         "f.yaml:14:10",
		"gpu.count":                   "f.yaml:14:18",
		"gpu.driver":                  "f.yaml:8:15",
		"gpu.model[0]":                "f.yaml:7:14",
		"gpu.kernel":                  "f.yaml:14:10",
		"user.name":                   "f.yaml:5:18",
		"users[0].sudo":               "f.yaml:13:31",
		"users[0].shell":              "f.yaml:13:13",
		"autoinstall.storage.layout":  "f.yaml:9:37",
		"autoinstall.storage.swap":    "f.yaml:9:28",
		"network.gateway":             "f.yaml:11:5",
		"hostnames.are.not.hostnames": "f.yaml:11:5",
	} {
		if got := fleet.Machines[0].Origin(path).String(); got != want {
			t.Errorf("%q was written at %s, want %s", path, got, want)
		}
	}
	if pos := (&Machine{}).Origin("gpu"); pos.IsValid() {
		t.Errorf("a machine of no file has a place: %s", pos)
	}
}

// The bytes given to Decode are the caller's.
func TestDecodeKeepsItsInput(t *testing.T) {
	data := []byte("\ufeffversion: 1\r\nubuntu: \"24.04\"\r\npassword: x\r\n")
	copied := bytes.Clone(data)
	Load("x", data, readTestdata)
	Mask(data)
	if !bytes.Equal(data, copied) {
		t.Error("the input was changed")
	}
}
