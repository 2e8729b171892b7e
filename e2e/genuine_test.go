package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// genuineLimit is how long Ubuntu's own live system may take to start its
// installer under software emulation.
const genuineLimit = 60 * time.Minute

// TestGenuineMedium boots the medium that GPUSTRAP_ISO names, remastered, in
// every way, and prints a row for the README's table of what was tried. The seed
// carries the probe as an early-command: the installer itself runs it, after our
// own choice of the disk, and the machine then powers off before anything is
// written. matrix.sh runs this test.
func TestGenuineMedium(t *testing.T) {
	medium := os.Getenv("GPUSTRAP_ISO")
	if medium == "" {
		t.Skip("GPUSTRAP_ISO names no medium")
	}
	release, arch, info := describe(t, medium)
	image, want := lab.Remaster(t, lab.WriteConfig(t, genuineConfig(t, release, arch)), medium)
	rows := []bootRow{
		{firmware: vm.BIOS, bus: vm.CD, device: "/dev/sr0"},
		{firmware: vm.BIOS, bus: vm.USB, device: "/dev/sda1"},
		{firmware: vm.UEFI, bus: vm.CD, device: "/dev/sr0"},
		{firmware: vm.UEFI, bus: vm.USB, device: "/dev/sda1"},
		{firmware: vm.SecureBoot, bus: vm.USB, device: "/dev/sda1"},
	}
	if arch == "arm64" {
		rows = rows[2:4]
	}
	cells := map[string]string{}
	for _, row := range rows {
		name := fmt.Sprintf("%s %s", row.firmware, row.bus)
		cells[name] = "no"
		t.Run(name, func(t *testing.T) {
			report := lab.BootAndReport(t, vm.Config{
				Arch: arch, Firmware: row.firmware, MemoryMiB: 4096,
				Medium: vm.Medium{Path: image, Bus: row.bus},
				Disks:  []vm.Disk{{Path: lab.EmptyDisk(t, 16<<30), Serial: "GENUINE"}},
				Family: "gpustrap-e2e install",
			}, genuineLimit)
			checkStarted(t, report, row.device, row.firmware)
			if !strings.Contains(report["media-check"], `"pass"`) {
				t.Errorf("media check: %s", report["media-check"])
			}
			if report["cloud-init/user-data"] != want {
				t.Error("cloud-init took other user-data than the render")
			}
			if !t.Failed() {
				cells[name] = "yes"
			}
		})
	}
	fmt.Print(tableRow(info, medium, cells, rows))
}

// describe returns the release and architecture of a medium and what its
// .disk/info says.
func describe(t *testing.T, medium string) (release, arch, info string) {
	t.Helper()
	lab.Gpustrap(t, "version")
	out, err := exec.Command(lab.Program(t), "inspect", "--json", medium).Output()
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	var answer struct {
		Description struct{ Info, Architecture string }
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	release = regexp.MustCompile(`\d\d\.\d\d`).FindString(answer.Description.Info)
	return release, answer.Description.Architecture, answer.Description.Info
}

func genuineConfig(t *testing.T, release, arch string) string {
	t.Helper()
	probe, err := os.ReadFile("medium/live/probe")
	if err != nil {
		t.Fatal(err)
	}
	return bootConfig(release, arch, "GENUINE") + "docker: false\nautoinstall:\n  early-commands:\n    - |\n" +
		indent(`cat >/run/probe <<'PROBE_END'
`+string(probe)+`PROBE_END
console=/dev/ttyS0
[ "$(uname -m)" != aarch64 ] || console=/dev/ttyAMA0
sh /run/probe /var/lib/cloud/instance/user-data.txt >$console 2>&1
sync
poweroff -f
`, "      ")
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(by + line)
	}
	return b.String()
}

// tableRow is a row of the README's table: the medium, what booted, the date.
func tableRow(info, medium string, cells map[string]string, rows []bootRow) string {
	var did []string
	for _, row := range rows {
		name := fmt.Sprintf("%s %s", row.firmware, row.bus)
		did = append(did, name+": "+cells[name])
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", info, filepath.Base(medium), strings.Join(did, ", "), time.Now().Format(time.DateOnly))
}
