package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// flash names the files of a UEFI firmware: its code, and the variable store
// that a new machine starts with.
type flash struct{ code, vars string }

// flashes are where Debian and Ubuntu put them, by architecture.
var flashes = map[string]map[Firmware]flash{
	"amd64": {
		UEFI:       {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		SecureBoot: {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
	},
	"arm64": {
		UEFI: {"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
	},
}

// Emulators names the QEMU program of each architecture.
var Emulators = map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}

// processors names the processor of each architecture: what is quick to emulate.
var processors = map[string]string{"amd64": "max", "arm64": "cortex-a72"}

// arguments returns QEMU's command line. Files that it needs are put into dir.
func arguments(c Config, dir string) ([]string, error) {
	c.setDefaults()
	emulator, ok := Emulators[c.Arch]
	if !ok {
		return nil, fmt.Errorf("no emulator is known for architecture %q", c.Arch)
	}
	args := []string{emulator,
		// KVM is no use inside many virtual machines: there it opens and hangs.
		// One processor: with several, Linux patches its code while another runs
		// it, which the emulation of an x86 does not keep apart ("Oops: int3").
		"-accel", "tcg", "-cpu", processors[c.Arch],
		"-m", strconv.Itoa(c.MemoryMiB), "-smp", "1",
		"-nodefaults", "-display", "none",
		"-chardev", "stdio,id=serial0,signal=off", "-serial", "chardev:serial0",
		"-qmp", "unix:" + escape(filepath.Join(dir, "qmp")) + ",server=on,wait=off",
		"-smbios", smbios(c),
		"-device", "qemu-xhci,id=usb", "-device", "virtio-rng-pci",
	}
	switch {
	case c.Arch == "arm64":
		args = append(args, "-machine", "virt", "-device", "ramfb", "-device", "usb-kbd", "-device", "virtio-scsi-pci,id=scsi")
	case c.Firmware == SecureBoot:
		args = append(args, "-machine", "q35,smm=on", "-vga", "std",
			"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
	default:
		// graphics=off makes SeaBIOS copy the screen's text to the serial port;
		// OVMF does that by itself.
		args = append(args, "-machine", "q35,graphics=off", "-device", "VGA")
	}
	if c.UUID != "" {
		args = append(args, "-uuid", c.UUID)
	}
	if !c.Reboot {
		args = append(args, "-no-reboot")
	}
	if c.Firmware != BIOS {
		drives, err := flashDrives(c, dir)
		if err != nil {
			return nil, err
		}
		args = append(args, drives...)
	}
	if c.Medium.Path != "" {
		args = append(args, mediumDevice(c)...)
	}
	for i, disk := range c.Disks {
		args = append(args, diskDevice(i, disk)...)
	}
	args = append(args, networkCard(c)...)
	if c.Netns != "" {
		args = append([]string{"ip", "netns", "exec", c.Netns}, args...)
	}
	return append(args, c.Extra...), nil
}

func networkCard(c Config) []string {
	mac := ""
	if c.MAC != "" {
		mac = ",mac=" + c.MAC
	}
	const nic = "virtio-net-pci,netdev=net0"
	tap := []string{"-netdev", "tap,id=net0,script=no,downscript=no,ifname=" + c.Tap, "-device"}
	switch {
	case c.Tap != "" && c.Firmware == BIOS: // with QEMU's own iPXE in the card's ROM
		return append(tap, nic+mac+",bootindex=0")
	case c.Tap != "":
		return append(tap, nic+",romfile="+mac+",bootindex=0", "-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n")
	case c.Network:
		return []string{"-netdev", "user,id=net0", "-device", nic + ",romfile=" + mac}
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.Arch == "" {
		c.Arch = "amd64"
	}
	if c.Firmware == "" {
		c.Firmware = UEFI
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 1024
	}
}

// escape doubles the commas of a value, which QEMU would take for separators.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

func smbios(c Config) string {
	table := "type=1,manufacturer=QEMU,product=gpustrap-vm"
	if c.Family != "" {
		table += ",family=" + escape(c.Family)
	}
	if c.Serial != "" {
		table += ",serial=" + escape(c.Serial)
	}
	return table
}

// flashDrives returns the two flash memories of a UEFI machine. The variable
// store is a copy of the firmware's own, in dir or where the caller keeps it.
func flashDrives(c Config, dir string) ([]string, error) {
	files, ok := flashes[c.Arch][c.Firmware]
	if !ok {
		return nil, fmt.Errorf("no firmware %s is known for architecture %s", c.Firmware, c.Arch)
	}
	store := c.VarStore
	if store == "" {
		store = filepath.Join(dir, "vars.fd")
	}
	if _, err := os.Stat(store); os.IsNotExist(err) {
		vars, err := os.ReadFile(files.vars)
		if err != nil {
			return nil, fmt.Errorf("the UEFI firmware is not installed (e2e/install-tools.sh does it): %w", err)
		}
		if err := os.WriteFile(store, vars, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + files.code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + escape(store),
	}, nil
}

func mediumDevice(c Config) []string {
	drive := "if=none,id=medium,format=raw,file=" + escape(c.Medium.Path)
	switch {
	case c.Medium.Bus == CD && c.Arch == "arm64":
		return []string{"-drive", drive + ",readonly=on", "-device", "scsi-cd,bus=scsi.0,drive=medium,bootindex=0"}
	case c.Medium.Bus == CD:
		return []string{"-drive", drive + ",readonly=on", "-device", "ide-cd,drive=medium,bootindex=0"}
	case c.Medium.Bus == Virtio:
		return []string{"-drive", drive + ",snapshot=on", "-device", "virtio-blk-pci,drive=medium,bootindex=0"}
	default:
		return []string{"-drive", drive + ",snapshot=on", "-device", "usb-storage,bus=usb.0,removable=on,drive=medium,bootindex=0"}
	}
}

func diskDevice(i int, disk Disk) []string {
	id := fmt.Sprintf("disk%d", i)
	drive := "if=none,format=raw,cache=unsafe,discard=unmap,id=" + id + ",file=" + escape(disk.Path)
	device := "virtio-blk-pci"
	if disk.Bus == USB {
		device = "usb-storage,bus=usb.0"
	}
	device += fmt.Sprintf(",drive=%s,bootindex=%d", id, i+1)
	if disk.Serial != "" {
		device += ",serial=" + escape(disk.Serial)
	}
	return []string{"-drive", drive, "-device", device}
}
