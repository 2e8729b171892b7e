package apt_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/apt"
)

// figuresPackages are the driver, Docker and the kernel of Debian.
var figuresPackages = []string{"nvidia-driver", "docker.io", "linux-image-amd64", "linux-headers-amd64"}

// TestResolveFigures measures Fetch and Resolve, from indexes in the cache, beside
// "apt-get -s install" without its binary caches, in turn; GPUSTRAP_FIGURES says how
// often. Ours is a process of its own, TestResolveOnce, as apt is.
func TestResolveFigures(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("GPUSTRAP_FIGURES"))
	if err != nil {
		t.Skip("measures: GPUSTRAP_FIGURES is not set")
	}
	s := newStock(t, "trixie")
	mirror := remembered(t, s.mirror)
	cache := t.TempDir()
	once := func() ([]string, time.Duration, int64) {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestResolveOnce$", "-test.v")
		cmd.Env = append(os.Environ(), "GPUSTRAP_MIRROR="+mirror, "GPUSTRAP_INDEXES="+cache)
		start := time.Now()
		out, err := cmd.Output()
		took := time.Since(start)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var set []string
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(line, "Inst "); ok {
				set = append(set, strings.TrimSpace(name))
			}
		}
		slices.Sort(set)
		return set, took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	}
	once() // downloads
	var ours, theirs []time.Duration
	var oursMemory, theirMemory int64
	for range runs {
		set, took, memory := once()
		ours, oursMemory = append(ours, took), max(oursMemory, memory)
		binary, err := filepath.Glob(filepath.Join(s.folder, "cache", "*.bin"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range binary {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		cmd := s.command(append([]string{"-s", "install", "-oAPT::Install-Recommends=true"}, figuresPackages...)...)
		start := time.Now()
		out, err := cmd.Output()
		theirs = append(theirs, time.Since(start))
		theirMemory = max(theirMemory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		if want := installed(string(out)); err != nil || !slices.Equal(set, want) {
			t.Fatalf("%v: ours %d packages, apt's %d", err, len(set), len(want))
		}
		t.Logf("figures: run: ours %v, apt %v, %d packages", took.Round(time.Millisecond), theirs[len(theirs)-1].Round(time.Millisecond), len(set))
	}
	median := func(all []time.Duration) time.Duration {
		slices.Sort(all)
		return all[len(all)/2]
	}
	t.Logf("figures: | what | median of %d | peak memory |", runs)
	t.Logf("figures: | --- | --- | --- |")
	t.Logf("figures: | Fetch from the cache, and Resolve | %.2f s | %d MiB |", median(ours).Seconds(), oursMemory>>10)
	t.Logf("figures: | apt-get -s install, no binary caches | %.2f s | %d MiB |", median(theirs).Seconds(), theirMemory>>10)
}

// TestResolveOnce prints what is to be installed.
func TestResolveOnce(t *testing.T) {
	mirror := os.Getenv("GPUSTRAP_MIRROR")
	if mirror == "" {
		t.Skip("a part of TestResolveFigures")
	}
	s := &stock{t: t, suite: "trixie", mirror: mirror}
	solution, err := s.fetchTo(os.Getenv("GPUSTRAP_INDEXES")).Resolve(apt.Request{Packages: figuresPackages, Recommends: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range solution.Install {
		fmt.Println("Inst", p.String())
	}
}

// installed reads the set from what apt prints.
func installed(out string) []string {
	var all []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "Inst" {
			name, _, _ := strings.Cut(f[1], ":")
			all = append(all, name+"="+strings.TrimPrefix(f[2], "("))
		}
	}
	slices.Sort(all)
	return all
}

// remembered serves a mirror's files from memory, once they were asked for: the
// network is no part of the figures.
func remembered(t *testing.T, mirror string) string {
	t.Helper()
	var mu sync.Mutex
	files := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		content, known := files[r.URL.Path]
		if !known {
			response, err := http.Get(strings.TrimSuffix(mirror, "/") + r.URL.Path)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			content, err = io.ReadAll(response.Body)
			if _ = response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
				w.WriteHeader(response.StatusCode)
				return
			}
			files[r.URL.Path] = content
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
