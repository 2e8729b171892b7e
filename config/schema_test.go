package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

func compiledSchema(t testing.TB) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	text, err := Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("gpustrap.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("gpustrap.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema, doc.(map[string]any)
}

// jsonValue returns what an editor's YAML reader makes of a node.
func jsonValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return jsonValue(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = jsonValue(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		s := []any{}
		for _, c := range n.Content {
			s = append(s, jsonValue(c))
		}
		return s
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return !isFalse(n.Value)
	case "!!int":
		if i, ok := new(big.Int).SetString(n.Value, 0); ok {
			return json.Number(i.String())
		}
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f
		}
	}
	return n.Value
}

// shapeProblems decodes a text and returns the problems that the schema must
// see too.
func shapeProblems(data []byte) (n int, said string) {
	d := &decoder{read: readTestdata, files: map[string]fileText{}}
	root := d.parse(data)
	if root == nil {
		return d.shape, fmt.Sprint(d.report)
	}
	d.checkNodes(root, "")
	fileForm(nil).decode(d, root, "")
	return d.shape, fmt.Sprint(d.report)
}

// compareWithSchema holds that schema and decoder say the same of a text.
func compareWithSchema(t interface{ Errorf(string, ...any) }, schema *jsonschema.Schema, name string, data []byte) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || doc.Kind == 0 {
		return // no YAML, of which a schema says nothing
	}
	if !(&decoder{}).checkText(data) {
		return // characters that are refused before YAML is read
	}
	problems, said := shapeProblems(data)
	if err := schema.Validate(jsonValue(&doc)); (err == nil) != (problems == 0) {
		t.Errorf("%s: the decoder has %d problems, the schema says %v\n%s\n%s", name, problems, err, said, data)
	}
}

func TestSchemaAgreesOnFiles(t *testing.T) {
	schema, _ := compiledSchema(t)
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d files (%v)", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("&")) || bytes.Contains(data, []byte("!!")) || bytes.Contains(data, []byte("\n? ")) {
			continue // anchors, tags and complex keys are gone before a schema looks
		}
		compareWithSchema(t, schema, file, data)
	}
}

// TestSchemaAgreesOnValues tries every key with values of every kind.
func TestSchemaAgreesOnValues(t *testing.T) {
	schema, _ := compiledSchema(t)
	values := []string{"", "~", `""`, "x", "24.04", "24.10", "0", "1", "-1", "3", "580", "2000", "70000", "1.5", "true", "false", "off", "on", "yes", "no", "auto",
		"[]", "{}", "[x]", "[1]", "[~]", "{x: 1}", "{file: x}", "{file: ~}", "{serial: a, wwn: b}", "10.0.0.1", "10.0.0.1/8", "h200", "b8:ce:f6:00:00:01", "/srv", "\"a\\tb\"", "2026-01-01"}
	var try func(prefix string, depth int, es []entry)
	try = func(prefix string, depth int, es []entry) {
		for _, e := range es {
			for _, v := range values {
				line := prefix + e.name + ": " + v
				data := []byte("version: 1\n" + line + strings.Repeat("}", depth) + "\n")
				if prefix == "" && e.name == "version" {
					data = []byte(line + "\n")
				}
				compareWithSchema(t, schema, line, data)
			}
			nested := e.shape.entries()
			switch e.shape.(type) {
			case listForm[*machineKeys], listForm[*userKeys], listForm[*addressPoolKeys]:
				continue // the random documents below reach into lists
			}
			if len(nested) > 0 {
				try(prefix+e.name+": {", depth+1, nested)
			}
		}
	}
	try("", 0, fileForm(nil).entries())
}

// generator draws values that a schema accepts.
type generator struct {
	defs map[string]any
}

func (g generator) draw(t *rapid.T, schema map[string]any, label string) any {
	if ref, ok := schema["$ref"].(string); ok {
		return g.draw(t, g.defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), label)
	}
	if options, ok := schema["anyOf"].([]any); ok {
		return g.draw(t, rapid.SampledFrom(options).Draw(t, label+"?").(map[string]any), label)
	}
	if values, ok := schema["enum"].([]any); ok {
		return rapid.SampledFrom(values).Draw(t, label)
	}
	kind, ok := schema["type"].(string)
	if !ok {
		kind = "string"
	}
	switch kind {
	case "string":
		if pattern, ok := schema["pattern"].(string); ok {
			limit := 1 << 30
			if n, ok := schema["maxLength"].(json.Number); ok {
				limit, _ = strconv.Atoi(n.String())
			}
			return rapid.StringMatching(pattern).Filter(func(s string) bool {
				return s != "" && len([]rune(s)) <= limit && !strings.ContainsAny(s, "\u2028\u2029\u0085\ufeff")
			}).Draw(t, label)
		}
		return rapid.StringMatching(`[a-z]{1,10}`).Draw(t, label)
	case "integer":
		low, _ := strconv.Atoi(schema["minimum"].(json.Number).String())
		high, _ := strconv.Atoi(schema["maximum"].(json.Number).String())
		return rapid.IntRange(low, high).Draw(t, label)
	case "boolean":
		return rapid.Bool().Draw(t, label)
	case "array":
		least := 0
		if n, ok := schema["minItems"].(json.Number); ok {
			least, _ = strconv.Atoi(n.String())
		}
		items := make([]any, rapid.IntRange(least, 2).Draw(t, label+"#"))
		for i := range items {
			items[i] = g.draw(t, schema["items"].(map[string]any), label+"[]")
		}
		return items
	}
	return g.object(t, schema, label)
}

func (g generator) object(t *rapid.T, schema map[string]any, label string) any {
	out := map[string]any{}
	if names, ok := schema["propertyNames"].(map[string]any); ok {
		for range rapid.IntRange(0, 2).Draw(t, label+"#") {
			name := g.draw(t, map[string]any{"type": "string", "pattern": names["pattern"], "maxLength": names["maxLength"]}, label+"~").(string)
			out[name] = g.draw(t, schema["additionalProperties"].(map[string]any), label+"."+name)
		}
		return out
	}
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if slices.Contains(required, any(name)) || rapid.IntRange(0, 3).Draw(t, label+"."+name+"!") == 0 {
			out[name] = g.draw(t, properties[name].(map[string]any), label+"."+name)
		}
	}
	rules, _ := schema["allOf"].([]any)
	for _, rule := range rules { // drop a key of each pair that excludes itself
		not, ok := rule.(map[string]any)["not"].(map[string]any)
		if !ok {
			continue
		}
		pair := not["required"].([]any)
		if _, a := out[pair[0].(string)]; a {
			delete(out, pair[1].(string))
		}
	}
	for _, rule := range rules { // add one of those of which one must stand
		options, ok := rule.(map[string]any)["anyOf"].([]any)
		if !ok {
			continue
		}
		names := make([]string, len(options))
		for i, o := range options {
			names[i] = o.(map[string]any)["required"].([]any)[0].(string)
		}
		if !slices.ContainsFunc(names, func(n string) bool { _, ok := out[n]; return ok }) {
			name := rapid.SampledFrom(names).Draw(t, label+"|")
			out[name] = g.draw(t, properties[name].(map[string]any), label+"."+name)
		}
	}
	return out
}

// plainNumbers turns the schema's numbers into Go's, so that they are written
// without quotes.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			panic(err)
		}
		return f
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	}
	return v
}

// spoil changes one place of a document at random.
func spoil(t *rapid.T, v any) any {
	junk := []any{nil, "", "x", "off", "yes", 0, -1, 1, 1.5, 24.04, 580, true, false, []any{}, []any{"x"}, map[string]any{}, map[string]any{"file": "x"}, "10.0.0.1", "\ttab"}
	m, ok := v.(map[string]any)
	if s, isList := v.([]any); isList && len(s) > 0 && rapid.Bool().Draw(t, "into list") {
		i := rapid.IntRange(0, len(s)-1).Draw(t, "item")
		s[i] = spoil(t, s[i])
		return s
	}
	if !ok || len(m) == 0 || rapid.IntRange(0, 9).Draw(t, "whole") == 0 {
		return rapid.SampledFrom(junk).Draw(t, "junk")
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m))).Draw(t, "key")
	switch rapid.IntRange(0, 5).Draw(t, "how") {
	case 0:
		delete(m, name)
	case 1:
		m[rapid.SampledFrom([]string{"x", "serial", "model", "auto", "mac", "interface", "password_hash", "name", "size"}).Draw(t, "new")] = rapid.SampledFrom(junk).Draw(t, "junk")
	default:
		m[name] = spoil(t, m[name])
	}
	return m
}

// The schema and the decoder accept and refuse the same documents.
func TestSchemaAgreesOnRandomDocuments(t *testing.T) {
	schema, doc := compiledSchema(t)
	g := generator{doc["$defs"].(map[string]any)}
	rapid.Check(t, func(t *rapid.T) {
		value := plainNumbers(g.draw(t, doc, ""))
		data, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if n, said := shapeProblems(data); n != 0 {
			t.Errorf("the schema allows what the decoder refuses: %s\n%s", said, data)
		}
		compareWithSchema(t, schema, "drawn", data)
		data, err = yaml.Marshal(spoil(t, value))
		if err != nil {
			t.Fatal(err)
		}
		compareWithSchema(t, schema, "spoiled", data)
	})
}

// Names given by the caller become the values that gpu.model takes.
func TestSchemaNamesModels(t *testing.T) {
	text, err := Schema([]string{"h200", "l40s"})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)"model": \{.*?"h200",\s*"l40s"`).Match(text) {
		t.Error("the schema does not name the models")
	}
}

// keyPaths lists every key of the table by its path, list indexes left out.
func keyPaths(prefix string, es []entry) []string {
	var paths []string
	for _, e := range es {
		path := under(prefix, e.name)
		paths = append(paths, path)
		nested := e.shape.entries()
		if p, ok := e.shape.(namedForm); ok {
			path, nested = under(path, "NAME"), p.profile.entries()
		}
		paths = append(paths, keyPaths(path, nested)...)
	}
	return paths
}

// Every key stands in testdata/good/every-key.yaml, is found again by its path,
// and is documented. Settings are looked for at one of the three levels.
func TestEveryKey(t *testing.T) {
	data, err := os.ReadFile("testdata/good/every-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, rep := Decode("every-key.yaml", data, readTestdata)
	if len(rep.Diagnostics) > 0 {
		t.Fatal(rep.Err())
	}
	found := map[string]bool{}
	levels := regexp.MustCompile(`^(profiles\.[a-z]+\.|machines\.)`)
	indexes := regexp.MustCompile(`\[\d+\]`)
	fileForm(nil).marks(c.keys, "", func(path string, at mark) bool {
		path = indexes.ReplaceAllString(path, "")
		found[path] = true
		found[levels.ReplaceAllString(path, "")] = true
		if at.line == 0 {
			t.Errorf("%s has no place", path)
		}
		return true
	})
	reference := string(Reference(nil))
	for _, path := range keyPaths("", fileForm(nil).entries()) {
		short := levels.ReplaceAllString(strings.Replace(path, "profiles.NAME.", "profiles.base.", 1), "")
		if path == "profiles" || path == "machines" {
			continue
		}
		if !found[short] {
			t.Errorf("%s is not in every-key.yaml, or was not found again", path)
		}
		if !strings.Contains(reference, "| `"+lastKey(path)+"` |") {
			t.Errorf("%s is not in the reference", path)
		}
	}
	checkDocs(t, "", fileForm(nil).entries())
}

// checkDocs holds that every key is explained in sentences, and that the
// examples in messages are themselves accepted.
func checkDocs(t *testing.T, prefix string, es []entry) {
	for _, e := range es {
		path := under(prefix, e.name)
		if e.doc == "" || !strings.HasSuffix(e.doc, ".") {
			t.Errorf("%s: %q is not a sentence", path, e.doc)
		}
		if f, ok := e.shape.(textForm); ok && len(f.enum) == 0 && !f.secret {
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(f.example), &n); err != nil {
				t.Fatalf("%s: the example %q is no YAML: %v", path, f.example, err)
			}
			d := &decoder{}
			if v := f.decode(d, n.Content[0], path); v.bad {
				t.Errorf("%s: the example %q is refused: %v", path, f.example, d.report)
			}
		}
		checkDocs(t, path, e.shape.entries())
	}
}
