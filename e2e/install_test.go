package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// installLimit is how long an installation by the stand-in may take.
const installLimit = 20 * time.Minute

// event is one event of an installation's report, as Subiquity posts it.
type event struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Type        string `json:"event_type"`
	Result      string `json:"result"`
	Level       string `json:"level"`
	Origin      string `json:"origin"`
	Timestamp   float64
}

// eventLog receives events over HTTP.
type eventLog struct {
	mu     sync.Mutex
	events []event
}

func (l *eventLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	w.WriteHeader(http.StatusNoContent)
}

// names returns "type name" of each event so far.
func (l *eventLog) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, e := range l.events {
		names = append(names, e.Type+" "+e.Name+" "+e.Result)
	}
	return names
}

// serveEvents starts a server for events and returns its address as a machine
// on QEMU's user-mode network sees it.
func serveEvents(t *testing.T) (*eventLog, string) {
	t.Helper()
	log := &eventLog{}
	server := httptest.NewServer(log)
	t.Cleanup(server.Close)
	return log, strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
}

// emptyDisk makes a sparse disk image.
func emptyDisk(t *testing.T, size int64) string {
	t.Helper()
	f, err := os.CreateTemp(scratch, "disk*.img")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(f.Name()) })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func installConfig(layout, serial, endpoint string) string {
	return fmt.Sprintf(`version: 1
ubuntu: "24.04"
hostname: box
user: {name: ops, authorized_keys: [%q]}
storage: {layout: %s, disk: {serial: %s}}
docker: false
network: {dhcp: true}
boot: {confirm: none}
report: %q
autoinstall:
  late-commands:
    - "curtin in-target -- sh -c 'test $(stat -c %%i /) = 2 && echo late >/root/late-command'"
    - "d=/target/etc/systemd/system/installed-system-up.service.d; mkdir -p $d; printf '[Service]\\nExecStart=/bin/cat /run/issue.d/50-gpustrap.issue\\n' >$d/issue.conf"
  error-commands: ["echo an error-command"]
`, publicKey, layout, serial, endpoint)
}

// TestInstall installs with the stand-in installer from a remastered medium,
// and starts what was installed.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a system in a virtual machine")
	}
	tests := []struct {
		firmware vm.Firmware
		bus      vm.Bus
		layout   string
		root     string // the installed system's
		data     bool   // with a disk of data that is kept
	}{
		{vm.UEFI, vm.USB, "lvm", "/dev/mapper/ubuntu--vg-ubuntu--lv ext4", false},
		{vm.BIOS, vm.CD, "direct", "/dev/vda2 ext4", true},
	}
	for _, test := range tests {
		t.Run(string(test.firmware)+"-"+test.layout, func(t *testing.T) {
			t.Parallel()
			events, endpoint := serveEvents(t)
			text := installConfig(test.layout, "DISK1", endpoint)
			if test.data {
				text = strings.Replace(text, "disk: {serial: DISK1}", "disk: {serial: DISK1}, data: [{disk: {serial: DATA1}, mount: /srv}]", 1)
				text = strings.Replace(text, "echo late", "cat /srv/kept", 1)
			}
			image, _ := remaster(t, writeConfig(t, text), sampleMedium(t, "24.04", "full"))
			machine := vm.Config{
				Firmware: test.firmware, MemoryMiB: 2048, Network: true,
				Medium: vm.Medium{Path: image, Bus: test.bus},
				// The first disk is the one that the configuration does not mean.
				Disks: []vm.Disk{
					{Path: emptyDisk(t, 16<<30), Serial: "OTHER"},
					{Path: emptyDisk(t, 8<<30), Serial: "DISK1"},
				},
				Family: "gpustrap-e2e install",
			}
			if test.data {
				machine.Disks = append(machine.Disks, vm.Disk{Path: dataDisk(t), Serial: "DATA1"})
			}
			report := bootAndReport(t, machine, installLimit)
			if got := report["install"]; got != "ok" {
				t.Fatalf("the installation: %q\nevents: %s", got, strings.Join(events.names(), "\n"))
			}
			if !isEmpty(t, machine.Disks[0].Path) {
				t.Error("the installation wrote to the other disk")
			}
			checkEvents(t, events)

			if test.layout == "lvm" {
				checkNotAgain(t, machine)
			}
			machine.Medium, machine.Disks = vm.Medium{}, machine.Disks[1:]
			m := start(t, machine)
			if err := m.WaitFor(within(t, bootLimit), "end installed-system"); err != nil {
				t.Fatal(err)
			}
			checkInstalled(t, vm.ParseReport(m.Serial())["installed-system"], test.root)
			if err := m.WaitFor(within(t, time.Minute), "  ssh ops@10.0.2.15"); err != nil {
				t.Errorf("what stands above the login prompt: %v", err)
			}
			if test.data {
				checkKept(t, machine.Disks[1].Path)
			}
		})
	}
}

// checkNotAgain starts a machine that is installed from the medium that installed
// it, as if it had been forgotten there.
func checkNotAgain(t *testing.T, machine vm.Config) {
	t.Helper()
	before := modified(t, machine.Disks)
	m := start(t, machine)
	if err := m.Wait(within(t, installLimit)); err != nil {
		t.Fatal(err)
	}
	if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
		t.Errorf("the second installation: %q, want that it stopped", got)
	}
	const sentence = "/dev/vdb holds a system that was installed already, as box"
	if !strings.Contains(m.Serial(), sentence) {
		t.Errorf("the console does not show %q", sentence)
	}
	if !slices.Equal(before, modified(t, machine.Disks)) {
		t.Error("the second start wrote to a disk")
	}
}

// modified returns when the disks were last written to.
func modified(t *testing.T, disks []vm.Disk) []time.Time {
	t.Helper()
	var times []time.Time
	for _, disk := range disks {
		info, err := os.Stat(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, info.ModTime())
	}
	return times
}

// The second partition of a disk of data, in bytes.
const (
	dataStart = 33 << 20
	dataSize  = 64 << 20
)

// dataDisk makes a disk that somebody's file is on, as an earlier installation
// left it.
func dataDisk(t *testing.T) string {
	t.Helper()
	disk := emptyDisk(t, 128<<20)
	run(t, "label: gpt\nstart=1MiB,size=32MiB\nstart=33MiB,size=64MiB\n", "sfdisk", "--quiet", disk)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "kept"), []byte("late\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "", "mke2fs", "-q", "-t", "ext4", "-d", folder, "-E", fmt.Sprintf("offset=%d", dataStart), disk, fmt.Sprintf("%dk", dataSize>>10))
	return disk
}

// checkKept holds that the file is still there, that the file system is the
// same one, and that the installed system mounted it at /srv.
func checkKept(t *testing.T, disk string) {
	t.Helper()
	volume := fmt.Sprintf("%s?offset=%d", disk, dataStart)
	if got := run(t, "", "debugfs", "-R", "cat /kept", volume); !strings.HasSuffix(got, "late\n") {
		t.Errorf("the file is gone: %s", got)
	}
	if got := run(t, "", "dumpe2fs", "-h", volume); !regexp.MustCompile(`Last mounted on: +/srv\n`).MatchString(got) {
		t.Errorf("the installed system did not mount the disk of data:\n%s", got)
	}
}

// run runs one of the host's tools and returns what it printed.
func run(t *testing.T, input, tool string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, tool), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, out)
	}
	return string(out)
}

// checkInstalled checks what the installed system says of itself.
func checkInstalled(t *testing.T, report, root string) {
	t.Helper()
	lines := strings.Split(report, "\n")
	for _, want := range []string{"hostname box", "root " + root, "failed-units ", "late-command late"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the installed system does not say %q; it says:\n%s", want, report)
		}
	}
	if !regexp.MustCompile(`(?m)^user uid=1000\(ops\).*\bsudo\b`).MatchString(report) {
		t.Errorf("the installed system has no user ops in the group sudo:\n%s", report)
	}
}

// checkEvents holds the stand-in's events against those of a real Subiquity, if
// they are at hand: none that it does not post, and the milestones in its order.
func checkEvents(t *testing.T, got *eventLog) {
	t.Helper()
	recorded := filepath.Join("..", "..", "shared", "data", "subiquity-events-ok.jsonl")
	file, err := os.Open(recorded)
	if os.IsNotExist(err) {
		t.Logf("no recorded events in %s to compare with", recorded)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	known := map[string]bool{}
	var milestones []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		name := generalName(e)
		known[name] = true
		// The network is no section of the stand-in's live system, and these
		// machines power off where the recorded one restarted.
		ours := !strings.Contains(e.Name, "Network/") && !strings.Contains(e.Name, "Shutdown/shutdown")
		if ours && (e.Level == "INFO" || strings.Contains(e.Description, "executing curtin")) {
			milestones = append(milestones, name+" "+e.Description)
		}
	}
	for _, e := range got.events {
		name := generalName(e)
		if !known[name] && !strings.Contains(name, "subiquity/Early/run") {
			t.Errorf("the stand-in posted an event that Subiquity does not know: %s", name)
		}
		if len(milestones) > 0 && name+" "+e.Description == milestones[0] {
			milestones = milestones[1:]
		}
	}
	if len(milestones) > 0 {
		t.Errorf("of Subiquity's milestones the stand-in missed, or posted out of order: %s", milestones[0])
	}
}

var packageOrCommand = regexp.MustCompile(`postinstall/install_[^/]+|command_\d+`)

// generalName is an event's type and name without the names of packages and the
// numbers of commands.
func generalName(e event) string {
	return e.Type + " " + packageOrCommand.ReplaceAllString(e.Name, "N")
}

// isEmpty tells whether nothing was written to a disk that emptyDisk made: then
// the file has no blocks.
func isEmpty(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks == 0
}

// TestInstallWithoutTheDisk starts an installation on a machine that has other
// disks than the configuration means: nothing may be written.
func TestInstallWithoutTheDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	t.Parallel()
	events, endpoint := serveEvents(t)
	config := writeConfig(t, installConfig("lvm", "DISK1", endpoint))
	image, _ := remaster(t, config, sampleMedium(t, "24.04", "full"))
	disk := emptyDisk(t, 8<<30)
	m := start(t, vm.Config{
		MemoryMiB: 2048, Network: true, Medium: vm.Medium{Path: image, Bus: vm.USB},
		Disks: []vm.Disk{{Path: disk, Serial: "OTHER"}}, Family: "gpustrap-e2e install",
	})
	if err := m.Wait(within(t, installLimit)); err != nil {
		t.Fatal(err)
	}
	if got := vm.ParseReport(m.Serial())["install"]; !strings.HasPrefix(got, "failed: ") {
		t.Errorf("the installation: %q, want that it failed", got)
	}
	const sentence = "gpustrap: the installation of box stopped, and nothing was written: the disk with the serial DISK1 is not here"
	if !strings.Contains(m.Serial(), sentence) || events.failure() != sentence {
		t.Errorf("the console does not show %q, or the report address was told otherwise: %q", sentence, events.failure())
	}
	if !isEmpty(t, disk) {
		t.Error("something was written to a disk that the configuration does not mean")
	}
	names := events.names()
	for _, want := range []string{
		"finish subiquity/Early/run/command_2 FAIL", "finish subiquity/Error/run/run/command_0 SUCCESS",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no event %q; there were:\n%s", want, strings.Join(names, "\n"))
		}
	}
}

// TestSeedBesideTheStockMedium boots an untouched medium with the seed on a
// device of its own. The installer finds it, and asks before it writes: the
// stock boot menu does not say autoinstall.
func TestSeedBesideTheStockMedium(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "seed.img")
	gpustrap(t, "seed", "-c", writeConfig(t, installConfig("lvm", "DISK1", "http://10.0.2.2:9/")), "-o", seed)
	disk := emptyDisk(t, 8<<30)
	m := start(t, vm.Config{
		MemoryMiB: 2048, Medium: vm.Medium{Path: sampleMedium(t, "24.04", "full"), Bus: vm.USB},
		Disks: []vm.Disk{{Path: seed, Serial: "SEED"}, {Path: disk, Serial: "DISK1"}}, Family: "gpustrap-e2e install",
	})
	if err := m.WaitFor(within(t, installLimit), "Continue with autoinstall? (yes|no)"); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("no\n"); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitFor(within(t, time.Minute), "(yes|no)\r\nno"); err != nil {
		t.Fatal(err)
	}
	if !isEmpty(t, disk) {
		t.Error("the installer wrote to the disk before it was told yes")
	}
}
