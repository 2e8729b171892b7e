package autoinstall

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// eachSeed renders every fixture for every release.
func eachSeed(t *testing.T, do func(t *testing.T, name string, seed Seed)) {
	r := newTestRenderer(t)
	for name, fixture := range fixtures {
		for _, release := range releases {
			t.Run(name+"/"+release, func(t *testing.T) {
				seed, rep := r.Render(fixture(release))
				if err := rep.Err(); err != nil {
					t.Fatal(err)
				}
				do(t, name, seed)
			})
		}
	}
}

// TestPythonReadsTheSame asks PyYAML, which cloud-init and the installer read
// the seed with: YAML 1.1, where no is false and 12:30 a number.
func TestPythonReadsTheSame(t *testing.T) {
	python := systemPython(t)
	odd := lab("24.04")
	odd.Machine.Users[1].FullName = "yes"
	odd.Machine.Hostname, odd.Machine.Timezone = "0x1F", "12:30"
	odd.Machine.Users[1].AuthorizedKeys = []string{"on", "~", "1e3", "0o17", "1_000", "2026-11-23", "- a", "a: b", "#", "\t", "é\u2028"}
	seed, rep := newTestRenderer(t).Render(odd)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	comparePython(t, python, seed.UserData)
	eachSeed(t, func(t *testing.T, _ string, seed Seed) { comparePython(t, python, seed.UserData) })
}

// systemPython returns the distribution's Python, whose YAML library cloud-init
// pulls in.
func systemPython(t *testing.T) string {
	t.Helper()
	oracle.Need(t, "cloud-init")
	return "/usr/bin/python3"
}

func comparePython(t *testing.T, python string, data []byte) {
	t.Helper()
	cmd := exec.Command(python, "-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)")
	cmd.Stdin = bytes.NewReader(data)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, &complaint)
	}
	var theirs, ours any
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &ours); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(viaJSON(t, ours), viaJSON(t, theirs)) {
		t.Errorf("PyYAML reads the seed differently:\n%s", out)
	}
}

// TestCloudInitTakesUserData asks Debian's cloud-init whether the cloud-config
// form, and the user-data section that the installed system reads at its first
// boot, follow its schema.
func TestCloudInitTakesUserData(t *testing.T) {
	tool := oracle.Need(t, "cloud-init")
	if testing.Short() {
		t.Skip("starts cloud-init many times")
	}
	r := newTestRenderer(t)
	eachSeed(t, func(t *testing.T, name string, seed Seed) {
		var doc struct{ Autoinstall map[string]any }
		if err := yaml.Unmarshal(seed.UserData, &doc); err != nil {
			t.Fatal(err)
		}
		if section := doc.Autoinstall["user-data"]; section != nil {
			data, err := yaml.Marshal(section)
			if err != nil {
				t.Fatal(err)
			}
			askCloudInit(t, tool, append([]byte(header), data...))
		}
		_, release, _ := strings.Cut(t.Name(), "/"+name+"/")
		data, rep := r.RenderCloudInit(fixtures[name](release))
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		askCloudInit(t, tool, data)
	})
}

func askCloudInit(t *testing.T, tool string, data []byte) {
	t.Helper()
	at := filepath.Join(t.TempDir(), userDataName)
	if err := os.WriteFile(at, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "schema", "-c", at).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Valid") {
		t.Errorf("cloud-init schema: %v\n%s", err, out)
	}
}

func TestShellcheckTakesTheScript(t *testing.T) {
	tool := oracle.Need(t, "shellcheck")
	r := newTestRenderer(t)
	for name, fixture := range fixtures {
		data, rep := r.RenderScript(fixture("24.04"))
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(tool, "-")
		cmd.Stdin = bytes.NewReader(data)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestEveryShellCommandParses asks dash, which is sh in the installer.
func TestEveryShellCommandParses(t *testing.T) {
	sh := oracle.Need(t, "dash")
	eachSeed(t, func(t *testing.T, _ string, seed Seed) {
		doc, rep := DecodeDocument(seed.UserData, strings.TrimPrefix(filepath.Base(t.Name()), "/"))
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]Command{doc.EarlyCommands, doc.LateCommands, doc.ErrorCommands} {
			for _, c := range list {
				if out, err := exec.Command(sh, "-n", "-c", c.Shell).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s\n%s", err, out, c.Shell)
				}
			}
		}
	})
}

// TestFilesArriveAsTheyAre runs the commands that write files and compares what
// they wrote, hostile values among it.
func TestFilesArriveAsTheyAre(t *testing.T) {
	in := lab("24.04")
	in.Machine.Packages = []string{"a'b", `c"$(touch /tmp/x)"`, "`d`", "e\\", "GPUSTRAP_END"}
	in.Machine.Docker.DataRoot = `/srv/it's "$HOME"`
	r := newTestRenderer(t)
	doc, rep := r.document(&in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, c := range doc.LateCommands {
		if !strings.HasPrefix(c.Shell, "mkdir ") || strings.Contains(c.Shell, liveFolder) {
			continue
		}
		cmd := exec.Command("sh", "-c", c.Shell)
		cmd.Env = append(os.Environ(), "TARGET_MOUNT_POINT="+root)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	b := newBuilder(&in, r.scripts)
	for _, f := range append(b.scriptFiles(b.steps()), b.dataFiles(b.steps())...) {
		got, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != f.content {
			t.Errorf("%s is\n%s\nwant\n%s", f.path, got, f.content)
		}
		info, err := os.Stat(filepath.Join(root, f.path))
		if err != nil || fmt.Sprintf("%04o", info.Mode().Perm()) != f.mode {
			t.Errorf("%s: mode %v, %v, want %s", f.path, info.Mode(), err, f.mode)
		}
	}
	out, err := exec.Command("bash", "-u", "-c", `. "$1" && printf '%s\n' "$PACKAGES" "$DOCKER_DATA_ROOT"`, "bash",
		filepath.Join(root, dataFolder, "machine.env")).Output()
	if want := strings.Join(in.Machine.Packages, " ") + "\n" + in.Machine.Docker.DataRoot + "\n"; err != nil || string(out) != want {
		t.Errorf("%v: bash reads %q, want %q", err, out, want)
	}
}
