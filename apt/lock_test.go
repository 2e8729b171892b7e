package apt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gpustrap/gpustrap/apt"
)

// class is a class of machines over an archive of lines as index takes them.
func class(t testing.TB, name, lines string, packages ...string) apt.Class {
	t.Helper()
	return apt.Class{
		Name: name, Archive: offers(t, index(lines)), Arch: "amd64",
		Sources: []apt.Source{{Name: "test", URL: "http://test.example", Suites: []string{"stable"}}},
		Request: apt.Request{Packages: packages},
	}
}

func lock(t testing.TB, classes ...apt.Class) *apt.Lock {
	t.Helper()
	l, err := apt.NewLock(classes)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const offered = `drv 580.1 | Depends: lib (= 580.1) | Source: nvidia
lib 580.1 | Source: nvidia (580.1)
docker-ce 5:29.6.1-1~ubuntu.24.04~noble | Depends: containerd.io
containerd.io 2.2.6`

const later = `drv 580.2 | Depends: lib (= 580.2) | Source: nvidia
lib 580.2 | Source: nvidia (580.2)
drv 580.1 | Depends: lib (= 580.1) | Source: nvidia
lib 580.1 | Source: nvidia (580.1)
docker-ce 5:29.7.2-1~ubuntu.24.04~noble | Depends: containerd.io, iptables
docker-ce 5:29.6.1-1~ubuntu.24.04~noble | Depends: containerd.io
iptables 1.8
containerd.io 2.2.6`

func TestLockIsStable(t *testing.T) {
	classes := []apt.Class{class(t, "node02", offered, "docker-ce"), class(t, "node01", offered, "drv", "docker-ce")}
	first, err := lock(t, classes...).Encode()
	if err != nil {
		t.Fatal(err)
	}
	second, err := lock(t, classes[1], classes[0]).Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("made twice, the locks differ: %v\n%s\n%s", err, first, second)
	}
	read, err := apt.DecodeLock(first)
	if err != nil {
		t.Fatal(err)
	}
	if third, err := read.Encode(); err != nil || !bytes.Equal(first, third) {
		t.Errorf("read and written again it differs: %v\n%s", err, third)
	}
	if v := read.Versions("node01"); v["docker-ce"] != "5:29.6.1-1~ubuntu.24.04~noble" || v["lib"] != "580.1" || len(v) != 4 {
		t.Errorf("node01 has %v", v)
	}
	p := read.Package("docker-ce=5:29.6.1-1~ubuntu.24.04~noble:amd64")
	if p == nil || p.Name() != "docker-ce" || p.Arch() != "amd64" || p.Needs[0] != "containerd.io" || p.Size != 1 {
		t.Errorf("docker-ce is %+v", p)
	}
	if lib := read.Package("lib=580.1:amd64"); lib == nil || lib.Built != "nvidia=580.1" {
		t.Errorf("lib is %+v", lib)
	}
}

func TestDecodeLockErrors(t *testing.T) {
	good, err := lock(t, class(t, "node01", offered, "drv")).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for old, change := range map[string][2]string{
		"format 2":        {"lock: 1", "lock: 2"},
		"field what":      {"lock: 1", "lock: 1\nwhat: 1"},
		"damaged":         {"\n    sha256: ", "\n    sha256: x"},
		"there twice":     {"package: lib=580.1:amd64", "package: drv=580.1:amd64"},
		"nothing more":    {"- lib=580.1:amd64", "- lib=580.2:amd64"},
		"no name of a":    {"class: node01", "class: ../node01"},
		"cannot read":     {"lock: 1", "lock: ["},
		"follows its end": {"packages:\n  - package", "packages:\n  - package"},
	} {
		text := strings.Replace(string(good), change[0], change[1], 1)
		if old == "follows its end" {
			text += "---\nlock: 1\n"
		}
		if text == string(good) {
			t.Fatalf("%s: nothing changed", old)
		}
		if _, err := apt.DecodeLock([]byte(text)); err == nil || !strings.Contains(err.Error(), old) {
			t.Errorf("error %v, want %q", err, old)
		}
	}
}

func TestCheck(t *testing.T) {
	c := class(t, "node01", offered, "drv")
	l := lock(t, c)
	if got := l.Check([]apt.Class{c}); len(got) > 0 {
		t.Errorf("nothing changed: %q", got)
	}
	changed := c
	changed.Request = apt.Request{Packages: []string{"docker-ce"}, Recommends: true, Pins: []apt.Pin{{Packages: []string{"drv"}, Version: "580.*", Priority: 1001}}}
	changed.Sources = []apt.Source{{Name: "test", URL: "http://other.example", Suites: []string{"stable"}}}
	changed.Arch = "arm64"
	other := c
	other.Name = "node02"
	want := `node01 asks for docker-ce, which the lock does not have
node01 no longer asks for drv, which the lock has
node01 uses the repository test http://other.example stable, which the lock does not have
node01 no longer uses the repository test http://test.example stable, which the lock has
node01 pins drv source= version=580.* priority=1001, which the lock does not have
node01 was locked with recommends: false
node01 is arm64 now, and was locked for amd64
node02 is not in the lock`
	if got := strings.Join(l.Check([]apt.Class{changed, other}), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := l.Check(nil); len(got) != 1 || !strings.Contains(got[0], "no longer in the configuration") {
		t.Errorf("got %q", got)
	}
}

func TestUpdateAndDiff(t *testing.T) {
	old := lock(t, class(t, "node01", offered, "drv", "docker-ce"), class(t, "node02", offered, "drv", "docker-ce"), class(t, "node03", offered, "containerd.io"))
	now := []apt.Class{class(t, "node01", later, "drv", "docker-ce"), class(t, "node02", later, "drv", "docker-ce"), class(t, "node03", later, "containerd.io")}
	all, err := old.Update(now, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `node01, node02
  upgraded docker-ce 5:29.6.1-1~ubuntu.24.04~noble -> 5:29.7.2-1~ubuntu.24.04~noble
  upgraded drv 580.1 -> 580.2
  upgraded lib 580.1 -> 580.2
  added    iptables 1.8
`
	if got := apt.Diff(old, all); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// One package, and what was built with it; docker stays.
	one, err := old.Update(now, []string{"lib"})
	if err != nil {
		t.Fatal(err)
	}
	want = "node01, node02\n  upgraded drv 580.1 -> 580.2\n  upgraded lib 580.1 -> 580.2\n"
	if got := apt.Diff(old, one); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := one.Check(now); len(got) > 0 {
		t.Errorf("an updated lock does not fit: %q", got)
	}
	if got := apt.Diff(all, old); !strings.Contains(got, "DOWNGRADED drv 580.2 -> 580.1") || !strings.Contains(got, "removed  iptables 1.8") {
		t.Errorf("backwards:\n%s", got)
	}
	if got := apt.Diff(old, old); got != "" {
		t.Errorf("nothing changed: %s", got)
	}
	// The archive dropped what is locked.
	newest := []apt.Class{class(t, "node01", "drv 580.2 | Depends: lib | Source: nvidia\nlib 580.2 | Source: nvidia\ndocker-ce 5:30 | Depends: containerd.io\ncontainerd.io 2.2.6", "drv", "docker-ce")}
	_, err = old.Update(newest, []string{"drv"})
	if !errors.Is(err, apt.ErrVanished) || !strings.Contains(err.Error(), "docker-ce 5:29.6.1-1~ubuntu.24.04~noble") {
		t.Errorf("error %v", err)
	}
	if _, err := old.Update(now, []string{"cuda"}); !errors.Is(err, apt.ErrNoPackage) {
		t.Errorf("error %v", err)
	}
}

// TestLockOfSeveral: a machine that chooses its driver itself has all that it may
// choose.
func TestLockOfSeveral(t *testing.T) {
	c := class(t, "node01", "drv-580 1 | Conflicts: drv | Provides: drv | Depends: lib-580\nlib-580 1\ndrv-590 2 | Conflicts: drv | Provides: drv", "drv-580")
	c.Also = []apt.Request{{Packages: []string{"drv-590"}}}
	l := lock(t, c)
	if got := strings.Join(l.Classes[0].Packages, " "); got != "drv-580=1:amd64 drv-590=2:amd64 lib-580=1:amd64" {
		t.Errorf("the lock has %s", got)
	}
	if got := l.Check([]apt.Class{c}); len(got) > 0 {
		t.Errorf("nothing changed: %q", got)
	}
	if one, err := l.Update([]apt.Class{c}, []string{"drv-590"}); err != nil || apt.Diff(l, one) != "" {
		t.Errorf("%v", err)
	}
	c.Also = nil
	if got := l.Check([]apt.Class{c}); len(got) != 1 || !strings.Contains(got[0], "no longer may ask for drv-590") {
		t.Errorf("got %q", got)
	}
}

func TestLockErrors(t *testing.T) {
	c := class(t, "node01", offered, "nothing")
	if _, err := apt.NewLock([]apt.Class{c}); !errors.Is(err, apt.ErrNoPackage) || !strings.HasPrefix(err.Error(), "node01: ") {
		t.Errorf("error %v", err)
	}
	for _, bad := range []string{"Filename: ../../etc/passwd\nSize: 1\nSHA256: " + sum(nil), "Filename: a\nSize: 1", "Filename: a\nSHA256: " + sum(nil)} {
		c.Archive = offers(t, "Package: a\nVersion: 1\nArchitecture: all\n"+bad+"\n")
		c.Request.Packages = []string{"a"}
		if _, err := apt.NewLock([]apt.Class{c}); !errors.Is(err, apt.ErrIndex) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
	// Two archives with two files under one name and version.
	x, y := class(t, "node01", "a 1", "a"), class(t, "node02", "a 1 | Priority: extra", "a")
	if _, err := apt.NewLock([]apt.Class{x, y}); !errors.Is(err, apt.ErrIndex) || !strings.Contains(err.Error(), "two different files") {
		t.Errorf("error %v", err)
	}
}

func FuzzLock(f *testing.F) {
	good, err := lock(f, class(f, "node01", offered, "drv")).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("lock: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := apt.DecodeLock(text)
		if err != nil {
			return
		}
		out, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := apt.DecodeLock(out); err != nil || apt.Diff(l, again) != "" {
			t.Errorf("written again it differs: %v", err)
		}
	})
}

// TestSBOM: the document's structure, by SPDX's schema as well where a copy of it is
// named (SPDX_SCHEMA, schemas/spdx-schema.json of the specification's 2.3).
func TestSBOM(t *testing.T) {
	l := lock(t, class(t, "node01", offered, "drv", "docker-ce"))
	text, err := l.SBOM("node01", "ubuntu", "1.0", today)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.SBOM("node01", "ubuntu", "1.0", today); err != nil || !bytes.Equal(text, again) {
		t.Errorf("made twice it differs: %v", err)
	}
	var d struct {
		SpdxVersion, DataLicense, SPDXID, Name, DocumentNamespace string
		DocumentDescribes                                         []string
		CreationInfo                                              struct{ Created string }
		Packages                                                  []struct {
			SPDXID, Name, VersionInfo string
			ExternalRefs              []struct{ ReferenceLocator string }
		}
		Relationships []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.SpdxVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.SPDXID != "SPDXRef-DOCUMENT" || d.CreationInfo.Created != "2024-06-01T00:00:00Z" || len(d.Packages) != 5 {
		t.Errorf("the document is %+v", d)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range d.Packages {
		if ids[p.SPDXID] || strings.Trim(p.SPDXID, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
			t.Errorf("%q is no identifier, or there twice", p.SPDXID)
		}
		ids[p.SPDXID] = true
		if p.Name == "docker-ce" && p.ExternalRefs[0].ReferenceLocator != "pkg:deb/ubuntu/docker-ce@5:29.6.1-1~ubuntu.24.04~noble?arch=amd64" {
			t.Errorf("docker-ce is %q", p.ExternalRefs[0].ReferenceLocator)
		}
	}
	needs := 0
	for _, r := range d.Relationships {
		if !ids[r.SpdxElementID] || !ids[r.RelatedSpdxElement] {
			t.Errorf("%+v names what is not there", r)
		}
		if r.RelationshipType == "DEPENDS_ON" {
			needs++
		}
	}
	if needs != 2 {
		t.Errorf("%d packages depend on another, want 2", needs)
	}
	if _, err := l.SBOM("node09", "ubuntu", "1.0", today); err == nil {
		t.Error("a class that is not there has a bill of materials")
	}
	if schema := os.Getenv("SPDX_SCHEMA"); schema != "" {
		compiled, err := jsonschema.NewCompiler().Compile(schema)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(value); err != nil {
			t.Errorf("not valid by SPDX's schema: %v", err)
		}
	}
}

// TestKept has two classes in one lock: one takes Ubuntu's packages from a snapshot,
// the other from a mirror that calls its suite the same.
func TestKept(t *testing.T) {
	const snapshot, mirror = "https://snapshot.example/ubuntu/20261123T000000Z/", "https://mirror.example/ubuntu"
	l := apt.Lock{
		Classes: []apt.LockedClass{
			{Name: "kept", Packages: []string{"a=1:amd64", "d=1:amd64"}},
			{Name: "mirrored", Packages: []string{"b=1:amd64"}},
			{Name: "docker", Packages: []string{"d=1:amd64"}},
		},
		Suites: []apt.LockedSuite{
			{Name: "docker noble", URL: "https://docker.example/"},
			{Name: "ubuntu noble", URL: mirror},
			{Name: "ubuntu noble", URL: snapshot, Snapshot: "20261123T000000Z"},
		},
		Packages: []apt.LockedPackage{
			{Key: "a=1:amd64", Suite: "ubuntu noble", URL: snapshot + "pool/a.deb"},
			{Key: "b=1:amd64", Suite: "ubuntu noble", URL: mirror + "/pool/b.deb"},
			{Key: "d=1:amd64", Suite: "docker noble", URL: "https://docker.example/pool/d.deb"},
		},
	}
	for class, want := range map[string]bool{"kept": true, "mirrored": false, "docker": false} {
		if got := l.Kept(class); got != want {
			t.Errorf("%s: kept %v, want %v", class, got, want)
		}
	}
}
