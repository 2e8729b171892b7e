// Package oracle finds the foreign tools that tests ask whether our bytes are
// right.
package oracle

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of a tool. A test whose tool is missing is skipped on a
// person's machine and fails in CI (environment variable CI set), where the
// script that runs the tests installs every tool.
func Need(t testing.TB, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed; e2e/install-tools.sh installs what the tests need", tool)
	default:
		t.Skipf("%s is not installed; e2e/install-tools.sh installs what the tests need", tool)
	}
	return ""
}
