package scripts_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installerLog has the form of the installer's own.
const installerLog = `2026-11-23 10:00:00,000 DEBUG root:39 start: subiquity/Late/run: 
2026-11-23 10:00:00,001 DEBUG root:39 start: subiquity/Late/run/command_0: mkdir -p /x
2026-11-23 10:00:00,002 DEBUG root:39 finish: subiquity/Late/run/command_0: SUCCESS: mkdir -p /x
2026-11-23 10:00:00,003 DEBUG root:39 start: subiquity/Late/run/command_1: curtin in-target -- bash install.sh
2026-11-23 10:00:01,000 DEBUG root:39 finish: subiquity/Late/run/command_1: FAIL: Command returned non-zero exit status 1.
2026-11-23 10:00:01,001 DEBUG root:39 finish: subiquity/Late/run: FAIL: Command returned non-zero exit status 1.
`

// standInsOfTheLiveSystem: the medium is on sda1, and sda4 is for logs; what is
// "mounted" there is a folder.
var standInsOfTheLiveSystem = map[string]string{
	"bin/findmnt":    "#!/bin/sh\ncase \"$*\" in *' /cdrom') echo /dev/sda1 ;; *\"$DIR/target\") [ -d \"$DIR/target\" ] ;; *) exit 1 ;; esac\n",
	"bin/lsblk":      "#!/bin/sh\ncase \"$*\" in *LABEL*) printf '/dev/sda \\n/dev/sda1 Ubuntu-Server\\n/dev/sda4 GPUSTRAP\\n' ;; *) printf '/dev/sda1 part\\n/dev/sda disk\\n' ;; esac\n",
	"bin/mount":      "#!/bin/sh\nmkdir -p \"$DIR/partition\"\necho \"$*\" >>\"$DIR/mounts\"\nrmdir \"$2\" && ln -s \"$DIR/partition\" \"$2\"\n",
	"bin/umount":     "#!/bin/sh\nrm \"$1\"\n",
	"bin/systemctl":  "#!/bin/sh\necho \"$*\" >>\"$DIR/units\"\n",
	"bin/hostname":   "#!/bin/sh\necho '10.0.0.7 fd00::7 '\n",
	"bin/ssh-keygen": "#!/bin/sh\n",
	"bin/sync":       "#!/bin/sh\n",
}

func TestFailed(t *testing.T) {
	const key = "ssh-ed25519 AAAA ops@example\n"
	cases := []struct {
		name  string
		files map[string]string
		want  []string // in what is said
	}{
		{"a guard stopped it", map[string]string{
			"run/failure":                     "this machine is not node01\nits entry would be\n  - {name: NAME}\n",
			"logs/subiquity-server-debug.log": strings.ReplaceAll(installerLog, "Late", "Early"),
		}, []string{"gpustrap: the installation of node01 stopped, and nothing was written: this machine is not node01\n  its entry would be\n    - {name: NAME}\n"}},
		{"a step of ours failed", map[string]string{
			"logs/subiquity-server-debug.log":     installerLog,
			"target/var/log/gpustrap/install.log": "gpustrap: add the repositories\nE: no route\ngpustrap: failed while: add the repositories\n",
		}, []string{"failed in the late-commands, at the command: curtin in-target -- bash install.sh (failed while: add the repositories)",
			"    E: no route\n", "the logs are on the target disk in /gpustrap-failed/node01"}},
		{"the installer failed", map[string]string{
			"logs/subiquity-server-debug.log": "x start: subiquity/Install/install/curtin_install/run_curtin_step: executing curtin install partitioning step\n" +
				"x finish: subiquity/Install/install/curtin_install/run_curtin_step: FAIL: no space\nx finish: subiquity/Install/install: FAIL: no space\n",
		}, []string{"failed in writing the system to the disk, at the command: executing curtin install partitioning step: no space\n"}},
		{"nobody knows", nil, []string{"the installation of node01 failed in an unknown step\n"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"logs/autoinstall-user-data": "secret", "sys/class/tty/console/active": "tty0 ttyS0\n", "dev/tty0": "", "dev/tty1": ""}
			for name, text := range standInsOfTheLiveSystem {
				files[name] = text
			}
			for name, text := range c.files {
				files[name] = text
			}
			dir := tree(t, files)
			var posted map[string]any
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if err := json.NewDecoder(r.Body).Decode(&posted); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			out, err := live(t, dir, "failed.sh", key, "node01", server.URL)
			if err != nil {
				t.Errorf("%v", err)
			}
			for _, want := range append(c.want, "for a look: ssh root@10.0.0.7\n", "told "+server.URL) {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "No such file") || strings.Contains(out, "rror:") {
				t.Errorf("something went wrong:\n%s", out)
			}
			text, _ := posted["text"].(string)
			if sentence, _, _ := strings.Cut(out, "\n"); posted["description"] != sentence || posted["result"] != "FAIL" || !strings.Contains(out, text) {
				t.Errorf("posted %v", posted)
			}
			if keys, err := os.ReadFile(filepath.Join(dir, "root/.ssh/authorized_keys")); err != nil || string(keys) != key {
				t.Errorf("the keys: %v, %q", err, keys)
			}
			for _, console := range []string{"tty1", "ttyS0"} {
				if shown, err := os.ReadFile(filepath.Join(dir, "dev", console)); err != nil || strings.ReplaceAll(string(shown), "\r", "") != "\n"+out {
					t.Errorf("%s shows (%v)\n%s", console, err, shown)
				}
			}
			kept, err := os.ReadFile(filepath.Join(dir, "partition/gpustrap-failed/node01/failed.txt"))
			if err != nil || !strings.Contains(out, string(kept)) {
				t.Errorf("kept on the medium: %v, %q", err, kept)
			}
			if _, err := os.Stat(filepath.Join(dir, "partition/gpustrap-failed/node01/autoinstall-user-data")); err == nil {
				t.Error("the user-data, with its password hashes, was kept on the medium")
			}
			for name := range c.files {
				folder := "partition/gpustrap-failed/node01"
				if strings.HasSuffix(name, ".log") {
					if _, err := os.Stat(filepath.Join(dir, folder, filepath.Base(name))); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// TestFailedWithoutHelp: no keys, no medium, no target, nobody who listens.
func TestFailedWithoutHelp(t *testing.T) {
	dir := tree(t, map[string]string{"bin/findmnt": "#!/bin/sh\nexit 1\n"})
	out, err := live(t, dir, "failed.sh", "", "node01", "http://127.0.0.1:1/")
	if err != nil || !strings.Contains(out, "could not tell http://127.0.0.1:1/") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "root")); err == nil {
		t.Error("a folder for no keys")
	}
}
