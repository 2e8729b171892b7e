package plan_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com"

// load loads a configuration without files, which must be good.
func load(t *testing.T, text string) *plan.Project {
	t.Helper()
	project, rep := plan.Load("g.yaml", []byte(text), os.ReadFile)
	if project == nil {
		t.Fatal(rep.Err())
	}
	return project
}

// one loads a configuration of one machine: the head of every file and what the
// test adds.
func one(t *testing.T, settings string) *plan.Machine {
	t.Helper()
	project := load(t, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\""+key+"\"]}\n"+settings)
	m, err := project.One(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestExamples holds every example: it is good without a warning that is an
// error, and renders in each form.
func TestExamples(t *testing.T) {
	examples, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range examples {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			project, rep := plan.Load(name, data, func(file string) ([]byte, error) {
				return os.ReadFile(filepath.Join(filepath.Dir(name), file))
			})
			if project == nil {
				t.Fatal(rep.Err())
			}
			for i := range project.Machines {
				m := &project.Machines[i]
				seed, rep := project.Render(m)
				if m.Offline != config.OfflineOff {
					// Without a lock there is nothing that it could install.
					if err := rep.Err(); err == nil || !strings.Contains(err.Error(), "no lock of its packages") {
						t.Errorf("%s: %v", m.Name, err)
					}
					continue
				}
				if err := rep.Err(); err != nil || !strings.HasPrefix(string(seed.UserData), "#cloud-config\n") {
					t.Errorf("%s: autoinstall: %v", m.Name, err)
				}
				if data, rep := project.RenderCloudInit(m); rep.HasErrors() || len(data) == 0 {
					t.Errorf("%s: cloud-init: %v", m.Name, rep.Err())
				}
				if data, rep := project.RenderScript(m); rep.HasErrors() || len(data) == 0 {
					t.Errorf("%s: script: %v", m.Name, rep.Err())
				}
			}
		})
	}
}

// TestAutomaticStack holds that a machine which chooses by itself gets the table.
func TestAutomaticStack(t *testing.T) {
	project := load(t, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\""+key+"\"]}\ngpu: {auto: true}\n")
	if rep := project.Validate(); rep.HasErrors() {
		t.Fatal(rep.Err())
	}
	seed, rep := project.Render(&project.Machines[0])
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"format|1", "gpu|10de:2335|h200|", "GPU_AUTO='1'"} {
		if !strings.Contains(string(seed.UserData), want) {
			t.Errorf("the seed has no %s", want)
		}
	}
}

func TestSelect(t *testing.T) {
	project := load(t, `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["`+key+`"]}
machines:
  - {name: node01, match: {serial: A}}
  - {name: node02, match: {serial: B}}
  - {name: login, match: {serial: C}}
`)
	tests := []struct {
		patterns []string
		want     []string
		err      string
	}{
		{nil, []string{"node01", "node02", "login"}, ""},
		{[]string{"node0*"}, []string{"node01", "node02"}, ""},
		{[]string{"login", "node01"}, []string{"node01", "login"}, ""},
		{[]string{"node01", "node0*"}, []string{"node01", "node02"}, ""},
		{[]string{"node03"}, nil, `no machine "node03"; it has node01, node02, login`},
		{[]string{"node01", "x*"}, nil, `no machine "x*"`},
		{[]string{"node[0"}, nil, "syntax error in pattern"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.patterns, " "), func(t *testing.T) {
			machines, err := project.Select(tt.patterns)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range machines {
				got = append(got, m.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := project.One(nil); err == nil || !strings.Contains(err.Error(), "has 3 machines") {
		t.Errorf("One without a name: %v", err)
	}
}

// TestFindingsHavePositions holds that the resolver's complaints come in the
// same report as the file's own, at the keys they speak of.
func TestFindingsHavePositions(t *testing.T) {
	_, rep := plan.Load("g.yaml", []byte(`version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["`+key+`"]}
gpu: {model: v100, modules: open}
storage: {layout: lvmm}
`), os.ReadFile)
	var got []report.Position
	for _, d := range rep.Diagnostics {
		if d.Severity == report.Error {
			got = append(got, d.Pos)
		}
	}
	want := []report.Position{{File: "g.yaml", Line: 4, Column: 29}, {File: "g.yaml", Line: 5, Column: 19}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%v", diff, rep)
	}
}

func TestKeyMustFitItsFingerprint(t *testing.T) {
	ring, err := os.ReadFile("../keys/ubuntu-keyring-2018-archive.gpg")
	if err != nil {
		t.Fatal(err)
	}
	text := func(fingerprint string) []byte {
		return []byte("version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\"" + key + "\"]}\n" +
			"sources: {docker: {url: http://mirror.example/docker, key: {file: k.gpg}, fingerprint: " + fingerprint + "}}\n")
	}
	read := func(string) ([]byte, error) { return ring, nil }
	if _, rep := plan.Load("g.yaml", text("F6ECB3762474EDA9D21B7022871920D1991BC93C"), read); rep.HasErrors() {
		t.Errorf("the right fingerprint: %v", rep.Err())
	}
	_, rep := plan.Load("g.yaml", text("A6ECB3762474EDA9D21B7022871920D1991BC93C"), read)
	if err := rep.Err(); err == nil || !strings.Contains(err.Error(), "the key has the fingerprint F6ECB3762474EDA9D21B7022871920D1991BC93C") {
		t.Errorf("a wrong fingerprint: %v", err)
	}
}

func TestMenu(t *testing.T) {
	tests := []struct {
		name, settings string
		title          string
		timeout        int
		unattended     bool
	}{
		{"an exact disk counts down", "storage: {disk: {serial: S1}}\n", "ERASE disk SERIAL S1 and install gpu", 30, true},
		{"a rule asks first", "storage: {disk: {size: largest}}\n", "ERASE the largest disk and install gpu (asks first)", 30, false},
		{"no rule asks first", "", "ERASE the only disk and install gpu (asks first)", 30, false},
		{"none does not wait", "storage: {disk: {path: /dev/sda}}\nboot: {confirm: none}\n", "ERASE disk /dev/sda and install gpu", 0, true},
		{"typed asks", "storage: {disk: {wwn: \"0x500a07512345678a\"}}\nboot: {confirm: typed, timeout: 5}\n", "ERASE disk WWN 0x500a07512345678a and install gpu (asks first)", 5, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			menu := plan.Menu(one(t, tt.settings))
			if menu.Title != tt.title || menu.Timeout != tt.timeout {
				t.Errorf("%q after %d s", menu.Title, menu.Timeout)
			}
			if got := slices.Contains(menu.KernelArgs, "autoinstall"); got != tt.unattended {
				t.Errorf("kernel arguments %q", menu.KernelArgs)
			}
			if len(menu.Choices) != 1 || !strings.HasSuffix(menu.Choices[0].Title, "(reinstall)") || !slices.Equal(menu.Choices[0].KernelArgs, []string{"gpustrap.reinstall"}) {
				t.Errorf("the choices are %+v", menu.Choices)
			}
			if !slices.Contains(menu.KernelArgs, "ds=nocloud;s=/cdrom/nocloud/") {
				t.Errorf("kernel arguments %q do not name the seed", menu.KernelArgs)
			}
			if !slices.Contains(menu.KernelArgs, "nopersistent") {
				t.Errorf("kernel arguments %q let casper add a partition", menu.KernelArgs)
			}
		})
	}
}

// TestCheckConfirmation gives the medium that is laid out for one machine to another.
func TestCheckConfirmation(t *testing.T) {
	const stock = "set timeout=30\nmenuentry \"Try or Install Ubuntu Server\" {\n\tset gfxpayload=keep\n" +
		"\tlinux\t/casper/vmlinuz  ---\n\tinitrd\t/casper/initrd\n}\n"
	const disk = "storage: {disk: {serial: S1}}\n"
	machines := []string{disk + "boot: {confirm: none}\n", disk, disk + "boot: {confirm: typed}\n", ""}
	for i, first := range machines {
		menu := plan.CIDataOverlay(one(t, first)).Menu
		text, err := grubcfg.Edit([]byte(stock), *menu)
		if err != nil {
			t.Fatal(err)
		}
		medium := fstest.MapFS{"boot/grub/grub.cfg": {Data: text}}
		for j, second := range machines {
			// The last two ask for the same.
			if err := plan.CheckConfirmation(one(t, second), medium); (err == nil) != (min(j, 2) <= min(i, 2)) {
				t.Errorf("laid out for %q, given to %q: %v", first, second, err)
			}
		}
	}
	for _, bad := range []fs.FS{fstest.MapFS{}, fstest.MapFS{"boot/grub/grub.cfg": {Data: []byte("menuentry 'x {")}}} {
		if plan.CheckConfirmation(one(t, disk), bad) == nil {
			t.Error("a medium whose menu cannot be read passes")
		}
	}
}

func TestOverlayHoldsTheSeed(t *testing.T) {
	m := one(t, "")
	project := load(t, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\""+key+"\"]}\n")
	seed, rep := project.Render(m)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	overlay, err := plan.Overlay(m, seed)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(overlay.Files, "nocloud/user-data", "nocloud/meta-data", "nocloud/vendor-data"); err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(overlay.Files, "nocloud/user-data")
	if err != nil || string(data) != string(seed.UserData) {
		t.Errorf("the overlay's user-data is not the seed's: %v", err)
	}
}

func TestCheckMedium(t *testing.T) {
	m := one(t, "")
	tests := []struct {
		d   iso.Description
		err string
	}{
		{iso.Description{Info: `Ubuntu-Server 24.04.3 LTS "Noble Numbat" - Release amd64 (20250805)`, Architecture: "amd64"}, ""},
		{iso.Description{Info: `Ubuntu-Server 26.04 "Resolute Raccoon" - Release amd64 (20260420.1)`, Architecture: "amd64"}, "wants Ubuntu 24.04"},
		{iso.Description{Info: `Ubuntu-Server 24.04.3 LTS "Noble Numbat" - Release arm64 (20250805)`, Architecture: "arm64"}, "is an amd64 machine"},
		{iso.Description{Info: `Ubuntu 24.04.3 LTS "Noble Numbat" - Release amd64 (20250805)`, Architecture: "amd64"}, "no Ubuntu Server"},
	}
	for _, tt := range tests {
		err := plan.CheckMedium(m, tt.d)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", tt.d.Info, err, tt.err)
		}
	}
}

func TestSecrets(t *testing.T) {
	if got := plan.Secrets(one(t, "")); !strings.Contains(got, "no password hash") {
		t.Error(got)
	}
	hash := "$6$TQOk0/1PTVzPvxca$5EpdocypScWfr9gGwHd5c5OuQQAGktkFFyKrCJ5smct4Q7cOWOKMO5Df0tGN/FyoeBSqZTtAoBG38AkLpDnGu/"
	if got := plan.Secrets(one(t, "users: [{name: ada, password_hash: "+hash+"}]\n")); !strings.Contains(got, "the password hash of ada") {
		t.Error(got)
	}
}

func TestWriteFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seeds", "node01")
	files := fstest.MapFS{"user-data": {Data: []byte("a")}, "meta-data": {Data: []byte("b")}}
	write := func(want int) {
		t.Helper()
		if n, err := plan.WriteFolder(dir, files); err != nil || n != want {
			t.Fatalf("%d files were written, want %d: %v", n, want, err)
		}
	}
	write(2)
	if err := os.Chmod(filepath.Join(dir, "user-data"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(0)
	if mode := stat(t, filepath.Join(dir, "user-data")).Mode().Perm(); mode != 0o600 {
		t.Errorf("user-data that was there keeps the mode %o", mode)
	}
	before := stat(t, filepath.Join(dir, "meta-data"))
	files["user-data"] = &fstest.MapFile{Data: []byte("c")}
	write(1)
	if after := stat(t, filepath.Join(dir, "meta-data")); !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		t.Error("an unchanged file was touched")
	}
	if mode := stat(t, filepath.Join(dir, "user-data")).Mode().Perm(); mode != 0o600 {
		t.Errorf("user-data has the mode %o", mode)
	}
	if mode := stat(t, dir).Mode().Perm(); mode != 0o700 {
		t.Errorf("the folder has the mode %o", mode)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("something else was left in the folder: %v %v", entries, err)
	}
}

func stat(t *testing.T, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestErasedText(t *testing.T) {
	tests := []struct{ storage, want string }{
		{"{}", "the only disk"},
		{"{disk: {serial: S1}}", "disk SERIAL S1"},
		{"{layout: raid1}", "the only 2 disks"},
		{"{layout: raid1, disks: [{size: smallest}, {size: smallest}]}", "2 disks: the smallest disk"},
		{"{layout: raid1, disks: [{serial: S1}, {wwn: eui.1}]}", "disk SERIAL S1 and disk WWN eui.1"},
		{"{disk: {path: /dev/vda}, data: [{disk: {serial: K}, mount: /srv}, {disk: {serial: E}, mount: /data, preserve: false}]}", "disk /dev/vda and disk SERIAL E"},
	}
	for _, tt := range tests {
		if got := plan.ErasedText(one(t, "storage: "+tt.storage+"\n").Storage); got != tt.want {
			t.Errorf("%s erases %q, want %q", tt.storage, got, tt.want)
		}
	}
}
