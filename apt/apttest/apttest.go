// Package apttest serves signed package repositories for tests: Ubuntu's, Docker's and
// the NVIDIA Container Toolkit's, with packages that have the names and relations of
// the real ones and no payload.
package apttest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// Packages with the names and relations of those in Ubuntu's, Docker's and
// NVIDIA's repositories. What is in them is ours: as little as the scripts ask of
// the real ones.

// Package is a package of an archive.
type Package struct {
	Name, Version string
	Fields        string            // further control fields
	Files         map[string]string // path -> content; executable under bin and sbin
	PostInst      string
	Deb           string // path of a package made elsewhere, which is taken as it is
}

// Vintage is what Ubuntu's archive holds at a moment: a kernel, a driver, and the
// driver that its Fabric Manager is for.
type Vintage struct {
	Kernel, Driver, Fabric string
	Release                string // of the kernel, where it is not Kernel-generic
}

// Current is what New serves, and Later what comes out afterwards.
var (
	Current = Vintage{Kernel: "6.8.0-146", Driver: "580.173.02", Fabric: "580.173.02"}
	Later   = Vintage{Kernel: "6.8.0-150", Driver: "580.178.04", Fabric: "580.178.04"}
)

// Image returns the kernel's release, as uname -r prints it.
func (v Vintage) Image() string {
	if v.Release != "" {
		return v.Release
	}
	return v.Kernel + "-generic"
}

// KernelVersion returns the version of the kernel's packages.
func (v Vintage) KernelVersion() string {
	return v.Kernel + "." + v.Kernel[strings.LastIndex(v.Kernel, "-")+1:]
}

// DriverVersion returns the version of the driver's packages.
func (v Vintage) DriverVersion() string { return v.Driver + ubuntuSuffix }

const ubuntuSuffix = "-0ubuntu0.24.04.1"

func unit(description string) string {
	return "[Unit]\nDescription=" + description + "\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
}

func ubuntuMain(v Vintage) []Package {
	return []Package{
		{Name: "initramfs-tools", Version: "0.142", Files: map[string]string{
			"/usr/sbin/update-initramfs": "#!/bin/sh\nfor k in /boot/vmlinuz-*; do echo \"$*\" >\"/boot/initrd.img-${k#*vmlinuz-}\"; done\n",
		}},
		{Name: "linux-generic", Version: v.KernelVersion(), Fields: "Depends: linux-image-" + v.Image()},
		{Name: "linux-image-" + v.Image(), Version: v.KernelVersion(), Fields: "Depends: initramfs-tools", Files: map[string]string{
			"/boot/vmlinuz-" + v.Image():             "kernel",
			"/lib/modules/" + v.Image() + "/modules": "modules",
		}},
		{Name: "gpg", Version: "1"}, {Name: "curl", Version: "1"}, {Name: "ca-certificates", Version: "1"},
		{Name: "uidmap", Version: "1:4.13"}, {Name: "slirp4netns", Version: "1.2"}, {Name: "dbus-user-session", Version: "1.14"}, {Name: "iptables", Version: "1.8"},
		{Name: "htop", Version: "3.3.0"},
		{Name: "tmux", Version: "3.4"},
	}
}

func ubuntuRestricted(v Vintage) []Package {
	const modules = "linux-modules-nvidia-580-server-open-"
	driver := v.DriverVersion()
	exactly := "nvidia-kernel-common-580-server-" + v.Driver
	return []Package{
		{Name: modules + "generic", Version: v.KernelVersion(),
			Fields: "Depends: " + modules + v.Image() + " (= " + v.KernelVersion() + "), nvidia-kernel-common-580-server (>= " + v.Driver + ")"},
		{Name: modules + v.Image(), Version: v.KernelVersion(), Fields: "Depends: linux-image-" + v.Image(), Files: map[string]string{
			"/lib/modules/" + v.Image() + "/kernel/nvidia-580-server-open/nvidia.ko.zst": "module",
		}},
		{Name: "nvidia-firmware-580-server", Version: driver, Fields: "Provides: nvidia-firmware-580-server-" + v.Driver},
		{Name: "nvidia-kernel-common-580-server", Version: driver,
			Fields: "Provides: " + exactly + "\nDepends: nvidia-firmware-580-server-" + v.Driver},
		{Name: "libnvidia-compute-580-server", Version: driver, Fields: "Depends: " + exactly},
		{Name: "nvidia-headless-no-dkms-580-server-open", Version: driver,
			Fields: "Depends: libnvidia-compute-580-server (= " + driver + "), nvidia-compute-utils-580-server (= " + driver + ")"},
		{Name: "nvidia-compute-utils-580-server", Version: driver, Fields: "Depends: libnvidia-compute-580-server", Files: map[string]string{
			"/lib/systemd/system/nvidia-persistenced.service": unit("NVIDIA persistence daemon"),
		}},
		{Name: "libnvidia-decode-580-server", Version: driver},
		{Name: "libnvidia-encode-580-server", Version: driver, Fields: "Depends: libnvidia-decode-580-server (= " + driver + ")"},
		{Name: "nvidia-utils-580-server", Version: driver, Fields: "Depends: libnvidia-compute-580-server", Files: map[string]string{
			// What happens to whoever asks the GPU where there is none.
			"/usr/bin/nvidia-smi": "#!/bin/sh\necho 'asked the GPU in a chroot' >/nvidia-smi-was-run\nexit 9\n",
		}},
	}
}

func ubuntuMultiverse(v Vintage) []Package {
	return []Package{
		{Name: "nvidia-fabricmanager-580", Version: v.Fabric + ubuntuSuffix, Fields: "Depends: nvidia-kernel-common-580-server-" + v.Fabric, Files: map[string]string{
			"/lib/systemd/system/nvidia-fabricmanager.service": unit("NVIDIA Fabric Manager"),
		}},
		{Name: "libnvidia-nscq-580", Version: v.Fabric + ubuntuSuffix},
	}
}

// Docker is the packages of Docker's repository, in two versions.
func Docker(release string) []Package {
	suffix := "-1~ubuntu." + release + "~" + codenames[release]
	engine := func(version string) []Package {
		return []Package{
			{Name: "docker-ce", Version: version, Fields: "Depends: containerd.io (>= 2.1.5), docker-ce-cli\nConflicts: docker.io", Files: map[string]string{
				"/usr/bin/dockerd":                   "#!/bin/sh\n[ \"$1 $2\" = '--validate --config-file' ] && exec python3 -m json.tool \"$3\"\n",
				"/lib/systemd/system/docker.service": unit("Docker"),
			}, PostInst: "[ ! -e /crash ] || { rm /crash; kill -9 $PPID; }\n" +
				"getent group docker >/dev/null || groupadd --system docker\n"},
			{Name: "docker-ce-rootless-extras", Version: version, Files: map[string]string{"/usr/bin/dockerd-rootless.sh": "#!/bin/sh\nexit 1\n"}},
			{Name: "docker-ce-cli", Version: version, Files: map[string]string{"/usr/bin/docker": "#!/bin/sh\nexit 1\n"}},
		}
	}
	out := append(engine("5:29.6.1"+suffix), engine("5:29.7.2"+suffix)...)
	return append(out,
		Package{Name: "containerd.io", Version: "2.2.6-1~ubuntu." + release + "~" + codenames[release],
			Fields: "Conflicts: containerd, runc", Files: map[string]string{
				"/lib/systemd/system/containerd.service": unit("containerd"),
				"/etc/containerd/config.toml":            "disabled_plugins = [\"cri\"]\n#root = \"/var/lib/containerd\"\n[grpc]\n  root = \"kept\"\n",
			}},
		Package{Name: "docker-buildx-plugin", Version: "0.35.0" + suffix},
		Package{Name: "docker-compose-plugin", Version: "5.0.2" + suffix},
	)
}

func toolkitPackages() []Package {
	var out []Package
	for _, v := range []string{"1.20.0-1", "1.20.1-1"} {
		out = append(out,
			Package{Name: "nvidia-container-toolkit", Version: v,
				Fields: "Depends: nvidia-container-toolkit-base (= " + v + "), libnvidia-container-tools (= " + v + ")"},
			Package{Name: "nvidia-container-toolkit-base", Version: v, Files: map[string]string{
				"/usr/bin/nvidia-ctk":                            nvidiaCTK,
				"/lib/systemd/system/nvidia-cdi-refresh.service": unit("refresh"),
				"/lib/systemd/system/nvidia-cdi-refresh.path":    strings.Replace(unit("refresh"), "[Service]\nExecStart=/bin/true", "[Path]\nPathChanged=/x", 1),
			}},
			Package{Name: "libnvidia-container-tools", Version: v, Fields: "Depends: libnvidia-container1 (= " + v + ")"},
			Package{Name: "libnvidia-container1", Version: v},
		)
	}
	return out
}

// nvidiaCTK does what the real one does to daemon.json, seen with 1.20.1.
const nvidiaCTK = `#!/usr/bin/python3
import json, sys
assert sys.argv[1:3] == ["runtime", "configure"] and "--runtime=docker" in sys.argv, sys.argv
path = "/etc/docker/daemon.json"
config = json.load(open(path))
config.setdefault("runtimes", {})["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
if "--cdi.enabled" in sys.argv:
    config.setdefault("features", {})["cdi"] = True
json.dump(config, open(path, "w"), indent=4, sort_keys=True)
`

// codenames are the suites of the releases.
var codenames = map[string]string{"22.04": "jammy", "24.04": "noble", "26.04": "resolute"}

// Archive is a server of signed package repositories.
type Archive struct {
	URL         string
	Key         []byte // armored
	Fingerprint string
	Root        string // the folder that is served
	release     string
	entity      *openpgp.Entity
	moment      time.Time // of the latest publication
}

// New serves the repositories of one release: ubuntu, docker and toolkit.
func New(t testing.TB, release string) *Archive {
	t.Helper()
	return NewWithKey(t, release, 0)
}

// NewWithKey is New with a key that is good for a while; 0: for good.
func NewWithKey(t testing.TB, release string, good time.Duration) *Archive {
	t.Helper()
	oracle.Need(t, "dpkg-deb")
	entity, err := openpgp.NewEntity("gpustrap test", "", "test@example", &packet.Config{
		RSABits: 3072, DefaultHash: crypto.SHA512, KeyLifetimeSecs: uint32(good / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	var key bytes.Buffer
	w, err := armor.Encode(&key, openpgp.PublicKeyType, nil)
	if err == nil {
		err = entity.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	key.WriteByte('\n')
	a := &Archive{
		Root: t.TempDir(), release: release, entity: entity, Key: key.Bytes(),
		Fingerprint: fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint),
		moment:      time.Now().UTC().Truncate(time.Second).Add(-time.Hour),
	}
	server := httptest.NewServer(http.FileServer(http.Dir(a.Root)))
	t.Cleanup(server.Close)
	a.URL = server.URL

	a.PublishUbuntu(t, Current)
	a.Publish(t, "docker", codenames[release], map[string][]Package{"stable": Docker(release)})
	a.publishFlat(t, "toolkit", toolkitPackages())
	return a
}

// PublishUbuntu makes Ubuntu's archive what it is at a moment, with the packages of
// its component universe.
func (a *Archive) PublishUbuntu(t testing.TB, v Vintage, universe ...Package) {
	t.Helper()
	for _, pocket := range []string{"", "-updates", "-security"} {
		a.Publish(t, "ubuntu", codenames[a.release]+pocket, map[string][]Package{
			"main": ubuntuMain(v), "restricted": ubuntuRestricted(v), "universe": universe, "multiverse": ubuntuMultiverse(v),
		})
	}
}

// PublishDocker replaces the packages of Docker's repository.
func (a *Archive) PublishDocker(t testing.TB, packages []Package) {
	t.Helper()
	a.Publish(t, "docker", codenames[a.release], map[string][]Package{"stable": packages})
}

// PublishToolkit adds packages to the toolkit's repository.
func (a *Archive) PublishToolkit(t testing.TB, more []Package) {
	t.Helper()
	a.publishFlat(t, "toolkit", append(toolkitPackages(), more...))
}

// PublishCUDA makes a repository as NVIDIA's of drivers is.
func (a *Archive) PublishCUDA(t testing.TB, packages []Package) {
	t.Helper()
	a.publishFlat(t, "cuda", packages)
}

// build makes a package in a folder of the archive and returns its stanza for
// an index. A package that is there already is taken as it is.
func (a *Archive) build(t testing.TB, dir string, p Package) string {
	t.Helper()
	pool := filepath.Join(a.Root, dir)
	if p.Deb != "" {
		return a.take(t, pool, p.Deb)
	}
	name := strings.ReplaceAll(p.Name+"_"+p.Version+"_all.deb", ":", "%3a")
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: gpustrap <test@example>\nDescription: stand-in\n", p.Name, p.Version)
	if p.Fields != "" {
		control += p.Fields + "\n"
	}
	deb := filepath.Join(pool, name)
	if _, err := os.Stat(deb); err != nil {
		tree := t.TempDir()
		write := func(path, content string, mode os.FileMode) {
			at := filepath.Join(tree, path)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
		}
		write("DEBIAN/control", control, 0o644)
		if p.PostInst != "" {
			write("DEBIAN/postinst", "#!/bin/sh\nset -e\n"+p.PostInst, 0o755)
		}
		for path, content := range p.Files {
			mode := os.FileMode(0o644)
			if strings.Contains(path, "bin/") {
				mode = 0o755
			}
			write(path, content, mode)
			if strings.HasPrefix(path, "/etc/") {
				write("DEBIAN/conffiles", path+"\n", 0o644)
			}
		}
		if err := os.MkdirAll(pool, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, deb).CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg-deb: %v\n%s", err, out)
		}
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	return control + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %x\n\n", name, len(data), sha256.Sum256(data))
}

// take copies a package that is made already, and returns its stanza.
func (a *Archive) take(t testing.TB, pool, deb string) string {
	t.Helper()
	control, err := exec.Command("dpkg-deb", "-f", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(deb)
	if err == nil {
		err = os.MkdirAll(pool, 0o755)
	}
	name := strings.ReplaceAll(filepath.Base(deb), ":", "%3a")
	if err == nil {
		err = os.WriteFile(filepath.Join(pool, name), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(control) + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %x\n\n", name, len(data), sha256.Sum256(data))
}

// Publish writes a suite of a repository and signs it.
func (a *Archive) Publish(t testing.TB, name, suite string, components map[string][]Package) {
	t.Helper()
	dist := filepath.Join(a.Root, name, "dists", suite)
	release := fmt.Sprintf("Origin: Ubuntu\nLabel: %s\nSuite: %s\nCodename: %s\nDate: %s\nArchitectures: amd64\nComponents:",
		name, suite, suite, a.moment.Add(time.Second).Format(time.RFC1123))
	if name != "ubuntu" {
		release = strings.Replace(release, "Ubuntu", "Docker", 1)
	}
	sums := ""
	for component, packages := range components {
		index := ""
		for _, p := range packages {
			stanza := a.build(t, filepath.Join(name, "pool"), p)
			index += strings.Replace(stanza, "Filename: ", "Filename: pool/", 1)
		}
		at := component + "/binary-amd64/Packages"
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dist, at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dist, at), []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		release += " " + component
		sums += fmt.Sprintf(" %x %d %s\n", sha256.Sum256([]byte(index)), len(index), at)
	}
	a.sign(t, filepath.Join(dist, "InRelease"), release+"\nSHA256:\n"+sums)
}

// publishFlat is a repository as NVIDIA's for the toolkit is: no suite, no
// component, an old date and SHA-512 alone.
func (a *Archive) publishFlat(t testing.TB, name string, packages []Package) {
	t.Helper()
	index := ""
	for _, p := range packages {
		index += strings.Replace(a.build(t, name, p), "Filename: ", "Filename: ./", 1)
	}
	if err := os.WriteFile(filepath.Join(a.Root, name, "Packages"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	a.sign(t, filepath.Join(a.Root, name, "InRelease"), fmt.Sprintf(
		"Origin: NVIDIA\nDate: Fri, 27 Apr 2018 00:00:00 UTC\nSHA512:\n %x %d Packages\n", sha512.Sum512([]byte(index)), len(index)))
}

// sign publishes a Release file, a second after the one before: apt asks what
// changed since a second, and would take two within one for the same.
func (a *Archive) sign(t testing.TB, at, text string) {
	t.Helper()
	a.moment = a.moment.Add(time.Second)
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, a.entity.PrivateKey, &packet.Config{DefaultHash: crypto.SHA512})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(at, out.Bytes(), 0o644)
	}
	if err == nil {
		err = os.Chtimes(at, a.moment, a.moment)
	}
	if err != nil {
		t.Fatal(err)
	}
}
