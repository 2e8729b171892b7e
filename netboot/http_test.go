package netboot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// send sends a request with its path as it stands, and returns the status, the
// headers and the body.
func send(t *testing.T, b *bench, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	text := method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	for _, h := range headers {
		text += h + "\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// TestWhatClientsSend: each is a way in which some firmware or cloud-init asks.
func TestWhatClientsSend(t *testing.T) {
	const uuid = "5f0c1a30-1d1a-4f57-9f0a-000000000000"
	b := newBench(t, fleetHead+fmt.Sprintf("  - {name: node00000, match: {mac: %q, uuid: %q, serial: \"CZ/12\"}}\n", mac(0), uuid))
	b.arm(0, ArmOrder{})
	d := b.boot(0)
	seed := strings.TrimPrefix(d.Seed, b.http.URL)
	_, whole := send(t, b, "GET", seed+"user-data")
	for _, tt := range []struct {
		name, method, path, header string
		status                     int
		body                       string
		length                     int64
	}{
		{"double slashes", "GET", "//s//" + strings.TrimPrefix(seed, "/s/") + "/user-data", "", 200, whole, int64(len(whole))},
		{"HEAD", "HEAD", seed + "user-data", "", 200, "", int64(len(whole))},
		{"a range", "GET", seed + "user-data", "Range: bytes=2-9", 206, whole[2:10], 8},
		{"no vendor-data", "GET", seed + "vendor-data", "", 200, "", 0},
		{"no network-config", "HEAD", seed + "network-config", "", 200, "", 0},
		{"the UUID, in capitals", "GET", seed + strings.ToUpper(uuid) + "/user-data", "", 200, whole, int64(len(whole))},
		{"a serial number with a slash", "GET", seed + "CZ/12/user-data", "", 200, whole, int64(len(whole))},
		{"a UUID that cloud-init does not know", "GET", seed + "__dmi.system-uuid__/user-data", "", 200, whole, int64(len(whole))},
		{"a UUID that is empty", "GET", seed + "/user-data", "", 200, whole, int64(len(whole))},
		{"another machine's UUID", "GET", seed + "5f0c1a30-1d1a-4f57-9f0a-000000000001/user-data", "", 403, "this seed is for another machine\n", -1},
		{"no such file", "GET", seed + "passwords", "", 404, "404 page not found\n", -1},
		{"the folder", "GET", seed, "", 404, "404 page not found\n", -1},
		{"no token", "GET", "/s/", "", 404, "there is nothing here, or not any more\n", -1},
		{"a parent folder", "GET", seed + "../../healthz", "", 307, "", -1},
		{"POST", "POST", seed + "user-data", "Content-Length: 0", 404, "", -1},
		{"a token with a control character", "GET", "/s/%00%0a/user-data", "", 404, "", -1},
	} {
		var headers []string
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		answer, body := send(t, b, tt.method, tt.path, headers...)
		if answer.StatusCode != tt.status || tt.body != "" && body != tt.body || tt.length >= 0 && answer.ContentLength != tt.length {
			t.Errorf("%s: %d, %d bytes, want %d, %d bytes\n%.200s", tt.name, answer.StatusCode, answer.ContentLength, tt.status, tt.length, body)
		}
	}
}

// TestWrongTokens: they are counted, the right one goes on, and nothing of either is
// in the log.
func TestWrongTokens(t *testing.T) {
	tries := 100_000
	if testing.Short() {
		tries = 2000
	}
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	d := b.boot(0)
	handler := b.Handler()
	ask := func(method, path string) int {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(method, path, strings.NewReader(event("subiquity/Install/install", "start", "", "", 1))))
		return answer.Code
	}
	found := map[int]int{}
	goroutines, before := runtime.NumGoroutine(), heap()
	for i := range tries {
		wrong := fmt.Sprintf("%032x", i)
		found[ask("GET", "/s/"+wrong+"/user-data")]++
		found[ask("POST", "/report/"+wrong+"/event")]++
	}
	if found[404] != b.o.Limits.WrongTokens || found[429] != 2*tries-found[404] {
		t.Errorf("%v", found)
	}
	if left := heap() - before; left > 2<<20 {
		t.Errorf("%d wrong tokens leave %d bytes", 2*tries, left)
	}
	if left := runtime.NumGoroutine() - goroutines; left > 5 {
		t.Errorf("%d wrong tokens leave %d goroutines", 2*tries, left)
	}
	if status := ask("GET", strings.TrimPrefix(d.Seed, b.http.URL)+"user-data"); status != 200 {
		t.Errorf("the right token: %d", status)
	}
	if status := ask("POST", "/report/"+string(b.token(r, state.ForReport))+"/event"); status != 204 {
		t.Errorf("the right token: %d", status)
	}
	b.clock.pass(time.Minute)
	if status := ask("GET", "/s/"+strings.Repeat("0", 32)+"/user-data"); status != 404 {
		t.Errorf("a minute later: %d", status)
	}
	for _, p := range state.Purposes() {
		if strings.Contains(b.log.String(), string(b.token(r, p))) {
			t.Errorf("the token for the %s is in the log", p)
		}
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSlowClients: connections that send nothing do not keep others from theirs, and
// leave nothing behind.
func TestSlowClients(t *testing.T) {
	b := newBench(t, fleet(1))
	server := NewHTTP(b.Handler(), b.o.Log)
	server.ReadHeaderTimeout, server.ReadTimeout = time.Second, time.Second
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	goroutines, before := runtime.NumGoroutine(), heap()
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "POST /report/x/event HTTP/1.1\r\nHost: x\r\n")
			_ = conn.SetReadDeadline(time.Now().Add(60 * time.Second))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a connection without a request stays open")
			}
		})
	}
	answered := false
	for end := time.Now().Add(time.Minute); !answered && time.Now().Before(end); {
		answer, err := http.Get("http://" + listener.Addr().String() + "/healthz")
		if err == nil { // a machine under load may be slow itself
			answered = answer.StatusCode == http.StatusOK
			_ = answer.Body.Close()
		}
	}
	if !answered {
		t.Error("nobody else is answered")
	}
	group.Wait()
	http.DefaultClient.CloseIdleConnections()
	left := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = runtime.NumGoroutine() - goroutines; left <= 5 {
			break
		}
	}
	if bytes := heap() - before; left > 5 || bytes > 4<<20 {
		t.Errorf("200 slow clients leave %d goroutines and %d bytes", left, bytes)
	}
}

func TestEventsThatAreNone(t *testing.T) {
	b := newBench(t, fleet(1), func(o *Options) { o.Limits.EventLog = 5000 })
	r := b.arm(0, ArmOrder{})
	get(t, b.boot(0).Seed+"user-data")
	address := b.reportURL(r) + "/event"
	for body, want := range map[string]int{
		"":                                   400,
		"{":                                  400,
		strings.Repeat("x", 100):             400,
		`{"name":"x","event_type":"start"}`:  204,
		strings.Repeat(" ", events.MaxEvent): 400,
		`{"name":"` + strings.Repeat("x", 1<<20) + `","event_type":"start","description":"` + strings.Repeat("y", 1<<20) + `"}`: 204,
	} {
		if got := post(t, address, body); got != want {
			t.Errorf("%.50q: %d, want %d", body, got, want)
		}
	}
	for i := range 100 {
		post(t, address, event("subiquity/Late/run/command_0", "start", "", "first\nSECRET="+strings.Repeat("s", 300), int64(i)))
	}
	ctx, stop := cancelled(t)
	stop()
	b.intake.run(ctx)
	log, err := b.Log("node00000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	kept, err := io.ReadAll(log)
	if err != nil || len(kept) > 5000 || len(kept) < 2000 || bytes.Contains(kept, []byte("SECRET")) {
		t.Errorf("%d bytes, %v\n%.500s", len(kept), err, kept)
	}
}

// TestFullDisk: what cannot be kept of events is lost, and the installation goes on.
func TestFullDisk(t *testing.T) {
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	// A file where the folder should be fails as a full disk does.
	if err := os.WriteFile(filepath.Join(b.data, "events", "node00000"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	get(t, b.boot(0).Seed+"user-data")
	for _, line := range recordings(t, "ok")[filepath.Join("testdata", "subiquity-24.04-ok.jsonl")] {
		if status := post(t, b.reportURL(r)+"/event", line); status != 204 {
			t.Fatal(status)
		}
	}
	ctx, stop := cancelled(t)
	stop()
	b.intake.run(ctx)
	b.want(0, state.Installed)
	if _, body := get(t, b.http.URL+"/metrics"); !strings.Contains(body, "gpustrap_events_dropped_total 59") || !strings.Contains(body, `gpustrap_machines{phase="installed"} 1`) {
		t.Error(body)
	}
}

func FuzzRequests(f *testing.F) {
	for _, seed := range []string{"/s/x/user-data", "//s//%2e%2e/meta-data", "/report/x/event", "/metrics", "/s/" + strings.Repeat("0", 32) + "/__dmi.x__/user-data"} {
		f.Add("GET", seed, []byte(nil))
	}
	f.Add("POST", "/report/"+strings.Repeat("a", 32)+"/receipt", []byte(`{"version":1}`))
	b := newBench(f, fleet(1))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			t.Skip()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		oneSlash(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "//") {
				t.Errorf("%q keeps its slashes", path)
			}
		})).ServeHTTP(answer, r)
		answer = httptest.NewRecorder()
		b.Handler().ServeHTTP(answer, r)
		if answer.Code >= 500 {
			t.Errorf("%s %q: %d %s", method, path, answer.Code, answer.Body)
		}
	})
}
