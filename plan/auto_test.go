package plan_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/gpu"
)

// TestDriverChoosesByTheBus runs the shipped driver step over the PCI bus of a
// machine, in a dry run, with the table that its seed would carry.
func TestDriverChoosesByTheBus(t *testing.T) {
	tests := []struct {
		name    string
		devices map[string]string // PCI address to "device class"
		want    []string
		fails   bool
	}{
		{"one H200", map[string]string{"0000:18:00.0": "0x2335 0x030200"},
			[]string{"10de:2335 : branch 580-server, open modules", "nvidia-utils-580-server"}, false},
		{"an NVSwitch brings the Fabric Manager", map[string]string{"0000:18:00.0": "0x2330 0x030200", "0000:07:00.0": "0x22a3 0x068000"},
			[]string{"nvidia-fabricmanager-580"}, false},
		{"a bridge that is no switch and an audio function do not matter",
			map[string]string{"0000:18:00.0": "0x2684 0x030000", "0000:18:00.1": "0x22ba 0x040300", "0000:07:00.0": "0xffff 0x068000"},
			[]string{"10de:2684 : branch"}, false},
		{"no GPU", nil, []string{"no driver can be chosen for this machine: no GPU", "its NVIDIA devices are: none"}, true},
		{"an unknown GPU", map[string]string{"0000:18:00.0": "0xfffe 0x030200"}, []string{"no GPU with the PCI id 10de:fffe is known"}, true},
	}
	tables, err := gpu.Load()
	if err != nil {
		t.Fatal(err)
	}
	table, findings := tables.AutoTable(gpu.Request{Auto: true, Release: "24.04", Arch: "amd64"})
	if table == nil {
		t.Fatal(findings)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			etc, sysfs := t.TempDir(), t.TempDir()
			write := func(name, text string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(filepath.Join(etc, "stacks"), string(table))
			write(filepath.Join(etc, "machine.env"),
				"GPU_AUTO='1'\nGPU_BRANCH=''\nGPU_PACKAGES=''\nGPU_SERVICES=''\nGPU_MODULES=''\nKERNEL_PACKAGE='linux-generic'\n")
			write(filepath.Join(sysfs, "bus/pci/devices/0000:00:00.0/vendor"), "0x8086\n")
			for address, text := range tt.devices {
				dir := filepath.Join(sysfs, "bus/pci/devices", address)
				device, class, _ := strings.Cut(text, " ")
				write(filepath.Join(dir, "vendor"), "0x10de\n")
				write(filepath.Join(dir, "device"), device+"\n")
				write(filepath.Join(dir, "class"), class+"\n")
			}
			cmd := exec.Command("bash", "../scripts/driver.sh")
			cmd.Env = append(os.Environ(), "GPUSTRAP_ETC="+etc, "GPUSTRAP_SYSFS="+sysfs, "GPUSTRAP_DRY_RUN=1")
			out, err := cmd.CombinedOutput()
			if (err != nil) != tt.fails {
				t.Errorf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}
