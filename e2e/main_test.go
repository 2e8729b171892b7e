// Package e2e tests the whole thing from outside: sample media made of Debian's
// packages, remastered by the program, booted in QEMU, installed and booted
// again. See README.md in this folder.
package e2e

import (
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
