package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpustrap/gpustrap/download"
)

// content is what the test server has, long enough for several reads.
var content = bytes.Repeat([]byte("0123456789abcdef"), 200<<10/16*5)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// server counts requests and keeps their headers.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
}

func (s *server) requests() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.headers)
}

// serve answers the n-th request, from 0, by the n-th function, and all further
// ones by the last.
func serve(t testing.TB, answers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.headers)
		s.headers = append(s.headers, r.Header.Clone())
		s.mu.Unlock()
		answers[min(n, len(answers)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// whole serves the content with ranges and an entity tag.
func whole(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	w.Header().Set("Content-Type", "application/x-iso9660-image")
	http.ServeContent(w, r, "medium.iso", time.Unix(1e9, 0), bytes.NewReader(content))
}

// cutAfter serves n bytes of what is asked for and drops the connection.
func cutAfter(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { whole(&cutter{w, n}, r) }
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if err == nil && c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) }
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!DOCTYPE html><html>Log in to the guest network</html>")
}

func noRanges(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }

func request(t testing.TB, url string) download.Request {
	t.Helper()
	return download.Request{Client: http.DefaultClient, URL: url, SHA256: sum(content), Path: filepath.Join(t.TempDir(), "medium.iso")}
}

// files returns what lies in the request's folder.
func files(t testing.TB, r download.Request) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(r.Path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// checkWhole checks that the file is there, right, recorded, and nothing else.
func checkWhole(t testing.TB, r download.Request) {
	t.Helper()
	got, err := os.ReadFile(r.Path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
	if got, want := files(t, r), []string{".medium.iso.lock", "medium.iso", "medium.iso.verified"}; !slices.Equal(got, want) {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}

// checkNothing checks that nothing is there that could be taken for the file.
func checkNothing(t testing.TB, r download.Request) {
	t.Helper()
	if got := files(t, r); !slices.Equal(got, []string{".medium.iso.lock"}) {
		t.Errorf("the folder has %q, want the lock alone", got)
	}
}

func TestGet(t *testing.T) {
	s := serve(t, whole)
	r := request(t, s.URL)
	var last, total int64
	r.Progress = func(d, n int64) {
		if d < last {
			t.Errorf("progress goes back from %d to %d", last, d)
		}
		last, total = d, n
	}
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, r)
	if last != int64(len(content)) || total != last {
		t.Errorf("progress ended at %d of %d, want %d", last, total, len(content))
	}
	if info, err := os.Stat(r.Path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	// The second time the file is there, and nobody is asked.
	if err := download.Get(t.Context(), r); err != nil || len(s.requests()) != 1 {
		t.Errorf("the second Get made %d requests, %v", len(s.requests())-1, err)
	}
	r.Perm = 0o600
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(r.Path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v, want 0600", info.Mode(), err)
	}
}

func TestGetContinues(t *testing.T) {
	const half = 500_000
	tests := []struct {
		name    string
		answers []http.HandlerFunc
		ranges  []string
	}{
		{"after a cut", []http.HandlerFunc{cutAfter(half), whole}, []string{"", "bytes=500000-"}},
		{"after two cuts", []http.HandlerFunc{cutAfter(half), cutAfter(half), whole}, []string{"", "bytes=500000-", "bytes=1000000-"}},
		{"where there are no ranges", []http.HandlerFunc{cutAfter(half), noRanges}, []string{"", "bytes=500000-"}},
		{"after passing errors", []http.HandlerFunc{status(503, "busy"), cutAfter(half), status(429, "slow down"), whole}, []string{"", "", "bytes=500000-", "bytes=500000-"}},
		{"when the file changed", []http.HandlerFunc{cutAfter(half), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v2"`)
			http.ServeContent(w, r, "x", time.Unix(2e9, 0), bytes.NewReader(content))
		}}, []string{"", "bytes=500000-"}},
		{"after a range that was not asked for", []http.HandlerFunc{cutAfter(half), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 400000-%d/%d", len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[400000:])
		}, whole}, []string{"", "bytes=500000-", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.answers...)
			r := request(t, s.URL)
			r.Backoff = make([]time.Duration, 3)
			if err := download.Get(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, r)
			var got []string
			for _, h := range s.requests() {
				got = append(got, h.Get("Range"))
				if (h.Get("Range") != "") != (h.Get("If-Range") == `"v1"`) {
					t.Errorf("Range %q with If-Range %q", h.Get("Range"), h.Get("If-Range"))
				}
			}
			if !slices.Equal(got, tt.ranges) {
				t.Errorf("ranges asked for are %q, want %q", got, tt.ranges)
			}
		})
	}
}

// TestNextRunContinues cuts the connection in one Get and continues in the next.
func TestNextRunContinues(t *testing.T) {
	const half = 500_000
	// damage changes the part between the runs.
	tests := []struct {
		name   string
		damage func(t *testing.T, part string)
		ranges []string
	}{
		{"as it is", func(*testing.T, string) {}, []string{"", "bytes=500000-"}},
		{"with a wrong byte", func(t *testing.T, part string) { overwrite(t, part, 0, "X") }, []string{"", "bytes=500000-", ""}},
		{"whole already", func(t *testing.T, part string) { overwrite(t, part, half, string(content[half:])) }, []string{"", fmt.Sprintf("bytes=%d-", len(content))}},
		{"longer than the file", func(t *testing.T, part string) { overwrite(t, part, int64(len(content)), "more") }, []string{"", fmt.Sprintf("bytes=%d-", len(content)+4), ""}},
		{"gone", func(t *testing.T, part string) { remove(t, part) }, []string{"", ""}},
		{"of nobody knows what", func(t *testing.T, part string) { remove(t, part+".json") }, []string{"", ""}},
		{"with a damaged state", func(t *testing.T, part string) { overwrite(t, part+".json", 0, "x") }, []string{"", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, cutAfter(half), whole)
			r := request(t, s.URL)
			err := download.Get(t.Context(), r)
			if !errors.Is(err, download.ErrInterrupted) || !strings.Contains(err.Error(), "after 500000 of 1024000 bytes") {
				t.Fatalf("the first Get returned %v", err)
			}
			if _, err := os.Stat(r.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("there is a file after a cut: %v", err)
			}
			tt.damage(t, r.Path+".part")
			if err := download.Get(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, r)
			var got []string
			for _, h := range s.requests() {
				got = append(got, h.Get("Range"))
			}
			if !slices.Equal(got, tt.ranges) {
				t.Errorf("ranges asked for are %q, want %q", got, tt.ranges)
			}
		})
	}
}

func overwrite(t *testing.T, name string, offset int64, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(text), offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// TestGetDoesNotGiveUp: a connection that is cut again and again, but brings
// something each time, ends with the file.
func TestGetDoesNotGiveUp(t *testing.T) {
	big := bytes.Repeat(content, 8)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(&cutter{w, 1<<20 + 1}, r, "x", time.Unix(1e9, 0), bytes.NewReader(big))
	})
	r := request(t, s.URL)
	r.SHA256, r.Backoff = sum(big), make([]time.Duration, 1)
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := len(s.requests()); n != 8 {
		t.Errorf("%d requests for 8 MB at 1 MiB each", n)
	}
}

func TestGetFails(t *testing.T) {
	chunked := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(b)
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		size   int64
		want   error
		text   string
		hint   string
	}{
		{"404 with a page", status(404, "<html>Not Found</html>"), 0, download.ErrStatus, "404 Not Found", "no such file"},
		{"403", status(403, "no"), 0, download.ErrStatus, "403 Forbidden", "another mirror"},
		{"407", status(407, "no"), 0, download.ErrStatus, "407 Proxy", "https_proxy"},
		{"503", status(503, "busy"), 0, download.ErrStatus, "503 Service Unavailable", ""},
		{"a page", page, 0, download.ErrPage, "HTML", "captive portal"},
		{"wrong bytes", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.ToUpper(content)) }, 0, download.ErrHash, "expected " + sum(content), "nothing was kept"},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, 0, download.ErrHash, "", "nothing was kept"},
		{"another size", whole, 5, download.ErrSize, "1024000 bytes, expected 5", "out of step"},
		{"too much, chunked", chunked(content), 5, download.ErrSize, "", "out of step"},
		{"fewer than it says it has", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				_, _ = w.Write(content[:5])
				return
			}
			w.Header().Set("Content-Range", "bytes */5")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, 0, download.ErrHash, "", "nothing was kept"},
		{"a redirect to nowhere", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/gone" {
				http.NotFound(w, r)
				return
			}
			http.Redirect(w, r, "/gone", http.StatusFound)
		}, 0, download.ErrStatus, "/gone", "no such file"},
		{"a redirect in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, 0, download.ErrUnreachable, "redirects", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.answer)
			r := request(t, s.URL)
			r.Size = tt.size
			err := download.Get(t.Context(), r)
			var e *download.Error
			if !errors.Is(err, tt.want) || !errors.As(err, &e) {
				t.Fatalf("Get returned %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), s.URL) || !strings.Contains(e.Hint(), tt.hint) {
				t.Errorf("the error is %q with the hint %q, want %q and %q", err, e.Hint(), tt.text, tt.hint)
			}
			checkNothing(t, r)
		})
	}
}

func TestPortalDoesNotSpoilPart(t *testing.T) {
	s := serve(t, cutAfter(500_000), page, whole)
	r := request(t, s.URL)
	if err := download.Get(t.Context(), r); !errors.Is(err, download.ErrInterrupted) {
		t.Fatal(err)
	}
	if err := download.Get(t.Context(), r); !errors.Is(err, download.ErrPage) {
		t.Fatal(err)
	}
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[2].Get("Range"); got != "bytes=500000-" {
		t.Errorf("after the portal's page the range is %q", got)
	}
}

func TestUnreachable(t *testing.T) {
	s := serve(t, whole)
	s.Close()
	r := request(t, s.URL)
	r.Backoff = make([]time.Duration, 2)
	var notes []string
	r.Notify = func(m string) { notes = append(notes, m) }
	err := download.Get(t.Context(), r)
	if !errors.Is(err, download.ErrUnreachable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Get returned %v", err)
	}
	if len(notes) != 2 || !strings.Contains(notes[1], "trying again in 0s (2 of 2)") {
		t.Errorf("notes are %q", notes)
	}
	checkNothing(t, r)
}

func TestUntrustedCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(whole))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	r := request(t, s.URL)
	r.Backoff = []time.Duration{time.Hour}
	err := download.Get(t.Context(), r)
	var e *download.Error
	if !errors.As(err, &e) || !errors.Is(err, download.ErrUnreachable) || !strings.Contains(e.Hint(), "certificate") {
		t.Errorf("Get returned %v", err)
	}
}

func TestStall(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:1000])
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	r := request(t, s.URL)
	r.Stall = 50 * time.Millisecond
	if err := download.Get(t.Context(), r); !errors.Is(err, download.ErrInterrupted) || !strings.Contains(err.Error(), "nothing came for 50ms") {
		t.Errorf("Get returned %v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, whole)
	r := request(t, s.URL)
	r.Backoff = []time.Duration{time.Hour}
	r.Progress = func(done, _ int64) {
		if done > 200_000 {
			cancel()
		}
	}
	if err := download.Get(ctx, r); !errors.Is(err, context.Canceled) {
		t.Fatalf("Get returned %v", err)
	}
	if got, want := files(t, r), []string{".medium.iso.lock", "medium.iso.part", "medium.iso.part.json"}; !slices.Equal(got, want) {
		t.Errorf("the folder has %q, want %q", got, want)
	}
	r.Progress = nil
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, r)
	if s.requests()[1].Get("Range") == "" {
		t.Error("the next run began again")
	}
}

func TestProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		whole(w, r)
	}))
	defer proxy.Close()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, "http://mirror.invalid/medium.iso")
	r.Client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(address)}}
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != r.URL {
		t.Errorf("the proxy was asked for %s", got)
	}
	checkWhole(t, r)
}

func TestRedirect(t *testing.T) {
	mirror := serve(t, whole)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, mirror.URL, http.StatusFound) })
	r := request(t, s.URL)
	if err := download.Get(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, r)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=300k"); err != nil {
		t.Skipf("needs a file system of its own, and so root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s := serve(t, whole)
	r := request(t, s.URL)
	r.Path = filepath.Join(dir, "medium.iso")
	if err := download.Get(t.Context(), r); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Get to a full disk returned %v", err)
	}
	if _, err := os.Stat(r.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file on the full disk: %v", err)
	}
}

func TestImpossiblePaths(t *testing.T) {
	s := serve(t, whole)
	r := request(t, s.URL)
	r.SHA256 = "abc"
	if err := download.Get(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is no SHA-256 sum") {
		t.Errorf("with a bad sum Get returned %v", err)
	}
	r = request(t, s.URL)
	if err := os.Mkdir(r.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := download.Get(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("to a folder Get returned %v", err)
	}
	r = request(t, s.URL)
	r.Path = filepath.Join(filepath.Dir(r.Path), "none", "medium.iso")
	if err := download.Get(t.Context(), r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("to a missing folder Get returned %v", err)
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
