package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// The ids of the machine that the guards are tried on.
const (
	boxSerial = "GS-0001"
	boxUUID   = "6b1d3c5e-0a2b-4c4d-8e6f-102132435465"
	boxMAC    = "52:54:00:67:75:01"
)

// foreignTable partitions the third disk as another system would have.
const foreignTable = `printf 'label: gpt\nsize=8MiB, type=uefi, name="EFI"\nsize=64MiB, name="theirs"\n' | sfdisk --quiet /dev/vdc` + "\n"

// guardCases are tried in turn on one machine with the disks vda (16 GiB, serial
// OTHER), vdb and vdc (8 GiB, serials DISK1 and DISK2), started from a USB device,
// sda.
var guardCases = []struct {
	name        string
	match       string // of the machine's entry
	settings    string // further ones of the machine
	files       map[string]string
	disk        string // that the installation would go to; empty: it stops
	says, never []string
}{
	{name: "its serial number, UUID and MAC", match: "serial: " + boxSerial + ", uuid: " + boxUUID + `, mac: ["52:54:00:00:00:09", "` + boxMAC + `"]`,
		settings: "storage: {disk: {serial: DISK1}}", disk: "/dev/vdb"},
	{name: "another serial number", match: "serial: GS-0002", settings: "storage: {disk: {serial: DISK1}}",
		says: []string{"this machine is not box: its serial number is GS-0001, not GS-0002", "nothing was written",
			`  - {name: NAME, match: {serial: "` + boxSerial + `", uuid: "` + boxUUID + `", mac: ["` + boxMAC + `"]}}`}},
	{name: "another UUID", match: "uuid: 6b1d3c5e-0a2b-4c4d-8e6f-102132435466", settings: "storage: {disk: {serial: DISK1}}",
		says: []string{"its UUID is " + boxUUID}},
	{name: "another MAC", match: `serial: ` + boxSerial + `, mac: "52:54:00:67:75:02"`, settings: "storage: {disk: {serial: DISK1}}",
		says: []string{"no interface has the address 52:54:00:67:75:02"}},
	{name: "the largest disk", settings: "storage: {disk: {size: largest}}", disk: "/dev/vda"},
	{name: "two smallest disks", settings: "storage: {disk: {size: smallest}}",
		says: []string{"the smallest disk could be any of 2: /dev/vdb /dev/vdc", "/dev/vdb    serial DISK1  8G", "/dev/vdc    serial DISK2  8G"}},
	{name: "the only disk of three", says: []string{"the machine's only disk could be any of 3: /dev/vda /dev/vdb /dev/vdc"}, never: []string{"/dev/sda"}},
	{name: "the medium", settings: "storage: {disk: {path: /dev/sda}}", says: []string{"the disk with the path /dev/sda is not here"}},
	{name: "a disk that is not there", settings: "storage: {disk: {serial: DISK9}}", says: []string{"the disk with the serial DISK9 is not here"}},
	{name: "a disk of another system, and marks it", settings: "storage: {disk: {serial: DISK2}}",
		files: map[string]string{"prepare": foreignTable, "late": ""}, disk: "/dev/vdc", says: []string{"/dev/vdc is marked as installed, as box"}},
	{name: "a disk that is marked", settings: "storage: {disk: {serial: DISK2}}",
		says: []string{"/dev/vdc holds a system that was installed already, as box", "nothing was written"}},
	{name: "another disk than that", settings: "storage: {disk: {serial: DISK1}}", disk: "/dev/vdb"},
	{name: "reinstall in the configuration", settings: "reinstall: true, storage: {disk: {serial: DISK2}}",
		disk: "/dev/vdc", says: []string{"reinstalling was asked for"}},
	{name: "reinstall in the boot menu", settings: "storage: {disk: {serial: DISK2}}", disk: "/dev/vdc",
		files: map[string]string{"prepare": "{ cat /proc/cmdline; echo gpustrap.reinstall; } | tr '\\n' ' ' >/run/cmdline\n", "environment": "GPUSTRAP_CMDLINE=/run/cmdline\n"},
		says:  []string{"reinstalling was asked for"}},
}

// guardCasesCD makes the CD on which the stand-in installer finds the cases.
func guardCasesCD(t *testing.T) string {
	t.Helper()
	xorriso := oracle.Need(t, "xorriso")
	tree := t.TempDir()
	for i, c := range guardCases {
		match := "match: {serial: " + boxSerial + "}"
		if c.match != "" {
			match = "match: {" + c.match + "}"
		}
		if c.settings != "" {
			match += ", " + c.settings
		}
		config := lab.WriteConfig(t, fmt.Sprintf("version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [%q]}\ndocker: false\nmachines:\n  - {name: box, %s}\n", lab.PublicKey, match))
		folder := filepath.Join(tree, fmt.Sprintf("%02d", i))
		lab.Gpustrap(t, "render", "-c", config, "-o", tree)
		if err := os.Rename(filepath.Join(tree, "box"), folder); err != nil {
			t.Fatal(err)
		}
		for name, text := range c.files {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cd := filepath.Join(t.TempDir(), "cases.iso")
	lab.Run(t, xorriso, "-as", "mkisofs", "-quiet", "-R", "-V", "CASES", "-o", cd, tree)
	return cd
}

// TestGuards runs rendered early-commands on real disks, in one start of a
// machine: each guard stops what it must and lets through what it must, and
// nothing is written.
func TestGuards(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	t.Parallel()
	image, _ := lab.Remaster(t, lab.WriteConfig(t, lab.InstallConfig("lvm", "DISK1", "http://10.0.2.2:9/")), lab.SampleMedium(t, "24.04", "full"))
	disks := []vm.Disk{
		{Path: lab.EmptyDisk(t, 16<<30), Serial: "OTHER"}, {Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK1"}, {Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK2"},
	}
	report := lab.BootAndReport(t, vm.Config{
		MemoryMiB: 2048, Medium: vm.Medium{Path: image, Bus: vm.USB}, Disks: disks, Family: "gpustrap-e2e install cases",
		Serial: boxSerial, UUID: boxUUID, Network: true, MAC: boxMAC,
		Extra: []string{"-drive", "if=none,id=cases,format=raw,readonly=on,file=" + guardCasesCD(t), "-device", "ide-cd,drive=cases"},
	}, lab.InstallLimit)
	for i, c := range guardCases {
		t.Run(c.name, func(t *testing.T) {
			got, ok := report[fmt.Sprintf("case %02d", i)]
			if !ok {
				t.Fatal("the case was not run")
			}
			result := "result stopped"
			if c.disk != "" {
				result = "result passed " + c.disk
			}
			if !strings.HasSuffix("\n"+got, "\n"+result) {
				t.Errorf("want %q; it says\n%s", result, got)
			}
			for _, want := range c.says {
				if !strings.Contains(got, want) {
					t.Errorf("it does not say %q:\n%s", want, got)
				}
			}
			for _, never := range c.never {
				if strings.Contains(got, never) {
					t.Errorf("it says %q:\n%s", never, got)
				}
			}
		})
	}
	for _, disk := range disks[:2] {
		if !lab.IsEmpty(t, disk.Path) {
			t.Errorf("something was written to the disk %s", disk.Serial)
		}
	}
}

const collectionConfig = `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: [%q]}
docker: false
boot: {confirm: none}
storage: {disk: {size: largest}}
report: %q
machines:
  - {name: by-serial, match: {serial: ` + boxSerial + `}}
  - {name: by-uuid, match: {uuid: ` + boxUUID + `}, storage: {disk: {size: smallest}}}
  - {name: by-mac, match: {mac: "` + boxMAC + `"}, storage: {disk: {serial: OTHER}}}
`

// TestCollection starts one medium on machines and on a stranger: each is
// found to be the one that it is, with its own disk, and the stranger is shown
// what it would be in the configuration.
func TestCollection(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	t.Parallel()
	events, endpoint := lab.ServeEvents(t)
	image := filepath.Join(t.TempDir(), "image.iso")
	lab.Gpustrap(t, "remaster", "--all", "-c", lab.WriteConfig(t, fmt.Sprintf(collectionConfig, lab.PublicKey, endpoint)), "--iso", lab.SampleMedium(t, "24.04", "full"), "-o", image)
	machine := func(t *testing.T) vm.Config {
		return vm.Config{
			MemoryMiB: 2048, Medium: vm.Medium{Path: image, Bus: vm.USB}, Family: "gpustrap-e2e install early",
			Serial: "GS-0009", UUID: "6b1d3c5e-0a2b-4c4d-8e6f-102132435499", Network: true, MAC: "52:54:00:67:75:09",
			Disks: []vm.Disk{{Path: lab.EmptyDisk(t, 8<<30), Serial: "OTHER"}, {Path: lab.EmptyDisk(t, 16<<30), Serial: "DISK1"}},
		}
	}
	for _, test := range []struct {
		name string
		set  func(*vm.Config)
		want string
		soak bool // boots in make soak alone
	}{
		{"by-serial", func(c *vm.Config) { c.Serial = boxSerial }, "early: by-serial on {'path': '/dev/vdb'}", true},
		{"by-uuid", func(c *vm.Config) { c.UUID = boxUUID }, "early: by-uuid on {'path': '/dev/vda'}", true},
		{"by-mac", func(c *vm.Config) { c.MAC = boxMAC }, "early: by-mac on {'path': '/dev/vda'}", true},
		{"a stranger", func(*vm.Config) {}, "failed: ", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.soak {
				lab.OnlyInSoak(t, "a stranger boots, and the script's own tests have all ways")
			}
			t.Parallel()
			c := machine(t)
			test.set(&c)
			m := lab.Start(t, c)
			if err := m.Wait(lab.Within(t, lab.InstallLimit)); err != nil {
				t.Fatal(err)
			}
			if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, test.want) {
				t.Errorf("it says %q, want %q", got, test.want)
			}
			for _, disk := range c.Disks {
				if !lab.IsEmpty(t, disk.Path) {
					t.Errorf("something was written to the disk %s", disk.Serial)
				}
			}
			if test.name != "a stranger" {
				return
			}
			for _, want := range []string{
				"gpustrap: the installation of a machine stopped, and nothing was written: this hardware is none of the 3 machines of this medium",
				`  - {name: NAME, match: {serial: "GS-0009", uuid: "6b1d3c5e-0a2b-4c4d-8e6f-102132435499", mac: ["52:54:00:67:75:09"]}}`,
			} {
				if !strings.Contains(strings.ReplaceAll(m.Serial(), "\r", ""), want) {
					t.Errorf("the console does not show %q", want)
				}
			}
			if told := events.Failure(); !strings.Contains(told, "this hardware is none of the 3 machines") {
				t.Errorf("the report address was told %q", told)
			}
		})
	}
}
