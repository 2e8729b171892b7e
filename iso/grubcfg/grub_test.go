package grubcfg_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

// TestParserIsGRUBs: grub-script-check reads exactly the scripts that we read.
func TestParserIsGRUBs(t *testing.T) {
	pieces := []string{
		"echo a", "set a=1", "menuentry t { echo a; }", "menuentry t {\n echo b\n}", "if", "then", "else", "elif x", "fi", "for x in 1 2", "do", "done",
		"while true", "until x", "function f {", "}", "{", ";", "\n", "\n", "\n", " ", "'", "# c\n", "a b", "\\\n", "submenu s {",
	}
	for seed := range 250 {
		// grub-script-check finds fault with a script that has no command.
		script := "true\n" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 10).Example(seed), " ") + "\n"
		_, ours := grubcfg.Entries([]byte(script))
		if theirs := scriptCheck(t, []byte(script)); (ours == nil) != (theirs == nil) {
			t.Errorf("for %q grub-script-check says %v, we say %v", script, theirs, ours)
		}
	}
}

// printingKernel is a Linux kernel by its header (the x86 boot protocol, 2.12)
// whose whole code writes its command line to the first serial port and leaves
// QEMU through isa-debug-exit.
func printingKernel() []byte {
	code := []byte{
		0x8b, 0x9e, 0x28, 0x02, 0x00, 0x00, // mov ebx, [esi+0x228]  boot_params.hdr.cmd_line_ptr
		0x8a, 0x0b, 0x43, // next: mov cl, [ebx]; inc ebx
		0x84, 0xc9, 0x74, 0x12, // test cl, cl; jz done
		0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // wait for the line status
		0x66, 0xba, 0xf8, 0x03, 0x88, 0xc8, 0xee, // out 0x3f8, cl
		0xeb, 0xe7, // jmp next
		0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x40, 0x74, 0xfb, // done: wait until all is sent
		0x66, 0xba, 0x01, 0x05, 0xee, 0xeb, 0xfe, // out 0x501, al; hang
	}
	// jz and the backward jump are relative to the code above.
	k := make([]byte, 1024+4096)
	le := binary.LittleEndian
	k[0x1f1] = 1                        // setup_sects
	le.PutUint32(k[0x1f4:], 4096/16)    // syssize
	le.PutUint16(k[0x1fe:], 0xaa55)     // boot_flag
	copy(k[0x200:], "\xeb\x66HdrS")     // jump, header
	le.PutUint16(k[0x206:], 0x020c)     // version
	k[0x211] = 1                        // loadflags: LOADED_HIGH
	le.PutUint32(k[0x214:], 0x100000)   // code32_start
	le.PutUint32(k[0x22c:], 0x7fffffff) // initrd_addr_max
	le.PutUint32(k[0x230:], 0x100000)   // kernel_alignment
	le.PutUint32(k[0x238:], 2047)       // cmdline_size
	le.PutUint64(k[0x258:], 0x100000)   // pref_address
	le.PutUint32(k[0x260:], 4096)       // init_size
	copy(k[1024:], code)
	return k
}

// printingBootSector writes its name and the BIOS drive it was given, 0 for the
// first disk, to the serial port and leaves QEMU.
func printingBootSector(name byte) []byte {
	code := []byte{
		0x88, 0xd1, 0x31, 0xc0, 0x8e, 0xd8, // mov cl, dl; ds = 0
		0xbe, 0x3a, 0x7c, 0x80, 0xc1, 0xb0, // mov si, message; add cl, '0'-0x80
		0xac, 0x84, 0xc0, 0x74, 0x05, 0xe8, 0x15, 0x00, 0xeb, 0xf6, // next: lodsb; put; jmp next
		0x88, 0xc8, 0xe8, 0x0e, 0x00, // put cl
		0xba, 0xfd, 0x03, 0xec, 0xa8, 0x40, 0x74, 0xfb, // wait until all is sent
		0xba, 0x01, 0x05, 0xee, 0xeb, 0xfe, // out 0x501, al; hang
		0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // put: wait
		0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xc3, // out 0x3f8, al; ret
	}
	b := make([]byte, 1<<20)
	n := copy(b, code)
	copy(b[n:], fmt.Sprintf("disk %c booted as BIOS drive ", name))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// grubMedium makes a bootable medium with GRUB for BIOS, the menu, and the
// printing kernel in the place of Ubuntu's.
func grubMedium(t *testing.T, cfg []byte) string {
	t.Helper()
	const modules = "/usr/lib/grub/i386-pc" // Debian's package grub-pc-bin
	if _, err := os.Stat(modules); err != nil && os.Getenv("CI") == "" {
		t.Skipf("GRUB for BIOS is not installed: %v", err)
	}
	mkrescue := oracle.Need(t, "grub-mkrescue")
	oracle.Need(t, "mformat")
	oracle.Need(t, "xorriso")
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"boot/grub/grub.cfg": cfg, ".disk/info": []byte("a sample\n"),
		"casper/vmlinuz": printingKernel(), "casper/initrd": []byte("no initrd"),
	} {
		path := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "medium.iso")
	cmd := exec.Command(mkrescue, "-d", modules, "-o", image, filepath.Join(dir, "tree"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("grub-mkrescue: %v\n%s", err, out)
	}
	return image
}

// boot runs QEMU with a BIOS and returns what was written to the serial port.
func boot(t *testing.T, args ...string) string {
	t.Helper()
	serial := filepath.Join(t.TempDir(), "serial")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, oracle.Need(t, "qemu-system-i386"), append([]string{
		"-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "file:" + serial, "-device", "isa-debug-exit,iobase=0x501,iosize=2",
	}, args...)...)
	out, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(serial)
	if readErr != nil || len(text) == 0 {
		t.Fatalf("nothing on the serial port: %v, QEMU: %v\n%s", readErr, err, out)
	}
	return string(text)
}

func usbDevice(image string) []string {
	return []string{
		"-drive", "if=none,id=medium,format=raw,readonly=on,file=" + image,
		"-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0",
	}
}

func cdDevice(image string) []string {
	return []string{
		"-drive", "if=none,id=medium,format=raw,media=cdrom,readonly=on,file=" + image,
		"-device", "ide-cd,drive=medium,bus=ide.0,bootindex=0",
	}
}

// TestKernelSeesArgs boots an edited menu with the real GRUB: its default entry
// must give the kernel what Entries says, and what was asked for.
func TestKernelSeesArgs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots QEMU")
	}
	m := grubcfg.Menu{
		Title: `it's $HOME; { "ERASE" } \ é`,
		KernelArgs: []string{
			"autoinstall", "ds=nocloud;s=/cdrom/nocloud/", "a=$x${y}", "b={c}|&<>", "d=*?[e]", "dyndbg=file a.c +p", "f=#g", "h=é☃", "--", "i=`j`",
		},
	}
	m.KernelArgs = slices.DeleteFunc(m.KernelArgs, func(a string) bool { return a == "--" })
	cfg := edit(t, menus(t)["24.04-grub.cfg"], m)
	found := entries(t, cfg)
	want := "BOOT_IMAGE=/casper/vmlinuz " + found[0].CommandLine
	if got := boot(t, usbDevice(grubMedium(t, cfg))...); got != want {
		t.Errorf("the kernel was given\n%q, want\n%q", got, want)
	}
}

// TestLocalDisk boots the entry for the local disk with a BIOS.
func TestLocalDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("boots QEMU")
	}
	m := menu
	m.Timeout = 0
	cfg := edit(t, menus(t)["24.04-grub.cfg"], m)
	image := grubMedium(t, append(cfg, "set default='Boot from the local disk'\n"...))
	disk := func(index int, name byte) []string {
		path := filepath.Join(t.TempDir(), "disk")
		text := make([]byte, 1<<20)
		if name != 0 {
			text = printingBootSector(name)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{
			"-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", index, path),
			"-device", fmt.Sprintf("ide-hd,drive=disk%d,bus=ide.1,unit=%d,bootindex=%d", index, index, index+1),
		}
	}
	tests := []struct {
		name string
		args [][]string
		want string
	}{
		{"from USB", [][]string{usbDevice(image), disk(0, 'A'), disk(1, 'B')}, "disk A booted as BIOS drive 0"},
		{"from CD", [][]string{cdDevice(image), disk(0, 'A'), disk(1, 'B')}, "disk A booted as BIOS drive 0"},
		{"past an empty disk", [][]string{usbDevice(image), disk(0, 0), disk(1, 'B')}, "disk B booted as BIOS drive 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := boot(t, slices.Concat(tt.args...)...); got != tt.want {
				t.Errorf("serial port has %q, want %q", got, tt.want)
			}
		})
	}
}
