package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// smi keeps the state of two GPUs in files and answers as nvidia-smi 580 does,
// in the forms that it has on an H200. It writes down every change.
const smi = `#!/bin/bash
set -u
cd "$SMI" || exit 9
case "$*" in
*--query-gpu=index,mig.mode.current,power.limit,power.min_limit,power.max_limit,persistence_mode*)
    for g in 0 1; do echo "$g, $(cat $g.mig), $(cat $g.power), 200.00, 700.00, $(cat $g.persistence)"; done ;;
*--query-gpu=mig.mode.current*) cat "$2.mig" ;;
"mig -i "*" -lgi")
    if [ "$(cat "$3.mig")" = Disabled ]; then echo "No MIG-enabled devices found."; exit 0; fi
    if [ ! -s "$3.instances" ]; then echo "No GPU instances found: Not Found"; exit 6; fi
    echo "| GPU   Name               Profile  Instance   Placement  |"
    tr , '\n' <"$3.instances" | sed "s/.*/|   $3  MIG &           19       13         6:1      |/" ;;
*)
    echo "$*" >>calls
    case "$*" in
    "-i "*" -mig "*)
        if [ -e pending ]; then echo "Warning: MIG mode is in pending enable state"
        elif [ "$4" = 1 ]; then echo Enabled >"$2.mig"; else echo Disabled >"$2.mig"; fi ;;
    "-i "*" --gpu-reset")
        if [ -e in-use ]; then echo "GPU is in use by another client"; exit 255; fi
        echo Enabled >"$2.mig" ;;
    "mig -i "*" -dci") if [ ! -s "$3.instances" ]; then exit 6; fi ;;
    "mig -i "*" -dgi") : >"$3.instances" ;;
    "mig -i "*" -cgi "*" -C") echo "$5" >"$3.instances" ;;
    "-i "*" -pm "*) if [ "$4" = 1 ]; then echo Enabled >"$2.persistence"; else echo Disabled >"$2.persistence"; fi ;;
    "-i "*" -pl "*) echo "$4.00" >"$2.power" ;;
    *) exit 2 ;;
    esac ;;
esac
`

// TestSettings runs what the unit runs, with nvidia-smi replaced: which settings
// the driver takes is its own affair, which ones it is asked for is ours.
func TestSettings(t *testing.T) {
	tests := []struct {
		name                    string
		mig, power, persistence string
		state                   map[string]string // different from two whole GPUs of 700 W without persistence mode
		calls                   string
		fails                   string
	}{
		{name: "nothing but persistence", persistence: "1", calls: "-i 0 -pm 1\n-i 1 -pm 1\n"},
		{name: "all is as wanted", mig: "3g.71gb,1g.18gb", power: "500", persistence: "1", state: map[string]string{
			"0.mig": "Enabled", "1.mig": "Enabled", "0.instances": "1g.18gb,3g.71gb", "1.instances": "3g.71gb,1g.18gb",
			"0.power": "500.00", "1.power": "500.00", "0.persistence": "Enabled", "1.persistence": "Enabled"}},
		{name: "all at once, in an order that lasts", mig: "3g.71gb,3g.71gb", power: "500", persistence: "1",
			calls: "-i 0 -mig 1\nmig -i 0 -cgi 3g.71gb,3g.71gb -C\n-i 0 -pm 1\n-i 0 -pl 500\n" +
				"-i 1 -mig 1\nmig -i 1 -cgi 3g.71gb,3g.71gb -C\n-i 1 -pm 1\n-i 1 -pl 500\n"},
		{name: "another layout", mig: "7g.141gb", persistence: "0", state: map[string]string{
			"0.mig": "Enabled", "1.mig": "Enabled", "0.instances": "7g.141gb", "1.instances": "3g.71gb"},
			calls: "mig -i 1 -dci\nmig -i 1 -dgi\nmig -i 1 -cgi 7g.141gb -C\n"},
		{name: "MIG off again", mig: "off", persistence: "0", state: map[string]string{"1.mig": "Enabled", "1.instances": "3g.71gb"},
			calls: "mig -i 1 -dci\nmig -i 1 -dgi\n-i 1 -mig 0\n"},
		{name: "MIG mode that takes a reset", mig: "7g.141gb", persistence: "1", state: map[string]string{"0.persistence": "Enabled", "1.persistence": "Enabled", "pending": "", "1.mig": "Enabled", "1.instances": "7g.141gb"},
			calls: "-i 0 -mig 1\n-i 0 -pm 0\n-i 0 --gpu-reset\nmig -i 0 -cgi 7g.141gb -C\n-i 0 -pm 1\n"},
		{name: "MIG mode that takes a boot", mig: "7g.141gb", persistence: "0", state: map[string]string{"pending": "", "in-use": ""},
			calls: "-i 0 -mig 1\n-i 0 -pm 0\n-i 0 --gpu-reset\n", fails: "GPU 0 takes the MIG mode at the next boot"},
		{name: "a GPU without MIG", mig: "7g.141gb", persistence: "0", state: map[string]string{"0.mig": "[N/A]"}, fails: "GPU 0 cannot be divided"},
		{name: "no MIG to switch off", mig: "off", persistence: "0", state: map[string]string{"0.mig": "[N/A]"}},
		{name: "too much power", power: "900", persistence: "0", fails: "can be 200 to 700 W, not 900 W"},
		{name: "no power limit to set", power: "300", persistence: "0", state: map[string]string{"0.power": "[N/A]"}, fails: "GPU 0 has no power limit to set"},
		{name: "persistence off", persistence: "0", state: map[string]string{"0.persistence": "Enabled"}, calls: "-i 0 -pm 0\n"},
		{name: "no driver", persistence: "1", state: map[string]string{"../bin/nvidia-smi": "#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9"},
			fails: "the command was: nvidia-smi --query-gpu (status 9)"},
		{name: "no GPU", mig: "7g.141gb", persistence: "1", state: map[string]string{"../bin/nvidia-smi": "#!/bin/sh\nexit 9", "../sys/bus/pci/devices/0000:1b:00.0/class": "0x020000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				at := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write("bin/nvidia-smi", smi)
			write("sys/bus/pci/devices/0000:1b:00.0/vendor", "0x10de")
			write("sys/bus/pci/devices/0000:1b:00.0/class", "0x030200")
			for _, gpu := range []string{"0", "1"} {
				write("smi/"+gpu+".mig", "Disabled")
				write("smi/"+gpu+".power", "700.00")
				write("smi/"+gpu+".persistence", "Disabled")
			}
			for name, text := range tt.state {
				write("smi/"+name, text)
			}
			write("etc/machine.env", "GPU_MIG='"+tt.mig+"'\nGPU_POWER_LIMIT='"+tt.power+"'\nGPU_PERSISTENCE='"+tt.persistence+"'")
			run := func() (string, error) {
				cmd := exec.Command("bash", "-u", "settings.sh", "--boot")
				cmd.Env = append(os.Environ(), "SMI="+dir+"/smi", "PATH="+dir+"/bin:"+os.Getenv("PATH"),
					"GPUSTRAP_ETC="+dir+"/etc", "GPUSTRAP_LOG="+dir+"/log", "GPUSTRAP_SYSFS="+dir+"/sys", "GPUSTRAP_HOME=installer")
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := run()
			if (err != nil) != (tt.fails != "") || !strings.Contains(out, tt.fails) {
				t.Errorf("%v, want %q:\n%s", err, tt.fails, out)
			}
			calls, _ := os.ReadFile(filepath.Join(dir, "smi/calls"))
			if string(calls) != tt.calls {
				t.Errorf("changes:\n%swant:\n%s%s", calls, tt.calls, out)
			}
			if tt.fails != "" {
				return
			}
			if out, err := run(); err != nil {
				t.Errorf("the second run: %v\n%s", err, out)
			}
			if again, _ := os.ReadFile(filepath.Join(dir, "smi/calls")); string(again) != tt.calls {
				t.Errorf("the second run changed something:\n%s", strings.TrimPrefix(string(again), tt.calls))
			}
		})
	}
}
