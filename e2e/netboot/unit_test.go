package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/e2e/lab"
)

// unitConfig is of a machine that a server which was installed may install in turn.
const unitConfig = `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: [%q]}
docker: false
storage: {layout: direct, disk: {serial: DISK1}}
machines:
  - {name: spare, match: {mac: "52:54:00:77:01:00"}}
`

// unitCommands puts the program onto an installed system, which then runs serve by its
// unit and says how that went.
const unitCommands = `    - |
      mkdir -p /target/etc/gpustrap
      get() { curl -fsS -o "/target/$2" "$1/e2e/${2##*/}" && chmod "$3" "/target/$2"; }
      get %[1]s usr/local/bin/gpustrap 755 && get %[1]s usr/local/bin/serve-unit.sh 755
      get %[1]s usr/local/lib/medium.iso 644 && get %[1]s etc/gpustrap/gpustrap.yaml 640
      d=/target/etc/systemd/system/installed-system-up.service.d; mkdir -p $d
      printf '[Service]\nExecStart=/usr/local/bin/serve-unit.sh\n' >$d/unit.conf
`

// serveUnit has the site give out what unitCommands asks for.
func serveUnit(t *testing.T, a *apttest.Archive) string {
	t.Helper()
	dir := filepath.Join(a.Root, "e2e")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"gpustrap": lab.Program(t), "medium.iso": lab.SampleMedium(t, "24.04", "light"),
		"serve-unit.sh": filepath.Join(lab.Root(t), "e2e", "netboot", "serve-unit.sh"),
		"gpustrap.yaml": lab.WriteConfig(t, fmt.Sprintf(unitConfig, lab.PublicKey)),
	} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf(unitCommands, archiveAddress)
}

// checkUnit holds what a machine said of the unit: it is not root, has the one
// capability, binds the low ports, writes nowhere but in its folder, and keeps its
// state over a restart and a kill.
func checkUnit(t *testing.T, report string) {
	t.Helper()
	lines := strings.Split(report, "\n")
	for _, want := range []string{
		"verify ", "answers", "user gpustrap", "CapEff 0000000000000400", "NoNewPrivs 1", "Seccomp 2", "ports 67 69 80 4011",
		"Read-only file system", "home ", "data 700 gpustrap 600", "armed armed", "restarted armed", "killed armed",
		"stopped in time", "success", "inactive",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("of serve's unit it does not say %q", want)
		}
	}
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, "exposure "); ok {
			if level, err := strconv.ParseFloat(text, 64); err != nil || level > 2.5 {
				t.Errorf("systemd-analyze security rates the unit %q", text)
			}
		}
	}
	if t.Failed() {
		t.Logf("it says:\n%s", report)
	}
}
