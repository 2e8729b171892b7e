package scripts_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/scripts"
)

// receipt is what gpu-ready writes.
type receipt struct {
	Version int
	Machine string
	Ready   bool
	Line    string
	Checks  []struct{ Name, Result, Text string }
}

// gpuReady runs gpu-ready with a configuration and stand-ins of the tools that
// it asks; driver says whether the kernel has the NVIDIA driver.
func gpuReady(t *testing.T, env string, driver bool, tools map[string]string) (receipt, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return at
	}
	write("etc/machine.env", "MACHINE='a \"b\"'\nGPU_PACKAGES=''\nGPU_COUNT='0'\nDOCKER='0'\nTOOLKIT='0'\n"+env)
	for name, text := range tools {
		write("bin/"+name, "#!/bin/sh\nPATH=/usr/bin:/bin\n"+text)
	}
	text, err := scripts.Read("gpu-ready.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The machine that tests may have tools of its own that the script asks for.
	for _, tool := range []string{"cat", "mktemp", "grep", "sed", "sort", "paste", "head", "tr", "sleep", "rm", "id", "mkdir", "dirname"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "tools"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, "tools", tool)); err != nil {
			t.Fatal(err)
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(dir, "version")
	if driver {
		write("version", "NVRM version: x")
	}
	script := write("gpu-ready.sh", strings.ReplaceAll(text, "/proc/driver/nvidia/version", version))
	cmd := exec.Command(bash, "-u", script, "--json")
	cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+dir+"/tools", "GPUSTRAP_ETC="+dir+"/etc", "GPU_READY_WAIT=0",
		"GPU_READY_RECEIPT="+dir+"/ready.json", "GPU_READY_MOTD="+dir+"/motd")
	out, runErr := cmd.Output()
	var r receipt
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r.Version != 1 || r.Machine != `a "b"` || (runErr == nil) != r.Ready {
		t.Errorf("error %v with\n%s", runErr, out)
	}
	if os.Getuid() == 0 {
		kept, err := os.ReadFile(filepath.Join(dir, "ready.json"))
		motd, motdErr := os.ReadFile(filepath.Join(dir, "motd"))
		if err != nil || motdErr != nil || string(kept) != string(out) || string(motd) != r.Line+"\n" {
			t.Errorf("receipt %v, motd %v: %s%s", err, motdErr, kept, motd)
		}
	}
	return r, runErr
}

const (
	twoGPUs = `case $1 in -L) echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)' ;; *) echo 580.159.04; echo 580.159.04 ;; esac`
	engine  = `case $1 in version) echo 29.6.1 ;; info) printf 'io.containerd.runc.v2\nnvidia\n' ;; esac`
	ctk     = `printf 'nvidia.com/gpu=0\nnvidia.com/gpu=all\n'`
	all     = "GPU_PACKAGES=x\nGPU_COUNT=2\nDOCKER=1\nTOOLKIT=1\n"
)

func TestGPUReady(t *testing.T) {
	complete := map[string]string{"nvidia-smi": twoGPUs, "docker": engine, "nvidia-ctk": ctk}
	with := func(name, text string) map[string]string {
		out := map[string]string{}
		for k, v := range complete {
			out[k] = v
		}
		out[name] = text
		return out
	}
	cases := []struct {
		name, env string
		driver    bool
		tools     map[string]string
		results   string
		line      string
	}{
		{"all is well", all, true, complete, "pass pass pass pass", "GPU-ready: 2 x NVIDIA H200, driver 580.159.04, Docker 29.6.1"},
		{"nothing configured", "", false, nil, "n n n n", "GPU-ready: no GPU, no Docker"},
		{"driver not loaded", all, false, complete, "fail pass pass pass", "NOT GPU-ready: the NVIDIA driver is not loaded"},
		{"too few GPUs", all + "GPU_COUNT=8\n", true, complete, "fail pass pass pass", "NOT GPU-ready: the driver sees 2 of 8 GPUs"},
		{"nvidia-smi fails", all, true, with("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"),
			"fail pass pass pass", "NOT GPU-ready: nvidia-smi: Failed to initialize NVML: Driver/library version mismatch"},
		{"Docker down", all, true, with("docker", "echo 'Cannot connect to the \"Docker\" daemon' >&2; exit 1"),
			"pass fail fail pass", `NOT GPU-ready: Docker is not up: Cannot connect to the "Docker" daemon`},
		{"no Docker", all, true, map[string]string{"nvidia-smi": twoGPUs, "nvidia-ctk": ctk}, "pass fail fail pass", "NOT GPU-ready: docker is missing"},
		{"no runtime", all, true, with("docker", "case $1 in version) echo 29.6.1 ;; info) echo runc ;; esac"),
			"pass pass fail pass", "NOT GPU-ready: Docker has no runtime nvidia"},
		{"no CDI", all, true, with("nvidia-ctk", "exit 1"), "pass pass pass fail", "NOT GPU-ready: the CDI specification has no nvidia.com/gpu=all"},
		{"GPU without Docker", "GPU_PACKAGES=x\n", true, complete, "pass n n n", "GPU-ready: 2 x NVIDIA H200, driver 580.159.04, no Docker"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, _ := gpuReady(t, c.env, c.driver, c.tools)
			var results []string
			for _, check := range r.Checks {
				results = append(results, strings.Replace(check.Result, "not applicable", "n", 1))
			}
			if strings.Join(results, " ") != c.results || !strings.HasPrefix(r.Line, c.line) {
				t.Errorf("%v: %s", results, r.Line)
			}
		})
	}
}
