package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsole boots in three looks: no address, work, and the end.
func TestConsole(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  map[string]string
		end    string // of the last line
		system string // what it comes to
	}{
		{"gpu-ready has spoken", map[string]string{"motd": "GPU-ready: 2 x NVIDIA H200\nmore\n"}, "GPU-ready: 2 x NVIDIA H200", "running"},
		{"nothing to prove", nil, "started", "running"},
		{"a unit failed", map[string]string{"failed": "a.service loaded failed failed A\nb.service loaded failed failed B\n"}, "started, but these failed: a.service b.service", "degraded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{
				"etc/console":  "ops\n",
				"bin/hostname": "#!/bin/sh\necho node01\n",
				"bin/agetty":   "#!/bin/sh\necho reload >>\"$DIR/reloads\"\n",
				"bin/ip": "#!/bin/sh\n[ \"$(cat \"$DIR/look\")\" -gt 1 ] || exit 0\n" +
					"echo '3: docker0    inet 172.17.0.1/16 scope global docker0'\n" +
					"echo '2: eno1    inet 10.0.0.7/24 brd 10.0.0.255 scope global eno1'\n" +
					"echo '2: eno1    inet6 fd00::7/64 scope global temporary dynamic'\n" +
					"echo '2: eno1    inet6 fd00::8/64 scope global dynamic'\n",
				"bin/systemctl": "#!/bin/sh\nlook=$(cat \"$DIR/look\")\ncase $1 in\n" +
					"is-system-running) echo $((look + 1)) >\"$DIR/look\"; [ $look -ge 3 ] && echo " + c.system + " || echo starting ;;\n" +
					"list-jobs) [ $look -gt 1 ] && printf ' 12 cloud-final.service start running\\n  9 multi-user.target start waiting\\n' ;;\n" +
					"show) echo 'Final Stage \\s' ;;\nlist-units) cat \"$DIR/failed\" 2>/dev/null ;;\nesac\n",
				"look": "0",
			}
			for name, text := range c.files {
				files[name] = text
			}
			dir := tree(t, files)
			cmd := exec.Command("bash", "console.sh")
			cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "DIR="+dir, "GPUSTRAP_ETC="+dir+"/etc", "GPUSTRAP_ISSUE="+dir+"/issue.d",
				"GPUSTRAP_CONSOLE=/dev/stdout", "GPU_READY_MOTD="+dir+"/motd", "GPUSTRAP_PAUSE=0", "GPUSTRAP_PATIENCE=20")
			out, err := cmd.Output()
			want := "gpustrap: node01: no address yet; starting\r\n" +
				"gpustrap: node01: ssh ops@10.0.0.7; starting: Final Stage \\s\r\n" +
				"gpustrap: node01: ssh ops@10.0.0.7; " + c.end + "\r\n"
			if err != nil || string(out) != want {
				t.Errorf("%v: the console has\n%swant\n%s", err, out, want)
			}
			issue, err := os.ReadFile(filepath.Join(dir, "issue.d", "50-gpustrap.issue"))
			if want := "node01\n  eno1 10.0.0.7\n  eno1 fd00::8\n  ssh ops@10.0.0.7\n  " + c.end + "\n\n"; err != nil || string(issue) != want {
				t.Errorf("%v: the issue is\n%swant\n%s", err, issue, want)
			}
			if reloads, _ := os.ReadFile(filepath.Join(dir, "reloads")); strings.Count(string(reloads), "reload") != 3 {
				t.Errorf("the prompts were told %q", reloads)
			}
		})
	}
}
