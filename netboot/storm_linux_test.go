package netboot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// The environment that makes the test's own program the server of a storm.
const (
	stormFolder = "GPUSTRAP_STORM_FOLDER"
	stormListen = "GPUSTRAP_STORM_LISTEN"
)

func TestMain(m *testing.M) {
	if os.Getenv(stormFolder) != "" {
		if err := stormServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// stormServer is a server like the command's, with the API beside the machines' own
// addresses, and a boot script that is the decision itself.
func stormServer() error {
	folder, ctx := os.Getenv(stormFolder), context.Background()
	listener, err := net.Listen("tcp", os.Getenv(stormListen))
	if err != nil {
		return err
	}
	store, err := state.Embedded(ctx, filepath.Join(folder, "state"))
	if err != nil {
		return err
	}
	s, err := New(ctx, Options{
		Source: source(filepath.Join(folder, "gpustrap.yaml")), Store: store, Key: state.Key("secret"), AdminToken: "storm",
		Events: filepath.Join(folder, "events"), Base: "http://" + listener.Addr().String(), Now: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})), Audit: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	go s.Run(ctx)
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.Handle("/api/", s.Admin())
	mux.HandleFunc("GET /script/{number}", func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.PathValue("number"))
		d, _ := s.Claim(r.Context(), identity(i))
		answer(w, http.StatusOK, map[string]any{"install": d.Install, "seed": d.Seed})
	})
	return NewHTTP(mux, s.o.Log).Serve(listener)
}

// storm is what the machines of a storm have in common.
type storm struct {
	t        *testing.T
	folder   string
	address  string
	client   *http.Client
	events   []string // of an installation
	deadline time.Time

	installs []atomic.Int32 // of each machine: how often its disk was written
	guarded  atomic.Int32   // how often the guard on the machine stopped a second one
	answers  atomic.Int64

	mu    sync.Mutex
	child *exec.Cmd
	log   bytes.Buffer
}

// start starts the server, and waits until it answers.
func (s *storm) start() {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stormFolder+"="+s.folder, stormListen+"="+s.address)
	cmd.Stdout, cmd.Stderr = &locked{b: &s.log}, &locked{b: &s.log}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.child = cmd
	s.mu.Unlock()
	for time.Now().Before(s.deadline) {
		if answer, err := s.client.Get("http://" + s.address + "/healthz"); err == nil {
			_ = answer.Body.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("the server does not start\n%s", &s.log)
}

// kill ends the server as a power failure would.
func (s *storm) kill() {
	_ = s.child.Process.Kill() // it may have ended
	_ = s.child.Wait()
}

// request sends a request and returns a status, or 0 where there was no answer.
func (s *storm) request(method, path, body string) (int, string) {
	r, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0, ""
	}
	r.Header.Set("Authorization", "Bearer storm")
	answer, err := s.client.Do(r)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, ""
	}
	s.answers.Add(1)
	return answer.StatusCode, string(data)
}

// insist sends a request until there is an answer that is no fault of the server's.
func (s *storm) insist(method, path, body string) (int, string) {
	for time.Now().Before(s.deadline) {
		if status, text := s.request(method, path, body); status != 0 && status < 500 {
			return status, text
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Errorf("no answer to %s %s", method, path)
	return 0, ""
}

var (
	stampOf  = regexp.MustCompile(`stamp (g\d+-\S+)`)
	reportOf = regexp.MustCompile(`http://[^/ ]+/report/[0-9a-f]{32}/`)
)

var errStorm = errors.New("the storm is over")

// machine is a machine's life, from its first boot until it is ready.
func (s *storm) machine(i int) error {
	disk, report := "", "" // the stamp on it, and what its system knows
	for time.Now().Before(s.deadline) {
		status, text := s.insist(http.MethodGet, fmt.Sprintf("http://%s/script/%d", s.address, i), "")
		var decision struct {
			Install bool
			Seed    string
		}
		if err := json.Unmarshal([]byte(text), &decision); err != nil {
			return fmt.Errorf("the script: %d %s %w", status, text, err)
		}
		if !decision.Install {
			if disk == "" {
				return fmt.Errorf("node%05d boots from its empty disk", i)
			}
			status, _ := s.insist(http.MethodPost, report+"receipt", fmt.Sprintf(proofOf, fmt.Sprintf("node%05d", i), true, "GPU-ready: x"))
			if status == http.StatusNoContent {
				return nil
			}
			return fmt.Errorf("its receipt: %d", status)
		}
		seed := ""
		for _, name := range []string{"network-config", "meta-data", "user-data", "vendor-data"} {
			status, text := s.insist(http.MethodGet, decision.Seed+name, "")
			if status != http.StatusOK {
				return fmt.Errorf("%s: %d %s", name, status, text)
			}
			if name == "user-data" {
				seed = text
			}
		}
		stamp := stampOf.FindStringSubmatch(seed)
		report = reportOf.FindString(seed)
		if stamp == nil || report == "" {
			return fmt.Errorf("the seed has no stamp, or no address for reports")
		}
		if disk == stamp[1] { // guard.sh
			s.guarded.Add(1)
			s.insist(http.MethodPost, report+"event", event("gpustrap/failed", "finish", "FAIL", "was installed by this very installation already", 1))
			continue
		}
		for _, e := range s.events {
			s.request(http.MethodPost, report+"event", e) // the installer sends none again
		}
		s.installs[i].Add(1)
		disk = stamp[1]
	}
	return errStorm
}

// runStorm installs n machines, and kills the server as often as it is told to.
func runStorm(t *testing.T, n, kills, together int, events []string, limit time.Duration) {
	// The address must be free again after a kill: no other test has it, and its port is
	// none that the kernel gives to those who ask for any.
	address := fmt.Sprintf("127.7.%d.%d:18080", os.Getpid()>>8&255, os.Getpid()&255)
	s := &storm{
		t: t, folder: t.TempDir(), address: address, events: events, deadline: time.Now().Add(limit), installs: make([]atomic.Int32, n),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: together}},
	}
	if err := os.WriteFile(filepath.Join(s.folder, "gpustrap.yaml"), []byte(fleet(n)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	defer func() { s.kill() }()
	begin := time.Now()
	var group, killer sync.WaitGroup
	over := make(chan struct{})
	killer.Go(func() {
		for range kills {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(100+rand.IntN(500)) * time.Millisecond):
			}
			s.kill()
			s.start()
		}
	})
	numbers := make(chan int)
	for range together {
		group.Go(func() {
			for i := range numbers {
				// An order whose answer was lost is given again: it begins a generation of its own.
				if status, text := s.insist(http.MethodPost, fmt.Sprintf("http://%s/api/v1/machines/node%05d/arm", s.address, i), `{"via":"network","reinstall":true}`); status != http.StatusOK {
					t.Errorf("arm: %d %s", status, text)
				} else if err := s.machine(i); err != nil {
					t.Errorf("node%05d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	group.Wait()
	close(over)
	killer.Wait()
	took := time.Since(begin)
	s.judge(n)
	t.Logf("%d machines in %s, %d answers, the guard on the machine stopped %d; the server has %d MiB", n, took.Round(time.Millisecond), s.answers.Load(), s.guarded.Load(), s.memory()>>20)
}

// judge reads what the server says in the end.
func (s *storm) judge(n int) {
	begin := time.Now()
	status, text := s.request(http.MethodGet, "http://"+s.address+"/api/v1/machines", "")
	s.t.Logf("the list of all machines takes %s", time.Since(begin).Round(time.Millisecond))
	var views []View
	if err := json.Unmarshal([]byte(text), &views); err != nil || len(views) != n {
		s.t.Fatalf("%d %v, %d machines\n%s", status, err, len(views), &s.log)
	}
	for i, v := range views {
		if v.Phase() != state.Ready {
			s.t.Errorf("%s is %s: %s", v.Machine, v.Phase(), v.Waits)
		}
		if times := s.installs[i].Load(); times != 1 {
			s.t.Errorf("%s was installed %d times", v.Machine, times)
		}
	}
}

// memory returns the server's resident memory in bytes.
func (s *storm) memory() int64 {
	var pages int64
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.child.Process.Pid))
	if err == nil {
		_, err = fmt.Sscanf(string(data), "%d %d", new(int64), &pages)
	}
	if err != nil {
		s.t.Error(err)
	}
	return pages * int64(syscall.Getpagesize())
}

// TestStorm installs a fleet while the server is killed again and again: every
// machine is installed exactly once.
func TestStorm(t *testing.T) {
	n, kills := 500, 10
	if testing.Short() {
		n, kills = 40, 2
	}
	events := recordings(t, "ok")[filepath.Join("testdata", "subiquity-24.04-ok.jsonl")]
	runStorm(t, n, kills, 32, events, 5*time.Minute)
}

// TestLongStorm is for make soak: ten thousand machines without a kill, with all
// that a real installer reports, and a storm with a hundred kills.
func TestLongStorm(t *testing.T) {
	if os.Getenv("GPUSTRAP_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	all := recordings(t, "ok")
	events := all[filepath.Join("testdata", "subiquity-24.04-ok.jsonl")]
	for name, lines := range all {
		if len(lines) > len(events) {
			t.Log("the events are those of", name)
			events = lines
		}
	}
	t.Run("10000 machines", func(t *testing.T) { runStorm(t, 10000, 0, 64, events, 30*time.Minute) })
	t.Run("100 kills", func(t *testing.T) { runStorm(t, 4000, 100, 32, events, 30*time.Minute) })
}
