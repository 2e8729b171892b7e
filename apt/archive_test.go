package apt_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// mirror serves a package archive that a test can change while it is used.
type mirror struct {
	*httptest.Server
	t     testing.TB
	key   *openpgp.Entity
	mu    sync.Mutex
	files map[string][]byte
	asked []string
	// answer, when it is set, answers the request instead.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newMirror(t testing.TB) *mirror {
	m := &mirror{t: t, key: archiveKey(t, 0), files: map[string][]byte{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		name := strings.TrimPrefix(r.URL.Path, "/")
		m.asked = append(m.asked, name)
		content, ok := m.files[name]
		answer := m.answer
		m.mu.Unlock()
		if answer != nil && answer(w, r) {
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(content))
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) put(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = content
}

func (m *mirror) source(suites, components string) apt.Source {
	return apt.Source{
		Name: "test", URL: m.URL, Suites: strings.Fields(suites), Components: strings.Fields(components),
		Key: publicKey(m.t, m.key), Fingerprints: []string{fingerprintOf(m.t, m.key)},
	}
}

func sum(b []byte) string    { return fmt.Sprintf("%x", sha256.Sum256(b)) }
func sum512(b []byte) string { return fmt.Sprintf("%x", sha512.Sum512(b)) }

// form says how a suite is published.
type form struct {
	packed  string // end of the index's name
	sha512  bool   // sums of SHA-512 alone
	byHash  bool
	detach  bool // Release and Release.gpg, no InRelease
	headers string
}

// publish puts a suite on the mirror.
func (m *mirror) publish(suite, index string, f form) {
	m.t.Helper()
	folder, name := "dists/"+suite, "main/binary-amd64/Packages"
	headers := "Suite: " + suite + "\nComponents: main\nArchitectures: amd64\n"
	if strings.HasSuffix(suite, "/") {
		folder, name, headers = strings.Trim(suite, "./"), "Packages", ""
	}
	if f.byHash {
		headers += "Acquire-By-Hash: yes\n"
	}
	packed := pack(m.t, []byte(index), f.packed)
	sums := "SHA256"
	digest := sum
	if f.sha512 {
		sums, digest = "SHA512", sum512
	}
	release := fmt.Sprintf("Origin: Test\n%sDate: Fri, 27 Apr 2018 16:59:01 UTC\n%s%s:\n", headers, f.headers, sums)
	release += fmt.Sprintf(" %s %d %s\n", digest(packed), len(packed), name+f.packed)
	if f.packed != "" {
		release += fmt.Sprintf(" %s %d %s\n", digest([]byte(index)), len(index), name)
	}
	if f.byHash {
		m.put(path.Join(folder, path.Dir(name), "by-hash/SHA256", digest(packed)), packed)
	} else {
		m.put(path.Join(folder, name+f.packed), packed)
	}
	if f.detach {
		m.put(path.Join(folder, "Release"), []byte(release))
		m.put(path.Join(folder, "Release.gpg"), detachedSign(m.t, m.key, release))
		return
	}
	m.put(path.Join(folder, "InRelease"), clearSign(m.t, m.key, release))
}

func pack(t testing.TB, text []byte, form string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write(p []byte) (int, error)
		Close() error
	}
	var err error
	switch form {
	case "":
		return text
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// deb makes a package with dpkg-deb and puts it on the mirror. It returns the
// package's stanza in an index.
func (m *mirror) deb(control string) string {
	m.t.Helper()
	dpkg := oracle.Need(m.t, "dpkg-deb")
	folder := m.t.TempDir()
	fields := map[string]string{}
	for line := range strings.Lines(control) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	lib := filepath.Join(folder, "usr/lib", fields["Package"])
	for _, d := range []string{filepath.Join(folder, "DEBIAN"), lib} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	control = strings.TrimSpace(control) + "\nMaintainer: Test <test@example.org>\nDescription: a test\n"
	if err := os.WriteFile(filepath.Join(folder, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lib, "proof"), []byte(fields["Version"]+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
	name := filepath.Join(m.t.TempDir(), "x.deb")
	cmd := exec.Command(dpkg, "--root-owner-group", "-b", folder, name)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		m.t.Fatal(err)
	}
	_, version, _ := strings.Cut(":"+fields["Version"], ":")
	place := fmt.Sprintf("pool/%s_%s_%s.deb", fields["Package"], version[strings.IndexByte(version, ':')+1:], fields["Architecture"])
	m.put(place, content)
	return fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %s\n", control, place, len(content), sum(content))
}

// options fetch into a folder of the test's own.
func options(t testing.TB) apt.Options {
	t.Helper()
	return apt.Options{Cache: t.TempDir(), Arch: "amd64", Now: today, Backoff: []time.Duration{}, Stall: 5 * time.Second}
}

// offers makes an archive of the stanzas, without a signature.
func offers(t testing.TB, index string) *apt.Archive {
	t.Helper()
	a := apt.NewArchive("amd64")
	s := apt.Source{Name: "test", URL: "http://test.example", Suites: []string{"stable"}}
	if err := a.AddIndex(s, "stable", index); err != nil {
		t.Fatal(err)
	}
	return a
}
