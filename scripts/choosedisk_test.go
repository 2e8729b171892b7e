package scripts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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

func chooseDisk(t *testing.T, args ...string) (match, output string, err error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, tool := range []string{"lsblk", "udevadm", "findmnt"} {
		write(tool, "#!/bin/sh\n"+standIns)
	}
	// PyYAML comes with cloud-init, on the live system as here.
	if err := os.Symlink("/usr/bin/python3", filepath.Join(dir, "python3")); err != nil {
		t.Fatal(err)
	}
	autoinstall := write("autoinstall.yaml", "version: 1\nidentity: {password: $6$x, username: 'no'}\nstorage: {layout: {name: lvm, match: {size: largest}, sizing-policy: all}}\n")
	text, err := scripts.Read("choose-disk.sh")
	if err != nil {
		t.Fatal(err)
	}
	// A loop device or a disk is a block device; here /dev/null stands for it.
	text = strings.ReplaceAll(text, "=/autoinstall.yaml", "="+autoinstall)
	text = strings.ReplaceAll(text, "[ -b ", "[ -c ")
	script := write("choose-disk.sh", text)
	cmd := exec.Command("bash", append([]string{"-u", script}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin", "MACHINE="+write("machine", machine))
	out, err := cmd.CombinedOutput()
	result, readErr := os.ReadFile(autoinstall)
	if readErr != nil {
		t.Fatal(readErr)
	}
	for line := range strings.Lines(string(result)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && key == "path" {
			match = value
		}
	}
	if match != "" && (!strings.Contains(string(result), "username: 'no'") || !strings.Contains(string(result), "sizing-policy: all")) {
		t.Errorf("the autoinstall lost something:\n%s", result)
	}
	return match, string(out), err
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
