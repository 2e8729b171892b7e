package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// bootConfig is a machine with a disk of this serial number, whose boot menu
// does not wait for anybody.
func bootConfig(release, arch, disk string) string {
	return fmt.Sprintf(`version: 1
ubuntu: %q
arch: %s
hostname: matrix
user: {name: ops, authorized_keys: [%q]}
storage: {disk: {serial: %s}}
boot: {confirm: none}
`, release, arch, lab.PublicKey, disk)
}

// bootRow is a row of the boot matrix.
type bootRow struct {
	flavour  string // of the sample medium
	firmware vm.Firmware
	bus      vm.Bus
	device   string // what the live system must find the medium on
	also     string // the test that shows the same, so that make soak alone boots this
}

var bootMatrix = []bootRow{
	{"24.04", vm.BIOS, vm.CD, "/dev/sr0", ""},
	{"24.04", vm.BIOS, vm.USB, "/dev/sda1", ""},
	{"24.04", vm.UEFI, vm.CD, "/dev/sr0", ""},
	{"24.04", vm.UEFI, vm.USB, "/dev/sda1", "TestCloudInitTakesTheSeed"},
	{"24.04", vm.SecureBoot, vm.USB, "/dev/sda1", ""},
	{"22.04", vm.BIOS, vm.USB, "/dev/sda1", ""},
	{"26.04", vm.UEFI, vm.USB, "/dev/sda1", ""},
	{"arm64", vm.UEFI, vm.USB, "/dev/sda1", ""},
}

// TestBootMatrix boots remastered media in every way that a machine may and
// compares what the live system was started with and found on the medium. From
// a USB device it reads the medium through the first partition: the second set
// of metadata.
func TestBootMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	t.Parallel()
	images := map[string]string{}
	renders := map[string]string{}
	for _, row := range bootMatrix {
		if images[row.flavour] != "" {
			continue
		}
		config := lab.WriteConfig(t, bootConfig(releaseOf(row.flavour), archOf(row.flavour), "DISK1"))
		images[row.flavour], renders[row.flavour] = lab.Remaster(t, config, lab.SampleMedium(t, row.flavour, "light"))
	}
	for _, row := range bootMatrix {
		t.Run(fmt.Sprintf("%s-%s-%s", row.flavour, row.firmware, row.bus), func(t *testing.T) {
			if row.also != "" {
				lab.OnlyInSoak(t, row.also+" boots so, too")
			}
			t.Parallel()
			report := lab.BootAndReport(t, vm.Config{
				Arch: archOf(row.flavour), Firmware: row.firmware,
				Medium: vm.Medium{Path: images[row.flavour], Bus: row.bus},
				Family: "gpustrap-e2e",
			}, lab.BootLimit)
			checkStarted(t, report, row.device, row.firmware)
			checkMedia(t, report, row.flavour)
			if got := report["seed/user-data"]; got != renders[row.flavour] {
				t.Errorf("user-data on the medium has %d bytes, the render %d, or they differ; it is:\n%s",
					len(got), len(renders[row.flavour]), got)
			}
			if _, ok := report["seed/meta-data"]; !ok {
				t.Error("the seed has no meta-data")
			}
		})
	}
}

func releaseOf(flavour string) string {
	if flavour == "arm64" {
		return "24.04"
	}
	return flavour
}

func archOf(flavour string) string {
	if flavour == "arm64" {
		return "arm64"
	}
	return "amd64"
}

// checkStarted checks how the kernel was started and where the medium was found.
func checkStarted(t *testing.T, report vm.Report, device string, firmware vm.Firmware) {
	t.Helper()
	arguments := strings.Fields(report["cmdline"])
	for _, want := range []string{"autoinstall", "ds=nocloud;s=/cdrom/nocloud/"} {
		if !slices.Contains(arguments, want) {
			t.Errorf("the kernel was started without %s: %q", want, report["cmdline"])
		}
	}
	if report["cdrom"] != device {
		t.Errorf("/cdrom is %q, want %s", report["cdrom"], device)
	}
	want := map[vm.Firmware]string{vm.BIOS: "", vm.UEFI: "0", vm.SecureBoot: "1"}[firmware]
	// Without Secure Boot the firmware may leave the variable out.
	if got := report["secure-boot"]; got != want && (firmware != vm.UEFI || got != "") {
		t.Errorf("the variable SecureBoot is %q, want %q", got, want)
	}
}

// checkMedia checks the live system's own check of the medium. On the 26.04
// flavour one line was wrong before we came: see make-medium.sh.
func checkMedia(t *testing.T, report vm.Report, flavour string) {
	t.Helper()
	var result struct {
		Mismatches []string `json:"checksum_missmatch"`
		Result     string   `json:"result"`
	}
	if err := json.Unmarshal([]byte(report["media-check"]), &result); err != nil {
		t.Errorf("media check: %v: %q", err, report["media-check"])
		return
	}
	var own []string
	if flavour == "26.04" {
		own = []string{"./boot/grub/i386-pc/eltorito.img"}
	}
	if !slices.Equal(result.Mismatches, own) || (result.Result == "pass") != (own == nil) {
		t.Errorf("media check: %s, wrong files %v, want %v", result.Result, result.Mismatches, own)
	}
}

// TestCloudInitTakesTheSeed boots a Debian system from the medium and has its
// real cloud-init read the seed.
func TestCloudInitTakesTheSeed(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	t.Parallel()
	image, want := lab.Remaster(t, lab.WriteConfig(t, bootConfig("24.04", "amd64", "DISK1")), lab.SampleMedium(t, "24.04", "full"))
	report := lab.BootAndReport(t, vm.Config{
		Medium: vm.Medium{Path: image, Bus: vm.USB}, MemoryMiB: 2048,
		Family: "gpustrap-e2e cloud-init",
	}, lab.BootLimit)
	checkStarted(t, report, "/dev/sda1", vm.UEFI)
	checkMedia(t, report, "24.04")
	if got := report["cloud-init/user-data"]; got != want {
		t.Errorf("cloud-init took %d bytes of user-data, the render has %d, or they differ; it took:\n%s", len(got), len(want), got)
	}
}

// TestBootMenu chooses entries of the boot menu by its keys.
func TestBootMenu(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	t.Parallel()
	medium := lab.SampleMedium(t, "24.04", "light")
	countdown := strings.Replace(bootConfig("24.04", "amd64", "DISK1"), "confirm: none", "confirm: countdown", 1)
	image, _ := lab.Remaster(t, lab.WriteConfig(t, countdown), medium)
	tests := []struct {
		name     string
		firmware vm.Firmware
		keys     []string
		install  bool
	}{
		{"bios, default", vm.BIOS, []string{"ret"}, true},
		{"bios, interactive installer", vm.BIOS, []string{"down", "down", "down", "ret"}, false},
		{"uefi, interactive installer", vm.UEFI, []string{"down", "down", "down", "ret"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := lab.Start(t, vm.Config{
				Firmware: test.firmware, Medium: vm.Medium{Path: image, Bus: vm.USB}, Family: "gpustrap-e2e",
			})
			if err := m.WaitFor(lab.Within(t, lab.BootLimit), "ERASE disk SERIAL DISK1 and install matrix"); err != nil {
				t.Fatal(err)
			}
			if err := m.Press(lab.Within(t, time.Minute), test.keys...); err != nil {
				t.Fatal(err)
			}
			if err := m.Wait(lab.Within(t, lab.BootLimit)); err != nil {
				t.Fatal(err)
			}
			report := vm.ParseReport(m.Serial())
			if got := slices.Contains(strings.Fields(report["cmdline"]), "autoinstall"); got != test.install {
				t.Errorf("kernel arguments %q, want autoinstall: %v", report["cmdline"], test.install)
			}
		})
	}
}
