package apt_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/download"
	"github.com/gpustrap/gpustrap/keys"
)

const oneStanza = "Package: dkms\nVersion: 1:3.4.0\nArchitecture: all\nFilename: pool/dkms.deb\nSize: 5\n\nPackage: other\nVersion: 1\nArchitecture: arm64\n"

func TestFetch(t *testing.T) {
	for name, tt := range map[string]struct {
		suite, components string
		form              form
	}{
		"xz":                           {"noble", "main", form{packed: ".xz"}},
		"gz by hash":                   {"noble", "main", form{packed: ".gz", byHash: true}},
		"zst":                          {"noble", "main", form{packed: ".zst"}},
		"plain":                        {"noble", "main", form{}},
		"detached signature":           {"noble", "main", form{packed: ".xz", detach: true}},
		"flat, as the toolkit's":       {"/", "", form{sha512: true, packed: ".xz"}},
		"flat, as ./ names it":         {"./", "", form{}},
		"flat in a folder":             {"deb/amd64/", "", form{packed: ".gz"}},
		"SHA-512 alone, in components": {"noble", "main", form{sha512: true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.publish(tt.suite, oneStanza, tt.form)
			o := options(t)
			a, err := apt.Fetch(t.Context(), []apt.Source{m.source(tt.suite, tt.components)}, o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Len() != 1 || len(a.Versions("dkms")) != 1 || a.Suites[0].Release.Origin != "Test" {
				t.Errorf("the archive has %d packages", a.Len())
			}
			// The second time only the Release file is asked for.
			before := len(m.asked)
			if _, err := apt.Fetch(t.Context(), []apt.Source{m.source(tt.suite, tt.components)}, o); err != nil {
				t.Fatal(err)
			}
			for _, name := range m.asked[before:] {
				if strings.Contains(name, "Packages") || strings.Contains(name, "by-hash") {
					t.Errorf("%s was asked for again", name)
				}
			}
		})
	}
}

// TestFetchErrors: what can be wrong with an archive, and what a person is told.
func TestFetchErrors(t *testing.T) {
	other := archiveKey(t, 0)
	short := archiveKey(t, 48*time.Hour)
	tests := []struct {
		name   string
		change func(m *mirror, s *apt.Source)
		want   error
		text   string
	}{
		{"another key", func(m *mirror, _ *apt.Source) { m.key = other; m.publish("noble", oneStanza, form{}) }, keys.ErrWrongKey, "signature of test noble is not accepted"},
		{"expired key", func(m *mirror, s *apt.Source) {
			m.key = short
			m.publish("noble", oneStanza, form{})
			*s = m.source("noble", "main")
		}, keys.ErrExpired, "expired"},
		{"key that is not pinned", func(m *mirror, s *apt.Source) { s.Fingerprints = []string{strings.Repeat("A", 40)} }, apt.ErrKey, "fingerprint"},
		{"an index changed", func(m *mirror, _ *apt.Source) {
			m.put("dists/noble/main/binary-amd64/Packages", bytes.Replace([]byte(oneStanza), []byte("dkms"), []byte("evil"), 1))
		}, download.ErrHash, "not those that its Release file names"},
		{"an index cut", func(m *mirror, _ *apt.Source) {
			m.put("dists/noble/main/binary-amd64/Packages", []byte(oneStanza[:20]))
		}, download.ErrSize, "not those that its Release file names"},
		{"an index missing", func(m *mirror, _ *apt.Source) { delete(m.files, "dists/noble/main/binary-amd64/Packages") }, download.ErrStatus, "in the middle|not those"},
		{"an index that may not be read", func(m *mirror, _ *apt.Source) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "Packages") {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			}
		}, download.ErrStatus, "cannot download|403 Forbidden"},
		{"SHA-512, an index changed", func(m *mirror, _ *apt.Source) {
			m.publish("noble", oneStanza, form{sha512: true})
			m.put("dists/noble/main/binary-amd64/Packages", bytes.Replace([]byte(oneStanza), []byte("dkms"), []byte("evil"), 1))
		}, download.ErrHash, "not those"},
		{"not signed", func(m *mirror, _ *apt.Source) {
			m.put("dists/noble/Release", []byte("Suite: noble\n"))
			delete(m.files, "dists/noble/InRelease")
		}, apt.ErrSignature, "neither InRelease nor Release.gpg"},
		{"no such suite", func(_ *mirror, s *apt.Source) { s.Suites = []string{"jammy"} }, apt.ErrIndex, "there is no repository for test jammy"},
		{"no such component", func(_ *mirror, s *apt.Source) { s.Components = []string{"restricted"} }, apt.ErrIndex, "no component restricted; it has main"},
		{"another suite under its name", func(m *mirror, s *apt.Source) {
			m.publish("jammy", oneStanza, form{})
			m.put("dists/noble/InRelease", m.files["dists/jammy/InRelease"])
		}, apt.ErrIndex, "is that of jammy"},
		{"too old", func(m *mirror, _ *apt.Source) {
			m.publish("noble", oneStanza, form{headers: "Valid-Until: Mon, 01 Jan 2024 00:00:00 UTC\n"})
		}, apt.ErrOutdated, "was good until"},
		{"a damaged stanza", func(m *mirror, _ *apt.Source) {
			m.publish("noble", "Package: a\nVersion: 1\nArchitecture: all\n\nwhat\n", form{})
		}, apt.ErrIndex, "line 5"},
		{"a stanza without a version", func(m *mirror, _ *apt.Source) { m.publish("noble", "Package: a\n", form{}) }, apt.ErrIndex, "without a name or a version"},
		{"a bomb", func(m *mirror, _ *apt.Source) {
			m.publish("noble", oneStanza, form{packed: ".gz"})
			packed := pack(m.t, bytes.Repeat([]byte("\n"), 1<<22), ".gz")
			text := "Suite: noble\nArchitectures: amd64\nSHA256:\n " + sum(packed) + " " + strconv.Itoa(len(packed)) + " main/binary-amd64/Packages.gz\n " + sum(nil) + " 10 main/binary-amd64/Packages\n"
			m.put("dists/noble/InRelease", clearSign(m.t, m.key, text))
			m.put("dists/noble/main/binary-amd64/Packages.gz", packed)
		}, apt.ErrIndex, "unpacks to more than 10 bytes"},
		{"a web page", func(m *mirror, _ *apt.Source) {
			m.put("dists/noble/InRelease", []byte("<html>Log in</html>"))
		}, apt.ErrSignature, "does not begin with"},
		{"the server is down", func(m *mirror, _ *apt.Source) { m.CloseClientConnections(); m.Close() }, download.ErrUnreachable, "cannot be reached"},
		{"the connection drops", func(m *mirror, _ *apt.Source) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("-----BEGIN"))
				return true
			}
		}, download.ErrInterrupted, "after 10 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			m.publish("noble", oneStanza, form{})
			s := m.source("noble", "main")
			tt.change(m, &s)
			_, err := apt.Fetch(t.Context(), []apt.Source{s}, options(t))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			found := false
			for text := range strings.SplitSeq(tt.text, "|") {
				found = found || strings.Contains(err.Error(), text)
			}
			if !found {
				t.Errorf("error %q does not say %q", err, tt.text)
			}
		})
	}
}

func TestSourceErrors(t *testing.T) {
	m := newMirror(t)
	for text, change := range map[string]func(s *apt.Source){
		"no web address":  func(s *apt.Source) { s.URL = "file:/x" },
		"no suite":        func(s *apt.Source) { s.Suites = nil },
		"no fingerprint":  func(s *apt.Source) { s.Fingerprints = nil },
		"no key":          func(s *apt.Source) { s.Key = nil },
		"has no compone":  func(s *apt.Source) { s.Suites = []string{"x/"} },
		"needs a compone": func(s *apt.Source) { s.Components = nil },
		"leads out":       func(s *apt.Source) { s.Suites = []string{"../x"} },
		"snapshot":        func(s *apt.Source) { s.Snapshot = "20261123T000000Z" },
	} {
		s := m.source("noble", "main")
		change(&s)
		if _, err := apt.Fetch(t.Context(), []apt.Source{s}, options(t)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q", err, text)
		}
	}
}

func TestKeyFromURLAndSnapshot(t *testing.T) {
	m := newMirror(t)
	m.publish("noble", oneStanza, form{})
	for _, name := range []string{"dists/noble/InRelease", "dists/noble/main/binary-amd64/Packages"} {
		content := m.files[name]
		delete(m.files, name)
		m.put("20261123T000000Z/"+name, content)
	}
	m.put("key.gpg", publicKey(t, m.key))
	s := m.source("noble", "main")
	s.Key, s.KeyURL, s.Snapshot = nil, m.URL+"/key.gpg", "20261123T000000Z"
	o := options(t)
	o.SnapshotURL = func(s apt.Source) string { return s.URL + "/" + s.Snapshot }
	a, err := apt.Fetch(t.Context(), []apt.Source{s}, o)
	if err != nil || a.Len() != 1 {
		t.Fatal(a, err)
	}
	delete(m.files, "key.gpg")
	if _, err := apt.Fetch(t.Context(), []apt.Source{s}, o); err == nil || !strings.Contains(err.Error(), "cannot get the key") {
		t.Errorf("error %v", err)
	}
}

// lockOf locks one package that the mirror has.
func lockOf(t *testing.T, m *mirror, o apt.Options, packages ...string) (*apt.Lock, []apt.Class) {
	t.Helper()
	s := m.source("noble", "main")
	a, err := apt.Fetch(t.Context(), []apt.Source{s}, o)
	if err != nil {
		t.Fatal(err)
	}
	classes := []apt.Class{{Name: "node01", Archive: a, Sources: []apt.Source{s}, Arch: "amd64", Request: apt.Request{Packages: packages}}}
	l, err := apt.NewLock(classes)
	if err != nil {
		t.Fatal(err)
	}
	return l, classes
}

func TestFetchPackagesErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *mirror, o *apt.Options)
		want   error
		text   string
	}{
		{"vanished", func(m *mirror, _ *apt.Options) { delete(m.files, "pool/dkms_3_all.deb") }, apt.ErrVanished, "dkms 1:3 is gone from the archive since the lock was made"},
		{"changed", func(m *mirror, _ *apt.Options) {
			c := bytes.Clone(m.files["pool/dkms_3_all.deb"])
			c[len(c)-1] ^= 1
			m.put("pool/dkms_3_all.deb", c)
		}, download.ErrHash, "dkms 1:3 is not the file that was locked"},
		{"another size", func(m *mirror, _ *apt.Options) { m.put("pool/dkms_3_all.deb", []byte("x")) }, download.ErrSize, "is not the file that was locked"},
		{"a server that is busy", func(m *mirror, _ *apt.Options) {
			m.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
		}, download.ErrStatus, "the server refused: HTTP status 503"},
		{"dropped connection", func(m *mirror, _ *apt.Options) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				content := m.files["pool/dkms_3_all.deb"]
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:100])
				return true
			}
		}, download.ErrInterrupted, "after 100 of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			m.publish("noble", m.deb("Package: dkms\nVersion: 1:3\nArchitecture: all\n"), form{packed: ".xz"})
			o := options(t)
			l, _ := lockOf(t, m, o, "dkms")
			tt.change(m, &o)
			_, err := apt.FetchPackages(t.Context(), l, o)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("error %v, want %v and %q", err, tt.want, tt.text)
			}
			if whole, _ := filepath.Glob(filepath.Join(o.Cache, "packages/*.deb")); len(whole) > 0 {
				t.Errorf("%q are left as if they were whole", whole)
			}
		})
	}
}

// TestFullDisk fetches onto a file system of 64 KiB.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 || testing.Short() {
		t.Skip("mounts a file system: needs root, and not -short")
	}
	m := newMirror(t)
	stanza := m.deb("Package: dkms\nVersion: 1:3\nArchitecture: all\n")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	stanza = strings.NewReplacer(strconv.Itoa(len(m.files["pool/dkms_3_all.deb"])), strconv.Itoa(len(big)), sum(m.files["pool/dkms_3_all.deb"]), sum(big)).Replace(stanza)
	m.put("pool/dkms_3_all.deb", big)
	m.publish("noble", stanza, form{})
	o := options(t)
	mountSmall(t, o.Cache)
	l, _ := lockOf(t, m, o, "dkms")
	_, err := apt.FetchPackages(t.Context(), l, o)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("error %v", err)
	}
	if whole, _ := filepath.Glob(filepath.Join(o.Cache, "packages/*.deb")); len(whole) > 0 {
		t.Errorf("%q are left as if they were whole", whole)
	}
}

func TestFetchIsCancelled(t *testing.T) {
	m := newMirror(t)
	m.publish("noble", oneStanza, form{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := apt.Fetch(ctx, []apt.Source{m.source("noble", "main")}, options(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestPackagesOfSHA512 fetches packages for which SHA-512 alone vouches.
func TestPackagesOfSHA512(t *testing.T) {
	m := newMirror(t)
	stanza := m.deb("Package: dkms\nVersion: 1:3\nArchitecture: all\n")
	content := m.files["pool/dkms_3_all.deb"]
	m.publish("noble", strings.Replace(stanza, "SHA256: "+sum(content), "SHA512: "+sum512(content), 1), form{})
	o := options(t)
	l, _ := lockOf(t, m, o, "dkms")
	if l.Packages[0].SHA256 != "" {
		t.Fatal("the index gives no SHA-256")
	}
	paths, err := apt.FetchPackages(t.Context(), l, o)
	if err != nil || l.Packages[0].SHA256 != sum(content) || filepath.Base(paths[l.Packages[0].Key]) != sum(content)+".deb" {
		t.Errorf("%v, %+v, %v", paths, l.Packages[0], err)
	}
	// The lock's file still lacks the SHA-256; the cache has it, and the package.
	delete(m.files, "pool/dkms_3_all.deb")
	l.Packages[0].SHA256 = ""
	if _, err := apt.FetchPackages(t.Context(), l, o); err != nil || l.Packages[0].SHA256 != sum(content) {
		t.Errorf("from the cache: %+v, %v", l.Packages[0], err)
	}
}
