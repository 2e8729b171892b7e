// Package usb writes devices from outside: loop devices of this machine, and
// devices of every kind inside a virtual machine.
package usb

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

func TestMain(m *testing.M) { lab.Main(m) }

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
	file = filepath.Join(lab.Scratch(), strings.ReplaceAll(t.Name(), "/", "-")+".device")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	path = strings.TrimSpace(lab.Run(t, "losetup", "--find", "--show", "--direct-io=on", file))
	t.Cleanup(func() {
		lab.Run(t, "losetup", "--detach", path)
		_ = os.Remove(file)
	})
	return path, file
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

func allZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
