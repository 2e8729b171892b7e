package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// TestInstall installs with the stand-in installer from a remastered medium on a USB
// device, by UEFI, starts that medium again, and then what was installed. The one of
// netboot installs by BIOS, with a disk of data that is kept.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a system in a virtual machine")
	}
	lab.OnlyInSoak(t, "TestInstallOffline installs so from such a medium")
	t.Parallel()
	events, endpoint := lab.ServeEvents(t)
	image, _ := lab.Remaster(t, lab.WriteConfig(t, lab.InstallConfig("lvm", "DISK1", endpoint)), lab.SampleMedium(t, "24.04", "full"))
	machine := vm.Config{
		Firmware: vm.UEFI, MemoryMiB: 2048, Network: true,
		Medium: vm.Medium{Path: image, Bus: vm.USB},
		// The first disk is the one that the configuration does not mean.
		Disks: []vm.Disk{
			{Path: lab.EmptyDisk(t, 16<<30), Serial: "OTHER"},
			{Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK1"},
		},
		Family: "gpustrap-e2e install",
	}
	report := lab.BootAndReport(t, machine, lab.InstallLimit)
	if got := report["install"]; got != "ok" {
		t.Fatalf("the installation: %q\nevents: %s", got, strings.Join(events.Names(), "\n"))
	}
	if !lab.IsEmpty(t, machine.Disks[0].Path) {
		t.Error("the installation wrote to the other disk")
	}
	lab.CheckEvents(t, events)
	checkNotAgain(t, machine)

	machine.Medium, machine.Disks = vm.Medium{}, machine.Disks[1:]
	m := lab.Start(t, machine)
	if err := m.WaitFor(lab.Within(t, lab.BootLimit), "end installed-system"); err != nil {
		t.Fatal(err)
	}
	lab.CheckInstalled(t, vm.ParseReport(m.Serial())["installed-system"], "/dev/mapper/ubuntu--vg-ubuntu--lv ext4")
	if err := m.WaitFor(lab.Within(t, time.Minute), "  ssh ops@10.0.2.15"); err != nil {
		t.Errorf("what stands above the login prompt: %v", err)
	}
}

// checkNotAgain starts a machine that is installed from the medium that installed
// it, as if it had been forgotten there.
func checkNotAgain(t *testing.T, machine vm.Config) {
	t.Helper()
	before := modified(t, machine.Disks)
	m := lab.Start(t, machine)
	if err := m.Wait(lab.Within(t, lab.InstallLimit)); err != nil {
		t.Fatal(err)
	}
	if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
		t.Errorf("the second installation: %q, want that it stopped", got)
	}
	const sentence = "/dev/vdb holds a system that was installed already, as box"
	if !strings.Contains(m.Serial(), sentence) {
		t.Errorf("the console does not show %q", sentence)
	}
	if !slices.Equal(before, modified(t, machine.Disks)) {
		t.Error("the second start wrote to a disk")
	}
}

// modified returns when the disks were last written to.
func modified(t *testing.T, disks []vm.Disk) []time.Time {
	t.Helper()
	var times []time.Time
	for _, disk := range disks {
		info, err := os.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, info.ModTime())
	}
	return times
}

// TestInstallWithoutTheDisk starts an installation on a machine that has other
// disks than the configuration means: nothing may be written.
func TestInstallWithoutTheDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	lab.OnlyInSoak(t, "TestGuards has this case, and TestCollection what is told of it")
	t.Parallel()
	events, endpoint := lab.ServeEvents(t)
	config := lab.WriteConfig(t, lab.InstallConfig("lvm", "DISK1", endpoint))
	image, _ := lab.Remaster(t, config, lab.SampleMedium(t, "24.04", "full"))
	disk := lab.EmptyDisk(t, 8<<30)
	m := lab.Start(t, vm.Config{
		MemoryMiB: 2048, Network: true, Medium: vm.Medium{Path: image, Bus: vm.USB},
		Disks: []vm.Disk{{Path: disk, Serial: "OTHER"}}, Family: "gpustrap-e2e install",
	})
	if err := m.Wait(lab.Within(t, lab.InstallLimit)); err != nil {
		t.Fatal(err)
	}
	if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
		t.Errorf("the installation: %q, want that it failed", got)
	}
	const sentence = "gpustrap: the installation of box stopped, and nothing was written: the disk with the serial DISK1 is not here"
	if !strings.Contains(m.Serial(), sentence) || events.Failure() != sentence {
		t.Errorf("the console does not show %q, or the report address was told otherwise: %q", sentence, events.Failure())
	}
	if !lab.IsEmpty(t, disk) {
		t.Error("something was written to a disk that the configuration does not mean")
	}
	names := events.Names()
	for _, want := range []string{
		"finish subiquity/Early/run/command_2 FAIL", "finish subiquity/Error/run/run/command_0 SUCCESS",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no event %q; there were:\n%s", want, strings.Join(names, "\n"))
		}
	}
}

// TestSeedBesideTheStockMedium boots an untouched medium with the seed on a
// device of its own. The installer finds it, and asks before it writes: the
// stock boot menu does not say autoinstall.
func TestSeedBesideTheStockMedium(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "seed.img")
	lab.Gpustrap(t, "seed", "-c", lab.WriteConfig(t, lab.InstallConfig("lvm", "DISK1", "http://10.0.2.2:9/")), "-o", seed)
	disk := lab.EmptyDisk(t, 8<<30)
	m := lab.Start(t, vm.Config{
		MemoryMiB: 2048, Medium: vm.Medium{Path: lab.SampleMedium(t, "24.04", "full"), Bus: vm.USB},
		Disks: []vm.Disk{{Path: seed, Serial: "SEED"}, {Path: disk, Serial: "DISK1"}}, Family: "gpustrap-e2e install",
	})
	if err := m.WaitFor(lab.Within(t, lab.InstallLimit), "Continue with autoinstall? (yes|no)"); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("no\n"); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitFor(lab.Within(t, time.Minute), "(yes|no)\r\nno"); err != nil {
		t.Fatal(err)
	}
	if !lab.IsEmpty(t, disk) {
		t.Error("the installer wrote to the disk before it was told yes")
	}
}
