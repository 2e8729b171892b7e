package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// tree writes files below a new folder and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// live runs a script of the live system whose places lie below dir.
func live(t *testing.T, dir, script, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("bash", append([]string{script}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "DIR="+dir, "GPUSTRAP_RUN="+dir+"/run",
		"GPUSTRAP_SYSFS="+dir+"/sys", "GPUSTRAP_CMDLINE="+dir+"/cmdline", "GPUSTRAP_LOGS="+dir+"/logs",
		"GPUSTRAP_ROOT_HOME="+dir+"/root", "GPUSTRAP_DEV="+dir+"/dev", "TARGET_MOUNT_POINT="+dir+"/target")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const (
	rightUUID = "4c4c4544-0042-3510-8052-b4c04f4e3732"
	rightMAC  = "b8:ce:f6:00:00:01"
)

func TestGuardHardware(t *testing.T) {
	dir := tree(t, map[string]string{
		"sys/class/dmi/id/product_serial":   " J12\"34 \n",
		"sys/class/dmi/id/product_uuid":     strings.ToUpper(rightUUID) + "\n",
		"sys/class/net/eth0/address":        rightMAC + "\n",
		"sys/class/net/eth0/device/vendor":  "",
		"sys/class/net/eth1/address":        "b8:ce:f6:00:00:02\n",
		"sys/class/net/eth1/device/vendor":  "",
		"sys/class/net/ib0/address":         "80:00:00:48:fe:80:00:00:00:00:00:00:b8:ce:f6:00:00:00:00:09\n",
		"sys/class/net/ib0/device/vendor":   "",
		"sys/class/net/docker0/address":     "02:42:00:00:00:01\n",
		"sys/class/net/bonding_masters/nil": "",
	})
	entry := `  - {name: NAME, match: {serial: "J12\"34", uuid: "` + rightUUID + `", mac: ["` + rightMAC + `", "b8:ce:f6:00:00:02"]}}`
	cases := []struct {
		args []string
		says string // empty: it is this machine
	}{
		{[]string{"serial", `J12"34`}, ""},
		{[]string{"serial", `J12`}, `this machine is not node01: its serial number is J12"34, not J12`},
		{[]string{"uuid", rightUUID}, ""},
		{[]string{"uuid", "4c4c4544-0042-3510-8052-b4c04f4e3733"}, "its UUID is 4C4C4544"},
		{[]string{"mac", "b8:ce:f6:00:00:02"}, ""},
		{[]string{"mac", "b8:ce:f6:00:00:09", "mac", rightMAC}, ""},
		{[]string{"mac", "b8:ce:f6:00:00:09", "mac", "b8:ce:f6:00:00:08"}, "no interface has the address b8:ce:f6:00:00:09 b8:ce:f6:00:00:08"},
		{[]string{"mac", "02:42:00:00:00:01"}, "no interface has the address 02:42:00:00:00:01"},
		{[]string{"serial", `J12"34`, "uuid", rightUUID, "mac", rightMAC}, ""},
		{[]string{"serial", `J12"34`, "mac", "b8:ce:f6:00:00:09"}, "no interface has"},
		{[]string{"serial", "X", "mac", "b8:ce:f6:00:00:09"}, "not X; no interface has"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, err := live(t, dir, "guard.sh", "", append([]string{"hardware", "node01"}, c.args...)...)
			if (err == nil) != (c.says == "") || !strings.Contains(out, c.says) {
				t.Errorf("error %v, said\n%s", err, out)
			}
			if c.says == "" {
				return
			}
			failure, readErr := os.ReadFile(filepath.Join(dir, "run", "failure"))
			if readErr != nil || !strings.Contains(string(failure), entry) || !strings.Contains(out, "nothing was written") {
				t.Errorf("the failure is (%v)\n%s\nit says\n%s", readErr, failure, out)
			}
		})
	}
}

// TestGuardHardwareLeavesOutTemplates: ids that makers forgot to set are no ids.
func TestGuardHardwareLeavesOutTemplates(t *testing.T) {
	for _, serial := range []string{"To be filled by O.E.M.", "System Serial Number", "Default string", "Not Specified", "0123456789", "None", ""} {
		dir := tree(t, map[string]string{
			"sys/class/dmi/id/product_serial":  serial + "\n",
			"sys/class/dmi/id/product_uuid":    "03000200-0400-0500-0006-000700080009\n",
			"sys/class/net/eth0/address":       rightMAC + "\n",
			"sys/class/net/eth0/device/vendor": "",
		})
		out, err := live(t, dir, "guard.sh", "", "hardware", "node01", "uuid", rightUUID)
		if err == nil || !strings.Contains(out, `match: {mac: ["`+rightMAC+`"]}}`) {
			t.Errorf("%q: error %v, said\n%s", serial, err, out)
		}
	}
}

func TestGuardTPM(t *testing.T) {
	with := tree(t, map[string]string{"sys/class/tpmrm/tpmrm0/dev": "253:65536\n"})
	if out, err := live(t, with, "guard.sh", "", "tpm"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	older := tree(t, map[string]string{"sys/class/tpm/tpm0/dev": "10:224\n"})
	out, err := live(t, older, "guard.sh", "", "tpm")
	failure, _ := os.ReadFile(filepath.Join(older, "run", "failure"))
	if err == nil || !strings.HasPrefix(string(failure), "this machine has no TPM 2.0") || !strings.Contains(out, "nothing was written") {
		t.Errorf("error %v, said\n%s", err, out)
	}
}

// image makes a disk image with a partition table that sfdisk writes from a script.
func image(t *testing.T, dir, name, table string) string {
	t.Helper()
	oracle.Need(t, "sfdisk")
	at := filepath.Join(dir, name)
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at, 64<<20); err != nil {
		t.Fatal(err)
	}
	if table == "" {
		return at
	}
	cmd := exec.Command("sfdisk", "--quiet", at)
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return at
}

// TestMark finishes an installation on real partition tables, and lets the guard
// look at them.
func TestMark(t *testing.T) {
	const gpt = "label: gpt\nsize=1MiB, type=uefi\nsize=8MiB, name=\"kept\"\n"
	dir := tree(t, map[string]string{"cmdline": "quiet ---\n", "bin/curtin": "#!/bin/sh\nexit 9\n", "bin/findmnt": "#!/bin/sh\nexit 1\n"})
	guard := func(args ...string) (string, error) {
		return live(t, dir, "guard.sh", "", append([]string{"installed"}, args...)...)
	}
	disks := func(names ...string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "run", "disks"), []byte(strings.Join(names, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty, foreign := image(t, dir, "empty.img", ""), image(t, dir, "foreign.img", gpt)
	dos := image(t, dir, "dos.img", "label: dos\nsize=1MiB\n")
	mirror := image(t, dir, "mirror.img", gpt)

	for _, disk := range []string{empty, foreign, dos} {
		disks(disk)
		if out, err := guard("node01"); err != nil {
			t.Errorf("%s: %v\n%s", disk, err, out)
		}
	}
	disks(foreign, mirror)
	const long = "a-machine-whose-name-has-more-than-twenty-seven-letters"
	if out, err := live(t, dir, "finish.sh", "", long); err != nil || strings.Count(out, "is marked as installed") != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	table, err := exec.Command("sfdisk", "--dump", foreign).CombinedOutput()
	if err != nil || !strings.Contains(string(table), `name="gpustrap:`+long[:27]+`"`) || !strings.Contains(string(table), `name="kept"`) {
		t.Errorf("%v: the table is\n%s", err, table)
	}

	disks(empty, mirror) // one of them is enough
	out, err := guard("node01")
	if err == nil || !strings.Contains(out, mirror+" holds a system that was installed already, as "+long[:27]) || !strings.Contains(out, "reinstall: true for node01") {
		t.Errorf("error %v, said\n%s", err, out)
	}
	if out, err := guard("node01", "reinstall"); err != nil || !strings.Contains(out, "reinstalling was asked for") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte("autoinstall gpustrap.reinstall ---\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := guard("node01"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	disks(dos)
	if out, err := live(t, dir, "finish.sh", "", "node01"); err != nil || !strings.Contains(out, "would install node01 again") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDiskFirst holds what finish.sh tells the firmware.
func TestDiskFirst(t *testing.T) {
	const entries = "BootCurrent: 0003\nTimeout: 0 seconds\n%ORDER%Boot0001* UEFI PXEv4\nBoot0003* UEFI USB stick\nBoot0005* ubuntu\tHD(1,GPT,x)/File(\\EFI\\ubuntu\\shimx64.efi)\n"
	for name, c := range map[string]struct{ order, medium, want string }{
		"the medium is first":           {"BootOrder: 0003,0005,0001\n", "/dev/sda1", "--bootorder 0005,0003,0001"},
		"ours has no place":             {"BootOrder: 0003\n", "/dev/sda1", "--bootorder 0005,0003"},
		"there is no order":             {"", "/dev/sda1", "--bootorder 0005"},
		"the disk is first":             {"BootOrder: 0005,0003\n", "/dev/sda1", ""},
		"started over the network":      {"BootOrder: 0001,0005\n", "/dev/loop0", ""},
		"no medium is mounted any more": {"BootOrder: 0003,0005\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{
				"sys/firmware/efi/x": "",
				"entries":            strings.ReplaceAll(entries, "%ORDER%", c.order),
				"bin/findmnt":        "#!/bin/sh\n[ -z '" + c.medium + "' ] && exit 1\necho '" + c.medium + "'\n",
				"bin/lsblk":          "#!/bin/sh\n",
				"bin/curtin":         "#!/bin/sh\nshift 3\nif [ $# = 0 ]; then cat \"$DIR/entries\"; else echo \"$*\" >>\"$DIR/told\"; fi\n",
			})
			out, err := live(t, dir, "finish.sh", "", "node01")
			told, _ := os.ReadFile(filepath.Join(dir, "told"))
			if err != nil || c.want == "" && len(told) > 0 || !strings.Contains(string(told), c.want) {
				t.Errorf("%v: the firmware was told %q\n%s", err, told, out)
			}
		})
	}
}
