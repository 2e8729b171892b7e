package apt_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/keys"
)

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// stock is apt as the oracle: with lists, cache and state of its own, and nothing
// of this machine's configuration.
type stock struct {
	t      testing.TB
	suite  string
	mirror string
	folder string
}

var components = []string{"main", "contrib", "non-free", "non-free-firmware"}

// newStock sets up apt for a suite of Debian, from the mirror that this machine's
// apt uses.
func newStock(t testing.TB, suite string) *stock {
	t.Helper()
	if testing.Short() {
		t.Skip("reads Debian's archive")
	}
	tool := oracle.Need(t, "apt-get")
	out, err := exec.Command(tool, "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main").Output()
	mirror := strings.Fields(string(out))
	if err != nil || len(mirror) == 0 {
		t.Skip("this machine's apt has no Debian archive")
	}
	s := &stock{t: t, suite: suite, mirror: mirror[0], folder: t.TempDir()}
	for _, uri := range mirror { // not that of security updates
		if strings.HasSuffix(uri, "/debian/") {
			s.mirror = uri
		}
	}
	for _, d := range []string{"etc/parts", "etc/preferences.d", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(s.folder, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.write("sources.list", fmt.Sprintf("deb [signed-by=%s] %s %s %s\n", debianKeyring, s.mirror, suite, strings.Join(components, " ")))
	s.write("status", "")
	s.write("apt.conf", strings.ReplaceAll(`Dir::Etc "@/etc"; Dir::Etc::parts "@/etc/parts"; Dir::Etc::sourcelist "@/sources.list"; Dir::Etc::sourceparts "-";
Dir::State::lists "@/lists"; Dir::Cache "@/cache"; Dir::State::status "@/status"; Dir::State::extended_states "@/extended_states";
APT::Architecture "amd64"; APT::Architectures "amd64"; Acquire::Languages "none"; Debug::NoLocking "1"; APT::Sandbox::User "root";
`, "@", s.folder))
	if out, err := s.command("update").CombinedOutput(); err != nil {
		t.Skipf("the archive cannot be reached: %v\n%s", err, out)
	}
	return s
}

func (s *stock) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stock) command(args ...string) *exec.Cmd {
	cmd := exec.Command("apt-get", args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(s.folder, "apt.conf"), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, as in machine.run
	return cmd
}

// install returns what apt would install and remove: NAME=VERSION and -NAME.
func (s *stock) install(r apt.Request) (changes []string, output string, err error) {
	args := append([]string{"-s", "install", fmt.Sprintf("-oAPT::Install-Recommends=%t", r.Recommends)}, r.Packages...)
	out, err := s.command(args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		name, _, _ := strings.Cut(f[1], ":")
		switch f[0] {
		case "Inst":
			at := slices.IndexFunc(f, func(w string) bool { return w[0] == '(' })
			changes = append(changes, name+"="+f[at][1:])
		case "Remv":
			changes = append(changes, "-"+name)
		}
	}
	slices.Sort(changes)
	return slices.Compact(changes), string(out), err
}

// source is the same archive as a Source.
func (s *stock) source() apt.Source {
	s.t.Helper()
	block, err := os.ReadFile(debianKeyring)
	if err != nil {
		s.t.Skip(err)
	}
	ring, err := keys.Parse(block)
	if err != nil {
		s.t.Fatal(err)
	}
	return apt.Source{Name: "debian", URL: s.mirror, Suites: []string{s.suite}, Components: components, Key: block, Fingerprints: ring.Fingerprints()}
}

func (s *stock) fetch() *apt.Archive {
	s.t.Helper()
	return s.fetchTo(s.t.TempDir())
}

// fetchTo fetches with a cache of indexes that is kept.
func (s *stock) fetchTo(cache string) *apt.Archive {
	s.t.Helper()
	o := options(s.t)
	o.Cache = cache
	o.Now, o.Stall = time.Time{}, time.Minute
	o.Backoff = []time.Duration{time.Second, 5 * time.Second}
	a, err := apt.Fetch(s.t.Context(), []apt.Source{s.source()}, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// compare holds our answer against apt's.
func (s *stock) compare(a *apt.Archive, r apt.Request) {
	s.t.Helper()
	start := time.Now()
	solution, err := a.Resolve(r)
	took := time.Since(start)
	var got []string
	if err == nil {
		for _, p := range solution.Install {
			got = append(got, p.String())
		}
		for _, p := range solution.Remove {
			got = append(got, "-"+p.Name)
		}
		slices.Sort(got)
	}
	start = time.Now()
	want, output, aptErr := s.install(r)
	what := fmt.Sprintf("%v, recommends %t", r.Packages, r.Recommends)
	switch {
	case (err == nil) != (aptErr == nil):
		s.t.Errorf("%s: we say %v, apt %v\n%s", what, err, aptErr, output)
	case err == nil && !slices.Equal(got, want):
		only := func(x, y []string) []string {
			return slices.DeleteFunc(slices.Clone(x), func(p string) bool { return slices.Contains(y, p) })
		}
		s.t.Errorf("%s: ours alone %v, apt's alone %v", what, only(got, want), only(want, got))
	default:
		s.t.Logf("%s: %d packages in %v, apt in %v; %v", what, len(got), took.Round(time.Microsecond), time.Since(start).Round(time.Millisecond), err)
	}
}

// TestAgreement resolves the stack's closures and packages chosen by a fixed seed,
// and expects apt's answer each time. GPUSTRAP_SOAK says how many packages, 40 if
// it is not set.
func TestAgreement(t *testing.T) {
	count := 40
	if n, err := strconv.Atoi(os.Getenv("GPUSTRAP_SOAK")); err == nil {
		count = n
	}
	stack := [][]string{
		{"nvidia-driver"}, {"nvidia-open-kernel-dkms"}, {"docker.io"}, {"linux-image-amd64", "linux-headers-amd64"},
		{"nvidia-driver", "docker.io", "linux-image-amd64", "linux-headers-amd64"},
	}
	// Some collide, some only look as if they did.
	pairs := [][]string{
		{"docker.io", "podman-docker"}, {"exim4-daemon-light", "postfix"}, {"systemd-sysv", "sysvinit-core"},
		{"nvidia-kernel-dkms", "nvidia-open-kernel-dkms"}, {"apache2", "libapache2-mod-php", "nginx"},
	}
	for i, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			s := newStock(t, suite)
			a := s.fetch()
			for _, packages := range stack {
				for _, recommends := range []bool{false, true} {
					s.compare(a, apt.Request{Packages: packages, Recommends: recommends})
				}
			}
			for _, packages := range pairs {
				s.compare(a, apt.Request{Packages: packages})
			}
			names := a.Names()
			choose := rand.New(rand.NewSource(int64(i + 1)))
			for n := range count / 2 {
				packages := []string{names[choose.Intn(len(names))]}
				if n%4 == 3 { // two at once collide now and then
					packages = append(packages, names[choose.Intn(len(names))])
				}
				s.compare(a, apt.Request{Packages: packages, Recommends: n%2 == 0})
			}
			s.onSystem(a, stack, names, choose, count/8)
		})
	}
}

// onSystem compares on a machine that has something already: a small Debian.
func (s *stock) onSystem(a *apt.Archive, stack [][]string, names []string, choose *rand.Rand, count int) {
	s.t.Helper()
	cache := os.Getenv("GPUSTRAP_CACHE")
	if cache == "" {
		cache = filepath.Join("..", "build", "cache")
	}
	text, err := os.ReadFile(filepath.Join(cache, "chroot-"+s.suite, "var/lib/dpkg/status"))
	if errors.Is(err, fs.ErrNotExist) {
		s.t.Log("no system to install on: TestRealApt makes one")
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("status", string(text))
	in, err := apt.ParseStatus(string(text), "")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, packages := range stack {
		s.compare(a, apt.Request{Packages: packages, Recommends: true, Installed: in})
	}
	for n := range count {
		s.compare(a, apt.Request{Packages: []string{names[choose.Intn(len(names))]}, Recommends: n%2 == 0, Installed: in})
	}
}

// TestDebianLock locks the driver, Docker and the kernel from Debian's archive:
// made twice, the same bytes.
func TestDebianLock(t *testing.T) {
	s := newStock(t, "trixie")
	var texts []string
	for range 2 {
		c := apt.Class{
			Name: "node01", Archive: s.fetch(), Sources: []apt.Source{s.source()}, Arch: "amd64",
			Request: apt.Request{Packages: []string{"nvidia-open-kernel-dkms", "nvidia-smi", "docker.io", "linux-image-amd64"}},
		}
		l, err := apt.NewLock([]apt.Class{c})
		if err != nil {
			t.Fatal(err)
		}
		text, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
		if read, err := apt.DecodeLock(text); err != nil || len(read.Check([]apt.Class{c})) > 0 {
			t.Errorf("the lock does not fit what it was made of: %v", err)
		}
	}
	if texts[0] != texts[1] {
		t.Error("made twice, the locks differ")
	}
	t.Logf("%d bytes", len(texts[0]))
}

// BenchmarkDebian works out the driver's, Docker's and the kernel's closure from
// trixie's whole archive, from the downloaded indexes on: we with none of it in
// memory, apt without its cache of what it read.
func BenchmarkDebian(b *testing.B) {
	s := newStock(b, "trixie")
	r := apt.Request{Packages: []string{"nvidia-driver", "docker.io", "linux-image-amd64", "linux-headers-amd64"}, Recommends: true}
	cache := b.TempDir()
	s.fetchTo(cache)
	b.Run("gpustrap", func(b *testing.B) {
		for b.Loop() {
			solution, err := s.fetchTo(cache).Resolve(r)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(solution.Install)), "packages")
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/(1<<20), "MiB")
	})
	b.Run("apt", func(b *testing.B) {
		for b.Loop() {
			for _, name := range []string{"pkgcache.bin", "srcpkgcache.bin"} {
				if err := os.Remove(filepath.Join(s.folder, "cache", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					b.Fatal(err)
				}
			}
			changes, output, err := s.install(r)
			if err != nil {
				b.Fatal(err, output)
			}
			b.ReportMetric(float64(len(changes)), "packages")
		}
	})
}
