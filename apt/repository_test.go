package apt_test

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/keys"
)

func signingKey(t testing.TB) *apt.SigningKey {
	t.Helper()
	k, err := apt.NewSigningKey("lab", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bundle locks and fetches a small stack, and makes a repository of it.
func bundle(t testing.TB, key *apt.SigningKey) (fs.FS, *apt.Lock) {
	t.Helper()
	m := newMirror(t)
	m.publish("noble", strings.Join([]string{
		m.deb("Package: gs-driver\nVersion: 1:580.2-0ubuntu1\nArchitecture: amd64\nPre-Depends: gs-common (= 580.2)\nDepends: gs-lib (>= 1~) | gs-none\n"),
		m.deb("Package: gs-common\nVersion: 580.2\nArchitecture: all\n"),
		m.deb("Package: gs-lib\nVersion: 1+dfsg~rc1\nArchitecture: amd64\n"),
		m.deb("Package: gs-docker\nVersion: 5:29.6.1-1~ubuntu.24.04~noble\nArchitecture: amd64\n"),
	}, "\n"), form{packed: ".xz"})
	o := options(t)
	s := m.source("noble", "main")
	a, err := apt.Fetch(t.Context(), []apt.Source{s}, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := apt.NewLock([]apt.Class{
		{Name: "node01", Archive: a, Sources: []apt.Source{s}, Arch: "amd64", Request: apt.Request{Packages: []string{"gs-driver"}}},
		{Name: "node02", Archive: a, Sources: []apt.Source{s}, Arch: "amd64", Request: apt.Request{Packages: []string{"gs-docker"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	o.Progress = func(d, n int64) { last, total = d, n }
	paths, err := apt.FetchPackages(t.Context(), l, o)
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 || last != total {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	r, err := apt.NewRepository(l, paths, nil, key, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return r, l
}

func contents(t testing.TB, files fs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := files.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if _, ok := f.(io.ReaderAt); !ok {
			t.Errorf("%s cannot be read in parts", p)
		}
		b, err := io.ReadAll(f)
		all[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRepository(t *testing.T) {
	key := signingKey(t)
	r, _ := bundle(t, key)
	if err := fstest.TestFS(r, "gpustrap.asc", "dists/node01/InRelease", "dists/node02/main/binary-amd64/Packages.gz", "pool/test/gs-driver_580.2-0ubuntu1_amd64.deb"); err != nil {
		t.Error(err)
	}
	first := contents(t, r)
	again, _ := bundle(t, key)
	for name, text := range contents(t, again) {
		if first[name] != text {
			t.Errorf("made twice, %s differs", name)
		}
	}
	if index := first["dists/node02/main/binary-amd64/Packages"]; strings.Contains(index, "gs-driver") || !strings.Contains(index, "Package: gs-docker\n") {
		t.Errorf("node02 sees %s", index)
	}
	ring, err := keys.Parse([]byte(first["gpustrap.asc"]))
	if err != nil || ring.Fingerprints()[0] != key.Fingerprint() {
		t.Fatal(ring, err)
	}
	text, err := apt.OpenInRelease([]byte(first["dists/node01/InRelease"]), ring, today)
	if err != nil {
		t.Fatal(err)
	}
	release, err := apt.ParseRelease(text)
	if err != nil || release.Suite != "node01" || release.Date.Year() != 2018 || len(release.Files) != 2 {
		t.Errorf("%+v, %v", release, err)
	}
	if _, err := apt.OpenRelease([]byte(first["dists/node01/Release"]), []byte(first["dists/node01/Release.gpg"]), ring, today); err != nil {
		t.Error(err)
	}
}

func TestSigningKey(t *testing.T) {
	k := signingKey(t)
	text, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := apt.ParseSigningKey(text)
	if err != nil || again.Fingerprint() != k.Fingerprint() {
		t.Fatal(again, err)
	}
	public, err := again.Public()
	if err != nil || strings.Contains(string(public), "PRIVATE") {
		t.Errorf("%s, %v", public, err)
	}
	for _, bad := range [][]byte{public, nil, []byte("x"), text[:200]} {
		if _, err := apt.ParseSigningKey(bad); err == nil || !strings.Contains(err.Error(), "signing key") {
			t.Errorf("%.20q: error %v", bad, err)
		}
	}
}

func TestRepositoryErrors(t *testing.T) {
	key := signingKey(t)
	_, l := bundle(t, key)
	if _, err := apt.NewRepository(l, nil, nil, key, today); err == nil || !strings.Contains(err.Error(), "has not been downloaded") {
		t.Errorf("error %v", err)
	}
	file := filepath.Join(t.TempDir(), "x.deb")
	paths := map[string]string{}
	for i := range l.Packages {
		paths[l.Packages[i].Key] = file
	}
	if err := os.WriteFile(file, []byte("!<arch>\nx"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := apt.NewRepository(l, paths, nil, key, today); err == nil || !strings.Contains(err.Error(), "are expected") {
		t.Errorf("error %v", err)
	}
}

func FuzzReadControl(f *testing.F) {
	f.Add([]byte("!<arch>\n"))
	f.Add([]byte("!<arch>\ncontrol.tar.gz  0           0     0     100644  3         `\nabc"))
	f.Add([]byte("!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\ncontrol.tar     0           0     0     100644  0         `\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := apt.ReadControl(strings.NewReader(string(b)), int64(len(b)))
		if err == nil && s.Text == "" {
			t.Error("an empty control file is accepted")
		}
	})
}

// machine is a Debian system with an offline repository, and no network at all.
type machine struct {
	t            *testing.T
	base, folder string
}

// newMachine lays a system over a base that is shared with other tests, and puts
// the repository on it.
func newMachine(t *testing.T, suite string, repository fs.FS) *machine {
	t.Helper()
	oracle.Need(t, "mmdebstrap")
	oracle.Need(t, "unshare")
	cache := os.Getenv("GPUSTRAP_CACHE")
	if cache == "" {
		cache = filepath.Join("..", "build", "cache")
	}
	base, err := filepath.Abs(filepath.Join(cache, "chroot-"+suite))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("../autoinstall/testdata/chroot/base", suite, base).CombinedOutput(); err != nil {
		t.Fatalf("base: %v\n%s", err, out)
	}
	m := &machine{t, base, t.TempDir()}
	if err := os.CopyFS(filepath.Join(m.folder, "files/srv/gpustrap"), repository); err != nil {
		t.Fatal(err)
	}
	m.write("etc/apt/sources.list.d/offline.sources", "Types: deb\nURIs: file:/srv/gpustrap\nSuites: node01\nComponents: main\nSigned-By: /srv/gpustrap/gpustrap.asc\n")
	m.write("etc/apt/sources.list", "")
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.folder, "files", name) }

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// run runs a command in the system, in a network namespace with nothing in it.
func (m *machine) run(command string) (string, error) {
	cmd := exec.Command("unshare", "--net", "../autoinstall/testdata/chroot/enter", m.base, m.folder,
		"sh", "-c", `exec chroot "$TARGET_MOUNT_POINT" env LC_ALL=C DEBIAN_FRONTEND=noninteractive sh -c "$1"`, "sh", command)
	// apt asks the terminal things, and would be stopped where the tests run in
	// the background.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// alterSignature changes a character near the end of the signature's armor, where
// the signature's numbers lie: no part of it that is not signed.
func alterSignature(release string) string {
	end := strings.LastIndex(release, "\n-----END")
	if sum := strings.LastIndex(release, "\n="); sum >= 0 {
		end = sum // the armor's checksum
	}
	at := end - 12
	letter := "A"
	if release[at] == 'A' {
		letter = "B"
	}
	return release[:at] + letter + release[at+1:]
}

const aptInstall = "apt-get -o APT::Update::Error-Mode=any update && apt-get install -y gs-driver && cat /usr/lib/gs-*/proof"

// TestRealApt installs from the offline repository with apt and gpgv, and with the
// newer apt and sqv, and has them refuse what was altered.
func TestRealApt(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("installs packages into a chroot: needs root, and not -short")
	}
	repository, _ := bundle(t, signingKey(t))
	const deb = "srv/gpustrap/pool/test/gs-driver_580.2-0ubuntu1_amd64.deb"
	tests := []struct {
		name, file string
		change     func(text string) string
		want       string // part of what apt says; empty: it installs
	}{
		{name: "as it is"},
		{"a package altered", deb, func(s string) string { return s[:len(s)-1] + "x" }, "gs-driver"},
		{"an index altered", "srv/gpustrap/dists/node01/main/binary-amd64/Packages.gz", func(s string) string { return s[:len(s)-1] + "x" }, "Packages"},
		{"the Release altered", "srv/gpustrap/dists/node01/InRelease", func(s string) string { return strings.Replace(s, "gpustrap offline", "Gpustrap offline", 1) }, "node01"},
		{"the signature altered", "srv/gpustrap/dists/node01/InRelease", alterSignature, "node01"},
		{"signed by another key", "srv/gpustrap/gpustrap.asc", func(string) string {
			other, err := signingKey(t).Public()
			if err != nil {
				t.Fatal(err)
			}
			return string(other)
		}, "node01"},
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		for _, tt := range tests {
			t.Run(suite+" "+tt.name, func(t *testing.T) {
				m := newMachine(t, suite, repository)
				if tt.file != "" {
					text, err := os.ReadFile(m.path(tt.file))
					if err != nil {
						t.Fatal(err)
					}
					m.write(tt.file, tt.change(string(text)))
				}
				out, err := m.run(aptInstall)
				if tt.want == "" {
					if err != nil || !strings.HasSuffix(out, "580.2\n1:580.2-0ubuntu1\n1+dfsg~rc1\n") {
						t.Errorf("%v\n%s", err, out)
					}
					return
				}
				if err == nil || !strings.Contains(out, "E: ") || !strings.Contains(out, tt.want) {
					t.Errorf("apt does not refuse and name %s: %v\n%s", tt.want, err, out)
				}
				if _, err := os.Stat(m.path("usr/lib/gs-driver/proof")); !errors.Is(err, fs.ErrNotExist) {
					t.Error("the package is installed all the same")
				}
			})
		}
	}
}
