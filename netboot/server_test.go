package netboot

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a server with its surroundings.
type bench struct {
	*Server
	t     testing.TB
	clock *clock
	file  string // gpustrap.yaml
	data  string
	log   *bytes.Buffer
	http  *httptest.Server
	store *state.Store
}

const fleetHead = `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops"]}
docker: {}
after: reboot
machines:
`

// fleet is a configuration of n machines, with a MAC address each.
func fleet(n int) string {
	var b strings.Builder
	b.WriteString(fleetHead)
	for i := range n {
		fmt.Fprintf(&b, "  - {name: node%05d, match: {mac: %q}}\n", i, mac(i))
	}
	return b.String()
}

func mac(i int) string { return fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255) }

func identity(i int) Identity {
	m, err := net.ParseMAC(mac(i))
	if err != nil {
		panic(err)
	}
	return Identity{MAC: m}
}

// source reads a configuration as the command does.
func source(name string) Source {
	return func(read func(string) ([]byte, error)) (*plan.Project, report.Report, error) {
		data, err := read(name)
		if err != nil {
			return nil, report.Report{}, err
		}
		project, rep := plan.Load(name, data, func(file string) ([]byte, error) {
			return read(filepath.Join(filepath.Dir(name), file))
		})
		return project, rep, nil
	}
}

type locked struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func newBench(t testing.TB, yaml string, change ...func(*Options)) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, file: filepath.Join(dir, "gpustrap.yaml"), data: dir, log: &bytes.Buffer{}}
	if err := os.WriteFile(b.file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := state.Embedded(t.Context(), filepath.Join(dir, "state"), func(why string) { panic(why) })
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	b.start(change...)
	t.Cleanup(func() {
		b.http.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// start makes the server, again on the same store after a restart.
func (b *bench) start(change ...func(*Options)) {
	b.t.Helper()
	if b.http != nil {
		b.http.Close()
	}
	var handler http.Handler
	b.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	o := Options{
		Source: source(b.file), Store: b.store, Key: state.Key("secret"), Events: filepath.Join(b.data, "events"), Base: b.http.URL, Now: b.clock.Now,
		AdminToken: "admin-token", PublicPages: true, Log: slog.New(slog.NewTextHandler(&locked{b: b.log}, nil)), Audit: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Server, handler = s, s.Handler()
}

func (b *bench) arm(i int, order ArmOrder) *state.Record {
	b.t.Helper()
	if order.Via == "" {
		order.Via = state.Network
	}
	r, err := b.Arm(b.t.Context(), fmt.Sprintf("node%05d", i), order)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// boot claims a boot script and returns what it says.
func (b *bench) boot(i int) Decision {
	b.t.Helper()
	d, ok := b.Claim(b.t.Context(), identity(i))
	if !ok {
		b.t.Fatal("the machine is not known")
	}
	return d
}

// get returns a status and a body.
func get(t testing.TB, address string) (int, string) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	return r.StatusCode, string(body)
}

func post(t testing.TB, address, body string, headers ...string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

func event(name, kind, result, description string, second int64) string {
	return fmt.Sprintf(`{"name":%q,"description":%q,"event_type":%q,"origin":"curtin","timestamp":%d.5,"level":"INFO","result":%q}`, name, description, kind, second, result)
}

const proofOf = `{"version":1,"machine":%q,"ready":%v,"line":%q,"action":""}`

// reportURL is where the seed of a machine says that its installer reports to.
func (b *bench) reportURL(r *state.Record) string {
	return b.o.Base + "/report/" + string(b.token(r, state.ForReport))
}

func (b *bench) phase(i int) state.Phase {
	b.t.Helper()
	r, err := b.store.Get(b.t.Context(), fmt.Sprintf("node%05d", i))
	if err != nil {
		b.t.Fatal(err)
	}
	return r.Phase
}

func (b *bench) want(i int, p state.Phase) {
	b.t.Helper()
	if got := b.phase(i); got != p {
		b.t.Errorf("the phase is %s, want %s\n%s", got, p, b.log)
	}
}

func TestAnInstallation(t *testing.T) {
	b := newBench(t, fleet(2))
	if d := b.boot(0); d.Install || d.Seed != "" {
		t.Error("a machine that nobody armed is installed")
	}
	r := b.arm(0, ArmOrder{})
	b.want(0, state.Armed)
	d := b.boot(0)
	if !d.Install || d.Args[0] != "autoinstall" || d.Args[1] != "ds=nocloud;s="+d.Seed || !strings.HasPrefix(d.Seed, b.http.URL+"/s/") {
		t.Fatalf("%+v", d)
	}
	b.want(0, state.Booting)
	for _, name := range []string{"network-config", "vendor-data"} {
		if status, body := get(t, d.Seed+name); status != 200 || body != "" {
			t.Errorf("%s: %d %q", name, status, body)
		}
	}
	if status, body := get(t, d.Seed+"meta-data"); status != 200 || !strings.HasPrefix(body, `instance-id: "node00000-`) {
		t.Errorf("%d %q", status, body)
	}
	b.want(0, state.Booting)
	status, seed := get(t, d.Seed+"user-data")
	if status != 200 || !strings.Contains(seed, b.reportURL(r)+"/event") || !strings.Contains(seed, b.reportURL(r)+"/receipt") || !strings.Contains(seed, "stamp "+r.Stamp()) {
		t.Fatalf("%d %.3000s", status, seed)
	}
	b.want(0, state.Seeded)
	if again := b.boot(0); !again.Install || again.Seed != d.Seed {
		t.Error("a reset before the installation does not boot again")
	}
	get(t, d.Seed+"user-data")
	events := b.reportURL(r) + "/event"
	for _, e := range []struct {
		body string
		want state.Phase
	}{
		{event("subiquity/core_validation", "start", "", "", 1), state.Seeded},
		{event("subiquity/Install/install", "start", "", "", 2), state.Installing},
		{event("subiquity/Install/install/curtin_install", "start", "", "installing system", 3), state.Installing},
		{event("subiquity/Late/run/command_0", "start", "", "echo hi", 4), state.Installing},
		{event("subiquity/Shutdown/shutdown", "start", "", "mode=REBOOT", 5), state.Installed},
		{event("subiquity/Shutdown/shutdown", "finish", "SUCCESS", "mode=REBOOT", 6), state.Installed},
	} {
		if status := post(t, events, e.body); status != http.StatusNoContent {
			t.Errorf("%s: %d", e.body, status)
		}
		b.want(0, e.want)
	}
	if d := b.boot(0); d.Install {
		t.Error("an installed machine is installed again")
	}
	if status, _ := get(t, d.Seed+"user-data"); status != http.StatusGone {
		t.Errorf("the seed of an installed machine: %d", status)
	}
	if status := post(t, b.reportURL(r)+"/receipt", fmt.Sprintf(proofOf, "node00000", true, "GPU-ready: no GPU, Docker 29.6.1")); status != http.StatusNoContent {
		t.Error(status)
	}
	b.want(0, state.Ready)
	v, _ := b.View("node00000")
	if v.Waits != "GPU-ready: no GPU, Docker 29.6.1" || !v.Timeline.Over {
		t.Errorf("%+v", v)
	}
	if _, err := b.Arm(context.Background(), "node00000", ArmOrder{Via: state.Network}); err == nil {
		t.Error("an installed machine is armed without --reinstall")
	}
	if r2 := b.arm(0, ArmOrder{Reinstall: true}); r2.Generation != 2 {
		t.Errorf("%+v", r2)
	}
	if status := post(t, events, event("subiquity/Install/install", "start", "", "", 2)); status != http.StatusNotFound {
		t.Errorf("an event of a generation that is over: %d", status)
	}
}

func TestSignedReceipts(t *testing.T) {
	b := newBench(t, fleetHead+"  - {name: node00000, match: {mac: '52:54:00:00:00:00'}, ready: {report: 'http://x/', token_file: token}}\n", func(o *Options) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.Events), "token"), []byte("tell-nobody-of-this-token\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	r := b.arm(0, ArmOrder{})
	b.boot(0)
	body := fmt.Sprintf(proofOf, "node00000", true, "GPU-ready: x")
	mac := hmac.New(sha256.New, []byte("tell-nobody-of-this-token"))
	mac.Write([]byte(body))
	right := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	for signature, want := range map[string]int{"": 403, "sha256=00": 403, "sha256=zz": 403, right[7:]: 403, right: 204} {
		if got := post(t, b.reportURL(r)+"/receipt", body, signatureHeader, signature); got != want {
			t.Errorf("%q: %d, want %d", signature, got, want)
		}
	}
	b.want(0, state.Ready)
}

func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
