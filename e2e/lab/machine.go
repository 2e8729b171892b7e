package lab

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// How long a machine may take under software emulation, on processors that other
// tests use too.
const (
	BootLimit    = 8 * time.Minute
	InstallLimit = 30 * time.Minute // for the stand-in installer
)

// OnlyInSoak skips a test, for a reason, unless make soak runs it.
func OnlyInSoak(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("GPUSTRAP_SOAK") == "" {
		t.Skip(reason + "; make soak runs it")
	}
}

// processors lets as many machines run at once as there are processors: under
// software emulation more of them only wait for each other.
var processors = make(chan struct{}, runtime.NumCPU())

// encodedFile is a file on its way through the serial port.
var encodedFile = regexp.MustCompile(`(?m)(^[A-Za-z0-9+/=]{60,}\r?\n)+`)

// Start boots a machine, when a processor is free for it. It ends with the test.
func Start(t *testing.T, c vm.Config) *vm.VM {
	t.Helper()
	processors <- struct{}{}
	free := func() { <-processors }
	t.Cleanup(func() { free() }) // unless the machine does
	m := StartNow(t, c)
	free = func() {}
	go func() {
		<-m.Done()
		<-processors
	}()
	return m
}

// StartNow boots a machine whatever others run. It ends with the test, which shows
// the serial port when it fails and keeps what the screen showed, if the machine
// still runs.
func StartNow(t *testing.T, c vm.Config) *vm.VM {
	t.Helper()
	arch := c.Arch
	if arch == "" {
		arch = "amd64"
	}
	oracle.Need(t, vm.Emulators[arch])
	m, err := vm.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
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

// BootAndReport boots a machine to its end and returns what it told.
func BootAndReport(t *testing.T, c vm.Config, limit time.Duration) vm.Report {
	t.Helper()
	m := Start(t, c)
	began := time.Now()
	if err := m.Wait(Within(t, limit)); err != nil {
		t.Fatal(err)
	}
	t.Logf("powered off after %s", time.Since(began).Round(time.Second))
	return vm.ParseReport(m.Serial())
}
