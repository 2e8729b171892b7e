package plan

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
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
		menu.Title += asksFirst
	}
	if !m.Reinstall {
		menu.Choices = []grubcfg.Choice{reinstall(menu.Title)}
	}
	return iso.Overlay{Menu: menu}
}

// CheckConfirmation refuses a machine that is to be asked before its disk is erased
// for a medium, laid out by CIDataOverlay for another machine, whose boot menu asks
// less: the menu stays when the seed is replaced.
func CheckConfirmation(m *Machine, medium fs.FS) error {
	text, err := fs.ReadFile(medium, "boot/grub/grub.cfg")
	if err != nil {
		return fmt.Errorf("cannot read the medium's boot menu: %w", err)
	}
	settings, err := grubcfg.ReadSettings(text)
	if err != nil {
		return fmt.Errorf("cannot read the medium's boot menu: %w", err)
	}
	entries, err := grubcfg.Entries(text)
	if err != nil {
		return fmt.Errorf("cannot read the medium's boot menu: %w", err)
	}
	unattended := slices.ContainsFunc(entries, func(e grubcfg.Entry) bool {
		return e.Automated && slices.Contains(e.Args, argAutoinstall)
	})
	wanted := Menu(m)
	switch {
	case !unattended:
	case !slices.Contains(wanted.KernelArgs, argAutoinstall):
		return fmt.Errorf("%s wants yes to be typed before its disk is erased, and the medium's boot menu erases without", m.Name)
	case settings.Timeout == "0" && wanted.Timeout != 0:
		return fmt.Errorf("%s wants a countdown before its disk is erased, and the medium's boot menu has none", m.Name)
	}
	return nil
}
