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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// The environment that makes the test's own program the server of a storm.
const (
	stormFolder = "GPUSTRAP_STORM_FOLDER"
	stormListen = "GPUSTRAP_STORM_LISTEN"
	stormDisk   = "GPUSTRAP_STORM_DISK" // the size of a disk of its own for the state
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
	if size := os.Getenv(stormDisk); size != "" {
		if err := errors.Join(os.Mkdir(filepath.Join(folder, "state"), 0o700), unix.Mount("gpustrap-test", filepath.Join(folder, "state"), "tmpfs", 0, "size="+size)); err != nil {
			return err
		}
	}
	store, err := state.Embedded(ctx, filepath.Join(folder, "state"), func(why string) { fmt.Fprintln(os.Stderr, why) })
	if err != nil {
		return err
	}
	s, err := New(ctx, Options{
		Source: source(filepath.Join(folder, "gpustrap.yaml")), Store: store, Key: state.Key("secret"), AdminToken: "storm", PublicPages: true,
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
	mux.Handle("/pages/", http.StripPrefix("/pages", s.Admin()))
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
	disk     string // the size of the state's own disk

	took  time.Duration
	kills int
	peak  int64 // bytes of the server's memory

	installs []atomic.Int32 // of each machine: how often its disk was written
	guarded  atomic.Int32   // how often the guard on the machine stopped a second one
	answers  atomic.Int64
	pages    []time.Duration // that answers of pages took; of look

	mu    sync.Mutex
	child *exec.Cmd
	log   bytes.Buffer
}

// start starts the server, and waits until it answers.
func (s *storm) start() {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stormFolder+"="+s.folder, stormListen+"="+s.address)
	if s.disk != "" {
		cmd.Env = append(cmd.Env, stormDisk+"="+s.disk)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // nobody else sees it, and it ends with the server
	}
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
			if disk == "" && s.disk != "" { // it tries the network again
				time.Sleep(50 * time.Millisecond)
				continue
			}
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

// newStorm returns a storm of n machines whose server does not run yet.
func newStorm(t *testing.T, n, together int, events []string, limit time.Duration) *storm {
	t.Helper()
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
	return s
}

// runStorm installs n machines, and kills the server as often as it is told to.
func runStorm(t *testing.T, n, kills, together int, events []string, limit time.Duration) *storm {
	t.Helper()
	s := newStorm(t, n, together, events, limit)
	s.start()
	defer func() { s.kill() }()
	begin := time.Now()
	var killer, looker sync.WaitGroup
	over := make(chan struct{})
	looker.Go(func() { s.look(n, over) })
	killer.Go(func() {
		for range kills {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(100+rand.IntN(500)) * time.Millisecond):
			}
			s.kill()
			s.start()
			s.kills++
		}
	})
	s.install(n, together)
	close(over)
	killer.Wait()
	looker.Wait()
	s.took = time.Since(begin)
	s.judge(n)
	t.Logf("%d machines in %s, %d answers, the guard on the machine stopped %d; the server has had %d MiB", n, s.took.Round(time.Millisecond), s.answers.Load(), s.guarded.Load(), s.peak>>20)
	if len(s.pages) > 0 {
		slices.Sort(s.pages)
		t.Logf("%d pages, half of them within %s, 99 of 100 within %s, the slowest in %s",
			len(s.pages), s.pages[len(s.pages)/2], s.slow(), s.pages[len(s.pages)-1])
	}
	return s
}

// install arms and installs n machines, several together.
func (s *storm) install(n, together int) {
	var group sync.WaitGroup
	numbers := make(chan int)
	for range together {
		group.Go(func() {
			for i := range numbers {
				// An order whose answer was lost is given again: it begins a generation of its own.
				if status, text := s.insist(http.MethodPost, fmt.Sprintf("http://%s/api/v1/machines/node%05d/arm", s.address, i), `{"via":"network","reinstall":true}`); status != http.StatusOK {
					s.t.Errorf("arm: %d %s", status, text)
				} else if err := s.machine(i); err != nil {
					s.t.Errorf("node%05d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	group.Wait()
}

// slow returns what 99 of 100 pages took at most.
func (s *storm) slow() time.Duration { return s.pages[(len(s.pages)-1)*99/100] }

// look asks for pages as people do that watch a storm, until it is over.
func (s *storm) look(n int, over <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-time.After(250 * time.Millisecond):
		}
		name := "/"
		if i%2 == 1 {
			name = fmt.Sprintf("/machine/node%05d", rand.IntN(n))
		}
		begin := time.Now()
		if status, text := s.request(http.MethodGet, "http://"+s.address+"/pages"+name, ""); status == http.StatusOK && strings.Contains(text, "node0") {
			s.pages = append(s.pages, time.Since(begin))
		} else if status != 0 {
			s.t.Errorf("the page %s: %d %.200s", name, status, text)
		}
	}
}

// judge reads what the server says in the end.
func (s *storm) judge(n int) {
	begin := time.Now()
	status, text := s.request(http.MethodGet, "http://"+s.address+"/api/v1/machines", "")
	s.t.Logf("the list of all machines takes %s", time.Since(begin).Round(time.Millisecond))
	s.peak = s.memory()
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

// memory returns the server's greatest resident memory in bytes.
func (s *storm) memory() int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.child.Process.Pid))
	if err != nil {
		s.t.Error(err)
	}
	_, rest, _ := strings.Cut(string(data), "\nVmHWM:")
	var kibibytes int64
	if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
		s.t.Error("the server's memory:", err)
	}
	return kibibytes << 10
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

// TestFullStateDisk fills the disk of the server's state while machines are installed.
// The server goes on and says so, takes no step, and goes on with them when there is
// room: every machine is installed exactly once.
func TestFullStateDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	n := 200
	if testing.Short() {
		n = 40
	}
	s := newStorm(t, n, 16, recordings(t, "ok")[filepath.Join("testdata", "subiquity-24.04-ok.jsonl")], 5*time.Minute)
	s.disk = "400m"
	s.start()
	defer func() { s.kill() }()
	var group sync.WaitGroup
	group.Go(func() { s.install(n, 16) })
	for s.answers.Load() < int64(n)*10 && time.Now().Before(s.deadline) {
		time.Sleep(time.Millisecond)
	}
	file := fmt.Sprintf("/proc/%d/root%s/state/file", s.child.Process.Pid, s.folder)
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(file), &disk); err != nil {
		t.Fatal(err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if err := os.WriteFile(file, make([]byte, free-16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	health := func(want int) string {
		for time.Now().Before(s.deadline) {
			if status, text := s.request(http.MethodGet, "http://"+s.address+"/healthz", ""); status == want {
				return text
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the server's health is never %d\n%s", want, &s.log)
		return ""
	}
	if text := health(http.StatusServiceUnavailable); !strings.Contains(text, "disk") {
		t.Error(text)
	}
	for range 20 {
		if status, text := s.request(http.MethodPost, "http://"+s.address+"/api/v1/machines/node00000/arm", `{"reinstall":true}`); status != http.StatusInsufficientStorage {
			t.Errorf("armed on a full disk: %d %s", status, text)
		}
		if status, text := s.request(http.MethodGet, fmt.Sprintf("http://%s/script/%d", s.address, n-1), ""); status != http.StatusOK || strings.Contains(text, "true") {
			t.Errorf("a machine that is not armed gets %d %s", status, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	health(http.StatusOK)
	group.Wait()
	s.judge(n)
	s.kill() // and has written all that it had to say
	if log := s.log.String(); strings.Count(log, "not healthy") > 1 {
		t.Errorf("the log says more than once that the disk is full\n%.2000s", log)
	}
	t.Logf("%d answers, the guard on the machine stopped %d", s.answers.Load(), s.guarded.Load())
}

// The figures that a server must keep to with ten thousand machines.
const (
	fleetTime   = 5 * time.Minute
	fleetMemory = 512 << 20
	fleetPage   = 200 * time.Millisecond
)

// longest returns the longest recording of an installation.
func longest(t *testing.T) (events []string) {
	t.Helper()
	if os.Getenv("GPUSTRAP_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	for name, lines := range recordings(t, "ok") {
		if len(lines) > len(events) {
			t.Log("the events may be those of", name)
			events = lines
		}
	}
	return events
}

// TestFleetStorm is for make soak: ten thousand machines, with all that a real
// installer reports.
func TestFleetStorm(t *testing.T) {
	s := runStorm(t, 10000, 0, 64, longest(t), 30*time.Minute)
	if s.took > fleetTime || s.peak > fleetMemory || s.slow() > fleetPage {
		t.Errorf("it took %s, %d MiB, and pages %s; it may take %s, %d MiB and %s", s.took, s.peak>>20, s.slow(), fleetTime, fleetMemory>>20, fleetPage)
	}
}

// TestKillStorm is for make soak: a hundred kills in the middle of installations.
func TestKillStorm(t *testing.T) {
	if s := runStorm(t, 4000, 100, 32, longest(t), 30*time.Minute); s.kills != 100 {
		t.Errorf("the machines were installed after %d kills already", s.kills)
	}
}
