package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What init writes, check accepts as it stands.
func TestStarterIsAccepted(t *testing.T) {
	hash, err := os.ReadFile("testdata/files/ops.hash")
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile("testdata/files/ops.pub")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]StarterValues{
		"least": {KeyFiles: []string{"files/ops.pub"}},
		"hash":  {PasswordHash: strings.TrimSpace(string(hash)), GPUIDs: []string{"10de:2335"}, DiskWWN: "eui.0025388c01b2c3d4"},
		"all": {
			Release: "26.04", Arch: "arm64", Hostname: "gpu01", UserName: "ada", PasswordFile: "files/ops.hash",
			Keys: []string{strings.TrimSpace(string(key))}, KeyFiles: []string{"files/team.pub"},
			Timezone: "Europe/Berlin", Locale: "de_DE.UTF-8", Keyboard: "de",
			GPUModels: []string{"h200", "l40s"}, DiskSerial: `S6"ES\NX`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := Starter(v)
			if err != nil {
				t.Fatal(err)
			}
			fleet, rep := Load("gpustrap.yaml", []byte(text), readTestdata)
			if len(rep.Diagnostics) > 0 {
				t.Fatalf("%s\n%s", printed(t, "gpustrap.yaml", []byte(text), rep), text)
			}
			m := fleet.Machines[0]
			if v.DiskSerial != m.Storage.Disk.Serial || v.DiskWWN != m.Storage.Disk.WWN || v.Hostname != "" && v.Hostname != m.Hostname {
				t.Errorf("the file says %+v, want %+v", m, v)
			}
			if diff := cmp.Diff(v.GPUModels, m.GPU.Models); diff != "" {
				t.Error(diff)
			}
			for i, line := range strings.Split(text, "\n") {
				if len([]rune(line)) > 80 && !strings.Contains(line, "ssh-") && !strings.Contains(line, "$6$") {
					t.Errorf("line %d is longer than 80 characters: %s", i+1, line)
				}
				if strings.TrimRight(line, " ") != line {
					t.Errorf("line %d ends with a space", i+1)
				}
			}
		})
	}
}

// Whatever text a person types, the file is YAML that says that text.
func TestStarterQuotes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := StarterValues{Hostname: rapid.String().Draw(t, "hostname"), UserName: "ops", KeyFiles: []string{"files/ops.pub"}, DiskSerial: rapid.StringMatching(`[!-~]{1,20}`).Draw(t, "serial")}
		text, err := Starter(v)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := Decode("x", []byte(text), readTestdata)
		if c.keys == nil || !c.whole {
			t.Fatalf("no YAML:\n%s", text)
		}
		if disk := c.keys.settings.storage.disk; disk.serial.ok() && disk.serial.v != v.DiskSerial {
			t.Errorf("serial %q became %q", v.DiskSerial, disk.serial.v)
		}
		if h := c.keys.settings.hostname; h.ok() && h.v != v.Hostname {
			t.Errorf("hostname %q became %q", v.Hostname, h.v)
		}
	})
}
