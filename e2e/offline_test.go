package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// The sample's system is Debian 13, whose apt and systemd are nearest to those of
// this release.
const offlineRelease = "26.04"

const reportToken = "correct-horse-battery-staple"

// offlineConfig is a machine that installs from its medium alone and is to have a
// GPU. What it has installed then, and from which sources it will, goes to the
// console; what its late-commands add to the system makes it tell more of itself when
// it is up.
func offlineConfig(a *apttest.Archive, receipts string) string {
	text := fmt.Sprintf(`version: 1
ubuntu: %q
hostname: vault
user: {name: ops, authorized_keys: [%q]}
packages: [tmux]
storage: {layout: lvm, disk: {serial: DISK1}}
gpu: {model: rtx-4090, count: 1, driver: 580-server}
network: {dhcp: true}
ready: {report: %q, token_file: token}
boot: {confirm: none}
offline: only
autoinstall:
  late-commands:
    - "echo; echo gpustrap-e2e begin offline"
    - "curtin in-target -- dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' docker-ce containerd.io nvidia-utils-580-server tmux"
    - "cat /target/etc/apt/sources.list.d/*"
    - "ls -A /target/var/lib/gpustrap; grep ' /target/var/' /proc/mounts || true"
    - "grep -cE '^(Get|Ign|Err):[0-9]+ http' /target/var/log/gpustrap/install.log || true"
    - "for n in /sys/class/net/*; do echo network ${n##*/}; done"
    - "echo; echo gpustrap-e2e end offline"
    - echo late >"$TARGET_MOUNT_POINT/root/late-command"
    - sed -i '/^[[:space:]]*linux/s/$/ quiet console=ttyS0 systemd.show_status=false/' "$TARGET_MOUNT_POINT/boot/grub/grub.cfg"
    - |
      cat >>"$TARGET_MOUNT_POINT/usr/lib/gpustrap-e2e/installed-system-up" <<'END'
      {
        echo
        echo "gpustrap-e2e begin gpu-ready"
        systemctl --no-pager show -p ActiveState,Result,ExecMainStatus gpu-ready.service
        echo "motd $(cat /run/motd.d/50-gpu-ready)"
        echo "groups $(id -nG ops)"
        echo "daemon $(jq -c . /etc/docker/daemon.json)"
        echo "engine $(docker info --format '{{.ServerVersion}} {{json .CDISpecDirs}} {{.LiveRestoreEnabled}}')"
        echo "images $(docker images --format '{{.Repository}}')"
        echo "gpustrap-e2e end gpu-ready"
      } >/run/gpu-ready-report
      cat /run/gpu-ready-report
      END
sources:
`, offlineRelease, lab.PublicKey, receipts)
	for _, name := range []string{"ubuntu", "docker", "toolkit"} {
		text += "  " + name + ": {url: " + a.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	return text
}

// TestInstallOffline installs a machine that is to have a GPU, with Debian's real
// Docker, without a network card, from the signed repository on the medium that it
// was started from. Then it boots the machine with a network card: gpu-ready runs by
// itself, runs a real container, says that no GPU is there, and posts its receipt. In
// make soak it also installs, to no avail, from a medium on which a package was
// altered.
func TestInstallOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a system in a virtual machine")
	}
	t.Parallel()
	medium := lab.SampleMedium(t, offlineRelease, "full")
	a := apttest.New(t, offlineRelease)
	publishDocker(t, a)
	receipts, address := receiveReceipts(t)
	config := lab.WriteConfig(t, offlineConfig(a, address))
	for name, data := range map[string][]byte{"archive.asc": a.Key, "token": []byte(reportToken + "\n")} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(config), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image := remasterOffline(t, config, medium)
	machine := func(t *testing.T, image string) vm.Config {
		return vm.Config{
			Firmware: vm.UEFI, MemoryMiB: 2048, Medium: vm.Medium{Path: image, Bus: vm.USB},
			Disks: []vm.Disk{{Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK1"}}, Family: "gpustrap-e2e install",
		}
	}
	t.Run("medium", func(t *testing.T) {
		t.Parallel()
		c := machine(t, image)
		report := lab.BootAndReport(t, c, lab.InstallLimit)
		if report["install"] != "ok" {
			t.Fatalf("the installation: %q", report["install"])
		}
		checkOffline(t, a, report["offline"])
		c.Medium, c.Network = vm.Medium{}, true
		checkBooted(t, c, receipts)
	})
	t.Run("altered", func(t *testing.T) {
		lab.OnlyInSoak(t, "the rendered commands are run on altered media in autoinstall")
		t.Parallel()
		const deb = "tmux_3.4_all.deb"
		m := lab.Start(t, machine(t, alteredCopy(t, image, filepath.Join(a.Root, "ubuntu", "pool", deb))))
		if err := m.Wait(lab.Within(t, lab.InstallLimit)); err != nil {
			t.Fatal(err)
		}
		if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
			t.Errorf("the installation: %q, want that it failed", got)
		}
		for _, want := range []string{"the installation of vault failed in the late-commands", "install tmux", deb + "  Hash Sum mismatch"} {
			if !strings.Contains(m.Serial(), want) {
				t.Errorf("the console does not show %q", want)
			}
		}
	})
}

// remasterOffline locks the machine's packages and returns the medium with them.
func remasterOffline(t *testing.T, config, medium string) string {
	t.Helper()
	image, cache := filepath.Join(t.TempDir(), "image.iso"), "XDG_CACHE_HOME="+t.TempDir()
	for _, args := range [][]string{
		{"lock", "-c", config, "--iso", medium},
		{"remaster", "-c", config, "--iso", medium, "-o", image},
	} {
		cmd := exec.Command(lab.Program(t), args...)
		cmd.Env = append(os.Environ(), cache)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gpustrap %s: %v\n%s", args[0], err, out)
		}
	}
	return image
}

// checkBooted boots what was installed and checks what it says of itself and posts.
func checkBooted(t *testing.T, c vm.Config, receipts <-chan posted) {
	t.Helper()
	m := lab.Start(t, c)
	if err := m.WaitFor(lab.Within(t, 2*lab.BootLimit), "end gpu-ready"); err != nil {
		t.Fatal(err)
	}
	serial := m.Serial()
	report := vm.ParseReport(serial)
	lab.CheckSays(t, report["installed-system"], "hostname vault", "root /dev/mapper/ubuntu--vg-ubuntu--lv ext4", "failed-units gpu-ready.service", "late-command late")
	checkTold(t, strings.Split(report["gpu-ready"], "\n"))
	console, _, _ := strings.Cut(serial, "gpustrap-e2e begin installed-system")
	if !strings.Contains(console, noGPU) {
		t.Errorf("the console does not say %q", noGPU)
	}
	select {
	case got := <-receipts:
		checkReceipt(t, got)
	default:
		t.Error("no receipt was posted")
	}
}

// publishDocker makes the archive one whose driver is for the sample's kernel and has
// no payload, and whose Docker CE is made of Debian's Docker.
func publishDocker(t *testing.T, a *apttest.Archive) {
	t.Helper()
	out, err := exec.Command("medium/parts.sh", "amd64", "docker").Output()
	if err != nil {
		t.Fatalf("medium/parts.sh: %v", err)
	}
	parts := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, folder, _ := strings.Cut(strings.TrimSpace(line), "=")
		parts[name] = folder
	}
	glob := func(pattern string) []string {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("there is no %s (%v)", pattern, err)
		}
		return found
	}
	kernel := filepath.Base(glob(filepath.Join(parts["debs"], "root/usr/lib/modules/*"))[0])
	docker := []apttest.Package{{Name: "docker-buildx-plugin", Version: "1"}, {Name: "docker-compose-plugin", Version: "1"}}
	var universe []apttest.Package
	for _, deb := range glob(filepath.Join(parts["docker"], "*.deb")) {
		if name := filepath.Base(deb); strings.HasPrefix(name, "docker-ce") || strings.HasPrefix(name, "containerd.io") {
			docker = append(docker, apttest.Package{Deb: deb})
		} else {
			universe = append(universe, apttest.Package{Deb: deb})
		}
	}
	vintage := apttest.Current
	vintage.Kernel, vintage.Release = "6.8.0-147", kernel
	a.PublishUbuntu(t, vintage, universe...)
	a.Publish(t, "docker", "resolute", map[string][]apttest.Package{"stable": docker})
}

// checkOffline holds what the installed system says against what the medium had.
func checkOffline(t *testing.T, a *apttest.Archive, report string) {
	t.Helper()
	for _, want := range []string{
		"docker-ce 5:26.", "containerd.io 5:", "nvidia-utils-580-server 580.173.02-0ubuntu0.24.04.1 installed\n", "tmux 3.4 installed\n",
		"URIs: " + a.URL + "/docker\n", "URIs: " + a.URL + "/ubuntu\n", "URIs: " + a.URL + "/toolkit", "network lo\n",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the installed system does not say %q; it says:\n%s", want, report)
		}
	}
	for _, wrong := range []string{"file:", "medium", "lists", "network e", "trusted=yes"} {
		if strings.Contains(report, wrong) {
			t.Errorf("%q is left on the installed system, which says:\n%s", wrong, report)
		}
	}
	if !strings.Contains("\n"+report, "\n0\n") {
		t.Errorf("apt tried the network:\n%s", report)
	}
}

// alteredCopy returns a copy of an image in which one bit of a file is another.
func alteredCopy(t *testing.T, image, file string) string {
	t.Helper()
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, content)
	if at < 0 {
		t.Fatalf("the image does not have %s", file)
	}
	data[at+len(content)-1] ^= 1
	out := filepath.Join(lab.Scratch(), "altered.iso")
	if err := os.WriteFile(out, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}
