package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/netboot/redfish"
	"github.com/gpustrap/gpustrap/netboot/redfish/redfishtest"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// installBench is a server with a machine behind a BMC.
type installBench struct {
	t        *testing.T
	dir      string
	config   string
	server   *netboot.Server
	store    *state.Store
	machines *httptest.Server
	admin    *httptest.Server
	bmc      *redfishtest.BMC
	medium   *netboot.Medium
	booted   sync.WaitGroup
}

// installKey makes the tokens of the tests' server.
var installKey = state.Key("tests")

func newInstallBench(t *testing.T, options redfishtest.Options, machine func(b *installBench, image string)) *installBench {
	t.Helper()
	b := &installBench{t: t, dir: t.TempDir()}
	options.TLS = true
	options.Boot = func(image string) {
		b.booted.Add(1)
		defer b.booted.Done()
		machine(b, image)
	}
	b.bmc = redfishtest.New(t, options)
	b.config = filepath.Join(b.dir, "gpustrap.yaml")
	b.write(b.config, fmt.Sprintf(`version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops"]}
after: reboot
bmc: {user: %s, password_file: bmc.secret}
machines:
  - {name: node01, match: {mac: "52:54:00:00:00:01"}, bmc: {url: %q, fingerprint: %q}}
  - {name: node02, match: {mac: "52:54:00:00:00:02"}, bmc: {url: "https://127.0.0.1:1"}}
  - {name: node03, match: {mac: "52:54:00:00:00:03"}}
`, redfishtest.User, b.bmc.URL, redfish.Fingerprint(b.bmc.Certificate)))
	b.write(filepath.Join(b.dir, "bmc.secret"), redfishtest.Password+"\n")
	b.write(filepath.Join(b.dir, "token"), "admin-token\n")
	var err error
	if b.store, err = state.Embedded(t.Context(), filepath.Join(b.dir, "state"), func(why string) { panic(why) }); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.Flags().String("config", b.config, "")
	var handler http.Handler
	b.machines = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	b.server, err = netboot.New(t.Context(), netboot.Options{
		Source: projectSource(cmd), Store: b.store, Key: installKey, AdminToken: "admin-token", Events: filepath.Join(b.dir, "events"),
		Base: b.machines.URL, Now: time.Now, Log: slog.New(slog.DiscardHandler), Audit: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.medium, err = netboot.OpenMedium(isotest.Medium{Small: true}.Make(t)); err != nil {
		t.Fatal(err)
	}
	handler = netboot.NewPXE(b.server, netboot.PXEOptions{Media: []*netboot.Medium{b.medium}, Loaders: &boot.Loaders{}, DHCP: netboot.DHCPOff}).Handler()
	b.admin = httptest.NewTLSServer(b.server.Admin())
	b.write(filepath.Join(b.dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.admin.Certificate().Raw})))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.server.Run(ctx) })
	t.Cleanup(func() {
		b.booted.Wait()
		b.server.EndWatches()
		b.admin.Close()
		b.machines.Close()
		stop()
		running.Wait()
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *installBench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// install runs the command.
func (b *installBench) install(ctx context.Context, out *said, args ...string) int {
	w := newWorld(strings.NewReader(""), out, out, func(string) string { return "" })
	return run(ctx, w, append([]string{"install", "-c", b.config, "--server", b.admin.URL, "--token-file", filepath.Join(b.dir, "token"), "--yes"}, args...))
}

// token opens something of node01's present installation.
func (b *installBench) token(p state.Purpose) string {
	r, err := b.store.Get(context.Background(), "node01")
	if err != nil {
		b.t.Error(err)
		return ""
	}
	return string(installKey.Token(r.Machine, r.Generation, r.Salt, p))
}

// report posts what the machine has to say.
func (b *installBench) report(kind, body string) {
	answer, err := http.Post(b.machines.URL+"/report/"+b.token(state.ForReport)+"/"+kind, "application/json", strings.NewReader(body))
	if err != nil {
		b.t.Error(err)
		return
	}
	_ = answer.Body.Close()
	if answer.StatusCode >= 300 {
		b.t.Errorf("%s: %s", body, answer.Status)
	}
}

func (b *installBench) event(name, kind, result string) {
	b.report("event", fmt.Sprintf(`{"name":"subiquity/%s","description":"x","event_type":%q,"origin":"curtin","timestamp":%d.5,"level":"INFO","result":%q}`, name, kind, time.Now().Unix(), result))
}

// reads is what a BMC does for a machine that boots: it reads the image in ranges of
// its own, several at a time. They must make the image that remaster would write.
func (b *installBench) reads(image string) {
	head, err := http.Head(image)
	if err != nil || head.StatusCode != http.StatusOK || head.Header.Get("Accept-Ranges") != "bytes" {
		b.t.Errorf("the medium's head: %v %v", head, err)
		return
	}
	_ = head.Body.Close()
	got := make([]byte, head.ContentLength)
	var readers sync.WaitGroup
	next := make(chan int)
	for range 4 {
		readers.Go(func() {
			for at := range next {
				if err := readRange(image, got, at, rangeLength(at)); err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	for at := 0; at < len(got); at += rangeLength(at) {
		next <- at
	}
	close(next)
	readers.Wait()
	if want := b.remastered(); sha256.Sum256(got) != sha256.Sum256(want) {
		b.t.Errorf("the image that the BMC read (%d bytes) is not the one that remaster makes (%d bytes)", len(got), len(want))
	}
}

// rangeLength is how many bytes are read from an offset: BMCs take 512 bytes to 64 KiB,
// and nothing of the image lies at such borders alone.
func rangeLength(at int) int { return []int{512, 65536, 2048, 32768, 4097}[at%5] }

// readRange reads a range of an image into its place.
func readRange(image string, into []byte, at, length int) error {
	last := min(at+length, len(into)) - 1
	r, err := http.NewRequest(http.MethodGet, image, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, last))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it is read
	want := fmt.Sprintf("bytes %d-%d/%d", at, last, len(into))
	if got := answer.Header.Get("Content-Range"); answer.StatusCode != http.StatusPartialContent || got != want {
		return fmt.Errorf("asked for %s: %s with %q", want, answer.Status, got)
	}
	_, err = io.ReadFull(answer.Body, into[at:last+1])
	return err
}

// remastered makes the image of node01's present installation as remaster does, of a
// machine that does not ask, since somebody has armed it.
func (b *installBench) remastered() []byte {
	r, err := b.store.Get(context.Background(), "node01")
	if err != nil {
		b.t.Error(err)
		return nil
	}
	m := *b.server.Machine("node01")
	seed, err := b.server.Seed(&m, r)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	m.Boot.Confirm, m.Boot.Timeout = config.ConfirmNone, 0
	overlay, err := plan.Overlay(&m, seed)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	layout, err := iso.Remaster(b.medium.Image, overlay)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	var out bytes.Buffer
	if err := iso.WriteTo(context.Background(), layout, &out, nil); err != nil {
		b.t.Error(err)
	}
	return out.Bytes()
}

func installs(b *installBench, image string) {
	b.reads(image)
	b.event("Install/install", "start", "")
	b.event("Shutdown/shutdown", "start", "")
	b.report("receipt", `{"version":1,"machine":"node01","ready":true,"line":"GPU-ready: all well","action":""}`)
}

// The whole way: the BMC starts the machine from its medium, the machine installs
// and proves itself, and the medium is ejected.
func TestInstallByBMC(t *testing.T) {
	for name, options := range map[string]redfishtest.Options{"schema": {}, "another": {NeedProtocol: true, KeepImage: true, Slow: 1, MediaUnderSystem: true}} {
		t.Run(name, func(t *testing.T) {
			b := newInstallBench(t, options, installs)
			b.bmc.Put("http://10.9.9.9/stale.iso")
			var out said
			if code := b.install(t.Context(), &out, "--bmc", "node01"); code != exitDone {
				t.Fatalf("exit %d\n%s", code, &out)
			}
			for _, want := range []string{"node01: its BMC has the Example GPU 8000 1, serial number S0000001", "node01: ERASE", "its medium is inserted", "it is started anew",
				"node01  ready: GPU-ready: all well", "node01: its medium is ejected"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q was not said in\n%s", want, &out)
				}
			}
			got := b.bmc.State()
			if got.Image != "" || got.Sessions != 0 || len(got.Booted) != 1 || !strings.HasSuffix(got.Booted[0], "/node01.iso") {
				t.Errorf("at the end: %+v", got)
			}
			if text := out.String(); strings.Contains(text, redfishtest.Password) || strings.Contains(text, b.token(state.ForMedium)) || strings.Contains(text, "admin-token") {
				t.Errorf("a secret was said:\n%s", text)
			}
		})
	}
}

// What fails leaves no medium and no session behind, and says what.
func TestInstallFailures(t *testing.T) {
	fails := func(b *installBench, image string) {
		b.reads(image)
		b.event("Install/install", "start", "")
		b.event("Late/run/command_3", "start", "")
		b.event("Late/run/command_3", "finish", "FAIL")
		b.event("Error/run", "start", "")
	}
	tests := []struct {
		name    string
		options redfishtest.Options
		machine func(*installBench, string)
		change  func(*installBench)
		args    []string
		code    int
		want    string
		armed   bool
	}{
		{name: "the installation fails", machine: fails, args: []string{"--bmc", "node01"}, code: 1, want: "node01: the installation has failed: ", armed: true},
		{name: "the power cannot be switched", options: redfishtest.Options{Slow: 1, FailTask: true}, args: []string{"--bmc", "node01"}, code: 1, want: "node01: cannot insert the image: the BMC's task ended as Exception", armed: true},
		{name: "a wrong password", change: func(b *installBench) { b.write(filepath.Join(b.dir, "bmc.secret"), "hunter2hunter2") }, args: []string{"--bmc", "node01"}, code: 1,
			want: "node01: cannot log in: the BMC answers 400: the user or the password is wrong"},
		{name: "no password", change: func(b *installBench) { b.write(filepath.Join(b.dir, "bmc.secret"), "\n") }, args: []string{"--bmc", "node01"}, code: 1,
			want: "there is no password for the BMC of node01"},
		{name: "another certificate", change: func(b *installBench) {
			data, err := os.ReadFile(b.config)
			if err != nil {
				b.t.Fatal(err)
			}
			pin := redfish.Fingerprint(b.bmc.Certificate)
			b.write(b.config, strings.Replace(string(data), pin, strings.Repeat("AB:", 31)+"AB", 1))
		}, args: []string{"--bmc", "node01"}, code: 1, want: "the BMC's certificate is not trusted: it is not the one whose fingerprint was given\nhint: compare"},
		{name: "no answer", args: []string{"--bmc", "node02"}, code: 1, want: "node02: cannot log in: cannot reach https://127.0.0.1:1: "},
		{name: "no BMC", args: []string{"--bmc", "node03"}, code: 2, want: "node03 has no bmc in the configuration"},
		{name: "an unknown machine", args: []string{"--bmc", "node09"}, code: 2, want: "node09"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.machine == nil {
				test.machine = func(b *installBench, image string) { b.t.Errorf("%s was booted", image) }
			}
			b := newInstallBench(t, test.options, test.machine)
			if test.change != nil {
				test.change(b)
			}
			var out said
			if code := b.install(t.Context(), &out, test.args...); code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit %d, want %d with %q\n%s", code, test.code, test.want, &out)
			}
			if got := b.bmc.State(); got.Image != "" || got.Sessions != 0 {
				t.Errorf("at the BMC: %+v", got)
			}
			if _, err := b.store.Get(t.Context(), "node01"); (err == nil) != test.armed {
				t.Errorf("armed: %t, want %t", err == nil, test.armed)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Errorf("the password was said:\n%s", &out)
			}
		})
	}
}

// An interruption while the machine installs leaves it alone.
func TestInstallInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var out said
	b := newInstallBench(t, redfishtest.Options{}, func(b *installBench, image string) {
		b.reads(image)
		b.event("Install/install", "start", "")
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && !strings.Contains(out.String(), "node01  installing: "); {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
	})
	if code := b.install(ctx, &out, "--bmc", "node01"); code != exitFailed || !strings.Contains(out.String(), "the installation goes on, and its medium stays") {
		t.Errorf("exit %d\n%s", code, &out)
	}
	if got := b.bmc.State(); got.Image == "" || got.Sessions != 0 {
		t.Errorf("at the BMC: %+v", got)
	}
}

// What the server refuses ends the command with the server's own sentence; what may pass
// is tried again.
func TestInstallRefused(t *testing.T) {
	b := newInstallBench(t, redfishtest.Options{}, func(*installBench, string) {})
	follow := func(answers ...func(http.ResponseWriter)) (int, string, int) {
		asked := 0
		front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/watch" {
				if asked++; asked <= len(answers) {
					answers[asked-1](w)
					return
				}
				if _, err := b.server.Disarm(r.Context(), "node03", true); err != nil {
					t.Error(err)
				}
			}
			b.server.Admin().ServeHTTP(w, r)
		}))
		defer front.Close()
		var out said
		code := b.install(t.Context(), &out, "--server", front.URL, "--reinstall", "node03")
		return code, out.String(), asked
	}
	says := func(status int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for status, want := range map[int]string{401: "a sentence\nhint: ", 403: "a sentence\n", 404: "a sentence\n", 409: "a sentence\n"} {
		code, out, asked := follow(says(status, `{"error": "a sentence"}`))
		if code != exitFailed || asked != 1 || !strings.Contains(out, "node03 is no longer followed: "+want) {
			t.Errorf("%d: exit %d after %d requests\n%s", status, code, asked, out)
		}
	}
	if code, out, asked := follow(says(200, "<html>")); code != exitFailed || asked != 1 || !strings.Contains(out, "is no longer followed: cannot read from the server: invalid character") {
		t.Errorf("another program's answer: exit %d after %d requests\n%s", code, asked, out)
	}
	if code, out, asked := follow(says(503, `{"error": "a sentence"}`)); code != exitFailed || asked != 2 || !strings.Contains(out, "node03: the server does not answer; waiting for it\n") || !strings.Contains(out, "disarmed by somebody else") {
		t.Errorf("what passes: exit %d after %d requests\n%s", code, asked, out)
	}
}
