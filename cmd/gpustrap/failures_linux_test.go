package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// fault answers a request in the mirror's place; false: the mirror answers.
type fault func(w http.ResponseWriter, r *http.Request) bool

// failing is a configuration in a folder, a mirror that can fail, and a medium.
type failing struct {
	t        *testing.T
	archive  *apttest.Archive
	medium   string
	folder   string
	cache    string
	later    time.Duration // that has passed
	fault    atomic.Pointer[fault]
	requests atomic.Int64
}

func newFailing(t *testing.T, a *apttest.Archive, medium string) *failing {
	t.Helper()
	f := &failing{t: t, archive: a, medium: medium, folder: t.TempDir(), cache: t.TempDir()}
	files := http.FileServer(http.Dir(a.Root))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if answer := f.fault.Load(); answer == nil || !(*answer)(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	text := "version: 1\nubuntu: \"24.04\"\nhostname: box\noffline: only\npackages: [htop, tmux]\n" +
		"user: {name: ops, authorized_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com\"]}\nsources:\n"
	for _, name := range []string{"ubuntu", "docker"} {
		text += "  " + name + ": {url: " + server.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	f.put("archive.asc", string(a.Key))
	f.put("g.yaml", text)
	return f
}

func (f *failing) put(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.folder, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// fail has the mirror fail from now on.
func (f *failing) fail(answer fault) { f.fault.Store(&answer) }

// run runs the program and returns what it says.
func (f *failing) run(args ...string) (code int, said string) {
	var errors strings.Builder
	w := newWorld(strings.NewReader(""), io.Discard, &errors, func(name string) string {
		return map[string]string{"XDG_CACHE_HOME": f.cache}[name]
	})
	w.now = func() time.Time { return time.Now().Add(f.later) }
	w.waits = []time.Duration{time.Millisecond}
	return run(f.t.Context(), w, append(args, "-c", filepath.Join(f.folder, "g.yaml"))), errors.String()
}

// good runs what must not fail.
func (f *failing) good(args ...string) {
	f.t.Helper()
	if code, said := f.run(args...); code != exitDone {
		f.t.Fatalf("%v: exit code %d: %s", args, code, said)
	}
}

// names lists the folder.
func (f *failing) names() []string {
	f.t.Helper()
	list, err := os.ReadDir(f.folder)
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// mustFail runs what must fail with these words, and leave the folder as it is.
func (f *failing) mustFail(want []string, args ...string) {
	f.t.Helper()
	before := f.names()
	code, said := f.run(args...)
	if code != exitFailed {
		f.t.Errorf("%v: exit code %d, want %d: %s", args, code, exitFailed, said)
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			f.t.Errorf("%v does not say %q:\n%s", args, w, said)
		}
	}
	if after := f.names(); !slices.Equal(before, after) {
		f.t.Errorf("%v leaves %q, and there were %q", args, after, before)
	}
}

// of answers requests for paths that hold these words.
func of(word string, answer http.HandlerFunc) fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, word) {
			return false
		}
		answer(w, r)
		return true
	}
}

// dropped sends the first bytes of the file.
func (f *failing) dropped(w http.ResponseWriter, r *http.Request) {
	data, err := os.ReadFile(filepath.Join(f.archive.Root, r.URL.Path))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data[:100])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// changed answers with the file, in which a byte is another.
func (f *failing) changed(w http.ResponseWriter, r *http.Request) {
	data, err := os.ReadFile(filepath.Join(f.archive.Root, r.URL.Path))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	data[len(data)-1] ^= 1
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// small lays a file system of this size, as mount(8) takes it, over a folder.
func small(t *testing.T, folder, size string) {
	t.Helper()
	if err := unix.Mount("none", folder, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestLockFails: whatever fails, the lock stays as it was.
func TestLockFails(t *testing.T) {
	if testing.Short() {
		t.Skip("makes an archive, and runs commands many times")
	}
	const lifetime = 48 * time.Hour
	archive := apttest.NewWithKey(t, "24.04", lifetime)
	medium := isotest.Medium{Files: map[string]string{"casper/filesystem.manifest": manifest}}.Make(t)
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, f *failing)
		want    []string
	}{
		"dropped connection": {func(_ *testing.T, f *failing) { f.fail(of("InRelease", f.dropped)) },
			[]string{"gpustrap: cannot download", "the connection was cut: after 100 bytes", "hint: run the same command again"}},
		"index changed": {func(_ *testing.T, f *failing) { f.fail(of("main/binary-amd64/Packages", f.changed)) },
			[]string{"the indexes of ubuntu noble", "are not those that its Release file names", "hint: the mirror is in the middle of an update"}},
		"index missing": {func(_ *testing.T, f *failing) { f.fail(of("main/binary-amd64/Packages", http.NotFound)) },
			[]string{"are not those that its Release file names", "hint: the mirror is in the middle of an update"}},
		"Release file changed": {func(_ *testing.T, f *failing) { f.fail(of("InRelease", f.changed)) },
			[]string{"the signature of ", " is not accepted", "hint: nothing of this repository is used"}},
		"expired key": {func(_ *testing.T, f *failing) { f.later = 2 * lifetime },
			[]string{"the signature of ", " is not accepted", "hint: the key that signs this repository has expired"}},
		"no server": {func(_ *testing.T, f *failing) {
			f.fail(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
		}, []string{"the server cannot be reached", "hint: check the network"}},
		"full cache": {func(t *testing.T, f *failing) {
			f.cache = t.TempDir()
			small(t, f.cache, "4k")
		}, []string{": no space left on device"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFailing(t, archive, medium)
			f.good("lock", "--iso", medium)
			before := f.read("g.lock")
			f.put("g.yaml", strings.Replace(f.read("g.yaml"), "[htop, tmux]", "[htop]", 1))
			f.cache = t.TempDir() // nothing is known yet
			tt.prepare(t, f)
			f.mustFail(tt.want, "lock", "--iso", medium)
			f.mustFail(tt.want, "lock", "--update", "--iso", medium)
			if f.read("g.lock") != before {
				t.Error("the lock is another one")
			}
		})
	}
}

func (f *failing) read(name string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.folder, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(data)
}

// TestLockKeepsVersions: a locked package that is gone from the archive is named,
// and nothing else is taken in its place.
func TestLockKeepsVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("makes an archive, and runs commands many times")
	}
	archive := apttest.New(t, "24.04")
	f := newFailing(t, archive, isotest.Medium{}.Make(t))
	f.good("lock")
	newer := apttest.Docker("24.04")
	for i := range newer {
		newer[i].Version = strings.ReplaceAll(newer[i].Version, "29.7.2", "29.9.9")
	}
	archive.PublishDocker(t, newer)
	f.put("g.yaml", strings.Replace(f.read("g.yaml"), "[htop, tmux]", "[htop]", 1))
	before := f.read("g.lock")
	f.mustFail([]string{"the archive no longer has what box is locked to: ", "docker-ce 5:29.7.2", "hint: update these too"}, "lock")
	if f.read("g.lock") != before {
		t.Error("the lock is another one")
	}
}

// TestBundleFails: whatever fails, no bundle and no image is begun, and what was
// there before is there afterwards.
func TestBundleFails(t *testing.T) {
	if testing.Short() {
		t.Skip("makes an archive, and runs commands many times")
	}
	archive := apttest.New(t, "24.04")
	medium := isotest.Medium{Files: map[string]string{"casper/filesystem.manifest": manifest}}.Make(t)
	const deb = "htop_3.3.0_all.deb"
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, f *failing)
		want    []string
	}{
		"no server": {func(_ *testing.T, f *failing) {
			f.fail(of(deb, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		}, []string{"gpustrap: cannot download", deb, "the server cannot be reached", "hint: check the network"}},
		"dropped connection": {func(_ *testing.T, f *failing) { f.fail(of(deb, f.dropped)) }, []string{"gpustrap: cannot download", deb, "the connection was cut: after 100 of ", "hint: run the same command again"}},
		"vanished": {func(_ *testing.T, f *failing) { f.fail(of(deb, http.NotFound)) },
			[]string{"htop 3.3.0 is gone from the archive since the lock was made", "hint: take the version that is there now"}},
		"changed": {func(_ *testing.T, f *failing) { f.fail(of(deb, f.changed)) },
			[]string{"htop 3.3.0 is not the file that was locked", "hint: nothing of it was kept"}},
		"full cache": {func(t *testing.T, f *failing) { small(t, f.cache, "16k") }, []string{"gpustrap: cannot ", ": no space left on device"}},
		"full disk": {func(t *testing.T, f *failing) {
			files := map[string]string{}
			for _, name := range f.names() {
				files[name] = f.read(name)
			}
			small(t, f.folder, "128k")
			for name, text := range files {
				f.put(name, text)
			}
		}, []string{"no space left"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFailing(t, archive, medium)
			f.good("lock", "--iso", medium)
			f.good("bundle", "-o", filepath.Join(t.TempDir(), "x")) // makes the key
			// Nothing but an archive, or an image, is replaced at all.
			oldTar := strings.Repeat("\x00", tarMagicAt) + tarMagic
			oldISO := strings.Repeat("\x00", isoMagicAt) + isoMagic
			f.put("old.tar", oldTar)
			f.put("old.iso", oldISO)
			f.cache = t.TempDir()
			tt.prepare(t, f)
			at := func(name string) string { return filepath.Join(f.folder, name) }
			f.mustFail(tt.want, "bundle", "-o", at("new"))
			f.mustFail(tt.want, "bundle", "-o", at("new.tar"))
			f.mustFail(tt.want, "bundle", "-o", at("old.tar"))
			f.mustFail(tt.want, "remaster", "--iso", medium, "-o", at("new.iso"))
			f.mustFail(tt.want, "remaster", "--iso", medium, "-o", at("old.iso"))
			if f.read("old.tar") != oldTar || f.read("old.iso") != oldISO {
				t.Error("what was there is not there any more")
			}
		})
	}
}

// TestBundleGoesOn: what was brought is not asked for again.
func TestBundleGoesOn(t *testing.T) {
	archive := apttest.New(t, "24.04")
	f := newFailing(t, archive, isotest.Medium{}.Make(t))
	f.good("lock")
	f.fail(of("htop_3.3.0_all.deb", f.dropped))
	if code, said := f.run("bundle", "-o", filepath.Join(f.folder, "new")); code != exitFailed {
		t.Fatalf("exit code %d: %s", code, said)
	}
	f.fault.Store(nil)
	f.good("bundle", "-o", filepath.Join(f.folder, "new"))
	before := f.requests.Load()
	f.good("bundle", "-o", filepath.Join(f.folder, "again"))
	if n := f.requests.Load() - before; n != 0 {
		t.Errorf("%d files are asked for again", n)
	}
}
