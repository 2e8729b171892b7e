package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing/fstest"
	"time"

	"github.com/gpustrap/gpustrap/iso"
)

// bootTimeout is how long a boot may take under software emulation, the menu's
// countdown and the check of a 3 GB medium included.
const bootTimeout = 15 * time.Minute

// Paths of the UEFI firmware as Debian's and Ubuntu's packages install it.
const (
	ovmfCode  = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars  = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	aavmfCode = "/usr/share/AAVMF/AAVMF_CODE.fd"
	aavmfVars = "/usr/share/AAVMF/AAVMF_VARS.fd"
)

// virtualMachine says how QEMU boots one architecture.
type virtualMachine struct {
	qemu, code, vars string
	console          string   // kernel's name of the serial port
	args             []string // machine and processor
	packages         string   // what to install when something is missing
}

func virtualMachineFor(arch string) virtualMachine {
	if arch == "arm64" {
		return virtualMachine{
			qemu: "qemu-system-aarch64", code: aavmfCode, vars: aavmfVars, console: "ttyAMA0",
			args:     []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on", "-device", "qemu-xhci"},
			packages: "qemu-system-arm qemu-efi-aarch64",
		}
	}
	return virtualMachine{
		qemu: "qemu-system-x86_64", code: ovmfCode, vars: ovmfVars, console: "ttyS0",
		args:     []string{"-machine", "q35", "-cpu", "max", "-device", "qemu-xhci"},
		packages: "qemu-system-x86 ovmf",
	}
}

// bootImage boots the image in QEMU as a USB disk under UEFI, without a network
// and without another disk, and checks that the kernel was started with the
// seed's arguments and that the live system found the medium. What is booted
// differs from the image in one word: the boot menu sends the kernel's messages
// to the serial port, where they are read.
func bootImage(ctx context.Context, w *world, name string) error {
	image, err := openMedium(name)
	if err != nil {
		return err
	}
	defer func() { _ = image.Close() }() // read only
	vm := virtualMachineFor(image.Description().Architecture)
	qemu, err := exec.LookPath(vm.qemu)
	if err != nil {
		return withHint(errors.New("QEMU is not installed"), "apt-get install %s", vm.packages)
	}
	dir, err := os.MkdirTemp("", "gpustrap-boot-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover temporary folder harms nobody
	disk := filepath.Join(dir, "usb.img")
	if err := writeBootCopy(ctx, w, image, disk, vm.console); err != nil {
		return err
	}
	vars := filepath.Join(dir, "vars.fd")
	if err := copyFile(vm.vars, vars); err != nil {
		return withHint(fmt.Errorf("cannot read the UEFI firmware: %w", err), "apt-get install %s", vm.packages)
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	args := append(vm.args,
		"-accel", "tcg", "-m", "2048", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-nic", "none",
		"-drive", "if=pflash,format=raw,readonly=on,file="+vm.code,
		"-drive", "if=pflash,format=raw,file="+vars,
		"-drive", "if=none,id=stick,format=raw,readonly=on,file="+disk,
		"-device", "usb-storage,drive=stick,removable=on,bootindex=0")
	cmd := exec.CommandContext(ctx, qemu, args...)
	cmd.Stderr = w.stderr
	serial, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	w.say("booting %s in QEMU (USB disk, UEFI, software emulation)", image.name)
	start := w.now()
	if err := cmd.Start(); err != nil {
		return err
	}
	seen := watchBoot(serial)
	cancel()
	_ = cmd.Wait() // it was ended by us
	if err := seen.verdict(); err != nil {
		return fmt.Errorf("%s: %w", image.name, err)
	}
	return w.print("%s: boots (UEFI, USB disk, %s)\n  kernel: %s\n  live system: %s\n",
		image.name, w.now().Sub(start).Round(time.Second), seen.commandLine, seen.live)
}

// writeBootCopy writes the image with a boot menu that names a serial console
// and counts down from one second.
func writeBootCopy(ctx context.Context, w *world, image *medium, name, console string) error {
	overlay, err := image.Overlay()
	if err != nil {
		return fmt.Errorf("%s: %w", image.name, err)
	}
	if overlay.Files == nil {
		return fmt.Errorf("%s: was not remastered by gpustrap, so there is no seed to boot with", image.name)
	}
	menu, err := fs.ReadFile(overlay.Files, bootMenu)
	if err != nil {
		return fmt.Errorf("%s: cannot read the boot menu: %w", image.name, err)
	}
	overlay.Files = replaced{overlay.Files, bootMenu, withConsole(menu, console)}
	layout, err := iso.Remaster(image.Image, overlay)
	if err != nil {
		return fmt.Errorf("%s: %w", image.name, err)
	}
	return writeLayout(ctx, w, layout, image, name)
}

// bootMenu is GRUB's menu on the medium.
const bootMenu = "boot/grub/grub.cfg"

// mediumFile is the mode of a file on a medium.
const mediumFile fs.FileMode = 0o444

// withConsole adds a console to the kernel arguments of the automated entries,
// which are those that name the seed.
func withConsole(menu []byte, console string) []byte {
	var out []byte
	for line := range bytes.Lines(menu) {
		if bytes.Contains(line, []byte("ds=nocloud")) {
			args, rest, found := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" ---"))
			line = append(args, " console="+console...)
			if found {
				line = append(append(line, " ---"...), rest...)
			}
			line = append(line, '\n')
		}
		out = append(out, line...)
	}
	return out
}

// replaced shows a file system with other content in one file.
type replaced struct {
	fs.FS
	name string
	data []byte
}

func (r replaced) file() fstest.MapFS {
	return fstest.MapFS{r.name: {Data: r.data, Mode: mediumFile}}
}

func (r replaced) Open(name string) (fs.File, error) {
	if name == r.name {
		return r.file().Open(name)
	}
	return r.FS.Open(name)
}

func (r replaced) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.FS, name)
	for i, e := range entries {
		if path.Join(name, e.Name()) == r.name {
			info, err := r.file().Stat(r.name)
			if err != nil {
				return nil, err
			}
			entries[i] = fs.FileInfoToDirEntry(info)
		}
	}
	return entries, err
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, secretFile)
}

// bootLog is what the serial port told.
type bootLog struct {
	commandLine string // the kernel's command line
	live        string // the line by which the live system is known to run
	last        string // the last line, for the complaint
}

var (
	kernelLine = regexp.MustCompile(`(?:Kernel command line|Command line): (.*)`)
	liveLine   = regexp.MustCompile(`Welcome to .*|cloud-init\[\d+\].*|GPUSTRAP-LIVE .*`)
)

// watchBoot reads the serial port until the live system runs or the port ends.
func watchBoot(serial io.Reader) bootLog {
	var log bootLog
	for lines := bufio.NewScanner(serial); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line != "" {
			log.last = line
		}
		if found := kernelLine.FindStringSubmatch(line); found != nil {
			log.commandLine = found[1]
		}
		if found := liveLine.FindString(line); found != "" && log.commandLine != "" {
			log.live = found
			break
		}
	}
	return log
}

// verdict says what went wrong, or nil.
func (l bootLog) verdict() error {
	switch {
	case l.commandLine == "":
		return fmt.Errorf("no kernel was started; the last line on the serial port was %q", l.last)
	case !strings.Contains(l.commandLine, "ds=nocloud;s=/cdrom/nocloud/"):
		return fmt.Errorf("the kernel was started without the seed: %s", l.commandLine)
	case l.live == "":
		return fmt.Errorf("the live system did not come up; the last line on the serial port was %q", l.last)
	}
	return nil
}
