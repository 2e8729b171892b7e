package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/boot"
)

// defaultIPXE is where Debian's and Ubuntu's package ipxe has its programs.
const defaultIPXE = "/usr/lib/ipxe"

// pxeFlags are the flags of serve about what machines boot.
type pxeFlags struct {
	media            []string
	dhcp             string
	grub, shim, ipxe string
}

func (f *pxeFlags) flags(cmd *cobra.Command) {
	var modes []string
	for _, m := range netboot.DHCPModes() {
		modes = append(modes, string(m))
	}
	cmd.Flags().StringArrayVar(&f.media, "iso", nil, "installation medium that machines are installed from (`file`; more than one for several releases)")
	cmd.Flags().StringVar(&f.dhcp, "dhcp", string(netboot.DHCPProxy), "`mode`: "+strings.Join(modes, ", ")+" (beside the site's server, with the machines' addresses too, not at all)")
	cmd.Flags().StringVar(&f.shim, "shim", "", "signed shim (`file`; default: the medium's)")
	cmd.Flags().StringVar(&f.grub, "grub", "", "signed network GRUB (`file`; default: that in the medium's pool)")
	cmd.Flags().StringVar(&f.ipxe, "ipxe", "", "`folder` with iPXE's undionly.kpxe, snponly.efi or ipxe.efi (default "+defaultIPXE+")")
}

// read returns what boots machines.
func (f *pxeFlags) read(iface string) (*netboot.PXEOptions, error) {
	if !slices.Contains(netboot.DHCPModes(), netboot.DHCPMode(f.dhcp)) {
		return nil, usagef("--dhcp is %q, and must be proxy, reservation or off", f.dhcp)
	}
	host, err := interfaceAddress(iface)
	if err != nil {
		return nil, err
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("cannot use the address of %s: %w", iface, err)
	}
	o := netboot.PXEOptions{Interface: iface, Address: address, DHCP: netboot.DHCPMode(f.dhcp), Loaders: &boot.Loaders{}}
	// What is named goes before what is found.
	for role, name := range map[string]string{"shim": f.shim, "grub": f.grub} {
		if name == "" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read the boot loader: %w", err)
		}
		if err := o.Loaders.AddFile(role, name, data); err != nil {
			return nil, err
		}
	}
	if err := f.addIPXE(o.Loaders); err != nil {
		return nil, err
	}
	for _, name := range f.media {
		medium, err := netboot.OpenMedium(name)
		if err != nil {
			return nil, err
		}
		o.Media = append(o.Media, medium)
		if err := o.Loaders.AddMedium(medium.Image, medium.Medium); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return &o, nil
}

func (f *pxeFlags) addIPXE(l *boot.Loaders) error {
	folder := f.ipxe
	if folder == "" {
		folder = defaultIPXE
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && f.ipxe == "" {
		return nil // the server says at its start what it has
	} else if err != nil {
		return fmt.Errorf("cannot read iPXE: %w", err)
	}
	err := l.AddIPXE(os.DirFS(folder), folder)
	if errors.Is(err, boot.ErrNoIPXE) && f.ipxe == "" {
		return nil
	}
	return err
}
