package download_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/download"
	"github.com/gpustrap/gpustrap/keys"
)

// signer is a key of the test's own, in the place of Ubuntu's.
func signer(t testing.TB) (*openpgp.Entity, *keys.Keyring) {
	t.Helper()
	e, err := openpgp.NewEntity("Test", "", "test@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	ring, err := keys.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return e, ring
}

// mirror is a folder of media as it is served.
type mirror map[string][]byte

func (m mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, ok := m[strings.TrimPrefix(r.URL.Path, "/24.04/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(text))
}

// newMirror signs a list and serves it with one medium.
func newMirror(t testing.TB, key *openpgp.Entity, list string) mirror {
	t.Helper()
	var signature bytes.Buffer
	if err := openpgp.DetachSign(&signature, []*openpgp.Entity{key}, strings.NewReader(list), nil); err != nil {
		t.Fatal(err)
	}
	return mirror{
		"SHA256SUMS": []byte(list), "SHA256SUMS.gpg": signature.Bytes(),
		"ubuntu-24.04.10-live-server-amd64.iso": content,
	}
}

var (
	other = strings.Repeat("a", 64)
	// list is in the form and order of the genuine ones.
	list = strings.Join([]string{
		other + " *ubuntu-24.04-live-server-amd64.iso",
		other + " *ubuntu-24.04.10-desktop-amd64.iso",
		sum(content) + " *ubuntu-24.04.10-live-server-amd64.iso",
		other + " *ubuntu-24.04.10-live-server-amd64.iso.zsync",
		other + " *ubuntu-24.04.9-live-server-amd64.iso",
		other + " *ubuntu-24.04.9-wsl-amd64.wsl", "",
	}, "\n")
)

func TestFetch(t *testing.T) {
	key, ring := signer(t)
	s := serve(t, newMirror(t, key, list).ServeHTTP)
	for _, base := range []string{s.URL + "/24.04", s.URL + "/24.04/"} {
		o := download.Options{BaseURL: base, Release: "24.04", Keyring: ring, Folder: filepath.Join(t.TempDir(), "a", "b"), Now: time.Now()}
		path, err := download.Fetch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, content) || filepath.Base(path) != "ubuntu-24.04.10-live-server-amd64.iso" {
			t.Errorf("%s has %d bytes, %v", path, len(got), err)
		}
		before := len(s.requests())
		if again, err := download.Fetch(t.Context(), o); err != nil || again != path || len(s.requests()) != before+2 {
			t.Errorf("the second Fetch returned %s, %v, with %d requests, want the list and its signature", again, err, len(s.requests())-before)
		}
	}
}

func TestFindRelease(t *testing.T) {
	key, ring := signer(t)
	s := serve(t, newMirror(t, key, list).ServeHTTP)
	got, err := download.FindRelease(t.Context(), download.Options{BaseURL: s.URL + "/24.04", Release: "24.04", Keyring: ring})
	want := download.Release{
		Version: "24.04.10", Name: "ubuntu-24.04.10-live-server-amd64.iso",
		URL: s.URL + "/24.04/ubuntu-24.04.10-live-server-amd64.iso", SHA256: sum(content),
	}
	if err != nil || got != want {
		t.Errorf("FindRelease returned %+v, %v, want %+v", got, err, want)
	}
}

func TestFetchFails(t *testing.T) {
	key, ring := signer(t)
	stranger, _ := signer(t)
	with := func(m mirror, name string, text []byte) mirror {
		if text == nil {
			delete(m, name)
		} else {
			m[name] = text
		}
		return m
	}
	good := newMirror(t, key, list)
	tests := []struct {
		name    string
		mirror  mirror
		release string
		arch    string
		want    error
		text    string
	}{
		{"a changed list", with(newMirror(t, key, list), "SHA256SUMS", []byte(strings.Replace(list, sum(content), other, 1))), "24.04", "amd64", download.ErrSignature, "does not belong"},
		{"another key", newMirror(t, stranger, list), "24.04", "amd64", keys.ErrWrongKey, "not signed as it must be"},
		{"no signature", with(newMirror(t, key, list), "SHA256SUMS.gpg", nil), "24.04", "amd64", download.ErrStatus, "SHA256SUMS.gpg"},
		{"a page as signature", with(newMirror(t, key, list), "SHA256SUMS.gpg", []byte("<!DOCTYPE html>")), "24.04", "amd64", download.ErrPage, "SHA256SUMS.gpg"},
		{"no list", mirror{}, "24.04", "amd64", download.ErrStatus, "404"},
		{"a page as list", with(newMirror(t, key, list), "SHA256SUMS", []byte("\n<html>welcome")), "24.04", "amd64", download.ErrPage, "SHA256SUMS"},
		{"a signed text that is no list", newMirror(t, key, "hello\n"), "24.04", "amd64", download.ErrList, `line 1 is "hello"`},
		{"a signed empty list", newMirror(t, key, "\n"), "24.04", "amd64", download.ErrList, "it is empty"},
		{"a list without end", with(newMirror(t, key, list), "SHA256SUMS", make([]byte, 1<<20+1)), "24.04", "amd64", download.ErrSize, "no small file"},
		{"another release", good, "22.04", "amd64", download.ErrNoRelease, "no live server medium of 22.04 for amd64; it has ubuntu-24.04-live"},
		{"another architecture", good, "24.04", "arm64", download.ErrNoRelease, "for arm64"},
		{"a release that is a pattern", good, "24.0.", "amd64", download.ErrNoRelease, "24.0."},
		{"a medium with other bytes", with(newMirror(t, key, list), "ubuntu-24.04.10-live-server-amd64.iso", []byte("other")), "24.04", "amd64", download.ErrHash, "expected " + sum(content)},
		{"no medium", with(newMirror(t, key, list), "ubuntu-24.04.10-live-server-amd64.iso", nil), "24.04", "amd64", download.ErrStatus, "404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.mirror.ServeHTTP)
			o := download.Options{BaseURL: s.URL + "/24.04/", Release: tt.release, Arch: tt.arch, Keyring: ring, Folder: t.TempDir(), Backoff: []time.Duration{}}
			_, err := download.Fetch(t.Context(), o)
			var e *download.Error
			if !errors.Is(err, tt.want) || !errors.As(err, &e) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Fetch returned %v, want %v with %q", err, tt.want, tt.text)
			}
			left, err := filepath.Glob(filepath.Join(o.Folder, "[^.]*")) // all but the lock
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

func TestFetchTriesAgain(t *testing.T) {
	key, ring := signer(t)
	m := newMirror(t, key, list)
	s := serve(t, status(500, "oops"), m.ServeHTTP, status(502, "oops"), m.ServeHTTP)
	o := download.Options{BaseURL: s.URL + "/24.04", Release: "24.04", Keyring: ring, Folder: t.TempDir(), Backoff: make([]time.Duration, 1)}
	if _, err := download.Fetch(t.Context(), o); err != nil {
		t.Error(err)
	}
}

func TestNoWebAddress(t *testing.T) {
	_, ring := signer(t)
	for _, base := range []string{"mirror.example", "ftp://mirror.example/24.04/", "https://", "http://[::1", "/srv/media"} {
		_, err := download.FindRelease(t.Context(), download.Options{BaseURL: base, Release: "24.04", Keyring: ring})
		if !errors.Is(err, download.ErrUnreachable) || !strings.Contains(err.Error(), "no web address") {
			t.Errorf("with %q FindRelease returned %v", base, err)
		}
	}
}

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestUbuntusServers: where Ubuntu's own media are, by architecture, with the
// genuine list of 20.04.1 and Ubuntu's key.
func TestUbuntusServers(t *testing.T) {
	genuine := map[string][]byte{}
	for _, name := range []string{"SHA256SUMS", "SHA256SUMS.gpg"} {
		text, err := os.ReadFile(filepath.Join("..", "keys", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		genuine[name] = text
	}
	var asked []string
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String())
		return &http.Response{
			StatusCode: http.StatusOK, Request: r, Header: http.Header{},
			Body: io.NopCloser(bytes.NewReader(genuine[filepath.Base(r.URL.Path)])),
		}, nil
	})}
	o := download.Options{Client: client, Release: "20.04", Keyring: keys.UbuntuCDImage(), Now: time.Now()}
	got, err := download.FindRelease(t.Context(), o)
	want := download.Release{
		Version: "20.04.1", Name: "ubuntu-20.04.1-live-server-amd64.iso",
		URL:    "https://releases.ubuntu.com/20.04/ubuntu-20.04.1-live-server-amd64.iso",
		SHA256: "443511f6bf12402c12503733059269a2e10dec602916c0a75263e5d990f6bb93",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("FindRelease: %v\n%s", err, diff)
	}
	o.Arch = "arm64"
	if _, err := download.FindRelease(t.Context(), o); !errors.Is(err, download.ErrNoRelease) {
		t.Errorf("FindRelease for arm64 returned %v", err)
	}
	wantAsked := []string{
		"https://releases.ubuntu.com/20.04/SHA256SUMS", "https://releases.ubuntu.com/20.04/SHA256SUMS.gpg",
		"https://cdimage.ubuntu.com/releases/20.04/release/SHA256SUMS", "https://cdimage.ubuntu.com/releases/20.04/release/SHA256SUMS.gpg",
	}
	if diff := cmp.Diff(wantAsked, asked); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestParseSums(t *testing.T) {
	a, b := strings.Repeat("0a", 32), strings.Repeat("F", 64)
	tests := []struct {
		name, list string
		want       []download.Sum
		text       string // of the error
	}{
		{"binary and text mode", a + " *x.iso\n" + b + "  y z.iso\n", []download.Sum{{a, "x.iso"}, {strings.ToLower(b), "y z.iso"}}, ""},
		{"CRLF, no last line end", a + " *x\r\n" + a + " *y", []download.Sum{{a, "x"}, {a, "y"}}, ""},
		{"the same line twice", a + " *x\n" + a + " *x\n", []download.Sum{{a, "x"}, {a, "x"}}, ""},
		{"two sums for a file", a + " *x\n" + b + " *x\n", nil, "line 2 has a second sum for x"},
		{"a short sum", a[:63] + " *x\n", nil, "line 1"},
		{"a long sum", a + "0 *x\n", nil, "line 1"},
		{"one blank", a + " x\n", nil, "line 1"},
		{"no name", a + " *\n", nil, "line 1"},
		{"a path", a + " *../x\n", nil, "line 1"},
		{"a control character", a + " *x\x00\n", nil, "line 1"},
		{"BSD form", "SHA256 (x) = " + a + "\n", nil, "line 1"},
		{"nothing", "", nil, "it is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := download.ParseSums([]byte(tt.list))
			if tt.text != "" {
				if !errors.Is(err, download.ErrList) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("ParseSums returned %v, want ErrList with %q", err, tt.text)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("ParseSums: %v\n%s", err, diff)
			}
		})
	}
}

func format(sums []download.Sum) []byte {
	var b bytes.Buffer
	for _, s := range sums {
		fmt.Fprintf(&b, "%s *%s\n", s.SHA256, s.Name)
	}
	return b.Bytes()
}

func TestParseSumsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) download.Sum {
			return download.Sum{
				SHA256: rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "sum"),
				Name:   rapid.StringMatching(`[a-zA-Z0-9é .*+_-]{1,40}`).Draw(t, "name"),
			}
		}), 1, 10, func(s download.Sum) string { return s.Name }).Draw(t, "sums")
		got, err := download.ParseSums(format(want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(list))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sums, err := download.ParseSums(text)
		if err != nil {
			if sums != nil || !errors.Is(err, download.ErrList) {
				t.Fatalf("ParseSums returned %v, %v", sums, err)
			}
			return
		}
		again, err := download.ParseSums(format(sums))
		if diff := cmp.Diff(sums, again); err != nil || diff != "" {
			t.Fatalf("written and read again: %v\n%s", err, diff)
		}
	})
}
