package netboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReload: a change of the configuration, or of a file that it names, is picked up
// without a restart; one with errors is refused.
func TestReload(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh"
	b := newBench(t, strings.Replace(fleet(1), "authorized_keys: [", "authorized_keys: [{file: key.pub}, ", 1), func(o *Options) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.Events), "key.pub"), []byte(key+" one\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	write := func(name, content string) {
		t.Helper()
		name = filepath.Join(b.data, name)
		var was time.Time
		if info, err := os.Stat(name); err == nil {
			was = info.ModTime()
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, was.Add(time.Second), was.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		b.Reload(t.Context())
	}
	r := b.arm(0, ArmOrder{})
	seed := func() string {
		t.Helper()
		s, err := b.Seed(b.Machine("node00000"), r)
		if err != nil {
			t.Fatal(err)
		}
		return string(s.UserData)
	}
	one := seed()
	write("key.pub", key+" another\n")
	if seed() == one {
		t.Error("a changed file that the configuration names is not picked up")
	}
	whole := fleet(2)
	write("gpustrap.yaml", whole)
	if project, trouble := b.Config(); len(project.Machines) != 2 || trouble != nil {
		t.Error(trouble)
	}
	for name, broken := range map[string]string{
		"unknown key": strings.Replace(whole, "docker:", "dokcer:", 1), "empty": "", "no YAML": "\t",
	} {
		write("gpustrap.yaml", broken)
		project, trouble := b.Config()
		if trouble == nil || !strings.Contains(trouble.Text, "error") || len(project.Machines) != 2 {
			t.Errorf("%s: %+v", name, trouble)
		}
		if b.Machine("node00001") == nil || !strings.HasPrefix(seed(), "#cloud-config") {
			t.Errorf("%s: the last good one does not stay", name)
		}
	}
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	b.Reload(t.Context())
	if project, trouble := b.Config(); trouble == nil || len(project.Machines) != 2 {
		t.Errorf("the configuration is gone: %+v", trouble)
	}
	write("gpustrap.yaml", whole)
	if _, trouble := b.Config(); trouble != nil {
		t.Errorf("it is good again: %+v", trouble)
	}
}

// TestReloadAtOnce: two changes within a tick of the file system's clock.
func TestReloadAtOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "gpustrap.yaml")
	at := time.Now().Truncate(time.Second)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(fleet(1))
	l := &loader{source: source(name), now: func() time.Time { return at.Add(time.Second) }}
	if !l.look(t.Context()) || l.look(t.Context()) {
		t.Error("the first look is not news, or the second is")
	}
	write(strings.Replace(fleet(1), "node00000", "node00009", 1))
	if !l.look(t.Context()) || l.good.index.byName["node00009"] == nil {
		t.Error("a change of the same length at the same time is not seen")
	}
}
