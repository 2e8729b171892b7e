package usb

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// guestLimit is how long all scenarios of the guest may take.
const guestLimit = 10 * time.Minute

// guestScenarios are what e2e/usb/guest/init does, and what must come of it.
var guestScenarios = []struct {
	name string
	ok   bool // ends with exit code 0
	says string
}{
	{"devices", true, `(?s)/dev/sda QEMU QEMU HARDDISK \(serial STICK0\), .*, usb, removable.*may be written`},
	{"lvm-held", false, `/dev/vda is in use: vda1 is held by the LVM volume vg0-lv0`},
	{"lvm-mounted", false, `/dev/vda is in use: vda1 \(through dm-0\) is mounted at /mnt`},
	{"lvm-inactive-devices", true, `vda1: LVM2_member`},
	{"crypt-held", false, `/dev/vda is in use: vda2 is held by the encrypted volume crypt0`},
	{"crypt-swap", false, `/dev/vda is in use: vda2 \(through dm-0\) is swap space`},
	{"md-held-partition", false, `/dev/vda is in use: vda2 is held by the md array md0 \(raid1\)`},
	{"md-held-disk", false, `/dev/vdb is in use: vdb is held by the md array md0 \(raid1\)`},
	{"md-itself", false, `/dev/md0 is put together from other devices`},
	{"partition", false, `/dev/vda1 is a partition of /dev/vda`},
	{"free-again", true, `/dev/vda: image.iso, verified`},
	{"bad-sector", false, `(writing|verifying) stopped after .* MiB: .*input/output error(?s:.*)first MiB is zero`},
	{"bad-sector-head", true, `(?m)^0\r?$`},
	{"drops-writes", false, `verifying stopped after .*reads back as(?s:.*)first MiB is zero`},
	{"fails-writes", false, `writing stopped after 0 of .*input/output error`},
	{"slow", true, `image.iso, verified`},
	{"own-stick", true, `image.iso, verified`},
	{"qemu-stick", true, `/dev/sda: image.iso, verified`},
	{"reread", true, `/dev/sda1\s+/dev/sda2`},
	{"pulled", false, `writing stopped after .* MiB: the device is no longer there`},
}

// TestGuest writes to devices that this machine may not have, inside a virtual
// machine with Debian's kernel: LVM, encryption, md, sticks that fail, and a USB
// device that is pulled while it is written.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	for _, tool := range []string{"dmsetup", "lvm", "mdadm", "cryptsetup", "sfdisk", "cpio", "depmod", vm.Emulators["amd64"]} {
		oracle.Need(t, tool)
	}
	dir := t.TempDir()
	image := isotest.Medium{Size: 3 << 20}.Make(t)
	lab.Run(t, "guest/make-initrd.sh", lab.Program(t), image, dir)
	disk := func(name string, size int64) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vda, vdb, stick := disk("vda", 64<<20), disk("vdb", 64<<20), disk("stick", 64<<20)
	lab.Run(t, "sh", "-c", fmt.Sprintf(`printf 'label: dos\nsize=24M\nsize=24M\n' | sfdisk -q %s`, vda))
	monitor := filepath.Join(dir, "monitor")
	m, err := vm.Start(t.Context(), vm.Config{
		Firmware: vm.BIOS, Disks: []vm.Disk{{Path: vda}, {Path: vdb}},
		Extra: []string{
			"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", "console=ttyS0 panic=-1 quiet",
			// Slow enough to be pulled half way through.
			"-drive", "if=none,id=stick,format=raw,throttling.bps-write=1500000,file=" + stick,
			"-device", "usb-storage,bus=usb.0,removable=on,serial=STICK0,drive=stick,id=stick0",
			"-monitor", "unix:" + monitor + ",server=on,wait=off",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.WaitFor(lab.Within(t, guestLimit), "==== READY to pull"); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitFor(lab.Within(t, time.Minute), "==== pulled"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // into the middle of the write
	pull(t, monitor)
	if err := m.Wait(lab.Within(t, guestLimit)); err != nil {
		t.Fatal(err)
	}
	serial := m.Serial()
	for _, s := range guestScenarios {
		t.Run(s.name, func(t *testing.T) {
			out, rc, found := scenario(serial, s.name)
			if !found {
				t.Fatalf("did not run; the serial port ends with:\n%s", serial[max(0, len(serial)-2000):])
			}
			if (rc == "0") != s.ok || !regexp.MustCompile(s.says).MatchString(out) {
				t.Errorf("exit code %s, wanted success: %v, and to say %s:\n%s", rc, s.ok, s.says, out)
			}
		})
	}
	if t.Failed() {
		t.Log(serial)
	}
	// What was left of the pulled device cannot boot.
	if head := readHead(t, stick, 1<<20); !allZero(head) {
		t.Error("the first MiB of the pulled device is not zero")
	}
}

// scenario finds the output and the exit code of a scenario.
func scenario(serial, name string) (out, rc string, found bool) {
	serial = strings.ReplaceAll(serial, "\r\n", "\n")
	_, rest, ok := strings.Cut(serial, "==== "+name+"\n")
	if !ok {
		return "", "", false
	}
	out, rest, found = strings.Cut(rest, "==== "+name+" rc ")
	rc, _, _ = strings.Cut(rest, "\n")
	return out, rc, found
}

// pull takes the USB device away, by QEMU's monitor.
func pull(t *testing.T, monitor string) {
	t.Helper()
	conn, err := net.Dial("unix", monitor)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Write([]byte("device_del stick0\n"))
	time.Sleep(500 * time.Millisecond) // until it is read
	if err != nil || conn.Close() != nil {
		t.Fatal("cannot pull the device", err)
	}
}
