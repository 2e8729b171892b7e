package usb

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
)

// TestWriteRefused runs the program on loop devices that it must not write, as a
// person would, and holds what it says and that nothing has changed. The guest does
// so with devices of other kinds.
func TestWriteRefused(t *testing.T) {
	needRoot(t)
	gpustrap, image := lab.Program(t), lab.SampleMedium(t, "24.04", "light")
	device, file := newLoop(t, 96<<20)
	other := strings.TrimSpace(lab.Run(t, "losetup", "--find", "--show", image))
	t.Cleanup(func() { lab.Run(t, "losetup", "--detach", other) })
	small, _ := newSmallLoop(t)
	link := filepath.Join(lab.Scratch(), "link.iso")
	hard := filepath.Join(lab.Scratch(), "hard.iso")
	for _, err := range []error{os.Symlink(image, link), os.Link(image, hard)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	readable := filepath.Join(lab.Scratch(), "readable") // by a user who may do nothing else
	lab.Run(t, "chmod", "755", lab.Scratch())
	lab.Run(t, "install", "-m", "644", image, readable)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	before := [2][32]byte{digest(t, file), digest(t, image)}
	for _, test := range []struct {
		name  string
		stdin string
		user  *syscall.Credential
		args  []string
		says  string
	}{
		{"fixed", "", nil, []string{image, device}, `is a fixed disk(?s:.*)hint: .*--allow-fixed`},
		{"not asked", "", nil, []string{"--allow-fixed", image, device}, `to write \(24.04-light.iso\), type loop\d+: gpustrap: not confirmed; nothing was written`},
		{"yes is no name", "yes\n", nil, []string{"--allow-fixed", image, device}, `not confirmed`},
		{"another name", "loop\n", nil, []string{"--allow-fixed", image, device}, `not confirmed`},
		{"too small", "", nil, []string{"--yes", "--allow-fixed", image, small}, `is too small: it holds 1048576 bytes`},
		{"the device itself", "", nil, []string{"--yes", "--allow-fixed", device, device}, `holds the image`},
		{"the file behind it", "", nil, []string{"--yes", "--allow-fixed", image, other}, `holds the image`},
		{"that by a symbolic link", "", nil, []string{"--yes", "--allow-fixed", link, other}, `holds the image`},
		{"that by a hard link", "", nil, []string{"--yes", "--allow-fixed", hard, other}, `holds the image`},
		{"no rights", "", nobody, []string{"--yes", "--allow-fixed", readable, device}, `(?s)this user may not write to .*hint: sudo \S*gpustrap write --allow-fixed --yes \S+ /dev/loop`},
		{"a file", "", nil, []string{"--yes", "--allow-fixed", image, file}, `is no device`},
		{"compressed", "", nil, []string{"--yes", "--allow-fixed", gpustrap, device}, `no partition table and holds no ISO 9660 volume`},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(gpustrap, append([]string{"write"}, test.args...)...)
			cmd.Stdin = strings.NewReader(test.stdin)
			if test.user != nil {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: test.user}
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !regexp.MustCompile(test.says).Match(out) {
				t.Errorf("%v, wanted %s:\n%s", err, test.says, out)
			}
			if before != [2][32]byte{digest(t, file), digest(t, image)} {
				t.Error("a device that was refused has changed")
			}
		})
	}
	// The name, typed, is a yes.
	cmd := exec.Command(gpustrap, "write", "--allow-fixed", image, device)
	cmd.Stdin = strings.NewReader(filepath.Base(device) + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("verified")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// newSmallLoop makes a loop device that no image fits on.
func newSmallLoop(t *testing.T) (path, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path = strings.TrimSpace(lab.Run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { lab.Run(t, "losetup", "--detach", path) })
	return path, file
}

func digest(t *testing.T, name string) [32]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestInterrupted presses Ctrl-C while a device is written: the program says how far
// it came, and the device does not boot.
func TestInterrupted(t *testing.T) {
	needRoot(t)
	gpustrap, image := lab.Program(t), lab.SampleMedium(t, "24.04", "light")
	device, file := newLoop(t, 256<<20)
	said := regexp.MustCompile(`(writing|verifying) stopped after \d+ of \d+ MiB: interrupted\nhint: the device's first MiB is zero`)
	for wait := time.Millisecond; wait < 2*time.Second; wait += wait/4 + time.Millisecond {
		cmd := exec.Command(gpustrap, "write", "--yes", "--allow-fixed", image, device)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		if err := cmd.Wait(); err == nil {
			break // and with it all longer waits
		}
		if !said.Match(out.Bytes()) {
			continue // not yet writing
		}
		if !allZero(readHead(t, file, 1<<20)) {
			t.Errorf("the first MiB is not zero after:\n%s", &out)
		}
		return
	}
	t.Error("no interrupt hit the write")
}
