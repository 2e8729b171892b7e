package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// run is a piece of a pieced image: of the base, or bytes of its own.
type run struct {
	at, length int64 // length in bytes; at in the base
	own        []byte
}

// pieced is an image of runs.
type pieced struct {
	base []byte
	runs []run
	bad  bool // its own bytes cannot be read
}

func (p *pieced) Size() (size int64) {
	for _, r := range p.runs {
		size += r.length
	}
	return size
}

func (p *pieced) Base(offset int64) (int64, int64, bool) {
	for _, r := range p.runs {
		if offset < r.length {
			return r.at + offset, r.length - offset, r.own == nil
		}
		offset -= r.length
	}
	return 0, 0, false
}

func (p *pieced) bytes() (all []byte) {
	for _, r := range p.runs {
		if r.own != nil {
			all = append(all, r.own...)
		} else {
			all = append(all, p.base[r.at:r.at+r.length]...)
		}
	}
	return all
}

func (p *pieced) ReadAt(b []byte, off int64) (int, error) {
	if p.bad {
		return 0, errors.New("the seed is gone")
	}
	return bytes.NewReader(p.bytes()).ReadAt(b, off)
}

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func newPieced(t testing.TB, sizes ...int) (*pieced, string) {
	t.Helper()
	p := &pieced{base: randomBytes(3 << 20)}
	at := int64(0)
	for i, n := range sizes {
		r := run{at: at, length: int64(n)}
		if i%2 == 1 {
			r.own = randomBytes(n)
		}
		at += int64(n)
		p.runs = append(p.runs, r)
	}
	name := filepath.Join(t.TempDir(), "base.iso")
	if err := os.WriteFile(name, p.base, 0o600); err != nil {
		t.Fatal(err)
	}
	return p, name
}

var sizes = []int{32768, 2048, 1 << 20, 5000, 700_000, 1, 100}

func serve(t testing.TB, p *pieced, base string) (*httptest.Server, *atomic.Value) {
	t.Helper()
	var failed atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Serve(w, r, p, base, `"tag"`, time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)); err != nil {
			failed.Store(err)
		}
	}))
	t.Cleanup(s.Close)
	return s, &failed
}

func request(t testing.TB, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, body
}

func TestServe(t *testing.T) {
	p, base := newPieced(t, sizes...)
	all := p.bytes()
	s, failed := serve(t, p, base)
	size := fmt.Sprint(len(all))
	for _, tt := range []struct {
		name   string
		method string
		header []string
		status int
		want   []byte
		length string // Content-Length
	}{
		{"everything", "GET", nil, 200, all, size},
		{"HEAD", "HEAD", nil, 200, nil, size},
		{"HEAD of a range", "HEAD", []string{"Range", "bytes=5-9"}, 206, nil, "5"},
		{"a range over a border", "GET", []string{"Range", "bytes=32760-34820"}, 206, all[32760:34821], "2061"},
		{"from a byte on", "GET", []string{"Range", "bytes=1700000-"}, 206, all[1700000:], fmt.Sprint(len(all) - 1700000)},
		{"the last bytes", "GET", []string{"Range", "bytes=-150"}, 206, all[len(all)-150:], "150"},
		{"behind the end", "GET", []string{"Range", "bytes=" + size + "-"}, 416, []byte("invalid range: failed to overlap\n"), "33"},
		{"nonsense", "GET", []string{"Range", "bytes=b-a"}, 416, []byte("invalid range\n"), "14"},
		{"the same image", "GET", []string{"Range", "bytes=0-0", "If-Range", `"tag"`}, 206, all[:1], "1"},
		{"another image", "GET", []string{"Range", "bytes=0-0", "If-Range", `"other"`}, 200, all, size},
		{"known already", "GET", []string{"If-None-Match", `"tag"`}, 304, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, body := request(t, tt.method, s.URL, tt.header...)
			if got.StatusCode != tt.status || got.Header.Get("Content-Length") != tt.length || got.Header.Get("Content-Encoding") != "" {
				t.Errorf("status %d, header %v", got.StatusCode, got.Header)
			}
			if !bytes.Equal(body, tt.want) {
				t.Errorf("%d bytes, want %d, or others", len(body), len(tt.want))
			}
		})
	}
	if err := failed.Load(); err != nil {
		t.Error(err)
	}
}

func TestSeveralRanges(t *testing.T) {
	p, base := newPieced(t, sizes...)
	all := p.bytes()
	s, _ := serve(t, p, base)
	got, body := request(t, "GET", s.URL, "Range", "bytes=10-20,32767-32768,-1")
	_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || got.StatusCode != 206 {
		t.Fatal(got.StatusCode, err)
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for _, want := range [][]byte{all[10:21], all[32767:32769], all[len(all)-1:]} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(part); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%x %v, want %x", b, err, want)
		}
	}
}

// TestAnyImage asks for any ranges of any image.
func TestAnyImage(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base.iso")
	file := randomBytes(1 << 20)
	if err := os.WriteFile(base, file, 0o600); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := &pieced{base: file}
		for range rapid.IntRange(1, 12).Draw(t, "runs") {
			r := run{length: int64(rapid.IntRange(1, 60_000).Draw(t, "length"))}
			if rapid.Bool().Draw(t, "own") {
				r.own = file[100 : 100+r.length]
			} else {
				r.at = int64(rapid.IntRange(0, len(file)-int(r.length)).Draw(t, "at"))
			}
			p.runs = append(p.runs, r)
		}
		all := p.bytes()
		first := rapid.IntRange(0, len(all)-1).Draw(t, "first")
		last := rapid.IntRange(first, len(all)-1).Draw(t, "last")
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, last))
		w := httptest.NewRecorder()
		if err := Serve(w, r, p, base, `"tag"`, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if w.Code != 206 || !bytes.Equal(w.Body.Bytes(), all[first:last+1]) {
			t.Fatalf("status %d, %d bytes, want %d, or others", w.Code, w.Body.Len(), last-first+1)
		}
	})
}

// fromFiles is a connection that counts what it is given as a file.
type fromFiles struct {
	*httptest.ResponseRecorder
	bytes int64
}

func (f *fromFiles) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(f.ResponseRecorder, r)
	if limited, ok := r.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			f.bytes += n
		}
	}
	return n, err
}

// TestBaseStaysInTheKernel: every byte of the base is handed over as a file.
func TestBaseStaysInTheKernel(t *testing.T) {
	p, base := newPieced(t, sizes...)
	w := &fromFiles{ResponseRecorder: httptest.NewRecorder()}
	if err := Serve(w, httptest.NewRequest("GET", "/", nil), p, base, `"tag"`, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if want := int64(32768 + 1<<20 + 700_000 + 100); w.bytes != want {
		t.Errorf("%d bytes went as a file, want %d", w.bytes, want)
	}
	if !bytes.Equal(w.Body.Bytes(), p.bytes()) {
		t.Error("other bytes came")
	}
}

// TestFailures: what cannot be read is told, and never a short image that looks whole.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(p *pieced, base string) error
		want  string
	}{
		{"no base", func(_ *pieced, base string) error { return os.Remove(base) }, "cannot open the installation medium"},
		{"a base cut short", func(_ *pieced, base string) error { return os.Truncate(base, 40_000) }, "ends at byte 40000"},
		{"an overlay that fails", func(p *pieced, _ string) error { p.bad = true; return nil }, "the seed is gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, base := newPieced(t, sizes...)
			if err := tt.spoil(p, base); err != nil {
				t.Fatal(err)
			}
			s, failed := serve(t, p, base)
			got, err := http.Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = got.Body.Close() }()
			if _, err := io.ReadAll(got.Body); err == nil && got.StatusCode == 200 {
				t.Error("the image seems whole")
			}
			s.Close()
			if err, _ := failed.Load().(error); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestForeignClient reads with curl, whole and in ranges, several at a time.
func TestForeignClient(t *testing.T) {
	curl := oracle.Need(t, "curl")
	p, base := newPieced(t, sizes...)
	s, _ := serve(t, p, base)
	all := p.bytes()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			first, last := i*50_000, len(all)-1-i
			out, err := exec.Command(curl, "-sS", "--fail", "-r", fmt.Sprintf("%d-%d", first, last), s.URL).Output()
			if err != nil || !bytes.Equal(out, all[first:last+1]) {
				t.Errorf("curl %d-%d: %d bytes, %v", first, last, len(out), err)
			}
		})
	}
	clients.Wait()
}
