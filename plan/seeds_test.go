package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/plan"
)

// compare writes one text and compares another with it.
func compare(t interface {
	Fatal(...any)
}, dir, before, after, machine string, memo *plan.DiffMemo) plan.Difference {
	if _, err := plan.WriteFolder(filepath.Join(dir, machine), fstest.MapFS{"user-data": {Data: []byte(before)}, "meta-data": {Data: []byte("m")}}); err != nil {
		t.Fatal(err)
	}
	d, err := plan.Compare(dir, machine, machine, map[string][]byte{"user-data": []byte(after), "meta-data": []byte("m")}, memo)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCompareLosesNoLine: what goes and what comes is the whole difference, however
// the texts are cut.
func TestCompareLosesNoLine(t *testing.T) {
	dir := t.TempDir()
	var memo plan.DiffMemo
	line := rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "\n", "  - x\n"})
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return strings.Join(rapid.SliceOfN(line, 0, 30).Draw(t, name), "") }
		start, end := text("start"), text("end")
		before, after := start+text("before")+end, start+text("after")+end
		d := compare(t, dir, before, after, "m", &memo)
		if d.Any() != (before != after) {
			t.Fatalf("different: %v", d.Any())
		}
		bag := map[string]int{}
		for l := range strings.Lines(before) {
			bag[l]++
		}
		for l := range strings.Lines(after) {
			bag[l]--
		}
		for _, l := range d.Lines {
			switch l.Kind {
			case '-':
				bag[l.Text+"\n"]--
			case '+':
				bag[l.Text+"\n"]++
			}
		}
		for l, n := range bag {
			if n != 0 {
				t.Fatalf("%q is off by %d in %+v", l, n, d.Lines)
			}
		}
	})
}

func TestGroupDifferences(t *testing.T) {
	dir := t.TempDir()
	var memo plan.DiffMemo
	var all []plan.Difference
	for i := range 100 {
		name := fmt.Sprintf("node%03d", i)
		before := "locale: C\nhost: " + name + "\naddress: 10.0.0." + fmt.Sprint(i) + "\ntimezone: A\n"
		after := strings.Replace(strings.Replace(before, "A", "B", 1), "host: "+name, "host: "+name+".lab", 1)
		if i == 50 {
			after = before
		}
		if i == 51 {
			after = before + "more: 1\n"
		}
		all = append(all, compare(t, dir, before, after, name, &memo))
	}
	fresh, err := plan.Compare(dir, "new", "new", map[string][]byte{"user-data": []byte("x")}, &memo)
	if err != nil {
		t.Fatal(err)
	}
	groups := plan.GroupDifferences(append(all, fresh))
	var sizes []int
	for _, g := range groups {
		sizes = append(sizes, len(g.Machines))
	}
	if !slices.Equal(sizes, []int{98, 1, 1}) || groups[1].Machines[0].Machine != "node051" || !groups[2].Machines[0].New {
		t.Errorf("groups of %v", sizes)
	}
}

func TestFolderLayouts(t *testing.T) {
	m := load(t, `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["`+key+`"]}
machines:
  - {name: node01, match: {mac: ["B8:CE:F6:00:00:01", "b8:ce:f6:00:00:02"], serial: "CZ 12/3", uuid: 4C4C4544-0042-3510-8052-B4C04F4E3732}}
  - {name: node02, match: {serial: J1}, boot: {confirm: none}}
`).Machines
	tests := []struct {
		layout  plan.FolderLayout
		machine int
		want    []string
		err     string
	}{
		{plan.FoldersByName, 0, []string{"node01"}, ""},
		{plan.FoldersByMAC, 0, []string{"b8-ce-f6-00-00-01", "b8-ce-f6-00-00-02"}, ""},
		{plan.FoldersByUUID, 0, []string{"4c4c4544-0042-3510-8052-b4c04f4e3732"}, ""},
		{plan.FoldersBySerial, 0, nil, `the serial "CZ 12/3" of node01 cannot stand in the address`},
		{plan.FoldersBySerial, 1, []string{"J1"}, ""},
		{plan.FoldersByMAC, 1, nil, "node02 has no match.mac"},
		{plan.FoldersByUUID, 1, nil, "node02 has no match.uuid"},
	}
	for _, tt := range tests {
		got, err := tt.layout.Folders(&m[tt.machine])
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v", tt.layout, got, err)
		}
	}
	if got, want := plan.KernelLine(&m[1], "http://s/x", "J1"), "autoinstall ds=nocloud;s=http://s/x/J1/ cloud-config-url=/dev/null"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := plan.KernelLine(&m[0], "http://s/x/", "n"); !strings.HasPrefix(got, "ds=nocloud;s=http://s/x/n/ ") {
		t.Errorf("where the installer is to ask: %q", got)
	}
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	if gone, err := plan.Leftovers(filepath.Join(dir, "nowhere"), nil); err != nil || gone != nil {
		t.Errorf("%v, %v", gone, err)
	}
	for name, meta := range map[string]string{
		"kept": "instance-id: \"kept-0123456789abcdef\"\n", "b8-ce": "instance-id: \"node-7-0123456789abcdef\"\n", "theirs": "instance-id: theirs\n",
	} {
		if _, err := plan.WriteFolder(filepath.Join(dir, name), fstest.MapFS{"meta-data": {Data: []byte(meta)}, "user-data": {}}); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := plan.Leftovers(dir, map[string]bool{"kept": true})
	if diff := cmp.Diff([]plan.Leftover{{Folder: "b8-ce", Machine: "node-7"}}, gone); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	own := filepath.Join(dir, "b8-ce", "notes")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := gone[0].Prune(dir); err == nil || !strings.Contains(err.Error(), "its folder holds other files") {
		t.Errorf("a folder with a file of somebody's: %v", err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Error("somebody's file is gone")
	}
	if _, err := os.Stat(filepath.Join(dir, "b8-ce", "user-data")); err == nil {
		t.Error("the seed is still there")
	}
}
