package plan

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/report"
)

// RenderCollection returns one NoCloud seed for several machines, which picks
// the machine on the machine itself.
func (p *Project) RenderCollection(machines []*Machine) (fs.FS, report.Report) {
	inputs := make([]autoinstall.Input, len(machines))
	for i, m := range machines {
		inputs[i] = m.input()
	}
	return p.renderer.RenderCollection(inputs, "/cdrom/"+SeedFolder)
}

// CollectionOverlay returns what is laid over a stock medium so that it installs
// whichever of the machines it is started on.
func CollectionOverlay(machines []*Machine, seed fs.FS) (iso.Overlay, error) {
	return overlay(seed, CollectionMenu(machines))
}

// CollectionMenu returns the boot menu of a medium for several machines: as
// careful as the most careful of them, and with the kernel arguments that all have.
func CollectionMenu(machines []*Machine) *grubcfg.Menu {
	one := *machines[0]
	one.Reinstall = true
	for _, m := range machines {
		switch {
		case m.Boot.Confirm == config.ConfirmTyped:
			one.Boot.Confirm = config.ConfirmTyped
		case m.Boot.Confirm == config.ConfirmCountdown && one.Boot.Confirm == config.ConfirmNone:
			one.Boot.Confirm = config.ConfirmCountdown
		}
		one.Boot.Timeout = max(one.Boot.Timeout, m.Boot.Timeout)
		one.Reinstall = one.Reinstall && m.Reinstall
		one.KernelArgs = slices.DeleteFunc(slices.Clone(one.KernelArgs), func(arg string) bool { return !slices.Contains(m.KernelArgs, arg) })
	}
	menu := Menu(&one)
	menu.Title = fmt.Sprintf("ERASE the disk and install the one of %d machines that this is", len(machines))
	if one.Boot.Confirm == config.ConfirmTyped {
		menu.Title += asksFirst
	}
	if !one.Reinstall {
		menu.Choices = []grubcfg.Choice{reinstall(menu.Title)}
	}
	return menu
}

// CollectionSecrets says in one line what a holder of a medium for several
// machines can read.
func CollectionSecrets(machines []*Machine) string {
	var hashes []string
	for _, m := range machines {
		for _, u := range m.Users {
			if u.PasswordHash != "" && !slices.Contains(hashes, u.Name) {
				hashes = append(hashes, u.Name)
			}
		}
	}
	text := fmt.Sprintf("whoever holds it can read the configuration of all %d machines and their users' public keys", len(machines))
	if len(hashes) == 0 {
		return text + "; it has no password hash"
	}
	slices.Sort(hashes)
	return text + ", and the password hashes of " + strings.Join(hashes, ", ") + ": keep it as you keep the passwords"
}
