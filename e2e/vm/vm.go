// Package vm boots installation media and disks in QEMU, by software emulation
// alone, and watches their serial port. It is for tests and development
// programs: nothing of gpustrap itself imports it.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Firmware is what starts the machine.
type Firmware string

// The kinds of Firmware. An arm64 machine has UEFI alone.
const (
	BIOS       Firmware = "bios"
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secureboot" // UEFI with Microsoft's keys, enforcing
)

// Bus is how a medium or disk is attached.
type Bus string

// The kinds of Bus.
const (
	CD     Bus = "cd"     // SATA CD-ROM (SCSI on arm64)
	USB    Bus = "usb"    // USB mass storage
	Virtio Bus = "virtio" // virtio block device
)

// Medium is an installation medium. What the machine writes to it is dropped.
type Medium struct {
	Path string
	Bus  Bus
}

// Disk is a block device that keeps what the machine writes to it.
type Disk struct {
	Path   string // an existing raw image
	Bus    Bus    // Virtio if empty
	Serial string
}

// Config describes a machine.
type Config struct {
	Arch     string   // Debian architecture, amd64 if empty
	Firmware Firmware // UEFI if empty
	// VarStore is the file that keeps the UEFI variables from one start to the
	// next; it is made when it does not exist. Empty: they are forgotten.
	VarStore string
	Medium   Medium // none if its Path is empty; boots before the disks
	Disks    []Disk

	MemoryMiB int // 1024 if zero

	// Family is the SMBIOS family. It tells the sample medium's live system
	// what to do: see e2e/medium/live/init.
	Family string
	Serial string // SMBIOS system serial number
	UUID   string // SMBIOS system UUID

	// Network gives the machine a network card on QEMU's user-mode network,
	// where the host's loopback is 10.0.2.2.
	Network bool
	// Tap gives the machine a network card on a tap device instead, from which it
	// boots before its disks. Netns is the network namespace of the device.
	Tap, Netns string
	MAC        string // of the network card

	// Reboot lets the machine restart; otherwise a restart ends it.
	Reboot bool
	Extra  []string // further arguments for QEMU
}

// VM is a running machine.
type VM struct {
	serial *serialPort
	qmp    *qmpClient
	dir    string
	cmd    *exec.Cmd
	done   chan struct{} // closed when QEMU has ended
	err    error         // how it ended; read after done
}

// Start starts a machine. The caller must Close it; it also ends with ctx and
// with this process.
func Start(ctx context.Context, c Config) (*VM, error) {
	dir, err := os.MkdirTemp("", "gpustrap-vm")
	if err != nil {
		return nil, err
	}
	m := &VM{dir: dir, done: make(chan struct{})}
	args, err := arguments(c, dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	m.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	// QEMU dies with the thread that started it, and so with this process even
	// if that is killed: no machine is left running.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	m.cmd.Stderr = &stderr
	input, err := m.cmd.StdinPipe()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	m.serial = newSerialPort(input)
	m.cmd.Stdout = m.serial

	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if m.err = m.cmd.Wait(); m.err != nil {
			m.err = fmt.Errorf("%s: %w %s", args[0], m.err, strings.TrimSpace(stderr.String()))
		}
		m.serial.close()
		close(m.done)
	}()
	if err := <-started; err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("cannot start the virtual machine: %w", err)
	}
	if m.qmp, err = dialQMP(ctx, filepath.Join(dir, "qmp"), m.done); err != nil {
		m.Close()
		return nil, errors.Join(err, m.err)
	}
	return m, nil
}

// Close ends the machine if it still runs and removes what it needed.
func (m *VM) Close() {
	_ = m.cmd.Process.Kill()
	<-m.done
	if m.qmp != nil {
		m.qmp.close()
	}
	_ = os.RemoveAll(m.dir)
}

// Serial returns all that the machine has written to its serial port.
func (m *VM) Serial() string { return m.serial.text() }

// WaitFor waits until text has appeared on the serial port.
func (m *VM) WaitFor(ctx context.Context, text string) error {
	if err := m.serial.waitFor(ctx, text); err != nil {
		return fmt.Errorf("waiting for %q on the serial port: %w; it ends with:\n%s", text, err, m.tail())
	}
	return nil
}

// Done is closed when the machine has ended.
func (m *VM) Done() <-chan struct{} { return m.done }

// Wait waits until the machine has powered itself off, or has restarted if its
// Config does not let it.
func (m *VM) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("the machine did not power off: %w; its serial port ends with:\n%s", ctx.Err(), m.tail())
	}
}

func (m *VM) tail() string {
	const lines = 30
	all := strings.Split(m.Serial(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Send writes text to the machine's serial port.
func (m *VM) Send(text string) error {
	_, err := m.serial.input.Write([]byte(text))
	return err
}

// Press presses and releases keys one after the other, by QEMU's names: down,
// ret, esc, a, shift-a.
func (m *VM) Press(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := m.qmp.sendKey(ctx, strings.Split(key, "-")); err != nil {
			return fmt.Errorf("cannot press %s: %w", key, err)
		}
	}
	return nil
}

// Screendump writes what the machine's screen shows to a PNG file.
func (m *VM) Screendump(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return m.qmp.execute(ctx, "screendump", map[string]any{"filename": path, "format": "png"})
}
