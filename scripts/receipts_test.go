package scripts_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReceiptsOfAnH200 reads what e2e/gpu-check/run.sh wrote on a machine with an
// H200, all well and with one thing wrong at a time: receipts that follow the
// schema, whose line is that of the first check that failed.
func TestReceiptsOfAnH200(t *testing.T) {
	cases := map[string]struct{ line, results string }{
		"ready": {"GPU-ready: 1 x NVIDIA H200, driver 580.159.04, Docker 26.1.5+dfsg1", allPass},
		"no-cdi": {"NOT GPU-ready: there is no CDI specification with nvidia.com/gpu=all",
			strings.NewReplacer("cdi:pass", "cdi:fail", "container_gpus:pass", "container_gpus:n").Replace(allPass)},
		"wrong-count":  {"NOT GPU-ready: 1 of 8 GPUs are on the PCI bus", strings.Replace(allPass, "pci:pass", "pci:fail", 1)},
		"wrong-driver": {"NOT GPU-ready: the driver is 580.159.04, and branch 999-server is configured", strings.Replace(allPass, "versions:pass", "versions:fail", 1)},
		"docker-stopped": {"NOT GPU-ready: Docker is not up: Cannot connect to the Docker daemon at unix:///tmp/tmp.W0JkNV1nWl/docker.sock. Is the docker daemon running?",
			strings.NewReplacer("docker:pass", "docker:fail", "runtime:pass", "runtime:n", "container:pass", "container:n", "container_gpus:pass", "container_gpus:n").Replace(allPass)},
	}
	files, err := filepath.Glob("testdata/h200/*.json")
	if err != nil || len(files) != len(cases) {
		t.Fatalf("%d receipts, want %d (%v)", len(files), len(cases), err)
	}
	schema := receiptSchema(t)
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/h200/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(decodeJSON(t, data)); err != nil {
				t.Error(err)
			}
			var r receipt
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			if r.Line != want.line || r.results() != want.results || r.Ready != (name == "ready") {
				t.Errorf("ready %v, line %q, checks %s", r.Ready, r.Line, r.results())
			}
			for _, c := range r.Checks {
				if c.Result != "fail" {
					continue
				}
				if r.Line != "NOT GPU-ready: "+c.Text || r.Action != c.Action || r.Action == "" {
					t.Errorf("the line is not that of the check %s, with what to do", c.Name)
				}
				break
			}
			if len(r.GPUs) != 1 || r.GPUs[0].Name != "NVIDIA H200" || r.GPUs[0].MemoryMiB != 143771 || strings.Trim(r.GPUs[0].Serial, "0") != "" {
				t.Errorf("GPUs %+v", r.GPUs)
			}
		})
	}
}

// TestGPUWhoOnAnH200 reads what gpu-who said on that machine beside what the
// driver said: a process and a container, each with the driver's figure.
func TestGPUWhoOnAnH200(t *testing.T) {
	data, err := os.ReadFile("testdata/h200/gpu-who.txt")
	if err != nil {
		t.Fatal(err)
	}
	who, driver, _ := strings.Cut(string(data), "\n\n")
	lines := strings.Split(who, "\n")[1:]
	if len(lines) != 2 {
		t.Fatalf("gpu-who named %d processes, want 2:\n%s", len(lines), who)
	}
	containers := []string{"gpu-check-holder", "-"}
	for i, line := range lines {
		f := strings.Fields(line) // GPU, memory, MiB, user, container, PID, command
		if len(f) < 7 || f[0] != "0" || f[3] != "root" || f[4] != containers[i] {
			t.Fatalf("gpu-who says %q", line)
		}
		if !strings.Contains(driver, ", "+f[5]+", "+f[1]+" MiB, "+f[6]+"\n") {
			t.Errorf("the driver does not say what gpu-who does in %q:\n%s", line, driver)
		}
	}
}
