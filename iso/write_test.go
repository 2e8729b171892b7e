package iso_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// planned returns a layout to write and its base.
func planned(t testing.TB) (*iso.Layout, *os.File) {
	t.Helper()
	im, f := open(t, isotest.Medium{Size: 5_000_000}.Make(t))
	l, err := iso.Remaster(im, iso.Overlay{Files: files(seed())})
	if err != nil {
		t.Fatal(err)
	}
	return l, f
}

func stream(t testing.TB, l *iso.Layout) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := iso.WriteTo(context.Background(), l, &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteFile(t *testing.T) {
	l, base := planned(t)
	want := stream(t, l)
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		base *os.File
		perm fs.FileMode
		want fs.FileMode
	}{
		{"with the base's file", base, 0, 0o600},
		{"through the layout", nil, 0o640, 0o640},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(dir, "out.iso")
			var steps []int64
			err := iso.WriteFile(t.Context(), l, c.base, name, iso.WriteOptions{
				Perm: c.perm,
				Progress: func(done, total int64) {
					if total != l.Size() {
						t.Fatalf("progress of %d, want %d", total, l.Size())
					}
					steps = append(steps, done)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("the file and the stream differ")
			}
			info, err := os.Stat(name)
			if err != nil || info.Mode().Perm() != c.want {
				t.Errorf("permissions %v, want %v", info.Mode(), c.want)
			}
			if len(steps) == 0 || steps[len(steps)-1] != l.Size() {
				t.Errorf("progress ended at %v of %d", steps, l.Size())
			}
			onlyFile(t, dir, "out.iso")
		})
	}
}

// onlyFile fails when a directory holds anything else.
func onlyFile(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// TestWriteFileSources reads overlay files of every kind that fs.FS allows.
func TestWriteFileSources(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789"), 300_000)
	for _, name := range []string{"large", "sub/small"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content[:min(len(content), 3*len(name)*len(content)/20)], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	im, base := open(t, isotest.Medium{}.Make(t))
	var sums []string
	for _, fsys := range []fs.FS{os.DirFS(dir), plainFS{os.DirFS(dir), false}, plainFS{os.DirFS(dir), true}} {
		l, err := iso.Remaster(im, iso.Overlay{Files: fsys})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "out.iso")
		if err := iso.WriteFile(t.Context(), l, base, name, iso.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, stream(t, l)) {
			t.Errorf("%T: the file and the stream differ (%v)", fsys, err)
		}
		sums = append(sums, sum(t, name))
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Errorf("the kind of file system changes the image: %q", sums)
	}
}

// plainFS hides what files offer beyond fs.File, or but for io.Seeker.
type plainFS struct {
	fs.FS
	seek bool
}

type plainFile struct{ fs.File }

type seekFile struct {
	fs.File
	f *os.File
}

func (f seekFile) Seek(off int64, whence int) (int64, error) { return f.f.Seek(off, whence) }

func (p plainFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, err
	}
	file, ok := f.(*os.File)
	if info, err := f.Stat(); !ok || err != nil || info.IsDir() {
		return f, err
	}
	if p.seek {
		return seekFile{f, file}, nil
	}
	return plainFile{f}, nil
}

func TestWriteFileErrors(t *testing.T) {
	l, base := planned(t)
	dir := t.TempDir()
	other, err := os.Create(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.iso")
	if err := os.Symlink(base.Name(), link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		base       *os.File
		want       string
	}{
		{"directory", dir, base, "it is a directory"},
		{"the base", base.Name(), base, "it is the image that is being read"},
		{"a link to the base", link, base, "it is the image that is being read"},
		{"device", "/dev/null", base, "it is a device"},
		{"no such directory", dir + "/none/out.iso", base, "no such file or directory"},
		{"below a file", base.Name() + "/out.iso", base, "not a directory"},
		{"another base", dir + "/out.iso", other, "is not the image that was opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := sum(t, base.Name())
			err := iso.WriteFile(t.Context(), l, c.base, c.path, iso.WriteOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "cannot write "+c.path+": ") {
				t.Errorf("WriteFile: %v, want …%s…", err, c.want)
			}
			onlyFile(t, dir)
			if sum(t, base.Name()) != before {
				t.Error("the base has changed")
			}
		})
	}
}

func TestWriteFileReadOnly(t *testing.T) {
	needRoot(t)
	l, base := planned(t)
	dir := mount(t, "tmpfs", "ro")
	err := iso.WriteFile(t.Context(), l, base, dir+"/out.iso", iso.WriteOptions{})
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("WriteFile: %v", err)
	}
}

func TestWriteFileFullDisk(t *testing.T) {
	needRoot(t)
	l, base := planned(t)
	for name, from := range map[string]*os.File{"with the base's file": base, "through the layout": nil} {
		t.Run(name, func(t *testing.T) {
			dir := mount(t, "tmpfs", "size=3m")
			old := filepath.Join(dir, "out.iso")
			if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := iso.WriteFile(t.Context(), l, from, old, iso.WriteOptions{})
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left: the image takes ") {
				t.Errorf("WriteFile: %v", err)
			}
			onlyFile(t, dir, "out.iso")
			if b, err := os.ReadFile(old); err != nil || string(b) != "old" {
				t.Errorf("the old file is %q (%v)", b, err)
			}
		})
	}
}

func TestWriteFileInterrupted(t *testing.T) {
	l, base := planned(t)
	for name, from := range map[string]*os.File{"with the base's file": base, "through the layout": nil} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := iso.WriteFile(ctx, l, from, dir+"/out.iso", iso.WriteOptions{
				Progress: func(done, _ int64) {
					if done > 1_000_000 {
						cancel()
					}
				},
			})
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted, nothing is left behind") {
				t.Errorf("WriteFile: %v", err)
			}
			onlyFile(t, dir)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := iso.WriteTo(ctx, l, &bytes.Buffer{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteTo: %v", err)
	}
}

// TestWriteFileShares holds that a file system with reflinks shares the base's
// blocks, and that the image is the same there.
func TestWriteFileShares(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("makes a file system")
	}
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := loopMount(t, kind, 400<<20)
			made := isotest.Medium{Size: 50_000_000}.Make(t)
			copied := filepath.Join(dir, "base.iso")
			run(t, "cp", made, copied)
			im, base := open(t, copied)
			l, err := iso.Remaster(im, iso.Overlay{Files: files(seed())})
			if err != nil {
				t.Fatal(err)
			}
			run(t, "sync", "-f", dir)
			before := free(t, dir)
			name := filepath.Join(dir, "out.iso")
			if err := iso.WriteFile(t.Context(), l, base, name, iso.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			run(t, "sync", "-f", dir)
			if used := before - free(t, dir); used > 8<<20 {
				t.Errorf("the image takes %d bytes of its own", used)
			}
			got, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(got, stream(t, l)) {
				t.Errorf("the file and the stream differ (%v)", err)
			}
			back := filepath.Join(dir, "back.iso")
			out, f := open(t, name)
			r, err := iso.Restore(out)
			if err != nil {
				t.Fatal(err)
			}
			if err := iso.WriteFile(t.Context(), r, f, back, iso.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if sum(t, back) != sum(t, made) {
				t.Error("the restored image is not the original")
			}
		})
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
}

// mount mounts a file system of memory for the test.
func mount(t testing.TB, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("gpustrap-test", dir, kind, 0, strings.TrimPrefix(options, "ro")); err != nil {
		t.Skipf("cannot mount a %s here: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if options == "ro" {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loopMount makes a file system in a file and mounts it for the test.
func loopMount(t testing.TB, kind string, n int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), kind+".img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	grow(t, image, n)
	run(t, "mkfs."+kind, "-q", image)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a %s here: %s", kind, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// free returns the free bytes of a file system.
func free(t testing.TB, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bfree) * s.Bsize
}
