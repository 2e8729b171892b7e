// Package usb writes devices from outside: loop devices of this machine, and
// devices of every kind inside a virtual machine.
package usb

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// scratch holds what the tests share: the program and the sample medium. It is not
// in /tmp, which may be memory.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("/var/tmp", "gpustrap-usb"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// once makes a file of the scratch folder by a command whose last argument it is.
var (
	onceMu sync.Mutex
	made   = map[string]error{}
)

func once(t *testing.T, name string, env []string, command ...string) string {
	t.Helper()
	path := filepath.Join(scratch, name)
	onceMu.Lock()
	defer onceMu.Unlock()
	err, done := made[name]
	if !done {
		cmd := exec.Command(command[0], append(command[1:], path)...)
		cmd.Env = append(os.Environ(), env...)
		if out, cmdErr := cmd.CombinedOutput(); cmdErr != nil {
			err = fmt.Errorf("%v: %w\n%s", command, cmdErr, out)
		}
		made[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// program builds the program as it is published: static.
func program(t *testing.T) string {
	t.Helper()
	return once(t, "gpustrap", []string{"CGO_ENABLED=0"}, "go", "build", "-C", "../../cmd/gpustrap", "-trimpath", "-ldflags=-s -w", "-o")
}

// sampleMedium makes a 24.04 sample medium with a light or full live system.
func sampleMedium(t *testing.T, live string) string {
	t.Helper()
	for _, tool := range []string{"xorriso", "mksquashfs", "mkfs.vfat", "mcopy", "grub-mkimage", "apt-ftparchive"} {
		oracle.Need(t, tool)
	}
	return once(t, live+".iso", nil, "../medium/make-medium.sh", "--flavour", "24.04", "--live", live, "-o")
}

// needRoot skips a test that makes loop devices.
func needRoot(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("makes loop devices as root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("this kernel has no loop devices")
	}
	oracle.Need(t, "losetup")
}

// newLoop makes a loop device of size bytes over a sparse file.
func newLoop(t *testing.T, size int64) (path, file string) {
	t.Helper()
	file = filepath.Join(scratch, strings.ReplaceAll(t.Name(), "/", "-")+".device")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	path = strings.TrimSpace(run(t, "losetup", "--find", "--show", "--direct-io=on", file))
	t.Cleanup(func() {
		run(t, "losetup", "--detach", path)
		_ = os.Remove(file)
	})
	return path, file
}

// run runs a command that must succeed and returns what it says.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const config = `version: 1
ubuntu: "24.04"
profiles:
  stick:
    user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com"]}
    boot: {confirm: none}
machines:
  - {name: first, profile: stick, match: {mac: "52:54:00:00:00:01"}, storage: {disk: {serial: DISK-OF-NO-MACHINE}}}
  - {name: second, profile: stick, match: {mac: "52:54:00:00:00:02"}, storage: {disk: {serial: DISK-OF-NO-OTHER}}}
  - {name: careful, profile: stick, match: {mac: "52:54:00:00:00:03"}, storage: {disk: {serial: DISK-OF-NOBODY}}, boot: {confirm: typed}}
`

func writeConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gpustrap.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// userData is what the program renders for a machine.
func userData(t *testing.T, config, machine string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, program(t), "render", "-c", config, "-o", dir, machine)
	found, err := filepath.Glob(filepath.Join(dir, "*", "user-data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("render made %v: %v", found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func allZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
