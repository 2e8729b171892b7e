package main

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/usb"
)

func newDevices(w *world) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List devices, what is on them, and which may be written",
		Long: `Lists the machine's whole block devices: path, size, bus, model, serial number,
what is on them, and for each that "gpustrap write" would refuse, the reason.
Loop devices and those that the kernel puts together from others (LVM, RAID) are
left out; --all shows them.`,
		Example: "  gpustrap devices\n  gpustrap devices --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := checkPlatform(runtime.GOOS); err != nil {
				return err
			}
			return listDevices(w, asJSON, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&all, "all", false, "show loop devices and those made of others, too")
	return cmd
}

// checkPlatform says where devices can be written, and what to do elsewhere.
func checkPlatform(goos string) error {
	const hint = "make an image with gpustrap remaster -o gpu.iso, then write that: "
	switch goos {
	case "linux":
		return nil
	case "darwin":
		return withHint(usb.ErrPlatform, "%s", hint+"diskutil list names the device,\nthen diskutil unmountDisk /dev/diskN and sudo dd if=gpu.iso of=/dev/rdiskN bs=4m")
	case "windows":
		return withHint(usb.ErrPlatform, "%s", hint+"with Rufus, and there in DD mode, not in ISO mode")
	}
	return withHint(usb.ErrPlatform, "%s", hint+"dd if=gpu.iso of=THE-DEVICE bs=4M")
}

// listedDevice is a device and why it would not be written.
type listedDevice struct {
	usb.Device
	Refusal *usb.Refusal `json:"refusal,omitempty"`
}

func listDevices(w *world, asJSON, all bool) error {
	devices, err := w.machine.List()
	if err != nil {
		return err
	}
	listed := []listedDevice{}
	for _, d := range devices {
		if all || d.Bus != usb.BusVirtual && d.Bus != usb.BusLoop {
			listed = append(listed, listedDevice{d, usb.Refuse(&d, usb.Request{Access: w.access})})
		}
	}
	if asJSON {
		encoder := json.NewEncoder(w.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(listed)
	}
	if len(listed) == 0 {
		return withHint(errors.New("there is no device"), "gpustrap devices --all shows loop devices and those made of others")
	}
	for _, d := range listed {
		if err := w.print("%s\n", describeDevice(&d.Device)); err != nil {
			return err
		}
		for _, line := range d.Contents() {
			if err := w.print("  %s\n", line); err != nil {
				return err
			}
		}
		verdict := "may be written"
		if d.Refusal != nil {
			verdict = "refused: " + d.Refusal.Sentence
		}
		if err := w.print("  %s\n", verdict); err != nil {
			return err
		}
	}
	return nil
}

// describeDevice says on one line what a device is.
func describeDevice(d *usb.Device) string {
	parts := []string{d.String(), byteCount(d.Size), string(d.Bus)}
	if d.Removable {
		parts = append(parts, "removable")
	}
	return strings.Join(parts, ", ")
}
