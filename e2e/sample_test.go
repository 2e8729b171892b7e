// Package e2e tests the whole thing from outside: sample media made of Debian's
// packages, remastered by the program, booted in QEMU, installed and booted
// again. See README.md in this folder.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// scratch holds what the tests share: the program and the sample media.
var scratch string

func TestMain(m *testing.M) {
	var err error
	// Not /tmp, which may be memory: media are large.
	if scratch, err = os.MkdirTemp("/var/tmp", "gpustrap-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// shared is something that several tests need and that is made once.
type shared struct {
	once sync.Once
	path string
	err  error
}

func (s *shared) get(t *testing.T, make func() (string, error)) string {
	t.Helper()
	s.once.Do(func() { s.path, s.err = make() })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.path
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

var program shared

// gpustrap runs the program.
func gpustrap(t *testing.T, args ...string) {
	t.Helper()
	path := program.get(t, func() (string, error) {
		path := filepath.Join(scratch, "gpustrap")
		return path, command("go", "build", "-o", path, "../cmd/gpustrap")
	})
	if err := command(path, args...); err != nil {
		t.Fatal(err)
	}
}

var (
	mediaMu sync.Mutex
	media   = map[string]*shared{}
)

// sampleMedium returns a sample medium: its flavour, and whether it has a light
// or a full live system.
func sampleMedium(t *testing.T, flavour, live string) string {
	t.Helper()
	for _, tool := range []string{"xorriso", "mksquashfs", "mkfs.vfat", "mcopy", "grub-mkimage", "apt-ftparchive"} {
		oracle.Need(t, tool)
	}
	name := flavour + "-" + live + ".iso"
	mediaMu.Lock()
	if media[name] == nil {
		media[name] = &shared{}
	}
	medium := media[name]
	mediaMu.Unlock()
	return medium.get(t, func() (string, error) {
		path := filepath.Join(scratch, name)
		return path, command("medium/make-medium.sh", "--flavour", flavour, "--live", live, "-o", path)
	})
}

// writeConfig writes a configuration of one machine and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gpustrap.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// remaster returns the medium with the configuration's seed, and the user-data
// that the program renders by itself for the same machine.
func remaster(t *testing.T, config, medium string) (image, userData string) {
	t.Helper()
	dir := t.TempDir()
	image = filepath.Join(dir, "image.iso")
	gpustrap(t, "remaster", "-c", config, "--iso", medium, "-o", image)
	gpustrap(t, "render", "-c", config, "-o", filepath.Join(dir, "seeds"))
	found, err := filepath.Glob(filepath.Join(dir, "seeds", "*", "user-data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("render made %v (%v), want one user-data", found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return image, string(data)
}

// processors lets as many machines run at once as there are processors: under
// software emulation more of them only wait for each other.
var processors = make(chan struct{}, runtime.NumCPU())

// encodedFile is a file on its way through the serial port.
var encodedFile = regexp.MustCompile(`(?m)(^[A-Za-z0-9+/=]{60,}\r?\n)+`)

// start boots a machine that ends with the test. When the test fails, it shows
// the serial port and keeps what the screen showed, if the machine still runs.
func start(t *testing.T, c vm.Config) *vm.VM {
	t.Helper()
	arch := c.Arch
	if arch == "" {
		arch = "amd64"
	}
	oracle.Need(t, vm.Emulators[arch])
	processors <- struct{}{}
	m, err := vm.Start(t.Context(), c)
	if err != nil {
		<-processors
		t.Fatal(err)
	}
	go func() {
		<-m.Done()
		<-processors
	}()
	t.Cleanup(func() {
		defer m.Close()
		if !t.Failed() {
			return
		}
		t.Logf("the serial port:\n%s", encodedFile.ReplaceAllString(m.Serial(), "…\n"))
		picture := filepath.Join(os.TempDir(), strings.ReplaceAll(t.Name(), "/", "-")+".png")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if m.Screendump(ctx, picture) == nil {
			t.Logf("the screen is in %s", picture)
		}
	})
	return m
}

// within returns a context that ends after d, or with the test.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// bootAndReport boots a machine to its end and returns what it told.
func bootAndReport(t *testing.T, c vm.Config, limit time.Duration) vm.Report {
	t.Helper()
	m := start(t, c)
	began := time.Now()
	if err := m.Wait(within(t, limit)); err != nil {
		t.Fatal(err)
	}
	t.Logf("powered off after %s", time.Since(began).Round(time.Second))
	return vm.ParseReport(m.Serial())
}
