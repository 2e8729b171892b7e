package plan

import (
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
)

// CIDataOverlay returns what is laid over a stock medium that takes its seed from a
// partition labelled cidata: kernel arguments and no seed. Without an argument that
// names a place, cloud-init looks for that label by itself. The medium is no
// machine's own, but asks before it erases as the machine has it.
func CIDataOverlay(m *Machine) iso.Overlay {
	menu := Menu(m)
	menu.KernelArgs = slices.DeleteFunc(menu.KernelArgs, func(arg string) bool { return strings.HasPrefix(arg, "ds=") })
	menu.Title = "ERASE the disk and install by the seed on this device"
	if m.Boot.Confirm == config.ConfirmTyped {
		menu.Title += " (asks first)"
	}
	return iso.Overlay{Menu: menu}
}
