package scripts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/scripts"
)

// dataDisk makes an image of 64 MiB: a partition table in sfdisk's words, or
// none, and a file system at some of its MiBs, each with its commands.
func dataDisk(t *testing.T, table string, fileSystems map[int][]string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at, 64<<20); err != nil {
		t.Fatal(err)
	}
	if table != "" {
		cmd := exec.Command(oracle.Need(t, "sfdisk"), "--quiet", at)
		cmd.Stdin = strings.NewReader(table)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
	}
	for offset, command := range fileSystems {
		part := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(part, make([]byte, 20<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(oracle.Need(t, command[0]), append(command[1:], part)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
		data, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(at, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(data, int64(offset)<<20); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// TestKeepData runs keep-data.sh over disks with different things on them.
func TestKeepData(t *testing.T) {
	needPyYAML(t)
	oracle.Need(t, "blkid")
	ext4 := []string{"mke2fs", "-q", "-F", "-t", "ext4", "-L", "keep"}
	swap := []string{"mkswap", "-q"}
	const two = "label: gpt\nstart=1MiB,size=20MiB\nstart=22MiB,size=20MiB\n"
	type actions = []map[string]any
	disk := func(path, table string) map[string]any {
		a := map[string]any{"id": "data-0", "type": "disk", "path": path, "preserve": true}
		if table != "" {
			a["ptable"] = table
		}
		return a
	}
	part := func(number, offset, size int) map[string]any {
		return map[string]any{"id": fmt.Sprintf("data-0-part-%d", number), "type": "partition", "device": "data-0",
			"number": number, "offset": offset << 20, "size": size << 20, "preserve": true}
	}
	format := func(volume, fstype string) map[string]any {
		return map[string]any{"id": "data-0-format", "type": "format", "volume": volume, "fstype": fstype, "preserve": true}
	}
	for _, c := range []struct {
		name   string
		table  string
		on     map[int][]string
		part   string
		junk   int // a byte written at this MiB; 0: none
		wants  func(path string) actions
		failed string
	}{
		{"file system on the whole disk", "", map[int][]string{0: ext4}, "0", 0,
			func(p string) actions { return actions{disk(p, ""), format("data-0", "ext4")} }, ""},
		{"on one of two partitions", two, map[int][]string{1: swap, 22: ext4}, "0", 0,
			func(p string) actions {
				return actions{disk(p, "gpt"), part(1, 1, 20), part(2, 22, 20), format("data-0-part-2", "ext4")}
			}, ""},
		{"dos", "label: dos\nstart=1MiB,size=20MiB\n", map[int][]string{1: ext4}, "0", 0,
			func(p string) actions {
				return actions{disk(p, "msdos"), part(1, 1, 20), format("data-0-part-1", "ext4")}
			}, ""},
		{"two file systems", two, map[int][]string{1: ext4, 22: ext4}, "0", 0, nil, "has 2 partitions with a file system"},
		{"the one that is named", two, map[int][]string{1: ext4, 22: ext4}, "1", 0,
			func(p string) actions {
				return actions{disk(p, "gpt"), part(1, 1, 20), part(2, 22, 20), format("data-0-part-1", "ext4")}
			}, ""},
		{"one that is not there", two, map[int][]string{1: ext4}, "3", 0, nil, "has no partition 3"},
		{"a named one without a file system", two, map[int][]string{1: ext4}, "2", 0, nil, "partition 2 of"},
		{"swap alone", "", map[int][]string{0: swap}, "0", 0, nil, "holds swap, which cannot be mounted"},
		{"empty partitions", two, nil, "0", 0, nil, "has 0 partitions with a file system"},
		{"extended", "label: dos\nsize=20MiB,type=5\n", nil, "0", 0, nil, "has an extended partition"},
		{"nothing known", "", nil, "0", 63, nil, "holds nothing that is known"},
		{"empty", "", nil, "0", 0, func(p string) actions {
			return actions{
				{"id": "data-0", "type": "disk", "path": p, "ptable": "gpt", "wipe": "superblock-recursive"},
				{"id": "data-0-part", "type": "partition", "device": "data-0", "size": -1, "wipe": "superblock"},
				{"id": "data-0-format", "type": "format", "volume": "data-0-part", "fstype": "xfs"},
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := dataDisk(t, c.table, c.on)
			if c.junk > 0 {
				f, err := os.OpenFile(at, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte{1}, int64(c.junk)<<20); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			before := "autoinstall:\n  storage:\n    config:\n    - {id: disk-0, type: disk, path: /dev/sda}\n" +
				"    - {id: data-0, type: disk, path: " + at + ", preserve: true}\n" +
				"    - {id: data-0-format, type: format, volume: data-0, fstype: xfs, preserve: true}\n" +
				"    - {id: data-0-mount, type: mount, device: data-0-format, path: /srv}\n"
			after, out, err := keepDataOn(t, before, "data-0", "xfs", c.part)
			if c.failed != "" {
				if err == nil || !strings.Contains(out, c.failed) || !strings.Contains(out, "nothing was written") || after != before {
					t.Errorf("error %v, said\n%s\nautoinstall:\n%s", err, out, after)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got struct {
				Autoinstall struct{ Storage struct{ Config actions } }
			}
			if err := yaml.Unmarshal([]byte(after), &got); err != nil {
				t.Fatal(err)
			}
			want := append(append(actions{{"id": "disk-0", "type": "disk", "path": "/dev/sda"}}, c.wants(at)...),
				map[string]any{"id": "data-0-mount", "type": "mount", "device": "data-0-format", "path": "/srv"})
			if diff := cmp.Diff(want, got.Autoinstall.Storage.Config); diff != "" {
				t.Errorf("the actions differ (-want +got):\n%s", diff)
			}
		})
	}
}

// keepDataOn runs keep-data.sh over an autoinstall and returns what it became.
func keepDataOn(t *testing.T, autoinstall string, args ...string) (after, output string, err error) {
	t.Helper()
	text, err := scripts.Read("keep-data.sh")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "autoinstall.yaml")
	if err := os.WriteFile(file, []byte(autoinstall), 0o600); err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "=/autoinstall.yaml", "="+file)
	cmd := exec.Command("bash", append([]string{"-c", text, "keep-data.sh"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "GPUSTRAP_RUN="+t.TempDir())
	out, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(data), string(out), err
}
