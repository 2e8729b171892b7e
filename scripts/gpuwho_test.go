package scripts_test

import (
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/scripts"
)

// whoMachine has two GPUs, a process of the test's own user in a container with
// memory on one, and one that has the other open.
func whoMachine(t *testing.T) *readyMachine {
	m := &readyMachine{t, t.TempDir()}
	const id = "3f4e1c0b9a8d7c6b5a4f3e2d1c0b9a8d7c6b5a4f3e2d1c0b9a8d7c6b5a4f3e2d"
	m.tool("nvidia-smi", `case $1 in
--query-gpu=*) printf '0, GPU-a, 1042, 143771\n1, GPU-b, 3, 143771\n2, GPU-c, 0, 143771\n' ;;
--query-compute-apps=*) printf 'GPU-a, 4711, 1030\nGPU-a, 4712, [N/A]\nGPU-x, 1, 1\n' ;;
esac`)
	m.tool("docker", "echo "+id+" fastbook-ada")
	for pid, text := range map[string][3]string{
		"4711": {"python3", "0::/system.slice/docker-" + id + ".scope\n", "python3\x00train.py\x00"},
		"4712": {"python3", "0::/user.slice\n", "python3\x00-c\x00x\x00"},
		"815":  {"Xorg", "0::/docker/" + strings.Replace(id, "3", "4", 1) + "\n", "Xorg\x00:0\x00"},
		"816":  {"nvidia-persiste", "0::/\n", "nvidia-persistenced\x00"},
	} {
		m.write("root/proc/"+pid+"/comm", text[0]+"\n")
		m.write("root/proc/"+pid+"/cgroup", text[1])
		m.write("root/proc/"+pid+"/cmdline", text[2])
	}
	for pid, device := range map[string]string{"815": "/dev/nvidia4", "816": "/dev/nvidia0", "4711": "/dev/nvidia0", "4712": "/dev/nvidiactl"} {
		m.write("root/proc/"+pid+"/fd/x", "")
		if err := os.Symlink(device, m.path("root/proc/"+pid+"/fd/7")); err != nil {
			t.Fatal(err)
		}
	}
	m.write("root/proc/driver/nvidia/gpus/0000:06:00.0/information", "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-a\nDevice Minor: \t 0\n")
	m.write("root/proc/driver/nvidia/gpus/0000:07:00.0/information", "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-b\nDevice Minor: \t 4\n")
	return m
}

func (m *readyMachine) who() (string, error) {
	m.t.Helper()
	text, err := scripts.Read("gpu-who.sh")
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("gpu-who.sh", text)
	cmd := exec.Command("bash", "-u", m.path("gpu-who.sh"))
	cmd.Env = []string{"PATH=" + m.path("bin") + ":/usr/bin:/bin", "GPUSTRAP_ROOT=" + m.path("root")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGPUWho(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"GPU", "MEMORY", "USER", "CONTAINER", "PID", "COMMAND"},
		{"0", "1030", "MiB", me.Username, "fastbook-ada", "4711", "python3", "train.py"},
		{"0", "-", me.Username, "-", "4712", "python3", "-c", "x"},
		{"1", "-", me.Username, "4f4e1c0b9a8d", "815", "Xorg", ":0"},
		{"2", "-", "nobody", "-", "-", "0", "of", "143771", "MiB", "in", "use"},
	}
	out, err := whoMachine(t).who()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if err != nil || len(lines) != len(want) {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, line := range lines {
		if got := strings.Join(strings.Fields(line), " "); got != strings.Join(want[i], " ") {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}

func TestGPUWhoWithoutDriver(t *testing.T) {
	m := whoMachine(t)
	m.tool("nvidia-smi", "echo 'NVIDIA-SMI has failed'; echo more; exit 9")
	if out, err := m.who(); err == nil || out != "gpu-who: NVIDIA-SMI has failed; gpu-ready says more\n" {
		t.Errorf("%v: %s", err, out)
	}
}
