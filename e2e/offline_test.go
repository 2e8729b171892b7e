package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// offlineConfig is a machine that installs from its medium alone; what it has
// installed then, and from which sources it will, goes to the console.
func offlineConfig(a *apttest.Archive) string {
	text := fmt.Sprintf(`version: 1
ubuntu: "24.04"
hostname: vault
user: {name: ops, authorized_keys: [%q]}
packages: [nvidia-utils-580-server]
storage: {layout: direct, disk: {serial: DISK1}}
boot: {confirm: none}
offline: only
autoinstall:
  late-commands:
    - "echo; echo gpustrap-e2e begin offline"
    - "curtin in-target -- dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' docker-ce containerd.io nvidia-utils-580-server"
    - "cat /target/etc/apt/sources.list.d/*"
    - "ls -A /target/var/lib/gpustrap; grep ' /target/var/' /proc/mounts || true"
    - "grep -cE '^(Get|Ign|Err):[0-9]+ http' /target/var/log/gpustrap/install.log || true"
    - "for n in /sys/class/net/*; do echo network ${n##*/}; done"
    - "echo; echo gpustrap-e2e end offline"
sources:
`, lab.PublicKey)
	for _, name := range []string{"ubuntu", "docker"} {
		text += "  " + name + ": {url: " + a.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	return text
}

// TestInstallOffline installs Docker and a further package on a machine without a
// network card, from the signed repository on the medium that it was started from;
// and, in make soak, not from one on which the package was altered. A driver wants the kernel of its
// own release, which the sample medium does not have: a test of the rendered commands
// installs one from a remastered medium's files.
func TestInstallOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a system in a virtual machine")
	}
	a := apttest.New(t, "24.04")
	config, medium := lab.WriteConfig(t, offlineConfig(a)), lab.SampleMedium(t, "24.04", "full")
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "archive.asc"), a.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	lab.Gpustrap(t, "lock", "-c", config, "--iso", medium)
	image, _ := lab.Remaster(t, config, medium)
	machine := func(t *testing.T, image string) vm.Config {
		return vm.Config{
			MemoryMiB: 2048, Medium: vm.Medium{Path: image, Bus: vm.USB},
			Disks: []vm.Disk{{Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK1"}}, Family: "gpustrap-e2e install",
		}
	}
	t.Run("medium", func(t *testing.T) {
		t.Parallel()
		report := lab.BootAndReport(t, machine(t, image), lab.InstallLimit)
		if report["install"] != "ok" {
			t.Fatalf("the installation: %q", report["install"])
		}
		checkOffline(t, a, report["offline"])
	})
	t.Run("altered", func(t *testing.T) {
		if os.Getenv("GPUSTRAP_SOAK") == "" {
			t.Skip("the rendered commands are run on altered media in autoinstall; make soak boots one")
		}
		t.Parallel()
		const deb = "nvidia-utils-580-server_580.173.02-0ubuntu0.24.04.1_all.deb"
		m := lab.Start(t, machine(t, alteredCopy(t, image, filepath.Join(a.Root, "ubuntu", "pool", deb))))
		if err := m.Wait(lab.Within(t, lab.InstallLimit)); err != nil {
			t.Fatal(err)
		}
		if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
			t.Errorf("the installation: %q, want that it failed", got)
		}
		for _, want := range []string{"the installation of vault failed in the late-commands", "install nvidia-utils-580-server", deb + "  Hash Sum mismatch"} {
			if !strings.Contains(m.Serial(), want) {
				t.Errorf("the console does not show %q", want)
			}
		}
	})
}

// checkOffline holds what the installed system says against what the medium had.
func checkOffline(t *testing.T, a *apttest.Archive, report string) {
	t.Helper()
	for _, want := range []string{
		"docker-ce 5:29.7.2-1~ubuntu.24.04~noble installed", "nvidia-utils-580-server 580.173.02-0ubuntu0.24.04.1 installed",
		"containerd.io 2.2.6-1~ubuntu.24.04~noble installed",
		"URIs: " + a.URL + "/docker", "URIs: " + a.URL + "/ubuntu", "network lo",
	} {
		if !strings.Contains(report, want+"\n") {
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
