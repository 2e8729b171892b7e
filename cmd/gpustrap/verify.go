package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso"
)

func newVerify(w *world) *cobra.Command {
	var asJSON, boot bool
	var base string
	cmd := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Prove an image: structure, checksums, boot menu, seed",
		Long: `Checks a remastered image as the machine will see it, from the whole medium and
from its first partition: volume structures, directories, path tables, boot
catalogue, partition tables, every line of md5sum.txt, the quoting of the kernel
arguments, and the seed. Each fault is named; any fault is exit code 1.

With --base every byte that was not meant to change is compared with the stock
ISO: that finds damage where no checksum looks, and proves that restore gives
that ISO back.`,
		Example: "  gpustrap verify gpu.iso\n  gpustrap verify --boot gpu.iso\n  gpustrap verify --base ubuntu-24.04.3-live-server-amd64.iso gpu.iso",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := verify(cmd.Context(), w, args[0], base, asJSON); err != nil || !boot {
				return err
			}
			return bootImage(cmd.Context(), w, args[0])
		},
	}
	cmd.Flags().StringVar(&base, "base", "", "compare with the stock `ISO` that the image was made from")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the faults as JSON")
	cmd.Flags().BoolVar(&boot, "boot", false, "boot the image in QEMU as a USB disk under UEFI, too")
	return cmd
}

func verify(ctx context.Context, w *world, name, base string, asJSON bool) error {
	var options iso.VerifyOptions
	if base != "" {
		stock, err := openMedium(base)
		if err != nil {
			return err
		}
		defer func() { _ = stock.Close() }() // read only
		options.Base = stock.Image
	}
	f, size, err := openImageFile(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	update, finish := w.progress("verify")
	options.Progress = update
	faults, err := iso.Verify(ctx, f, size, options)
	finish()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	own := 0
	for _, fault := range faults {
		if !fault.Base {
			own++
		}
	}
	if asJSON {
		if faults == nil {
			faults = []iso.Fault{} // a list without members, not null
		}
		err = json.NewEncoder(w.stdout).Encode(faults)
	} else {
		for _, fault := range faults {
			if err := w.print("%s\n", fault); err != nil {
				return err
			}
		}
	}
	switch {
	case err != nil:
		return err
	case own > 0:
		return fmt.Errorf("%s has %s", name, count(own, "fault"))
	case asJSON:
		return nil
	}
	image, err := iso.Open(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !image.Remastered() {
		return w.print("%s: good, a stock medium: it has no seed\n", name)
	}
	return w.print("%s: good\n", name)
}
