package autoinstall

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gopkg.in/yaml.v3"
)

// TestGolden holds every form of every machine against its golden render, where
// the scripts are left out: each stands as <scripts/NAME>.
func TestGolden(t *testing.T) {
	r := newTestRenderer(t)
	for name, fixture := range fixtures {
		for _, release := range releases {
			t.Run(name+"/"+release, func(t *testing.T) {
				at := filepath.Join("testdata", name+"-"+release)
				seed, rep := r.Render(fixture(release))
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				compareGolden(t, at+".user-data", elide(t, r, seed.UserData))
				cloud, rep := r.RenderCloudInit(fixture(release))
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				compareGolden(t, at+".cloud-config", elide(t, r, cloud))
				script, rep := r.RenderScript(fixture(release))
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				compareGolden(t, at+".sh", elide(t, r, script))
			})
		}
	}
}

// elide replaces the scripts in a render by their names.
func elide(t *testing.T, r *Renderer, data []byte) []byte {
	t.Helper()
	text := string(data)
	for name, content := range r.scripts {
		for _, indent := range []string{"", "      "} {
			text = strings.ReplaceAll(text, indented(content.text, indent), indent+"<scripts/"+name+">\n")
		}
	}
	if strings.Contains(text, "set -eu -o pipefail") {
		t.Error("a script stands in the render in another form than its file's")
	}
	return []byte(text)
}

// indented returns text as it stands in a literal block.
func indented(text, indent string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			out.WriteString(indent)
		}
		out.WriteString(line)
	}
	return out.String()
}

// compareGolden holds bytes against a file; UPDATE_GOLDEN=1 writes it anew.
func compareGolden(t *testing.T, at string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(at, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; UPDATE_GOLDEN=1 writes it anew\ngot:\n%s", at, got)
	}
}

// TestSeedIsWhole reads complete seeds back: the bytes that were put together
// from prepared parts mean the same as the document marshalled in one go.
func TestSeedIsWhole(t *testing.T) {
	r := newTestRenderer(t)
	for name, fixture := range fixtures {
		for _, release := range releases {
			t.Run(name+"/"+release, func(t *testing.T) {
				in := fixture(release)
				seed, rep := r.Render(in)
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				want, _ := r.document(&in)
				got, rep := DecodeDocument(seed.UserData, release)
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Error("the seed does not read back as its document")
				}
				plain, err := marshal(userData{want})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(append([]byte(header), plain...), seed.UserData) {
					t.Error("the seed differs from its document marshalled in one go")
				}
				for _, c := range slices.Concat(got.EarlyCommands, got.LateCommands, got.ErrorCommands) {
					if c.size() > maxCommand {
						t.Errorf("a command has %d bytes", c.size())
					}
				}
			})
		}
	}
}

func TestMetaDataFollowsTheSeed(t *testing.T) {
	r := newTestRenderer(t)
	id := func(in Input) string {
		seed, rep := r.Render(in)
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		var meta map[string]string
		if err := yaml.Unmarshal(seed.MetaData, &meta); err != nil {
			t.Fatal(err)
		}
		return meta["instance-id"]
	}
	first := id(lab("24.04"))
	if !strings.HasPrefix(first, "lab-") || len(first) != len("lab-")+16 {
		t.Errorf("instance-id %q", first)
	}
	if again := id(lab("24.04")); again != first {
		t.Errorf("instance-id %q, then %q for the same machine", first, again)
	}
	changed := lab("24.04")
	changed.Machine.Timezone = "Etc/UTC"
	if id(changed) == first {
		t.Error("the instance-id is the same for another seed")
	}
}

func compareDocuments(t *testing.T, got, want *Document) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the documents differ (-want +got):\n%s", diff)
	}
}
