package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGrowRoot runs grow-root.sh with stand-ins of findmnt and LVM's tools.
func TestGrowRoot(t *testing.T) {
	for _, c := range []struct {
		name, free, mounted string
		want                string // what lvextend is called with; "": not at all
		fails               bool
	}{
		{"space is left", "  847651143680 ", "/dev/mapper/ubuntu--vg-ubuntu--lv", "--resizefs -l +100%FREE /dev/mapper/ubuntu--vg-ubuntu--lv\n", false},
		{"no space is left", "  0 ", "/dev/mapper/ubuntu--vg-ubuntu--lv", "", false},
		{"no root file system", "  0 ", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for tool, text := range map[string]string{
				"findmnt":  `[ "$5" = /mnt/target ] && [ -n "$MOUNTED" ] && echo "$MOUNTED"`,
				"lvs":      `[ "$7" = "$MOUNTED" ] && echo "$FREE"`,
				"lvextend": `echo "$@" >"$DIR/called"`,
			} {
				if err := os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("sh", "-u", "grow-root.sh")
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "DIR="+dir, "FREE="+c.free, "MOUNTED="+c.mounted, "TARGET_MOUNT_POINT=/mnt/target")
			out, err := cmd.CombinedOutput()
			called, _ := os.ReadFile(filepath.Join(dir, "called"))
			if (err != nil) != c.fails || string(called) != c.want {
				t.Errorf("%v, lvextend %q\n%s", err, called, out)
			}
			if c.want != "" && !strings.Contains(string(out), "gpustrap: give the root file system") {
				t.Errorf("it does not say what it does: %s", out)
			}
		})
	}
}
