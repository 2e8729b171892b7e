package usb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// needRoot skips a test that makes loop devices.
func needRoot(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("makes loop devices as root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("this kernel has no loop devices")
	}
}

func must(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

var running = System{FS: os.DirFS("/")}

// newLoop makes a loop device of size bytes and returns it with its file.
func newLoop(t *testing.T, size int64, options ...string) (Device, string) {
	t.Helper()
	needRoot(t)
	oracle.Need(t, "losetup")
	file := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	path := must(t, "losetup", append([]string{"--find", "--show"}, append(options, file)...)...)
	t.Cleanup(func() { must(t, "losetup", "--detach", path) })
	return look(t, path), file
}

// look reads the records of a device again.
func look(t *testing.T, path string) Device {
	t.Helper()
	number, err := Number(path)
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := running.Find(number)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// addPartition adds a partition to the kernel's, whatever tables it can read.
func addPartition(t *testing.T, d Device, number, first, sectors int) string {
	t.Helper()
	oracle.Need(t, "addpart")
	must(t, "addpart", d.Path, fmt.Sprint(number), fmt.Sprint(first), fmt.Sprint(sectors))
	name := fmt.Sprintf("%sp%d", d.Path, number)
	t.Cleanup(func() { _ = exec.Command("delpart", d.Path, fmt.Sprint(number)).Run() }) // may be dropped already
	return name
}

var allowFixed = Request{AllowFixed: true}

func TestLoopWrite(t *testing.T) {
	d, file := newLoop(t, 32<<20)
	oracle.Need(t, "sgdisk")
	img, size := openImage(t, isotest.Medium{})
	p, err := NewPlan(img, size, d.Size, Options{Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	addPartition(t, d, 1, 2048, 4096)
	addPartition(t, d, 2, 8192, 4096)
	d = look(t, d.Path)
	if len(d.Partitions) != 2 {
		t.Fatalf("partitions: %v", d.Partitions)
	}
	h, err := Open(t.Context(), running, d, allowFixed)
	if err != nil {
		t.Fatal(err)
	}
	if d := look(t, d.Path); len(d.Partitions) != 0 {
		t.Errorf("the kernel still has the partitions %v", d.Partitions)
	}
	if _, err := Open(t.Context(), running, look(t, d.Path), allowFixed); !refused(err, ReasonHeld) {
		t.Errorf("a second one opened it too: %v", err)
	}
	if err := h.Write(t.Context(), p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	// One bit, changed below the device, is found past all caches.
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := size / 2
	b := []byte{0}
	_, err = f.ReadAt(b, at)
	b[0] ^= 8
	if _, werr := f.WriteAt(b, at); err != nil || werr != nil {
		t.Fatal(err, werr)
	}
	var different *DifferenceError
	if err := h.Verify(t.Context(), p, WriteOptions{}); !errors.As(err, &different) || different.Offset != at {
		t.Errorf("the flipped bit: %v", err)
	}
	if err := errors.Join(f.Close(), h.Close()); err != nil {
		t.Error(err)
	}
}

func refused(err error, reason Reason) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Reason == reason
}

// blindSystem shows the machine without what is mounted and swapped on.
func blindSystem() System {
	return System{FS: overlaidFS{os.DirFS("/"), fstest.MapFS{
		"proc/self/mountinfo": {Data: []byte("")},
		"proc/swaps":          {Data: []byte("Filename\n")},
	}}}
}

type overlaidFS struct {
	fs.FS
	over fs.FS
}

func (o overlaidFS) Open(name string) (fs.File, error) {
	if f, err := o.over.Open(name); err == nil && name != "." && !strings.HasSuffix(name, "proc") {
		return f, nil
	}
	return o.FS.Open(name)
}
func (o overlaidFS) ReadLink(name string) (string, error)   { return fs.ReadLink(o.FS, name) }
func (o overlaidFS) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(o.FS, name) }

// TestLoopInUse uses a device in every way that this kernel knows, and each time
// looks at the refusal, that opening it refuses too, and that even a program that
// did not see the use would be stopped by the kernel.
func TestLoopInUse(t *testing.T) {
	const size = 32 << 20
	for _, test := range []struct {
		name string
		want Reason
		// use uses the device or a partition of it and returns how to stop.
		use        func(t *testing.T, d Device) func()
		kernelSees bool
	}{
		{"whole device mounted", ReasonMounted, func(t *testing.T, d Device) func() { return mountAt(t, d.Path) }, true},
		{"partition mounted", ReasonMounted, func(t *testing.T, d Device) func() {
			return mountAt(t, addPartition(t, d, 1, 2048, 40000))
		}, true},
		{"whole device swap", ReasonSwap, func(t *testing.T, d Device) func() { return swapOn(t, d.Path) }, true},
		{"partition swap", ReasonSwap, func(t *testing.T, d Device) func() {
			return swapOn(t, addPartition(t, d, 3, 2048, 40000))
		}, true},
		{"loop device over a partition", ReasonHeld, func(t *testing.T, d Device) func() {
			above := must(t, "losetup", "--find", "--show", addPartition(t, d, 1, 2048, 40000))
			return func() { must(t, "losetup", "--detach", above) }
		}, true},
		{"loop device over a node of another name", ReasonHeld, func(t *testing.T, d Device) func() {
			above := must(t, "losetup", "--find", "--show", otherNode(t, d.Path))
			return func() { must(t, "losetup", "--detach", above) }
		}, false},
		{"loop device over the device, mounted", ReasonMounted, func(t *testing.T, d Device) func() {
			above := must(t, "losetup", "--find", "--show", d.Path)
			unmount := mountAt(t, above)
			return func() { unmount(); must(t, "losetup", "--detach", above) }
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, file := newLoop(t, size)
			stop := test.use(t, d)
			done := false
			defer func() {
				if !done {
					stop()
				}
			}()
			unix.Sync() // what the use itself wrote
			before := contents(t, file)
			now := look(t, d.Path)
			if r := Refuse(&now, allowFixed); r == nil || r.Reason != test.want {
				t.Errorf("refused: %v", r)
			}
			if _, err := Open(t.Context(), running, now, allowFixed); !refused(err, test.want) && !refused(err, ReasonHeld) {
				t.Errorf("opened: %v", err)
			}
			if test.kernelSees {
				if h, err := Open(t.Context(), blindSystem(), now, allowFixed); !refused(err, ReasonHeld) {
					t.Errorf("the kernel let it pass: %v %v", h, err)
				}
			}
			if !bytes.Equal(before, contents(t, file)) {
				t.Error("a device that was refused has changed")
			}
			stop()
			done = true
			h, err := Open(t.Context(), running, look(t, d.Path), allowFixed)
			if err != nil {
				t.Fatalf("free again: %v", err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// otherNode makes another node of a device, outside of /dev, as a chroot has them.
func otherNode(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	node := filepath.Join(t.TempDir(), "node")
	if err := errors.Join(unix.Stat(path, &st), unix.Mknod(node, unix.S_IFBLK|0o600, int(st.Rdev))); err != nil {
		t.Fatal(err)
	}
	return node
}

func mountAt(t *testing.T, path string) func() {
	t.Helper()
	oracle.Need(t, "mkfs.ext4")
	// Otherwise the kernel goes on making the file system some seconds after the mount.
	must(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
	dir := filepath.Join(t.TempDir(), "mount point")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", path, dir)
	return func() { must(t, "umount", dir) }
}

// swapPages are the pages of a swap area of swapOn: the first is its header, and to
// the others the kernel may write at any time. mkswap makes no smaller one.
const swapPages = 10

// contents reads a device's file and blanks what the kernel swapped out to it.
func contents(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	const signature = "SWAPSPACE2" // ends the header
	if i := bytes.Index(data, []byte(signature)); i >= 0 {
		first := i + len(signature)
		clear(data[first : first+(swapPages-1)*page])
	}
	return data
}

func swapOn(t *testing.T, path string) func() {
	t.Helper()
	oracle.Need(t, "mkswap")
	must(t, "mkswap", "-q", path, fmt.Sprint(swapPages*os.Getpagesize()>>10)) // in KiB
	must(t, "swapon", path)
	return func() { must(t, "swapoff", path) }
}

func TestLoopRefusals(t *testing.T) {
	t.Run("read-only", func(t *testing.T) {
		d, _ := newLoop(t, 1<<20, "--read-only")
		if r := Refuse(&d, allowFixed); r == nil || r.Reason != ReasonReadOnly {
			t.Error(r)
		}
		d.ReadOnly = false
		if _, err := Open(t.Context(), running, d, allowFixed); !refused(err, ReasonReadOnly) {
			t.Error(err)
		}
	})
	t.Run("locked by another program", func(t *testing.T) {
		d, _ := newLoop(t, 1<<20)
		f, err := os.Open(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), running, d, allowFixed); !refused(err, ReasonHeld) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("another medium under its name", func(t *testing.T) {
		d, file := newLoop(t, 1<<20)
		must(t, "losetup", "--detach", d.Path)
		other := file + ".other"
		if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, "losetup", d.Path, other)
		if _, err := Open(t.Context(), running, d, allowFixed); !refused(err, ReasonChanged) {
			t.Error(err)
		}
	})
	t.Run("a partition open in another program", func(t *testing.T) {
		d, _ := newLoop(t, 8<<20)
		addPartition(t, d, 1, 2048, 4096)
		f, err := os.Open(addPartition(t, d, 2, 8192, 2048))
		if err != nil {
			t.Fatal(err)
		}
		before := look(t, d.Path)
		_, err = Open(t.Context(), running, before, allowFixed)
		if !refused(err, ReasonHeld) || !strings.Contains(err.Error(), "p2 is open in another program") {
			t.Error(err)
		}
		if diff := cmp.Diff(before.Partitions, look(t, d.Path).Partitions, cmpopts.IgnoreFields(Partition{}, "Number")); diff != "" {
			t.Error(diff)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a partition", func(t *testing.T) {
		d, _ := newLoop(t, 8<<20)
		part := addPartition(t, d, 1, 2048, 4096)
		number, err := Number(part)
		if err != nil {
			t.Fatal(err)
		}
		if whole, name, err := running.Find(number); err != nil || name != filepath.Base(part) || whole.Name != d.Name {
			t.Errorf("%v %s %v", whole, name, err)
		}
	})
	t.Run("the image's own file system", func(t *testing.T) {
		d, _ := newLoop(t, 32<<20)
		unmount := mountAt(t, d.Path)
		defer unmount()
		now := look(t, d.Path)
		f, err := os.Create(filepath.Join(now.Uses[0].Where, "gpu.iso"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // nothing was written
		sources, err := SourceNumbers(f)
		if err != nil {
			t.Fatal(err)
		}
		if r := Refuse(&now, Request{AllowFixed: true, Sources: sources}); r == nil || r.Reason != ReasonSource {
			t.Error(r)
		}
	})
}

// TestLoopZeroRuns writes zeros over noise on a device that can leave them out.
func TestLoopZeroRuns(t *testing.T) {
	d, file := newLoop(t, 20<<20)
	noise := newMemory(t, 20<<20).data
	if err := os.WriteFile(file, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.Context(), running, d, allowFixed)
	if err != nil {
		t.Fatal(err)
	}
	img := image()
	if err := h.Write(t.Context(), planFor(t, img, 20<<20), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got[:imageSize], img) {
		t.Errorf("the image is not on the device: %v", err)
	}
}
