package netboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
	"github.com/gpustrap/gpustrap/iso"
)

func TestMain(m *testing.M) { lab.Main(m) }

// What the serial port shows of the installer in the initrd, and of the local disk.
const (
	installed = "GPUSTRAP-NETINSTALL ok"
	localDisk = "GPUSTRAP-LOCAL-DISK"
)

// markAt is where netinstall leaves a line for each installation, in bytes.
const markAt = 60 << 20

// newDisk makes a disk that says localDisk when it is booted: by its boot sector, or
// by a signed GRUB.
func newDisk(t *testing.T, firmware vm.Firmware, medium string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if firmware == vm.BIOS {
		// A loop over int 10h, function 0Eh, which shows a character; then hlt.
		code := []byte("\x31\xc0\x8e\xd8\xbe\x15\x7c\xac\x3c\x00\x74\x06\xb4\x0e\xcd\x10\xeb\xf5\xf4\xeb\xfd\r\n" + localDisk + "\r\n")
		sector := make([]byte, 512)
		copy(sector, code)
		sector[510], sector[511] = 0x55, 0xaa
		if err := os.WriteFile(path, sector, 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		efiDisk(t, path, medium)
	}
	if err := os.Truncate(path, markAt+4<<20); err != nil {
		t.Fatal(err)
	}
	return path
}

// efiDisk makes a FAT file system with the medium's own loaders and a menu.
func efiDisk(t *testing.T, path, medium string) {
	t.Helper()
	lab.Run(t, "mkfs.vfat", "-C", path, fmt.Sprint(markAt>>10))
	file, err := os.Open(medium)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	image, err := iso.Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		".disk/info":         []byte("local disk\n"), // by which that GRUB finds its own device
		"boot/grub/grub.cfg": []byte("echo " + localDisk + "\nsleep 1000\n"),
	}
	for _, name := range []string{"EFI/boot/bootx64.efi", "EFI/boot/grubx64.efi", "EFI/boot/bootaa64.efi", "EFI/boot/grubaa64.efi"} {
		data, err := fs.ReadFile(image.FS(), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the other architecture's
		}
		if err != nil {
			t.Fatal(err)
		}
		files[name] = data
	}
	lab.Run(t, "mmd", "-i", path, "::/.disk", "::/boot", "::/boot/grub", "::/EFI", "::/EFI/boot")
	for name, data := range files {
		from := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(from, data, 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Run(t, "mcopy", "-i", path, from, "::/"+name)
	}
}

// installations returns how often netinstall has installed to a disk.
func installations(t *testing.T, disk string) int {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	mark, err := io.ReadAll(io.NewSectionReader(f, markAt, 1024))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(mark, []byte("installed"))
}

// configOf returns a configuration of machines, node0 and on, a line of settings each.
func configOf(machines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [%q]}\ndocker: false\n"+
		"storage: {layout: direct, disk: {serial: DISK1}}\nmachines:\n", lab.PublicKey)
	for i, m := range machines {
		fmt.Fprintf(&b, "  - {name: node%d, match: {mac: %q}%s}\n", i, macOf(i), m)
	}
	return b.String()
}

func macOf(i int) string { return fmt.Sprintf("52:54:00:77:00:%02x", i) }

// machine is the virtual machine node i, without a disk.
func (n network) machine(i int, firmware vm.Firmware) vm.Config {
	return vm.Config{
		Firmware: firmware, Netns: n.prefix + "lan", Tap: fmt.Sprintf("tap%d", i), MAC: macOf(i), Reboot: true,
		UUID: fmt.Sprintf("5b193300-0000-4000-8000-0000000000%02x", i),
	}
}

// lightMachine is the same with a disk, and an installer that takes seconds.
func (n network) lightMachine(t *testing.T, i int, firmware vm.Firmware, medium string) vm.Config {
	t.Helper()
	c := n.machine(i, firmware)
	c.MemoryMiB, c.Family = 768, "gpustrap-e2e netinstall"
	c.Disks = []vm.Disk{{Path: newDisk(t, firmware, medium), Serial: "DISK1"}}
	return c
}

// insert gives the machine a CD over HTTP; its restart ends it. QEMU must reach both
// the server and the tap device.
func (n network) insert(t *testing.T, c *vm.Config, address string) {
	t.Helper()
	lab.Run(t, "ip", "-n", n.prefix+"lan", "addr", "add", "10.77.0.3/24", "dev", "br0")
	card := []string{"-netdev", "tap,id=net0,script=no,downscript=no,ifname=" + c.Tap, "-device", "virtio-net-pci,romfile=,netdev=net0,mac=" + c.MAC}
	c.Medium, c.Tap, c.Reboot = vm.Medium{Path: address, Bus: vm.CD}, "", false
	c.Extra = append(c.Extra, card...)
}

// httpBoot has OVMF boot by HTTP and not by PXE.
var httpBoot = []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"}

// boot is a machine of a test and what is expected of it.
type boot struct {
	firmware vm.Firmware
	arch     string // amd64 where empty
	extra    []string
	armed    bool
	seen     []string // on the serial port, of the way that it boots
}

// bootAll starts machines at the same time. Those that are armed are installed and
// restart; all boot from their disks in the end, though the network comes first in
// their boot order.
func bootAll(t *testing.T, n network, s *server, medium string, boots []boot) {
	t.Helper()
	var machines []*vm.VM
	var disks []string
	for i, b := range boots {
		c := n.lightMachine(t, i, b.firmware, medium)
		c.Arch, c.Extra = b.arch, b.extra
		if b.armed {
			s.command(t, "arm", "--yes", fmt.Sprintf("node%d", i))
		}
		machines = append(machines, lab.StartNow(t, c))
		disks = append(disks, c.Disks[0].Path)
	}
	for i, b := range boots {
		m, times, phase := machines[i], 0, ""
		if b.armed {
			times, phase = 1, "installed"
			if err := m.WaitFor(lab.Within(t, lab.BootLimit), installed); err != nil {
				t.Fatalf("node%d: %v", i, err)
			}
		}
		if err := m.WaitFor(lab.Within(t, lab.BootLimit), localDisk); err != nil {
			t.Fatalf("node%d: %v", i, err)
		}
		m.Close()
		for _, text := range b.seen {
			if !strings.Contains(m.Serial(), text) {
				t.Errorf("node%d: the serial port does not show %q", i, text)
			}
		}
		if got := installations(t, disks[i]); got != times {
			t.Errorf("node%d was installed %d times, want %d", i, got, times)
		}
		if got := s.phase(t, fmt.Sprintf("node%d", i)); got != phase {
			t.Errorf("node%d: the server has it as %q, want %q", i, got, phase)
		}
	}
}

// TestFourAtOnce boots four machines at the same time beside a site's DHCP server:
// each in its own way, three of them armed.
func TestFourAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	medium := lab.SampleMedium(t, "24.04", "light")
	n := newNetwork(t, 4)
	n.siteDHCP(t)
	s := n.serve(t, configOf("", "", "", ""), medium, nil, nil)
	bootAll(t, n, s, medium, []boot{
		{firmware: vm.BIOS, armed: true, seen: []string{"boot.ipxe"}},
		{firmware: vm.UEFI, armed: true, seen: []string{"NBP filename is ipxe-amd64.efi", "boot.ipxe"}},
		{firmware: vm.UEFI, extra: httpBoot, armed: true, seen: []string{"URI: " + base + "/boot/shimx64.efi"}},
		{firmware: vm.BIOS, armed: false, seen: []string{"it is not armed"}},
	})
}

// TestSecureBoot boots with Microsoft's keys enforced, through the medium's signed shim
// and the signed network GRUB of its pool: one machine by TFTP, whose GRUB finds us
// because we give the addresses, and one by HTTP.
func TestSecureBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	medium := lab.SampleMedium(t, "24.04", "light")
	n := newNetwork(t, 2)
	const settings = ", gpu: {model: h200, secure_boot: required}, network: {addresses: [10.77.0.%d/24], gateway: 10.77.0.1}"
	s := n.serve(t, configOf(fmt.Sprintf(settings, 20), fmt.Sprintf(settings, 21)), medium, []string{"--dhcp", "reservation"}, nil)
	const enforced = "GPUSTRAP-NETINSTALL Secure Boot 1"
	bootAll(t, n, s, medium, []boot{
		{firmware: vm.SecureBoot, armed: true, seen: []string{"NBP filename is shimx64.efi", "Station IP address is 10.77.0.20", enforced}},
		{firmware: vm.SecureBoot, extra: httpBoot, armed: true, seen: []string{"URI: " + base + "/boot/shimx64.efi", "Station IP address is 10.77.0.21", enforced}},
	})
}

// TestARM64 boots arm64 machines through the shim and the network GRUB of the arm64
// medium, as there is no iPXE for them here: one by TFTP and one by HTTP.
func TestARM64(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	lab.OnlyInSoak(t, "software emulation of arm64 takes minutes")
	medium := lab.SampleMedium(t, "arm64", "light")
	n := newNetwork(t, 2)
	const settings = ", arch: arm64, network: {addresses: [10.77.0.%d/24], gateway: 10.77.0.1}"
	s := n.serve(t, configOf(fmt.Sprintf(settings, 20), fmt.Sprintf(settings, 21)), medium, []string{"--dhcp", "reservation"}, nil)
	bootAll(t, n, s, medium, []boot{
		{firmware: vm.UEFI, arch: "arm64", armed: true, seen: []string{"NBP filename is shimaa64.efi", "Station IP address is 10.77.0.20"}},
		{firmware: vm.UEFI, arch: "arm64", extra: httpBoot, armed: true, seen: []string{"URI: " + base + "/boot/shimaa64.efi", "Station IP address is 10.77.0.21"}},
	})
}

// TestVirtualMedium boots a machine from its own image, which QEMU reads over HTTP by
// ranges as a management controller does. Once it is installed the image is closed.
func TestVirtualMedium(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	medium := lab.SampleMedium(t, "24.04", "light")
	n := newNetwork(t, 1)
	n.siteDHCP(t)
	s := n.serve(t, configOf(""), medium, nil, nil)
	address := s.armMedium(t, "node0")
	c := n.lightMachine(t, 0, vm.UEFI, medium)
	n.insert(t, &c, address)
	m := lab.StartNow(t, c)
	if err := m.WaitFor(lab.Within(t, lab.BootLimit), installed); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(lab.Within(t, lab.BootLimit)); err != nil {
		t.Fatal(err)
	}
	if got := installations(t, c.Disks[0].Path); got != 1 {
		t.Errorf("installed %d times", got)
	}
	if got := s.phase(t, "node0"); got != "installed" {
		t.Errorf("the server has it as %q", got)
	}
	status := lab.Run(t, "ip", "netns", "exec", n.prefix+"boot", "curl", "-s", "-o", os.DevNull, "-w", "%{http_code}", address)
	if status != "404" {
		t.Errorf("the image is still there: %s", status)
	}
}
