package autoinstall

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// schemaNames are upstream's JSON schemas, kept beside the repository. There is
// none of 22.04's: it is held against 24.04's, which knows more.
var schemaNames = map[string]string{
	"22.04": "autoinstall-schema-24.04.json", "24.04": "autoinstall-schema-24.04.json", "26.04": "autoinstall-schema.json",
}

func schemaPath(t *testing.T, release string) string {
	t.Helper()
	at, err := filepath.Abs(filepath.Join("..", "..", "shared", "data", schemaNames[release]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at); err != nil {
		t.Skip("upstream's JSON schemas are not here")
	}
	return at
}

func TestSeedsFollowUpstreamSchema(t *testing.T) {
	r := newTestRenderer(t)
	for _, release := range releases {
		schema, err := jsonschema.NewCompiler().Compile(schemaPath(t, release))
		if err != nil {
			t.Fatal(err)
		}
		for name, fixture := range fixtures {
			seed, rep := r.Render(fixture(release))
			if err := rep.Err(); err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := yaml.Unmarshal(seed.UserData, &doc); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(viaJSON(t, doc["autoinstall"])); err != nil {
				t.Errorf("%s on %s: %v", name, release, err)
			}
		}
	}
}

// viaJSON turns a value into what encoding/json makes of it.
func viaJSON(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTableAgreesWithUpstream compares our table of sections with upstream's
// schema of the same release, key by key.
func TestTableAgreesWithUpstream(t *testing.T) {
	for _, release := range []string{"24.04", "26.04"} {
		data, err := os.ReadFile(schemaPath(t, release))
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		compareShapes(t, release, "autoinstall", documentShape, schema)
	}
}

// handedOn are sections whose inner keys upstream's schema does not list.
var handedOn = []string{"autoinstall.user-data", "autoinstall.storage", "autoinstall.network", "autoinstall.reporting"}

// curtinOnly are keys of apt that curtin reads and upstream's schema leaves out.
var curtinOnly = []string{"security", "sources_list", "disable_suites", "conf"}

func compareShapes(t *testing.T, release, path string, ours shape, schema map[string]any) {
	t.Helper()
	if slices.Contains(handedOn, path) {
		return
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	for name, inner := range properties {
		i := slices.IndexFunc(ours.fields, func(f field) bool { return f.name == name })
		if i < 0 || ours.fields[i].since > release {
			t.Errorf("%s: upstream knows %s.%s, the table does not", release, path, name)
			continue
		}
		if m, ok := inner.(map[string]any); ok {
			compareShapes(t, release, path+"."+name, ours.fields[i].shape, m)
		}
	}
	for _, f := range ours.fields {
		if _, ok := properties[f.name]; !ok && f.since <= release && !slices.Contains(curtinOnly, f.name) {
			t.Errorf("%s: the table knows %s.%s, upstream does not", release, path, f.name)
		}
	}
	if required, ok := schema["required"].([]any); ok {
		for _, name := range required {
			i := slices.IndexFunc(ours.fields, func(f field) bool { return f.name == name })
			if i < 0 || !ours.fields[i].required {
				t.Errorf("%s: upstream requires %s.%s, the table does not", release, path, name)
			}
		}
	}
}

// TestTypesAgreeWithTable holds that every key of the table has its place in the
// Document and the other way round.
func TestTypesAgreeWithTable(t *testing.T) {
	compareTypes(t, "autoinstall", documentShape, reflect.TypeFor[Document]())
	compareTypes(t, "cloud-config", cloudConfigShape(), reflect.TypeFor[CloudConfig]())
}

func compareTypes(t *testing.T, path string, s shape, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice && s.items != nil && s.kinds&isMapping == 0 {
			s = *s.items
		}
		typ = typ.Elem()
	}
	if typ.Kind() == reflect.Map && s.each != nil {
		s, typ = *s.each, typ.Elem()
	}
	if typ.Kind() != reflect.Struct || len(s.fields) == 0 {
		return
	}
	known := map[string]reflect.Type{}
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous:
			for inner := range f.Type.Fields() {
				if name, options, _ := strings.Cut(inner.Tag.Get("yaml"), ","); options != "inline" {
					known[name] = inner.Type
				}
			}
		case options == "inline":
			if !s.open {
				t.Errorf("%s: %s keeps unknown keys that the table refuses", path, typ)
			}
		case name != "-":
			known[name] = f.Type
		}
	}
	for _, f := range s.fields {
		inner, ok := known[f.name]
		if !ok {
			if path == "autoinstall.network" && f.name == "network" {
				continue // unwrapped when it is read
			}
			t.Errorf("%s.%s is in the table and not in %s", path, f.name, typ)
			continue
		}
		compareTypes(t, path+"."+f.name, f.shape, inner)
	}
	if s.open {
		return
	}
	for name := range known {
		if !slices.ContainsFunc(s.fields, func(f field) bool { return f.name == name }) {
			t.Errorf("%s.%s is in %s and not in the table", path, name, typ)
		}
	}
}
