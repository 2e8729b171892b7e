package scripts_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gpustrap/gpustrap/scripts"
)

// receipt is what gpu-ready writes.
type receipt struct {
	Machine, Depth, Line, Action string
	Ready                        bool
	Software                     struct{ Driver, Modules, Docker, Toolkit string }
	GPUs                         []struct {
		Index             int
		Name, Bus, Serial string
		MemoryMiB         int `json:"memory_mib"`
	}
	Checks []struct{ Name, Result, Text, Action string }
}

func (r receipt) results() string {
	var out []string
	for _, c := range r.Checks {
		out = append(out, c.Name+":"+strings.Replace(c.Result, "not applicable", "n", 1))
	}
	return strings.Join(out, " ")
}

// readyMachine is a machine that gpu-ready looks at: files below its root, and
// stand-ins of the tools that it asks.
type readyMachine struct {
	t   *testing.T
	dir string
}

const (
	h200Version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@U22)\nGCC version:  gcc\n"
	twoH200     = "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'"
	readyEnv    = "MACHINE='a \"b\"'\nGPU_PACKAGES=x\nGPU_COUNT=2\nGPU_PCI=10de:2335\nGPU_BRANCH=580-server\nGPU_SERVICES=''\n" +
		"DOCKER=1\nTOOLKIT=1\nREADY_DCGMI=0\nREADY_REPORT=''\n"
	noGPUEnv = "GPU_PACKAGES=''\nGPU_COUNT=0\nGPU_PCI=''\nGPU_BRANCH=''\nTOOLKIT=0\n"
)

// dockerTool runs a container by printing what one would.
const dockerTool = `case $1 in
version) echo 29.6.1 ;;
info) printf 'io.containerd.runc.v2\nnvidia\n' ;;
image) exit 1 ;;
import) cat >/dev/null; echo sha256:1 ;;
run) case "$*" in *--device*) ` + twoH200 + ` ;; *) echo up ;; esac ;;
esac`

// newReadyMachine is a machine with two H200 on which all is well.
func newReadyMachine(t *testing.T) *readyMachine {
	t.Helper()
	m := &readyMachine{t, t.TempDir()}
	m.write("etc/machine.env", readyEnv)
	m.gpu("0000:06:00.0", "0x10de", "0x2335", "0x030200")
	m.gpu("0000:07:00.0", "0x10de", "0x2335", "0x030200")
	m.gpu("0000:05:00.0", "0x10de", "0x22a3", "0x068000") // a switch
	m.gpu("0000:00:02.0", "0x1a03", "0x2000", "0x030000") // the board's own display
	m.write("root/proc/driver/nvidia/version", h200Version)
	m.write("root/proc/sys/kernel/random/boot_id", "5a5a5a5a-0000-4000-8000-000000000000\n")
	m.write("root/run/x", "")
	m.write("root/etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n  - hostPath: "+m.dir+"/lib/libcuda.so.1\n")
	for _, name := range []string{"libcuda.so", "libnvidia-ml.so"} {
		m.library(name, "580.159.04")
	}
	details, err := os.ReadFile("testdata/h200/nvidia-smi-q.txt")
	if err != nil {
		t.Fatal(err)
	}
	m.write("details", string(details))
	m.tool("nvidia-smi", `case $1 in
-L) `+twoH200+` ;;
-q) cat `+m.dir+`/details ;;
--query-gpu=*) for i in 0 1; do echo "$i, NVIDIA H200, 00000000:0$i:00.0, GPU-$i, 000000000000$i, 143771, 96.00.A5.00.1A"; done ;;
esac`)
	m.tool("docker", dockerTool)
	m.tool("nvidia-ctk", `case $1 in cdi) printf 'nvidia.com/gpu=0\nnvidia.com/gpu=1\nnvidia.com/gpu=all\n' ;; *) echo 'NVIDIA Container Toolkit CLI version 1.20.1' ;; esac`)
	m.tool("ldconfig", `for l in libcuda.so.1 libnvidia-ml.so.1; do printf '\t%s (libc6,x86-64) => `+m.dir+`/lib/%s\n' $l $l; done`)
	m.tool("modinfo", "echo 580.159.04")
	return m
}

func (m *readyMachine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *readyMachine) write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *readyMachine) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *readyMachine) tool(name, text string) { m.write("bin/"+name, "#!/bin/bash\n"+text+"\n") }

func (m *readyMachine) gpu(at, vendor, device, class string) {
	for name, text := range map[string]string{"vendor": vendor, "device": device, "class": class} {
		m.write("root/sys/bus/pci/devices/"+at+"/"+name, text+"\n")
	}
}

// library makes a library's file, and the link by which programs find it.
func (m *readyMachine) library(name, version string) {
	m.t.Helper()
	m.write("lib/"+name+"."+version, "")
	m.remove("lib/" + name + ".1")
	if err := os.Symlink(name+"."+version, m.path("lib/"+name+".1")); err != nil {
		m.t.Fatal(err)
	}
}

// details changes what nvidia-smi -q says.
func (m *readyMachine) details(before, after string) {
	m.t.Helper()
	data, err := os.ReadFile(m.path("details"))
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(string(data), before) {
		m.t.Fatalf("nvidia-smi -q does not say %q", before)
	}
	m.write("details", strings.Replace(string(data), before, after, 1))
}

// command is gpu-ready on the machine. Tools that the test's own machine may
// have, and that tell of it, are out of its reach.
func (m *readyMachine) command(args ...string) *exec.Cmd {
	m.t.Helper()
	text, err := scripts.Read("gpu-ready.sh")
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("gpu-ready.sh", text)
	for _, tool := range []string{"bash", "sh", "awk", "cat", "cut", "cp", "curl", "date", "dirname", "grep", "head", "id", "ldd", "ls", "mkdir",
		"mktemp", "mv", "od", "paste", "readlink", "rm", "sed", "sha256sum", "sleep", "sort", "tail", "tar", "timeout", "tr", "uname", "uniq"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := os.MkdirAll(m.path("tools"), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Symlink(path, m.path("tools/"+tool)); err != nil && !os.IsExist(err) {
			m.t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", append([]string{"-u", m.path("gpu-ready.sh")}, args...)...)
	cmd.Env = []string{"PATH=" + m.path("bin") + ":" + m.path("tools"), "GPUSTRAP_ETC=" + m.path("etc"), "GPUSTRAP_ROOT=" + m.path("root"),
		"GPU_READY_WAIT=0", "GPU_READY_RECEIPT=" + m.path("state/ready.json"), "GPU_READY_MOTD=" + m.path("motd"), "GPU_READY_SEND=20"}
	return cmd
}

// run returns the receipt, which follows the schema and agrees with the exit
// status, the one line, and the message of the day.
func (m *readyMachine) run(env []string, args ...string) receipt {
	m.t.Helper()
	cmd := m.command(append(args, "--json")...)
	cmd.Env = append(cmd.Env, env...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, runErr := cmd.Output()
	if errors.Len() > 0 {
		m.t.Errorf("standard error: %s", errors.String())
	}
	if err := receiptSchema(m.t).Validate(decodeJSON(m.t, out)); err != nil {
		m.t.Errorf("%v\n%s", err, out)
	}
	var r receipt
	if err := json.Unmarshal(out, &r); err != nil {
		m.t.Fatal(err)
	}
	if r.Machine != `a "b"` || (runErr == nil) != r.Ready || r.Ready != (r.Action == "") || r.Ready != strings.HasPrefix(r.Line, "GPU-ready: ") {
		m.t.Errorf("error %v with\n%s", runErr, out)
	}
	if os.Getuid() == 0 {
		kept, err := os.ReadFile(m.path("state/ready.json"))
		motd, motdErr := os.ReadFile(m.path("motd"))
		if err != nil || motdErr != nil || string(kept) != string(out) || !strings.HasPrefix(string(motd), r.Line) || !strings.Contains(string(motd), r.Action) {
			m.t.Errorf("receipt %v, motd %v: %s%s", err, motdErr, kept, motd)
		}
	}
	return r
}

func decodeJSON(t *testing.T, data []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return v
}

func receiptSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("receipt.json", decodeJSON(t, scripts.ReceiptSchema())); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("receipt.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const allPass = "pci:pass driver:pass versions:pass fabric:n memory:pass reboot:pass docker:pass runtime:pass cdi:pass container:pass container_gpus:pass dcgm:n"

func TestGPUReady(t *testing.T) {
	m := newReadyMachine(t)
	r := m.run(nil)
	if r.results() != allPass || r.Line != "GPU-ready: 2 x NVIDIA H200, driver 580.159.04, Docker 29.6.1" {
		t.Errorf("%s: %s", r.results(), r.Line)
	}
	if r.Software.Driver != "580.159.04" || r.Software.Modules != "open" || r.Software.Docker != "29.6.1" || r.Software.Toolkit != "1.20.1" {
		t.Errorf("software %+v", r.Software)
	}
	if len(r.GPUs) != 2 || r.GPUs[1].Index != 1 || r.GPUs[1].Serial != "0000000000001" || r.GPUs[1].MemoryMiB != 143771 {
		t.Errorf("GPUs %+v", r.GPUs)
	}
}

// TestGPUReadyFails has what can be wrong with a machine, one thing at a time;
// each has a message of its own, and says what to do.
func TestGPUReadyFails(t *testing.T) {
	env := func(text string) func(*readyMachine) {
		return func(m *readyMachine) { m.write("etc/machine.env", readyEnv+text) }
	}
	cases := map[string]struct {
		change func(*readyMachine)
		failed string // checks
		line   string
		action string
	}{
		"no GPU": {func(m *readyMachine) {
			m.remove("root/sys/bus/pci/devices/0000:06:00.0")
			m.remove("root/sys/bus/pci/devices/0000:07:00.0")
		}, "pci", "no NVIDIA GPU is on the PCI bus", "lspci -d 10de:"},
		"wrong number":   {env("GPU_COUNT=8\n"), "pci", "2 of 8 GPUs are on the PCI bus", "gpu.count"},
		"more than said": {env("GPU_COUNT=1\n"), "pci", "2 of 1 GPUs are on the PCI bus", "gpu.count"},
		"another model": {env("GPU_PCI='10de:2330 10de:2331'\n"), "pci",
			"10de:2335 at 0000:06:00.0 is not the GPU that is configured (10de:2330, 10de:2331)", "set gpu in gpustrap.yaml"},
		"driver not loaded": {func(m *readyMachine) { m.remove("root/proc/driver") }, "driver", "the NVIDIA driver is not loaded", "journalctl"},
		"no nvidia-smi":     {func(m *readyMachine) { m.remove("bin/nvidia-smi") }, "driver", "nvidia-smi is missing", "install.sh"},
		"mismatch": {func(m *readyMachine) {
			m.tool("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; echo more; exit 18")
		}, "driver", "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch", "reboot"},
		"driver sees fewer": {func(m *readyMachine) { m.gpu("0000:08:00.0", "0x10de", "0x2335", "0x030200"); env("GPU_COUNT=3\n")(m) }, "driver",
			"the driver sees 2 of the 3 GPUs on the PCI bus", "NVRM"},
		"another branch": {env("GPU_BRANCH=595-server\n"), "versions", "the driver is 580.159.04, and branch 595-server is configured", "gpu.driver"},
		"older library": {func(m *readyMachine) { m.library("libcuda.so", "580.126.09") }, "versions",
			"libcuda.so.1 is of version 580.126.09, the driver loaded is 580.159.04", "reboot"},
		"no library": {func(m *readyMachine) { m.tool("ldconfig", "") }, "versions", "the library libcuda.so.1 is missing", "install.sh"},
		"Fabric Manager of another version": {func(m *readyMachine) { m.tool("nv-fabricmanager", "echo 'Fabric Manager version is : 580.126.09'") },
			"versions", "the Fabric Manager is of version 580.126.09, the driver is 580.159.04", "install nvidia-fabricmanager of version 580.159.04"},
		"Fabric Manager down": {func(m *readyMachine) {
			m.write("root/run/systemd/system/x", "")
			m.tool("systemctl", "exit 3")
			env("GPU_SERVICES='nvidia-persistenced.service nvidia-fabricmanager.service'\n")(m)
		}, "fabric", "the Fabric Manager is not running", "systemctl status nvidia-fabricmanager"},
		"fabric in progress": {func(m *readyMachine) {
			m.details("        State                                          : N/A", "        State                                          : In Progress")
		}, "fabric", "the fabric state of GPU 00000000:00:06.0 is In Progress, not Completed", "fabricmanager"},
		"uncorrectable errors": {func(m *readyMachine) {
			m.details("            DRAM Uncorrectable                         : 0", "            DRAM Uncorrectable                         : 3")
		}, "memory", "GPU 00000000:00:06.0 has 3 uncorrectable memory errors", "nvidia-smi -q -d ECC"},
		"remap pending": {func(m *readyMachine) {
			m.details("        Pending                                        : No\n        Remapping", "        Pending                                        : Yes\n        Remapping")
		}, "memory", "GPU 00000000:00:06.0 has a memory repair pending", "reboot"},
		"remap failed": {func(m *readyMachine) {
			m.details("Remapping Failure Occurred                     : No", "Remapping Failure Occurred                     : Yes")
		}, "memory", "GPU 00000000:00:06.0 has memory that cannot be repaired", "replaced"},
		"recovery": {func(m *readyMachine) {
			m.details("GPU Recovery Action                                : None", "GPU Recovery Action                                : Reset")
		}, "memory", "GPU 00000000:00:06.0 asks for: Reset", "nvidia-smi -q"},
		"reboot pending": {func(m *readyMachine) {
			m.write("root/run/reboot-required", "")
			m.write("root/run/reboot-required.pkgs", "linux-image-1\nlinux-base\nlinux-image-1\n")
		}, "reboot", "a reboot is pending, for linux-base linux-image-1", "reboot"},
		"reboot pending, for no package": {func(m *readyMachine) { m.write("root/run/reboot-required", "") }, "reboot", "a reboot is pending\n", "reboot"},
		"driver updated": {func(m *readyMachine) { m.tool("modinfo", "echo 580.173.02") }, "reboot",
			"the driver 580.173.02 is installed and 580.159.04 is loaded", "reboot"},
		"Docker down": {func(m *readyMachine) { m.tool("docker", "echo 'Cannot connect to the \"Docker\" daemon' >&2; exit 1") }, "docker",
			`Docker is not up: Cannot connect to the "Docker" daemon`, "systemctl status docker"},
		"no Docker": {func(m *readyMachine) { m.remove("bin/docker") }, "docker", "docker is missing", "install.sh"},
		"no runtime": {func(m *readyMachine) { m.tool("docker", "[ $1 != info ] || exit 0\n"+dockerTool) }, "runtime",
			"Docker has no runtime nvidia", "nvidia-ctk runtime configure"},
		"no CDI": {func(m *readyMachine) { m.tool("nvidia-ctk", "exit 1") }, "cdi", "there is no CDI specification with nvidia.com/gpu=all", "nvidia-cdi-refresh"},
		"CDI lacks a GPU": {func(m *readyMachine) { m.tool("nvidia-ctk", `printf 'nvidia.com/gpu=0\nnvidia.com/gpu=all\n'`) }, "cdi",
			"the CDI specification lacks GPU 1 of 2", "nvidia-cdi-refresh"},
		"CDI of an older driver": {func(m *readyMachine) {
			m.write("root/etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n        - hostPath: /no/libcuda.so.580.126.09\n")
		}, "cdi", "names /no/libcuda.so.580.126.09, which is not there", "nvidia-cdi-refresh"},
		"no image": {func(m *readyMachine) {
			m.tool("docker", "[ $1 != import ] || { echo 'no space left' >&2; exit 1; }\n"+dockerTool)
		}, "container",
			"no container image can be made: no space left", "df -h"},
		"no container": {func(m *readyMachine) {
			m.tool("docker", "[ $1 != run ] || { echo 'runc: cannot create'; exit 125; }\n"+dockerTool)
		}, "container", "a container does not run: runc: cannot create", "journalctl"},
		"container without GPUs": {func(m *readyMachine) {
			m.tool("docker", `case "$*" in *--device*) echo 'could not select device driver "cdi"'; exit 125 ;; esac`+"\n"+dockerTool)
		}, "container_gpus", `a container does not get the GPUs: could not select device driver "cdi"`, "restart Docker"},
		"container with one GPU": {func(m *readyMachine) {
			m.tool("docker", `case "$*" in *--device*) echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; exit ;; esac`+"\n"+dockerTool)
		}, "container_gpus", "a container sees 1 of 2 GPUs", "nvidia-cdi-refresh"},
		"dcgmi diag": {func(m *readyMachine) {
			env("READY_DCGMI=1\n")(m)
			m.tool("dcgmi", "echo '| Software    | Pass |'; echo '| Memory      | Fail |'; exit 226")
		}, "dcgm", "dcgmi diag -r 1: Memory Fail", "dcgmi diag -r 1 -v"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newReadyMachine(t)
			c.change(m)
			r := m.run(nil)
			var failed []string
			for _, check := range r.Checks {
				if check.Result == "fail" {
					failed = append(failed, check.Name)
				}
			}
			if strings.Join(failed, " ") != c.failed || !strings.Contains(r.Line+"\n", c.line) || !strings.Contains(r.Action, c.action) {
				t.Errorf("failed: %s\n%s\n%s\n%s", failed, r.Line, r.Action, r.results())
			}
		})
	}
}

// TestGPUReadyDoesNotApply has machines that lack what a check looks at.
func TestGPUReadyDoesNotApply(t *testing.T) {
	cases := map[string]struct {
		change func(*readyMachine)
		passed string
		line   string
	}{
		"nothing configured": {func(m *readyMachine) {
			m.write("etc/machine.env", readyEnv+noGPUEnv+"DOCKER=0\n")
		}, "reboot", "GPU-ready: no GPU, no Docker"},
		"Docker alone": {func(m *readyMachine) {
			m.write("etc/machine.env", readyEnv+noGPUEnv)
			for _, tool := range []string{"nvidia-smi", "nvidia-ctk", "modinfo"} {
				m.remove("bin/" + tool)
			}
		}, "reboot docker container", "GPU-ready: no GPU, Docker 29.6.1"},
		"GPU alone": {func(m *readyMachine) {
			m.write("etc/machine.env", readyEnv+"DOCKER=0\nTOOLKIT=0\n")
			m.remove("bin/docker")
			m.remove("bin/nvidia-ctk")
		}, "pci driver versions memory reboot", "GPU-ready: 2 x NVIDIA H200, driver 580.159.04, no Docker"},
		"chosen on the machine": {func(m *readyMachine) {
			m.write("etc/machine.env", readyEnv+"GPU_PACKAGES=''\nGPU_PCI=''\nGPU_COUNT=0\nGPU_BRANCH=''\n")
			m.write("etc/stack.env", "GPU_PACKAGES='x'\nGPU_BRANCH='580-server'\n")
		}, "pci driver versions memory reboot docker runtime cdi container container_gpus", "GPU-ready: 2 x NVIDIA H200"},
		"no ECC": {func(m *readyMachine) {
			m.details("        Current                                        : Enabled\n        Pending                                        : Enabled",
				"        Current                                        : N/A\n        Pending                                        : N/A")
		}, "pci driver versions reboot docker runtime cdi container container_gpus", "GPU-ready: 2 x"},
		"fabric": {func(m *readyMachine) {
			m.details("        State                                          : N/A", "        State                                          : Completed")
			m.tool("nv-fabricmanager", "echo 'Fabric Manager version is : 580.159.04'")
		}, "pci driver versions fabric memory reboot docker runtime cdi container container_gpus", "GPU-ready: 2 x"},
		"MIG": {func(m *readyMachine) {
			m.tool("nvidia-ctk", `printf 'nvidia.com/gpu=0:0\nnvidia.com/gpu=0:1\nnvidia.com/gpu=1\nnvidia.com/gpu=all\n'`)
		}, "pci driver versions memory reboot docker runtime cdi container container_gpus", "GPU-ready: 2 x"},
		"diagnosed": {func(m *readyMachine) {
			m.write("etc/machine.env", readyEnv+"READY_DCGMI=2\n")
			m.tool("dcgmi", `[ "$*" = "diag -r 2" ]`)
		}, "pci driver versions memory reboot docker runtime cdi container container_gpus dcgm", "GPU-ready: 2 x"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newReadyMachine(t)
			c.change(m)
			r := m.run(nil)
			var passed []string
			for _, check := range r.Checks {
				if check.Result == "pass" {
					passed = append(passed, check.Name)
				}
			}
			if strings.Join(passed, " ") != c.passed || !strings.HasPrefix(r.Line, c.line) || !r.Ready {
				t.Errorf("passed: %s\n%s", passed, r.Line)
			}
		})
	}
}

// TestGPUReadyWaits holds that what is still starting is asked again, and what
// will not change is not.
func TestGPUReadyWaits(t *testing.T) {
	m := newReadyMachine(t)
	count := func(name string) string {
		return "echo x >>" + m.path(name) + "; [ $(wc -l <" + m.path(name) + ") -gt "
	}
	if path, err := exec.LookPath("wc"); err != nil {
		t.Fatal(err)
	} else if err := os.MkdirAll(m.path("tools"), 0o755); err != nil {
		t.Fatal(err)
	} else if err := os.Symlink(path, m.path("tools/wc")); err != nil {
		t.Fatal(err)
	}
	m.tool("docker", "if [ $1 = version ]; then "+count("docker")+"1 ] || exit 1; fi\n"+dockerTool)
	m.write("root/run/systemd/system/x", "")
	m.tool("systemctl", "echo \"$*\" >>"+m.path("systemctl"))
	m.tool("sleep", "")
	m.tool("nvidia-ctk", "if [ $1 = cdi ]; then [ -e "+m.path("systemctl")+" ] || exit 1; fi\nprintf 'nvidia.com/gpu=0\nnvidia.com/gpu=1\nnvidia.com/gpu=all\n'")
	r := m.run([]string{"GPU_READY_WAIT=60"})
	if !r.Ready {
		t.Errorf("%s", r.Line)
	}
	if os.Getuid() == 0 {
		if said, err := os.ReadFile(m.path("systemctl")); err != nil || string(said) != "restart nvidia-cdi-refresh.service\n" {
			t.Errorf("systemctl: %v %q", err, said)
		}
	}

	m.write("etc/machine.env", readyEnv+"GPU_COUNT=8\n")
	m.tool("sleep", "echo slept >&2")
	if r = m.run([]string{"GPU_READY_WAIT=60"}); r.Ready {
		t.Error("ready with 2 of 8 GPUs")
	}
}

// TestGPUReadyAtBoot holds that the long checks run until all have passed once.
func TestGPUReadyAtBoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root leaves a trace on the machine")
	}
	m := newReadyMachine(t)
	m.write("etc/machine.env", readyEnv+"READY_DCGMI=1\n")
	m.tool("dcgmi", "exit 1")
	for _, want := range []string{"full", "full"} {
		if r := m.run(nil, "--boot"); r.Ready || r.Depth != want {
			t.Errorf("%s, want %s: %s", r.Depth, want, r.Line)
		}
	}
	m.tool("dcgmi", "exit 0")
	for _, want := range []string{"full", "short", "short"} {
		if r := m.run(nil, "--boot"); !r.Ready || r.Depth != want {
			t.Errorf("%s, want %s: %s", r.Depth, want, r.Line)
		}
	}
	m.tool("docker", "exit 1")
	if r := m.run(nil, "--boot"); r.Ready || r.Depth != "short" {
		t.Errorf("%s: %s", r.Depth, r.Line)
	}
	out, err := m.command("--short").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "NOT GPU-ready: Docker is not up") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := m.command("--fast").CombinedOutput(); err == nil || !strings.Contains(string(out), "unknown argument --fast") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestGPUReadyReports holds that the receipt arrives at the second try, signed
// with the machine's token.
func TestGPUReadyReports(t *testing.T) {
	for _, token := range []string{"", "s3cret", strings.Repeat("long token ", 10)} {
		t.Run(fmt.Sprintf("token of %d bytes", len(token)), func(t *testing.T) {
			var body []byte
			var signature string
			tries := 0
			listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if tries++; tries == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				body, _ = io.ReadAll(req.Body)
				signature = req.Header.Get("X-Gpustrap-Signature")
			}))
			defer listener.Close()
			m := newReadyMachine(t)
			m.write("etc/machine.env", readyEnv+"READY_REPORT='"+listener.URL+"/receipts'\n")
			want := ""
			if token != "" {
				m.write("etc/token", token+"\n")
			}
			cmd := m.command("--json", "--report")
			out, err := cmd.Output()
			if err != nil || tries != 2 || !bytes.Equal(out, body) {
				t.Fatalf("%v after %d tries:\n%s\n%s", err, tries, out, body)
			}
			if token != "" {
				mac := hmac.New(sha256.New, []byte(token))
				mac.Write(body)
				want = "sha256=" + hex.EncodeToString(mac.Sum(nil))
				if bytes.Contains(body, []byte(token)) {
					t.Error("the token is in the receipt")
				}
			}
			if signature != want {
				t.Errorf("signature %q, want %q", signature, want)
			}
		})
	}
}

// TestGPUReadyUnheard holds that a machine is ready also when nobody listens.
func TestGPUReadyUnheard(t *testing.T) {
	listener := httptest.NewServer(nil)
	listener.Close()
	m := newReadyMachine(t)
	m.write("etc/machine.env", readyEnv+"READY_REPORT="+listener.URL+"\n")
	cmd := m.command("--report")
	cmd.Env = append(cmd.Env, "GPU_READY_SEND=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "GPU-ready: ") || !strings.Contains(string(out), "the receipt did not reach "+listener.URL) {
		t.Errorf("%v: %s", err, out)
	}
}
