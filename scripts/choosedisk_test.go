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

	"github.com/gpustrap/gpustrap/scripts"
)

// machine is what the stand-ins of lsblk, udevadm and findmnt know: a line a disk
// with KNAME TYPE SIZE RO SERIAL WWN ID_SERIAL.
const machine = `sda disk 1000 0 SHORT1 0x5000c5001 MODEL_SHORT1
sdb disk 2000 0 SHORT12 0x5000c5002 MODEL_SHORT12
sdc disk 8000 0 STICK 0x0 USB_STICK
sdd disk 500 1 READONLY 0x5000c5004 MODEL_READONLY
sde disk 0 0 EMPTY 0x5000c5005 CARD_READER
nvme0n1 disk 4000 0 S6ESNX0W1 eui.0025385 SAMSUNG_S6ESNX0W1_1
sdf disk 4000 0 TWIN 0x5000c5007 350014ee2
sdf1 part 4000 0 - - -
zram0 disk 9000 0 - - -
mmcblk0boot0 disk 9999 0 - - -
`

// lsblk and udevadm look a disk up in the table; sdc holds the medium.
const standIns = `
table() { grep "^$1 " "$MACHINE"; }
case ${0##*/} in
lsblk)
    for last; do :; done
    case " $* " in
    *" -nslo "*) printf 'sdc1\nsdc\n' ;;
    *" KNAME,TYPE "*) cut -d' ' -f1,2 "$MACHINE" ;;
    *)
        set -- $* && row=$(table "${last##*/}")
        case $3 in
        SIZE) n=3 ;; RO) n=4 ;; SERIAL) n=5 ;; WWN) n=6 ;; MODEL) n=2 ;;
        esac
        echo "$row" | cut -d' ' -f$n
        ;;
    esac
    ;;
findmnt) case " $* " in *" /cdrom "*) echo /dev/null ;; *) exit 1 ;; esac ;;
udevadm) [ "$1" = settle ] || for last; do :; done; table "${last##*/}" | awk '{ print "ID_SERIAL=" $7 }' ;;
esac
`

// choice is a run of choose-disk.sh on a made-up machine.
type choice struct {
	t      *testing.T
	dir    string
	script string
}

func newChoice(t *testing.T, machine, autoinstall string) *choice {
	t.Helper()
	c := &choice{t: t, dir: t.TempDir()}
	for _, tool := range []string{"lsblk", "udevadm", "findmnt"} {
		c.write(tool, "#!/bin/sh\n"+standIns)
	}
	// PyYAML comes with cloud-init, on the live system as here.
	if err := os.Symlink("/usr/bin/python3", filepath.Join(c.dir, "python3")); err != nil {
		t.Fatal(err)
	}
	text, err := scripts.Read("choose-disk.sh")
	if err != nil {
		t.Fatal(err)
	}
	c.script = text
	c.write("machine", machine)
	c.replace("=/autoinstall.yaml", "="+c.write("autoinstall.yaml", autoinstall))
	// A loop device or a disk is a block device; here /dev/null stands for it.
	c.replace("[ -b ", "[ -c ")
	return c
}

func (c *choice) write(name, text string) string {
	c.t.Helper()
	at := filepath.Join(c.dir, name)
	if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return at
}

func (c *choice) replace(old, with string) {
	c.t.Helper()
	if !strings.Contains(c.script, old) {
		c.t.Fatalf("choose-disk.sh has no %q", old)
	}
	c.script = strings.ReplaceAll(c.script, old, with)
}

func (c *choice) run(args ...string) (output string, err error) {
	cmd := exec.Command("bash", append([]string{"-u", c.write("choose-disk.sh", c.script)}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+c.dir+":/usr/bin:/bin", "MACHINE="+filepath.Join(c.dir, "machine"), "GPUSTRAP_RUN="+filepath.Join(c.dir, "run"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *choice) autoinstall() string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, "autoinstall.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func chooseDisk(t *testing.T, args ...string) (match, output string, err error) {
	t.Helper()
	c := newChoice(t, machine, "version: 1\nidentity: {password: $6$x, username: 'no'}\nstorage: {layout: {name: lvm, match: {size: largest}, sizing-policy: all}}\n")
	out, err := c.run(args...)
	result := c.autoinstall()
	for line := range strings.Lines(result) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && key == "path" {
			match = value
		}
	}
	if match != "" && (!strings.Contains(result, "username: 'no'") || !strings.Contains(result, "sizing-policy: all")) {
		t.Errorf("the autoinstall lost something:\n%s", result)
	}
	return match, out, err
}

// pairs are machines with equal disks, for rules that are answered together.
const pairs = `nvme0n1 disk 960 0 BOOT1 eui.1 M_BOOT1
nvme1n1 disk 960 0 BOOT2 eui.2 M_BOOT2
nvme2n1 disk 3840 0 DATA1 eui.3 M_DATA1
`

// TestChooseDisks holds what several rules get, and that the disks come to stand
// in a list of actions with the boot partitions of the machine's firmware alone.
func TestChooseDisks(t *testing.T) {
	needPyYAML(t)
	const third = "nvme3n1 disk 960 0 BOOT3 eui.4 M_BOOT3\n"
	for _, c := range []struct {
		name, disks, args string
		want              string // the disks of disk-0, disk-1, data-0; empty: the installation stops
		says              string
	}{
		{"by serial", pairs, "serial BOOT2 --disk serial BOOT1 --data serial DATA1", "nvme1n1 nvme0n1 nvme2n1", "the disk of data-0 is"},
		{"smallest two", pairs, "size smallest --disk size smallest --data size largest", "nvme0n1 nvme1n1 nvme2n1", ""},
		{"smallest two of three", pairs + third, "size smallest --disk size smallest --data size largest", "", "the 2 smallest disks could be any of 3: /dev/nvme0n1 /dev/nvme1n1 /dev/nvme3n1"},
		{"only two", pairs, "only --disk only --data serial DATA1", "nvme0n1 nvme1n1 nvme2n1", ""},
		{"only two of three", pairs + third, "only --disk only --data serial DATA1", "", "the machine's only 2 disks could be any of 3"},
		{"one of two", pairs[:strings.Index(pairs, "nvme1n1")] + pairs[strings.Index(pairs, "nvme2n1"):], "only --disk only --data serial DATA1", "", "the machine's only 2 disks are not here; there is /dev/nvme0n1 alone"},
		{"one disk twice", pairs, "serial BOOT1 --disk path /dev/nvme0n1 --data serial DATA1", "", "two rules of storage mean one disk, /dev/nvme0n1"},
		{"data disk not here", pairs, "only --disk only --data serial DATA2", "", "the disk with the serial DATA2 is not here"},
		{"data goes first", pairs, "size largest --disk size smallest --data serial DATA1", "", "the largest disk could be any of 2: /dev/nvme0n1 /dev/nvme1n1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, firmware := range []string{"uefi", "bios"} {
				if i > 0 && c.name != "by serial" {
					continue // the firmware has no say in the choice
				}
				run := newChoice(t, c.disks, actions)
				if firmware == "uefi" {
					run.replace("=/sys/firmware/efi", "="+run.dir)
				} else {
					run.replace("=/sys/firmware/efi", "=/nonexistent")
				}
				out, err := run.run(strings.Fields(c.args)...)
				if (err == nil) != (c.want != "") || !strings.Contains(out, c.says) {
					t.Fatalf("error %v, said\n%s", err, out)
				}
				if c.want == "" {
					if run.autoinstall() != actions {
						t.Error("the autoinstall was changed")
					}
					continue
				}
				compareActions(t, run.autoinstall(), firmware, strings.Fields(c.want))
			}
		})
	}
}

const actions = `version: 1
storage:
  config:
  - {id: disk-0, type: disk, match: {size: largest}, grub_device: true}
  - {id: disk-0-bios, type: partition, flag: bios_grub}
  - {id: disk-0-esp, type: partition, flag: boot, grub_device: true}
  - {id: disk-0-esp-format, type: format, fstype: fat32}
  - {id: disk-0-esp-mount, type: mount, path: /boot/efi}
  - {id: disk-1, type: disk, serial: other, grub_device: true}
  - {id: data-0, type: disk, match: {size: largest}}
  - {id: disk-0-root, type: partition, size: -1}
`

func compareActions(t *testing.T, text, firmware string, disks []string) {
	t.Helper()
	var got struct {
		Storage struct{ Config []map[string]any }
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	disk := func(id, name string) map[string]any {
		action := map[string]any{"id": id, "type": "disk", "path": "/dev/" + name}
		if firmware == "bios" && !strings.HasPrefix(id, "data") {
			action["grub_device"] = true
		}
		return action
	}
	want := []map[string]any{disk("disk-0", disks[0])}
	if firmware == "bios" {
		want = append(want, map[string]any{"id": "disk-0-bios", "type": "partition", "flag": "bios_grub"})
	} else {
		want = append(want,
			map[string]any{"id": "disk-0-esp", "type": "partition", "flag": "boot", "grub_device": true},
			map[string]any{"id": "disk-0-esp-format", "type": "format", "fstype": "fat32"},
			map[string]any{"id": "disk-0-esp-mount", "type": "mount", "path": "/boot/efi"})
	}
	want = append(want, disk("disk-1", disks[1]), disk("data-0", disks[2]),
		map[string]any{"id": "disk-0-root", "type": "partition", "size": -1})
	if diff := cmp.Diff(want, got.Storage.Config); diff != "" {
		t.Errorf("%s: the actions differ (-want +got):\n%s", firmware, diff)
	}
}

func TestChooseDisk(t *testing.T) {
	needPyYAML(t)
	cases := []struct {
		args []string
		disk string // empty: the installation stops
		says string
	}{
		{[]string{"serial", "SHORT1"}, "/dev/sda", "serial SHORT1"},
		{[]string{"serial", "SHORT12"}, "/dev/sdb", ""},
		{[]string{"serial", "S6ESNX0W1"}, "/dev/nvme0n1", ""},
		{[]string{"serial", "SAMSUNG_S6ESNX0W1_1"}, "/dev/nvme0n1", ""},
		{[]string{"serial", "350014ee2"}, "/dev/sdf", ""},
		{[]string{"serial", "short1"}, "", "the disk with the serial short1 is not here"},
		{[]string{"serial", "STICK"}, "", "the disk with the serial STICK is not here"},
		{[]string{"serial", "READONLY"}, "", "is not here"},
		{[]string{"serial", "EMPTY"}, "", "is not here"},
		{[]string{"wwn", "0x5000C5002"}, "/dev/sdb", ""},
		{[]string{"wwn", "eui.0025385"}, "/dev/nvme0n1", ""},
		{[]string{"wwn", "0x5000c500"}, "", "is not here"},
		{[]string{"path", "/dev/sdb"}, "/dev/sdb", ""},
		{[]string{"path", "/dev/sdc"}, "", "the disk with the path /dev/sdc is not here"},
		{[]string{"path", "/dev/sdz"}, "", "is not here"},
		{[]string{"size", "smallest"}, "/dev/sda", ""},
		{[]string{"size", "largest"}, "", "the largest disk could be any of 2: /dev/nvme0n1 /dev/sdf"},
		{[]string{"only"}, "", "the machine's only disk could be any of 4: /dev/sda /dev/sdb /dev/nvme0n1 /dev/sdf"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			match, out, err := chooseDisk(t, c.args...)
			if match != c.disk || (err == nil) != (c.disk != "") || !strings.Contains(out, c.says) {
				t.Errorf("chose %q, error %v, said\n%s", match, err, out)
			}
			if c.disk == "" && (!strings.Contains(out, "nothing was written") || !strings.Contains(out, "/dev/sda  disk  serial SHORT1")) {
				t.Errorf("the disks are not listed:\n%s", out)
			}
		})
	}
}

func needPyYAML(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import yaml").CombinedOutput(); err != nil {
		t.Skipf("python3 has no YAML library; cloud-init brings it: %s", fmt.Sprint(string(out)))
	}
}
