package autoinstall

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gpustrap/gpustrap/config"
)

func collection(t *testing.T, inputs ...Input) fs.FS {
	t.Helper()
	files, rep := newTestRenderer(t).RenderCollection(inputs, "/cdrom/nocloud/")
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	return files
}

func readText(t *testing.T, files fs.FS, name string) string {
	t.Helper()
	data, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRenderCollection: each machine's own user-data is that of its own seed.
func TestRenderCollection(t *testing.T) {
	inputs := fleet(3)
	inputs[1].Machine.Match = config.Match{Serial: `J 1\"`, UUID: "4c4c4544-0042-3510-8052-b4c04f4e3732", MACs: inputs[1].Machine.Match.MACs}
	inputs[2].Machine.Users = []config.User{{Name: "eve", AuthorizedKeys: []string{adaKey, opsKey}, Sudo: config.SudoNoPassword}}
	files := collection(t, inputs...)
	if err := fstest.TestFS(files, "user-data", "meta-data", "vendor-data", "machines.tsv",
		"machines/node00000", "machines/node00001", "machines/node00002"); err != nil {
		t.Fatal(err)
	}
	want := "node00000\tmac\tb8:ce:f6:00:00:00\n" +
		"node00001\tserial\tJ 1\\\"\nnode00001\tuuid\t4c4c4544-0042-3510-8052-b4c04f4e3732\nnode00001\tmac\tb8:ce:f6:00:00:01\n" +
		"node00002\tmac\tb8:ce:f6:00:00:02\n"
	if got := readText(t, files, "machines.tsv"); got != want {
		t.Errorf("the table is\n%swant\n%s", got, want)
	}
	for _, in := range inputs {
		seed, rep := newTestRenderer(t).Render(in)
		if err := rep.Err(); err != nil || readText(t, files, "machines/"+in.Machine.Name) != string(seed.UserData) {
			t.Errorf("%s differs from its own seed, %v", in.Machine.Name, err)
		}
	}
	doc, rep := DecodeDocument([]byte(readText(t, files, "user-data")), "24.04")
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	if doc.Storage.Layout.Match[0].Serial != nowhere {
		t.Errorf("the shared autoinstall would install to %+v", doc.Storage)
	}
	if last := doc.EarlyCommands[len(doc.EarlyCommands)-1].Shell; last != "bash /run/gpustrap/pick-machine.sh /cdrom/nocloud" {
		t.Errorf("the machine is picked by %q", last)
	}
	failure := doc.ErrorCommands[len(doc.ErrorCommands)-1].Shell
	if !strings.Contains(failure, opsKey) || strings.Contains(failure, adaKey) {
		t.Errorf("not the keys of those who are root on every machine:\n%s", failure)
	}
	if !strings.Contains(failure, "http://10.0.0.2:8080/events/hgx01") {
		t.Errorf("not the report address that all have:\n%s", failure)
	}
}

// TestCollectionIDFollowsItsMachines: the same machines give the same bytes, and
// a change of one another instance-id.
func TestCollectionIDFollowsItsMachines(t *testing.T) {
	first := readText(t, collection(t, fleet(3)...), "meta-data")
	if again := readText(t, collection(t, fleet(3)...), "meta-data"); again != first {
		t.Errorf("%q, then %q", first, again)
	}
	changed := fleet(3)
	changed[2].Machine.Timezone = "Europe/Zurich"
	if got := readText(t, collection(t, changed...), "meta-data"); got == first || !strings.HasPrefix(got, "instance-id: collection-") {
		t.Errorf("the instance-id is %q for another collection than that of %q", got, first)
	}
}

func TestCollectionNeedsMatches(t *testing.T) {
	inputs := fleet(2)
	inputs[1] = workstation("24.04")
	_, rep := newTestRenderer(t).RenderCollection(inputs, "/cdrom/nocloud")
	if err := rep.Err(); err == nil || !strings.Contains(err.Error(), "workstation has no match") {
		t.Errorf("the complaint is %v", err)
	}
}

// TestSharedSeedStaysSmall: what the machines share does not grow with them.
func TestSharedSeedStaysSmall(t *testing.T) {
	few, many := readText(t, collection(t, fleet(2)...), "user-data"), readText(t, collection(t, fleet(300)...), "user-data")
	if !bytes.Equal([]byte(few), []byte(many)) {
		t.Errorf("the shared user-data has %d bytes for 2 machines and %d for 300", len(few), len(many))
	}
}
