package autoinstall

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// offlineConfig is the air-gapped example's machine, with an archive for the lock.
func offlineConfig(a *apttest.Archive, release, offline string) string {
	text := "version: 1\nubuntu: \"" + release + "\"\nhostname: vault\nuser: {name: ops, authorized_keys: [\"" + opsKey + "\"]}\n" +
		"gpu: {model: l40s, driver: 580-server}\nstorage: {disk: {wwn: \"0x500a07512345678b\"}}\noffline: " + offline + "\n" +
		"apps: [{name: fastbook, image_file: fastbook.tar}]\nsources:\n"
	for _, name := range []string{"ubuntu", "docker", "toolkit"} {
		text += "  " + name + ": {url: " + a.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	return text
}

// remastered locks the machine and makes its medium, with the program itself, and
// returns the image.
func remastered(t *testing.T, tg *target, a *apttest.Archive, release, offline string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"g.yaml": offlineConfig(a, release, offline), "archive.asc": string(a.Key), "fastbook.tar": savedImage(t),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What the machine has: the system that it is installed on.
	manifest, err := exec.Command("dpkg-query", "--admindir="+filepath.Join(tg.base, "var/lib/dpkg"), "-W", "-f", "${binary:Package}\t${Version}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	medium := isotest.Medium{Files: map[string]string{
		"casper/filesystem.manifest": string(manifest),
		".disk/info":                 "Ubuntu-Server " + release + " LTS \"Stand In\" - Release amd64 (20260101)\n",
	}}.Make(t)
	program, image := filepath.Join(dir, "gpustrap"), filepath.Join(dir, "vault.iso")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/gpustrap") // as make build does: what it compiled is taken
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, command := range [][]string{
		{program, "lock", "-c", filepath.Join(dir, "g.yaml"), "--iso", medium},
		{program, "remaster", "-c", filepath.Join(dir, "g.yaml"), "--iso", medium, "-o", image},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	return image
}

// savedImage is what docker save writes, as far as gpustrap reads it.
func savedImage(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, f := range []struct{ name, text string }{
		{"blobs/sha256/1", strings.Repeat("layer", 1000)}, {"manifest.json", `[{"RepoTags":["localhost/fastbook:1"]}]`},
	} {
		err := archive.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o644})
		if err == nil {
			_, err = archive.Write([]byte(f.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// mounted takes the files of an image out, which is what the live system shows at
// /cdrom.
func mounted(t *testing.T, image string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "cdrom")
	cmd := exec.Command(oracle.Need(t, "xorriso"), "-osirrox", "on", "-indev", image,
		"-extract", "/nocloud", at+"/nocloud", "-extract", "/gpustrap", at+"/gpustrap")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("chmod", "-R", "u+w", at).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return at
}

// isolated has a system's commands run in a network namespace with nothing in it,
// and shows them a medium.
func (tg *target) isolated(medium string) *target {
	other := *tg
	other.before = []string{"unshare", "--net", "env", "GPUSTRAP_MEDIUM=" + filepath.Join(medium, "gpustrap")}
	return &other
}

const dockerEngine = "docker-ce"

// TestInstallsOffline installs from the repository on a remastered medium, with
// real apt and no network at all.
func TestInstallsOffline(t *testing.T) {
	for _, release := range []string{"24.04", "26.04"} {
		t.Run(release, func(t *testing.T) {
			tg := newTarget(t, release)
			a := apttest.New(t, release)
			medium := mounted(t, remastered(t, tg, a, release, "only"))
			before := tg.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
			seed := readSeed(t, medium)
			out, err := tg.isolated(medium).install(seed, release)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, tg.run("cat /var/log/gpustrap/install.log"))
			}
			t.Logf("%s", out)
			if got := tg.run("dpkg-query -W -f '${Version} ${db:Status-Status}' " + dockerEngine); !strings.HasPrefix(got, "5:29.7.2-1~ubuntu."+release) || !strings.HasSuffix(got, " installed") {
				t.Errorf("Docker is %q", got)
			}
			if got := tg.run("dpkg-query -W -f '${db:Status-Status}' nvidia-utils-580-server"); got != "installed" {
				t.Errorf("the driver is %q", got)
			}
			if got := tg.run("stat -c '%a %s' /opt/apps/fastbook/image.tar*"); got != fmt.Sprint("644 ", len(savedImage(t))) {
				t.Errorf("the app's image is %q", got)
			}
			log := tg.run("cat /var/log/gpustrap/install.log")
			if regexp.MustCompile(`(?m)^(Get|Ign|Err):\d+ http`).MatchString(log) {
				t.Errorf("apt tried the network:\n%s", log)
			}
			// Afterwards the network's repositories are in place, and nothing is held.
			after := tg.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
			for _, want := range []string{a.URL + "/docker", a.URL + "/toolkit", a.URL + "/ubuntu", "gpustrap-docker.gpg"} {
				if !strings.Contains(after, want) {
					t.Errorf("the sources have no %s; before:\n%s\nafter:\n%s", want, before, after)
				}
			}
			if strings.Contains(after, "file:") {
				t.Errorf("the medium is still a source:\n%s", after)
			}
			if left := tg.run("ls -d /etc/apt/preferences.d/*lock* /etc/gpustrap/apt-offline.conf /var/lib/gpustrap/medium /var/lib/gpustrap/lists 2>/dev/null || true"); left != "" {
				t.Errorf("left behind: %s", left)
			}
			if got := tg.run("apt-config dump Dir::Etc::SourceParts"); !strings.Contains(got, "sources.list.d") {
				t.Errorf("apt is still led past its sources: %s", got)
			}
			// A second run without the network needs the medium, and finds it.
			if out, err := tg.isolated(medium).install(seed, release); err != nil {
				t.Errorf("the second run: %v\n%s", err, out)
			}
		})
	}
}

func readSeed(t *testing.T, medium string) Seed {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(medium, "nocloud", "user-data"))
	if err != nil {
		t.Fatal(err)
	}
	return Seed{UserData: data}
}

// alterAt changes the byte at a place of a file, counted from its end when negative.
func alterAt(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		i := at
		if i < 0 {
			i += len(b)
		}
		b[i] ^= 1
		return b
	}
}

// TestRefusesAlteredMedia alters one file of the repository each time: nothing is
// installed, and the message says which it is.
func TestRefusesAlteredMedia(t *testing.T) {
	const release = "24.04"
	base := newTarget(t, release)
	a := apttest.New(t, release)
	medium := mounted(t, remastered(t, base, a, release, "only"))
	seed := readSeed(t, medium)
	tests := []struct {
		name, file string
		change     func([]byte) []byte
		want       []string
	}{
		{"a package", "pool/docker/docker-ce_5%3a29.7.2-1~ubuntu.24.04~noble_all.deb", alterAt(-1), []string{"install Docker", "docker-ce_"}},
		{"an index", "dists/vault/main/binary-amd64/Packages.gz", alterAt(-1), []string{"does not accept the repository on the installation medium", "Packages"}},
		{"the Release file", "dists/vault/InRelease", func(b []byte) []byte { return []byte(strings.Replace(string(b), "Codename: v", "Codename: w", 1)) },
			[]string{"does not accept the repository on the installation medium", "vault InRelease"}},
		{"the signature", "dists/vault/InRelease", func(b []byte) []byte {
			at := bytes.Index(b, []byte("BEGIN PGP SIGNATURE")) + 80 // in its base64
			b[at] = 'A' + (b[at]-'A'+1)%26
			return b
		}, []string{"does not accept the repository on the installation medium", "vault InRelease"}},
		{"an app's image", "images/fastbook.tar", alterAt(600), []string{"images/fastbook.tar on the installation medium is not the file that was put there"}},
		{"an app's image is missing", "images/fastbook.tar", nil, []string{"the installation medium lacks images/fastbook.tar"}},
		{"no repository", "dists/vault", nil, []string{"has no repository for this machine", "gpustrap remaster --offline"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tg := newTarget(t, release)
			altered := t.TempDir()
			if out, err := exec.Command("cp", "-r", "--no-preserve=mode", medium+"/gpustrap", altered).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if err := os.Chmod(altered, 0o755); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(altered, "gpustrap", tt.file)
			if tt.change == nil {
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
			} else {
				data, err := os.ReadFile(file)
				if err == nil {
					err = os.WriteFile(file, tt.change(data), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			out, err := tg.isolated(altered).install(seed, release)
			if err == nil {
				t.Error("the installation succeeds")
			}
			if strings.Contains(out, "these mounts are left") {
				t.Errorf("the medium stays mounted:\n%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.HasPrefix(tt.file, "images") {
				return // packages come first
			}
			if got, _ := tg.enter("sh", "-c", `chroot "$TARGET_MOUNT_POINT" dpkg-query -W -f '${db:Status-Status}' `+dockerEngine); strings.HasPrefix(got, "installed") {
				t.Error("Docker is installed all the same")
			}
		})
	}
}

// TestFallsBackToTheNetwork: a machine that may, installs from the network where
// the medium has no repository, in the locked versions.
func TestFallsBackToTheNetwork(t *testing.T) {
	const release = "24.04"
	tg := newTarget(t, release)
	a := apttest.New(t, release)
	seed := readSeed(t, mounted(t, remastered(t, tg, a, release, "fallback")))
	// A newer Docker comes out after the lock was made.
	newer := fmt.Sprintf("5:29.9.0-1~ubuntu.%s~noble", release)
	a.Publish(t, "docker", "noble", map[string][]apttest.Package{"stable": append(apttest.Docker(release),
		apttest.Package{Name: "docker-ce", Version: newer}, apttest.Package{Name: "docker-ce-cli", Version: newer},
		apttest.Package{Name: "containerd.io", Version: "9"})})
	out, err := tg.install(seed, release)
	if err != nil || !strings.Contains(out, "packages come from the network") {
		t.Fatalf("%v\n%s\n%s", err, out, tg.run("tail -n 30 /var/log/gpustrap/install.log"))
	}
	if got := tg.run("dpkg-query -W -f '${Package} ${Version} ' docker-ce containerd.io"); got != "containerd.io 2.2.6-1~ubuntu.24.04~noble docker-ce 5:29.7.2-1~ubuntu.24.04~noble" {
		t.Errorf("Docker and containerd are %s", got)
	}
	if got := tg.run("apt-cache policy docker-ce | grep Candidate"); !strings.HasSuffix(got, newer) {
		t.Errorf("afterwards apt would not update: %s", got)
	}
}
