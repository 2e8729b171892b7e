// Package lab is what the tests from outside share: the program under test, sample
// media, disks, machines in QEMU that end with their test, and what an installation
// reports. A package that uses it calls Main in its TestMain.
package lab

import (
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

// PublicKey is the SSH key of the user that the tests configure.
const PublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com"

// made is what the tests of a package share, each made once.
var made struct {
	scratch string // the folder that it is in
	sync.Mutex
	files map[string]*file
}

type file struct {
	once sync.Once
	path string
	err  error
}

// Main runs a package's tests, with a folder for what they share.
func Main(m *testing.M) {
	var err error
	// Not /tmp, which may be memory: media are large.
	if made.scratch, err = os.MkdirTemp("/var/tmp", "gpustrap-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(made.scratch)
	os.Exit(code)
}

// Scratch returns a folder for large files, which is removed after the last test.
func Scratch() string { return made.scratch }

// once makes a file in the folder the first time that it is asked for, by a command
// that gets its path as the last argument.
func once(t *testing.T, name string, env []string, command ...string) string {
	t.Helper()
	made.Lock()
	f := made.files[name]
	if f == nil {
		if f = new(file); made.files == nil {
			made.files = map[string]*file{}
		}
		made.files[name] = f
	}
	made.Unlock()
	f.once.Do(func() {
		f.path = filepath.Join(made.scratch, name)
		cmd := exec.Command(command[0], append(command[1:], f.path)...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			f.err = fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	})
	if f.err != nil {
		t.Fatal(f.err)
	}
	return f.path
}

// Root returns the repository's folder.
func Root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the test does not run in the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// Program returns the program under test, built as it is published: static.
func Program(t *testing.T) string {
	t.Helper()
	return once(t, "gpustrap", []string{"CGO_ENABLED=0"},
		"go", "build", "-C", filepath.Join(Root(t), "cmd", "gpustrap"), "-trimpath", "-ldflags=-s -w", "-o")
}

// Gpustrap runs the program, which must succeed, and returns what it says.
func Gpustrap(t *testing.T, args ...string) string {
	t.Helper()
	return Run(t, Program(t), args...)
}

// Run runs a command that must succeed and returns what it says.
func Run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// SampleMedium returns a sample medium: its flavour, as make-medium.sh names it, and
// whether it has a light or a full live system.
func SampleMedium(t *testing.T, flavour, live string) string {
	t.Helper()
	for _, tool := range []string{"xorriso", "mksquashfs", "mkfs.vfat", "mcopy", "grub-mkimage", "apt-ftparchive"} {
		oracle.Need(t, tool)
	}
	return once(t, flavour+"-"+live+".iso", nil,
		filepath.Join(Root(t), "e2e", "medium", "make-medium.sh"), "--flavour", flavour, "--live", live, "-o")
}

// WriteConfig writes a configuration and returns its path.
func WriteConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gpustrap.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// UserData returns what the program renders for a machine, which may be left out
// where the configuration has one.
func UserData(t *testing.T, config string, machine ...string) string {
	t.Helper()
	dir := t.TempDir()
	Gpustrap(t, append([]string{"render", "-c", config, "-o", dir}, machine...)...)
	found, err := filepath.Glob(filepath.Join(dir, "*", "user-data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("render made %v (%v), want one user-data", found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Remaster returns the medium with the configuration's seed, and the user-data
// that the program renders by itself for the same machine.
func Remaster(t *testing.T, config, medium string) (image, userData string) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "image.iso")
	Gpustrap(t, "remaster", "-c", config, "--iso", medium, "-o", image)
	return image, UserData(t, config)
}

// Within returns a context that ends after limit, or with the test.
func Within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
