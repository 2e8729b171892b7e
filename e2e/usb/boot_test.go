package usb

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// boot boots a device's file as a USB device and returns what the live system
// found.
func boot(t *testing.T, file string, firmware vm.Firmware, family string) vm.Report {
	t.Helper()
	return lab.BootAndReport(t, vm.Config{
		Firmware: firmware, Medium: vm.Medium{Path: file, Bus: vm.USB}, MemoryMiB: 2048, Family: family,
	}, lab.BootLimit)
}

// TestWrittenDeviceBoots writes a medium from the stock ISO straight to a device
// that is larger, and boots it as a USB device.
func TestWrittenDeviceBoots(t *testing.T) {
	needRoot(t)
	oracle.Need(t, "sgdisk")
	path := lab.WriteConfig(t, config)
	device, file := newLoop(t, 1<<30+512)
	lab.Gpustrap(t, "write", "--yes", "--allow-fixed", "-c", path, "--iso", lab.SampleMedium(t, "24.04", "light"), "first", device)
	if out := lab.Run(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	lab.Gpustrap(t, "verify", device)
	want := lab.UserData(t, path, "first")
	for _, firmware := range []vm.Firmware{vm.BIOS, vm.UEFI} {
		t.Run(string(firmware), func(t *testing.T) {
			report := boot(t, file, firmware, "gpustrap-e2e")
			if report["cdrom"] != "/dev/sda1" {
				t.Errorf("the medium was found on %q", report["cdrom"])
			}
			if report["seed/user-data"] != want {
				t.Errorf("the seed on partition 1 is not the render:\n%s", report["seed/user-data"])
			}
			if args := strings.Fields(report["cmdline"]); !slices.Contains(args, "nopersistent") {
				t.Errorf("started with %q", args)
			}
		})
	}
	// Back to the stock ISO, from the device.
	restored := filepath.Join(lab.Scratch(), "restored.iso")
	lab.Gpustrap(t, "restore", device, "-o", restored)
	lab.Run(t, "cmp", restored, lab.SampleMedium(t, "24.04", "light"))
	_ = os.Remove(restored)
}

// TestSeedPartition writes a medium whose seed lies in a partition, gives it to
// another machine, and lets a real cloud-init find that machine's seed.
func TestSeedPartition(t *testing.T) {
	needRoot(t)
	oracle.Need(t, "sgdisk")
	path := lab.WriteConfig(t, config)
	device, file := newLoop(t, 2<<30)
	lab.Gpustrap(t, "write", "--yes", "--allow-fixed", "-c", path, "--iso", lab.SampleMedium(t, "24.04", "full"), "--cidata", "first", device)
	if out := lab.Run(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	// This machine asks before its disk is erased, and the device's menu does not.
	out, err := exec.Command(lab.Program(t), "seed", "--yes", "--allow-fixed", "-c", path, "--device", device, "careful").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "careful wants yes to be typed") {
		t.Errorf("%v\n%s", err, out)
	}
	start := time.Now()
	lab.Gpustrap(t, "seed", "--yes", "--allow-fixed", "-c", path, "--device", device, "second")
	t.Logf("another machine's seed took %v", time.Since(start))
	if out := lab.Run(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	lab.Gpustrap(t, "verify", device)
	report := boot(t, file, vm.UEFI, "gpustrap-e2e cloud-init")
	if report["cdrom"] != "/dev/sda1" {
		t.Errorf("the medium was found on %q", report["cdrom"])
	}
	if report["cloud-init/user-data"] != lab.UserData(t, path, "second") {
		t.Errorf("cloud-init did not take the second machine's seed:\n%s", report["cloud-init/user-data"])
	}
	args := strings.Fields(report["cmdline"])
	if !slices.Contains(args, "autoinstall") || slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "ds=") }) {
		t.Errorf("started with %q", args)
	}
}

// TestSeedNeedsPartition holds what seed --device says of a device without one.
func TestSeedNeedsPartition(t *testing.T) {
	needRoot(t)
	path := lab.WriteConfig(t, config)
	device, _ := newLoop(t, 512<<20)
	lab.Gpustrap(t, "write", "--yes", "--allow-fixed", "-c", path, "--iso", lab.SampleMedium(t, "24.04", "light"), "first", device)
	out, err := exec.Command(lab.Program(t), "seed", "--yes", "--allow-fixed", "-c", path, "--device", device, "second").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has no partition for a NoCloud seed") || !strings.Contains(string(out), "--cidata") {
		t.Errorf("%v\n%s", err, out)
	}
}
