package autoinstall

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
)

// These tests install out of Debian's own archive, signed as Debian signs it:
// its NVIDIA driver, and its Docker under the names of Docker's packages. Files
// and maintainer scripts are the real ones. What a chroot cannot have is a GPU.

// bookwormKey signs Debian's releases besides newer keys, and is in every
// keyring of Debian 12 or later.
const (
	bookwormKey         = "/usr/share/keyrings/debian-archive-bookworm-automatic.gpg"
	bookwormFingerprint = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"
)

// debianMirror is the archive that debootstrap takes unless told otherwise.
func debianMirror(t *testing.T) string {
	t.Helper()
	if mirror := os.Getenv("GPUSTRAP_MIRROR"); mirror != "" {
		return mirror
	}
	text, err := os.ReadFile("/usr/sbin/debootstrap")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^DEF_MIRROR="(.*)"$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("debootstrap names no mirror")
	}
	return string(found[1])
}

// debs downloads packages of Debian, with what they need, once and for all.
func (tg *target) debs(suite string, names ...string) string {
	tg.t.Helper()
	folder := filepath.Join(filepath.Dir(tg.base), "debs-"+suite+"-"+names[0])
	out, err := exec.Command("testdata/chroot/debs", append([]string{suite, tg.base, folder}, names...)...).CombinedOutput()
	if err != nil {
		tg.t.Fatalf("debs: %v\n%s", err, out)
	}
	return folder
}

// repack makes a package of one or more of Debian's, under another name: their
// files, the first one's maintainer scripts, and the relations of the real one.
func repack(t *testing.T, folder, name, relations string, debs ...string) apttest.Package {
	t.Helper()
	run := func(command ...string) {
		t.Helper()
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
	}
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for i, deb := range debs {
		found, err := filepath.Glob(filepath.Join(folder, deb+"_*.deb"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", deb, found, err)
		}
		if i == 0 {
			run("dpkg-deb", "-R", found[0], tree)
		} else {
			run("dpkg-deb", "-x", found[0], tree)
		}
	}
	control, err := os.ReadFile(filepath.Join(tree, "DEBIAN/control"))
	if err != nil {
		t.Fatal(err)
	}
	drop := regexp.MustCompile(`(?m)^(Package|Source|Depends|Recommends|Suggests|Conflicts|Breaks|Replaces|Built-Using|Static-Built-Using): .*\n`)
	text := "Package: " + name + "\n" + relations + drop.ReplaceAllString(string(control), "")
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^Version: (.*)$`).FindStringSubmatch(text)[1]
	made := filepath.Join(dir, name+"_"+version+"_amd64.deb")
	run("dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, made)
	return apttest.Package{Deb: made}
}

// debian returns a machine whose archive is Debian's, trixie as Ubuntu 26.04.
func debian(t *testing.T, tg *target) Input {
	t.Helper()
	const release = "26.04"
	a := apttest.New(t, release)
	folder := tg.debs("trixie", "docker.io", "docker-cli", "docker-buildx", "docker-compose")
	a.PublishDocker(t, []apttest.Package{
		repack(t, folder, "docker-ce", "Depends: containerd.io, docker-ce-cli, iptables, tini, adduser\nConflicts: docker.io\n", "docker.io"),
		repack(t, folder, "docker-ce-cli", "Conflicts: docker-cli\n", "docker-cli"),
		repack(t, folder, "containerd.io", "Provides: containerd, runc\nConflicts: containerd, runc\n", "containerd", "runc"),
		repack(t, folder, "docker-buildx-plugin", "", "docker-buildx"),
		repack(t, folder, "docker-compose-plugin", "", "docker-compose"),
	})
	// Canonical's way to bring modules: prebuilt, in a package for the kernel.
	const kernel = "6.99.0-1-generic"
	a.PublishToolkit(t, []apttest.Package{{Name: "linux-modules-nvidia-550-open-generic", Version: "1", Files: map[string]string{
		"/boot/vmlinuz-" + kernel:                                     "kernel",
		"/lib/modules/" + kernel + "/kernel/nvidia-550/nvidia.ko.zst": "module",
	}}})

	in := on(a, lab(release))
	key, err := os.ReadFile(filepath.Join(tg.base, bookwormKey))
	if err != nil {
		t.Fatal(err)
	}
	in.Machine.Docker.Version = ""
	in.Machine.Sources.Ubuntu = config.Source{URL: debianMirror(t), Suite: "trixie", Key: key, Fingerprint: bookwormFingerprint}
	in.Stack = &gpu.Stack{
		Branch: gpu.Branch{Name: "550"}, Flavour: gpu.Open, Source: "ubuntu",
		Packages:   []string{"linux-modules-nvidia-550-open-generic", "nvidia-smi", "nvidia-persistenced", "libcuda1", "nvidia-kernel-support", "initramfs-tools"},
		Components: []string{"contrib", "non-free", "non-free-firmware"},
		Services:   []string{"nvidia-persistenced.service"},
		Hold:       []string{"nvidia-smi", "nvidia-persistenced", "libcuda1", "nvidia-kernel-support"},
	}
	return in
}

func TestDebianArchive(t *testing.T) {
	tg := newTarget(t, "26.04")
	in := debian(t, tg)
	seed := mustRender(t, in)
	out, err := tg.install(seed, "26.04")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, tg.run("tail -n 60 /var/log/gpustrap/install.log"))
	}
	t.Log(out)

	versions := tg.run(`dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n'`)
	for _, want := range []string{
		"docker-ce 26.1.", "docker-ce-cli 26.1.", "containerd.io 1.7.", "docker-compose-plugin 2.26.", "nvidia-smi 550.", "libcuda1 550.",
		"nvidia-persistenced 550.", "nvidia-legacy-check 550.", "nvidia-container-toolkit 1.20.1-1",
	} {
		if !strings.Contains(versions, "installed "+want) {
			t.Errorf("%s is not installed:\n%s", want, versions)
		}
	}
	tg.run("test -z \"$(dpkg --audit)\" && apt-get check")

	// The archive's own signature, held against one key alone.
	tg.run("grep -qx 'Signed-By: /etc/apt/keyrings/gpustrap-ubuntu.gpg' /etc/apt/sources.list.d/ubuntu.sources")
	if keys := tg.run("gpg --homedir /tmp --batch --with-colons --show-keys /etc/apt/keyrings/gpustrap-ubuntu.gpg | grep -c ^pub"); !strings.HasSuffix(keys, "1") {
		t.Errorf("the keyring of the archive holds %s keys", keys)
	}

	// Docker's own judgement of its configuration, and the driver's programs.
	tg.run("dockerd --validate --config-file /etc/docker/daemon.json && docker --version && nvidia-smi --help >/dev/null && getent group docker")
	tg.run("! dockerd --validate --config-file /etc/gpustrap/machine.env")
	enabled := tg.run("find /etc/systemd/system -name '*.wants' -exec ls {} +")
	for _, unit := range []string{"docker.service", "containerd.service", "nvidia-persistenced.service", "gpu-settings.service", "gpu-ready.service"} {
		if !slices.Contains(strings.Fields(enabled), unit) {
			t.Errorf("%s is not enabled: %s", unit, enabled)
		}
	}
	tg.run("grep -q '^blacklist nouveau' /etc/modprobe.d/gpustrap-nouveau.conf")
	tg.run("! test -e /usr/sbin/policy-rc.d && ! test -e /root/.gnupg && ! find /etc /usr/local -name '*.gpustrap-new' | grep .")
	// Maintainer scripts wanted to start services; nothing runs.
	tg.run("grep -q 'policy-rc.d denied execution of start' /var/log/gpustrap/install.log")
	if out, err := exec.Command("sh", "-c", `for p in /proc/[0-9]*/root; do case $(readlink "$p") in `+tg.dir+`/*) ls -l "$p" ;; esac; done | grep .`).CombinedOutput(); err == nil {
		t.Errorf("processes are left in the system:\n%s", out)
	}

	before := tg.state()
	if out, err := tg.install(seed, "26.04"); err != nil {
		t.Fatalf("the second run: %v\n%s", err, out)
	}
	if after := tg.state(); after != before {
		t.Errorf("the second run changed something; before:\n%s\nafter:\n%s", before, after)
	}

	t.Run("published ports", func(t *testing.T) { checkPorts(t, tg) })
}

// startDocker starts the engine with the machine's own daemon.json, in namespaces
// that end with it, and publishes a port in each kind of network.
const startDocker = `set -eu
cd "$TARGET_MOUNT_POINT"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs tmpfs run
exec unshare --net --pid --fork sh -euc '
mount -t proc proc proc
ip link set lo up
exec chroot . sh -euc "$1"' sh '
dockerd --storage-driver vfs >/var/log/dockerd 2>&1 &
for i in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 0.5; done
docker info >/dev/null || { cat /var/log/dockerd; exit 1; }
tar -C / -c usr/bin/sleep lib64 usr/lib64 usr/lib/x86_64-linux-gnu/libc.so.6 usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 | docker import - sleep >/dev/null
docker network create own >/dev/null
docker run -d --name first -p 8001:80 sleep sleep 60 >/dev/null
docker run -d --name second --network own -p 8002:80 sleep sleep 60 >/dev/null
docker run -d --name third --network own -p 0.0.0.0:8003:80 sleep sleep 60 >/dev/null
docker port first
docker port second
docker port third
'
`

// checkPorts asks a running engine where it publishes ports.
func checkPorts(t *testing.T, tg *target) {
	t.Helper()
	out, err := tg.enter("sh", "-c", startDocker)
	if want := "80/tcp -> 127.0.0.1:8001\n80/tcp -> 127.0.0.1:8002\n80/tcp -> 0.0.0.0:8003\n"; err != nil || out != want {
		t.Errorf("%v, want\n%sgot\n%s", err, want, out)
	}
}
