package autoinstall

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestStepsRunWithUnset runs every step of a full machine in a dry run, where an
// unset variable ends it, with the data that its seed carries.
func TestStepsRunWithUnset(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("needs apt")
	}
	in := mirrored("24.04")
	full := shared("24.04")
	in.Machine.Apps = full.Machine.Apps
	in.Machine.Users, in.Machine.Docker, in.Machine.Packages = full.Machine.Users, full.Machine.Docker, full.Machine.Packages
	r := newTestRenderer(t)
	b := newBuilder(&in, r.scripts)
	steps := append([]string{stepAccounts}, b.steps()...)
	root := t.TempDir()
	for _, f := range slices.Concat(b.scriptFiles(steps), b.dataFiles(steps), b.accounts()) {
		at := filepath.Join(root, f.path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(f.content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.rep.Err(); err != nil || len(steps) < 12 {
		t.Fatalf("steps %v: %v", steps, err)
	}
	for _, step := range steps {
		cmd := exec.Command("bash", "-u", filepath.Join(root, scriptFolder, step+".sh"))
		cmd.Env = append(os.Environ(), "GPUSTRAP_ETC="+filepath.Join(root, dataFolder), "GPUSTRAP_DRY_RUN=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "gpustrap: ") {
			t.Errorf("%s: %v\n%s", step, err, out)
		}
	}
}
