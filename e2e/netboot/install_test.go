package netboot

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// installConfig is of machines that are to have a GPU, which none in QEMU has. Their
// gpu-ready is not to wait for the driver of an archive whose packages have no payload.
// TestInstallOffline of package e2e installs Docker, too.
const installConfig = `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: [%q]}
storage: {layout: direct, disk: {serial: DISK1}, data: [{disk: {serial: DATA1}, mount: /srv}]}
gpu: {model: rtx-4090, count: 1, driver: 580-server}
docker: false
ready: {token_file: token}
after: reboot
sources:
  ubuntu: {url: %[2]s/ubuntu, key: {file: archive.asc}, fingerprint: %[3]s}
autoinstall:
  late-commands:
    - "curtin in-target -- sh -c 'test $(stat -c %%i /) = 2 && cat /srv/kept >/root/late-command'"
    - "d=/target/etc/systemd/system/gpu-ready.service.d; mkdir -p $d; printf '[Service]\\nEnvironment=GPU_READY_WAIT=5\\n' >$d/wait.conf"
`

// noGPU begins what gpu-ready says of a machine of QEMU.
const noGPU = "NOT GPU-ready: no NVIDIA GPU is on the PCI bus; see 'lspci -d 10de:'"

// installSteps are the steps of an installation that the server is to have heard of.
var installSteps = []string{
	"read the autoinstall", "early-commands", "check the configuration", "configure apt", "partition the disk", "unpack the system",
	"kernel and boot loader", "packages", "security updates", "late-commands", "shut down",
}

// installLimit is how long installations by the stand-in may take.
const installLimit = 40 * time.Minute

// archiveAddress is where the site has its archive of packages.
const archiveAddress = "http://" + siteAddress + ":8000"

// archive has the site serve packages without payload, for the kernel of the sample's
// system.
func (n network) archive(t *testing.T) *apttest.Archive {
	t.Helper()
	a := apttest.New(t, "24.04")
	vintage := apttest.Current
	vintage.Kernel, vintage.Release = "6.8.0-147", sampleKernel(t)
	a.PublishUbuntu(t, vintage)
	n.background(t, "site", oracle.Need(t, "python3"), "-m", "http.server", "--bind", siteAddress, "--directory", a.Root, "8000")
	n.answers(t, archiveAddress+"/ubuntu/dists/noble/InRelease")
	return a
}

// sampleKernel returns the release of the sample media's kernel.
func sampleKernel(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../medium/parts.sh", "amd64", "light").Output()
	if err != nil {
		t.Fatalf("parts.sh: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if debs, ok := strings.CutPrefix(strings.TrimSpace(line), "debs="); ok {
			found, err := filepath.Glob(filepath.Join(debs, "root/usr/lib/modules/*"))
			if err != nil || len(found) != 1 {
				t.Fatalf("the kernels of the sample media: %v, %v", found, err)
			}
			return filepath.Base(found[0])
		}
	}
	t.Fatalf("parts.sh names no packages:\n%s", out)
	return ""
}

// installation is a machine that is installed and how it boots.
type installation struct {
	boot
	settings string // of the machine
	medium   bool   // its own image, over HTTP
	unit     bool   // it is to run serve by its unit
}

// TestInstall installs machines from the firmware's first DHCP request to the receipt
// of the installed system, with the stand-in installer: BIOS in CI, the other ways to
// boot in make soak.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a system in a virtual machine")
	}
	const reserved = ", gpu: {model: rtx-4090, count: 1, driver: 580-server, secure_boot: required}, network: {addresses: [10.77.0.%d/24], gateway: 10.77.0.1}"
	bios := installation{boot: boot{firmware: vm.BIOS, seen: []string{"boot.ipxe"}}}
	pxe := installation{boot: boot{firmware: vm.UEFI, seen: []string{"NBP filename is ipxe-amd64.efi", "boot.ipxe"}}}
	byHTTP := installation{boot: boot{firmware: vm.UEFI, extra: httpBoot, seen: []string{"URI: " + base + "/boot/shimx64.efi"}}}
	medium := installation{boot: boot{firmware: vm.UEFI}, medium: true}
	tests := []struct {
		name     string
		soak     bool
		args     []string // of the server
		machines []installation
	}{
		{"BIOS", false, nil, []installation{bios}},
		{"serve's unit", true, nil, []installation{{boot: bios.boot, unit: true}}},
		{"four at once", true, nil, []installation{bios, pxe, byHTTP, medium}},
		{"Secure Boot", true, []string{"--dhcp", "reservation"}, []installation{
			{boot: boot{firmware: vm.SecureBoot, seen: []string{"NBP filename is shimx64.efi"}}, settings: fmt.Sprintf(reserved, 20)},
			{boot: boot{firmware: vm.SecureBoot, extra: httpBoot, seen: []string{"URI: " + base + "/boot/shimx64.efi"}}, settings: fmt.Sprintf(reserved, 21)},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.soak {
				lab.OnlyInSoak(t, "the ways to boot are tried with a light medium")
			}
			n := newNetwork(t, len(test.machines))
			if test.args == nil {
				n.siteDHCP(t)
			}
			installAll(t, n, test.machines, test.args)
		})
	}
}

// installAll installs machines at the same time, and waits for their receipts.
func installAll(t *testing.T, n network, machines []installation, args []string) {
	t.Helper()
	began := time.Now()
	a := n.archive(t)
	text := fmt.Sprintf(installConfig, lab.PublicKey, archiveAddress, a.Fingerprint)
	if machines[0].unit {
		text += serveUnit(t, a)
	}
	text += "machines:\n"
	for i, m := range machines {
		text += fmt.Sprintf("  - {name: node%d, match: {mac: %q}%s}\n", i, macOf(i), m.settings)
	}
	s := n.serve(t, text, lab.SampleMedium(t, "24.04", "full"), args, map[string][]byte{
		"archive.asc": a.Key, "token": []byte("correct-horse-battery-staple\n"),
	})
	configs := make([]vm.Config, len(machines))
	running := make([]*vm.VM, len(machines))
	for i, m := range machines {
		configs[i] = n.installed(t, s, i, m)
		running[i] = lab.StartNow(t, configs[i])
	}
	for i, m := range machines {
		if err := running[i].WaitFor(lab.Within(t, installLimit), "end install\r"); err != nil {
			t.Fatalf("node%d: %v", i, err)
		}
		if got := vm.ParseReport(running[i].Serial())["install"]; got != "ok" {
			t.Fatalf("node%d: the installation: %q", i, got)
		}
		t.Logf("node%d: installed after %s", i, time.Since(began).Round(time.Second))
		if m.medium { // it is closed now, and a controller takes it out
			if err := running[i].Wait(lab.Within(t, lab.BootLimit)); err != nil {
				t.Fatal(err)
			}
			configs[i].Medium = vm.Medium{}
			running[i] = lab.StartNow(t, configs[i])
		}
	}
	for i, m := range machines {
		name := fmt.Sprintf("node%d", i)
		if err := running[i].WaitFor(lab.Within(t, installLimit), "end installed-system"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		poll(t, "the receipt of "+name, func() bool { return s.phase(t, name) != "installed" })
		t.Logf("%s: proved after %s", name, time.Since(began).Round(time.Second))
		if m.unit {
			if err := running[i].WaitFor(lab.Within(t, installLimit), "end serve-unit"); err != nil {
				t.Fatal(err)
			}
			checkUnit(t, vm.ParseReport(running[i].Serial())["serve-unit"])
		}
		running[i].Close()
		checkInstalled(t, name, m, configs[i], running[i].Serial())
		checkTold(t, s, name, m)
	}
}

// installed arms node i and returns its virtual machine. The disk that is installed to
// is the first one, as the local boot of BIOS wants it.
func (n network) installed(t *testing.T, s *server, i int, m installation) vm.Config {
	t.Helper()
	c := n.machine(i, m.firmware)
	c.MemoryMiB, c.Family, c.Extra = 2560, "gpustrap-e2e install", m.extra
	c.Disks = []vm.Disk{
		{Path: lab.EmptyDisk(t, 8<<30), Serial: "DISK1"}, {Path: lab.DataDisk(t), Serial: "DATA1"},
		{Path: lab.EmptyDisk(t, 16<<30), Serial: "OTHER"},
	}
	name := fmt.Sprintf("node%d", i)
	if m.medium {
		n.insert(t, &c, s.armMedium(t, name))
	} else {
		s.command(t, "arm", "--yes", name)
	}
	return c
}

// checkInstalled holds what the serial port showed of a machine's boots and what the
// installed system said of itself, and looks at its disks.
func checkInstalled(t *testing.T, name string, m installation, c vm.Config, serial string) {
	t.Helper()
	seen := m.seen
	if !m.medium {
		// The network came first in its boot order the second time, too.
		seen = append(slices.Clone(seen), "boots from its own disk: it is installed")
	}
	for _, text := range seen {
		if !strings.Contains(serial, text) {
			t.Errorf("%s: the serial port does not show %q", name, text)
		}
	}
	for _, want := range []string{"hostname " + name, "failed-units gpu-ready.service", "late-command late"} {
		// A login prompt may have come before the line.
		if !regexp.MustCompile(`(?m)(^|login: )` + regexp.QuoteMeta(want) + `\r*$`).MatchString(serial) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
	lab.CheckKept(t, c.Disks[1].Path)
	if !lab.IsEmpty(t, c.Disks[2].Path) {
		t.Errorf("%s: the installation wrote to another disk", name)
	}
}

// checkTold holds what the server says of a machine that is installed and has no GPU.
func checkTold(t *testing.T, s *server, name string, m installation) {
	t.Helper()
	var views []struct {
		Record struct {
			Phase   string
			Why     string
			History []struct{ Phase string }
			Receipt struct {
				Ready bool
				Line  string
			}
		}
		Waits    string
		Timeline struct{ Spans []struct{ Step string } }
	}
	text := s.command(t, "status", "--json", name)
	if err := json.Unmarshal([]byte(text), &views); err != nil || len(views) != 1 {
		t.Fatalf("status of %s: %v\n%s", name, err, text)
	}
	v := views[0]
	var phases, steps []string
	for _, e := range v.Record.History {
		phases = append(phases, e.Phase)
	}
	for _, span := range v.Timeline.Spans {
		steps = append(steps, span.Step)
	}
	want := "armed booting seeded installing installed failed"
	if m.medium { // which has its seed with it
		want = "armed booting installing installed failed"
	}
	if got := strings.Join(phases, " "); got != want {
		t.Errorf("%s went through %q, want %q", name, got, want)
	}
	if v.Record.Receipt.Ready || !strings.HasPrefix(v.Record.Receipt.Line, noGPU) || !strings.HasPrefix(v.Record.Why, noGPU) {
		t.Errorf("%s is %s because %q, with the receipt %+v", name, v.Record.Phase, v.Record.Why, v.Record.Receipt)
	}
	if !slices.Equal(steps, installSteps) {
		t.Errorf("%s: the timeline is %q, want %q", name, steps, installSteps)
	}
	printed := s.command(t, "status", name)
	if !regexp.MustCompile(`(?m)^` + name + ` +failed .*` + regexp.QuoteMeta(noGPU)).MatchString(printed) {
		t.Errorf("status prints:\n%s", printed)
	}
}
