package scripts_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/scripts"
)

// files returns the scripts and units by name, as they are embedded.
func files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.sh", "*.service", "*.timer", "*.mount"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := scripts.Read(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = text
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d scripts", len(out))
	}
	return out
}

func TestReadNamesWhatIsMissing(t *testing.T) {
	if _, err := scripts.Read("no-such.sh"); err == nil || !strings.Contains(err.Error(), "no-such.sh") {
		t.Errorf("error %v", err)
	}
}

// TestScriptsAreFitForASeed holds that every script stands in a seed as a
// literal block that a person can read.
func TestScriptsAreFitForASeed(t *testing.T) {
	for name, text := range files(t) {
		if !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
			t.Errorf("%s does not end with one newline", name)
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.TrimRight(line, " ") != line || strings.ContainsAny(line, "\t\r") {
				t.Errorf("%s:%d: a tab or a space at the end would break the literal block", name, i+1)
			}
			if len(line) > 140 {
				t.Errorf("%s:%d: %d characters", name, i+1, len(line))
			}
		}
		if len(text) > 50<<10 {
			t.Errorf("%s has %d bytes; a command carries at most 100 KiB", name, len(text))
		}
	}
}

// TestScriptsAreStrict holds that a variable that is not set ends a script, and
// that none asks for the running kernel, which in the installer is not the
// machine's.
func TestScriptsAreStrict(t *testing.T) {
	for name, text := range files(t) {
		if !strings.HasSuffix(name, ".sh") {
			continue
		}
		if !strings.Contains(text, "\nset -u") && !strings.Contains(text, "\nset -eu") && name != "steps.sh" {
			t.Errorf("%s runs without set -u", name)
		}
		if strings.Contains(text, "uname -r") && !strings.HasPrefix(name, "gpu-ready") {
			t.Errorf("%s asks for the running kernel", name)
		}
	}
}

func TestScriptsParse(t *testing.T) {
	shellcheck, dash := oracle.Need(t, "shellcheck"), oracle.Need(t, "dash")
	for name, text := range files(t) {
		if !strings.HasSuffix(name, ".sh") {
			continue
		}
		shell := "bash"
		if strings.HasPrefix(text, "#!/bin/sh\n") {
			shell = dash
		}
		if out, err := exec.Command(shell, "-n", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if out, err := exec.Command(shellcheck, "-x", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
