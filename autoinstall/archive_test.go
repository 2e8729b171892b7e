package autoinstall

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

type debPackage struct {
	name, version string
	fields        string            // further control fields
	files         map[string]string // path -> content; executable under bin and sbin
	postinst      string
}

const (
	kernelVersion = "6.8.0-146-generic"
	driverVersion = "580.173.02-0ubuntu0.24.04.1"
)

func unit(description string) string {
	return "[Unit]\nDescription=" + description + "\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
}

func ubuntuMain() []debPackage {
	return []debPackage{
		{name: "initramfs-tools", version: "0.142", files: map[string]string{
			"/usr/sbin/update-initramfs": "#!/bin/sh\nfor k in /boot/vmlinuz-*; do echo \"$*\" >\"/boot/initrd.img-${k#*vmlinuz-}\"; done\n",
		}},
		{name: "linux-generic", version: "6.8.0-146.146", fields: "Depends: linux-image-" + kernelVersion},
		{name: "linux-image-" + kernelVersion, version: "6.8.0-146.146", fields: "Depends: initramfs-tools", files: map[string]string{
			"/boot/vmlinuz-" + kernelVersion:             "kernel",
			"/lib/modules/" + kernelVersion + "/modules": "modules",
		}},
		{name: "htop", version: "3.3.0"},
		{name: "tmux", version: "3.4"},
	}
}

func ubuntuRestricted() []debPackage {
	return []debPackage{
		{name: "linux-modules-nvidia-580-server-open-generic", version: "6.8.0-146.146",
			fields: "Depends: linux-modules-nvidia-580-server-open-" + kernelVersion},
		{name: "linux-modules-nvidia-580-server-open-" + kernelVersion, version: "6.8.0-146.146", files: map[string]string{
			"/lib/modules/" + kernelVersion + "/kernel/nvidia-580-server-open/nvidia.ko.zst": "module",
		}},
		{name: "nvidia-headless-no-dkms-580-server-open", version: driverVersion,
			fields: "Depends: nvidia-compute-utils-580-server"},
		{name: "nvidia-compute-utils-580-server", version: driverVersion, files: map[string]string{
			"/lib/systemd/system/nvidia-persistenced.service": unit("NVIDIA persistence daemon"),
		}},
		{name: "nvidia-utils-580-server", version: driverVersion, files: map[string]string{
			// What happens to whoever asks the GPU where there is none.
			"/usr/bin/nvidia-smi": "#!/bin/sh\necho 'asked the GPU in a chroot' >/nvidia-smi-was-run\nexit 9\n",
		}},
	}
}

func dockerPackages(release string) []debPackage {
	suffix := "-1~ubuntu." + release + "~" + codenames[release]
	engine := func(version string) []debPackage {
		return []debPackage{
			{name: "docker-ce", version: version, fields: "Depends: containerd.io (>= 2.1.5), docker-ce-cli\nConflicts: docker.io", files: map[string]string{
				"/usr/bin/dockerd":                   "#!/bin/sh\n[ \"$1 $2\" = '--validate --config-file' ] && exec python3 -m json.tool \"$3\"\n",
				"/lib/systemd/system/docker.service": unit("Docker"),
			}, postinst: "getent group docker >/dev/null || groupadd --system docker\n"},
			{name: "docker-ce-cli", version: version, files: map[string]string{"/usr/bin/docker": "#!/bin/sh\nexit 1\n"}},
		}
	}
	out := append(engine("5:29.6.1"+suffix), engine("5:29.7.2"+suffix)...)
	return append(out,
		debPackage{name: "containerd.io", version: "2.2.6-1~ubuntu." + release + "~" + codenames[release],
			fields: "Conflicts: containerd, runc", files: map[string]string{
				"/lib/systemd/system/containerd.service": unit("containerd"),
				"/etc/containerd/config.toml":            "disabled_plugins = [\"cri\"]\n#root = \"/var/lib/containerd\"\n[grpc]\n  root = \"kept\"\n",
			}},
		debPackage{name: "docker-buildx-plugin", version: "0.35.0" + suffix},
		debPackage{name: "docker-compose-plugin", version: "5.0.2" + suffix},
	)
}

func toolkitPackages() []debPackage {
	var out []debPackage
	for _, v := range []string{"1.20.0-1", "1.20.1-1"} {
		out = append(out,
			debPackage{name: "nvidia-container-toolkit", version: v,
				fields: "Depends: nvidia-container-toolkit-base (= " + v + "), libnvidia-container-tools (= " + v + ")"},
			debPackage{name: "nvidia-container-toolkit-base", version: v, files: map[string]string{
				"/usr/bin/nvidia-ctk":                            nvidiaCTK,
				"/lib/systemd/system/nvidia-cdi-refresh.service": unit("refresh"),
				"/lib/systemd/system/nvidia-cdi-refresh.path":    strings.Replace(unit("refresh"), "[Service]\nExecStart=/bin/true", "[Path]\nPathChanged=/x", 1),
			}},
			debPackage{name: "libnvidia-container-tools", version: v, fields: "Depends: libnvidia-container1 (= " + v + ")"},
			debPackage{name: "libnvidia-container1", version: v},
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

// archive is a server of signed package repositories.
type archive struct {
	url         string
	key         []byte // armored
	fingerprint string
	root        string
	entity      *openpgp.Entity
}

// newArchive serves the repositories of one release: ubuntu, docker and toolkit.
func newArchive(t *testing.T, release string) *archive {
	t.Helper()
	oracle.Need(t, "dpkg-deb")
	entity, err := openpgp.NewEntity("gpustrap test", "", "test@example", &packet.Config{RSABits: 3072, DefaultHash: crypto.SHA512})
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
	a := &archive{
		root: t.TempDir(), entity: entity, key: key.Bytes(),
		fingerprint: fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint),
	}
	server := httptest.NewServer(http.FileServer(http.Dir(a.root)))
	t.Cleanup(server.Close)
	a.url = server.URL

	suite := codenames[release]
	for _, pocket := range []string{"", "-updates", "-security"} {
		a.publish(t, "ubuntu", suite+pocket, map[string][]debPackage{"main": ubuntuMain(), "restricted": ubuntuRestricted(), "universe": nil, "multiverse": nil})
	}
	a.publish(t, "docker", suite, map[string][]debPackage{"stable": dockerPackages(release)})
	a.publishFlat(t, "toolkit", toolkitPackages())
	return a
}

// build makes a package in a folder of the archive and returns its stanza for
// an index. A package that is there already is taken as it is.
func (a *archive) build(t *testing.T, dir string, p debPackage) string {
	t.Helper()
	pool := filepath.Join(a.root, dir)
	name := strings.ReplaceAll(p.name+"_"+p.version+"_all.deb", ":", "%3a")
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: gpustrap <test@example>\nDescription: stand-in\n", p.name, p.version)
	if p.fields != "" {
		control += p.fields + "\n"
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
		if p.postinst != "" {
			write("DEBIAN/postinst", "#!/bin/sh\nset -e\n"+p.postinst, 0o755)
		}
		for path, content := range p.files {
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

func (a *archive) publish(t *testing.T, name, suite string, components map[string][]debPackage) {
	t.Helper()
	dist := filepath.Join(a.root, name, "dists", suite)
	release := fmt.Sprintf("Origin: Ubuntu\nLabel: %s\nSuite: %s\nCodename: %s\nDate: %s\nArchitectures: amd64\nComponents:",
		name, suite, suite, time.Now().UTC().Format(time.RFC1123))
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
func (a *archive) publishFlat(t *testing.T, name string, packages []debPackage) {
	t.Helper()
	index := ""
	for _, p := range packages {
		index += strings.Replace(a.build(t, name, p), "Filename: ", "Filename: ./", 1)
	}
	if err := os.WriteFile(filepath.Join(a.root, name, "Packages"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	a.sign(t, filepath.Join(a.root, name, "InRelease"), fmt.Sprintf(
		"Origin: NVIDIA\nDate: Fri, 27 Apr 2018 00:00:00 UTC\nSHA512:\n %x %d Packages\n", sha512.Sum512([]byte(index)), len(index)))
}

func (a *archive) sign(t *testing.T, at, text string) {
	t.Helper()
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
	if err != nil {
		t.Fatal(err)
	}
}
