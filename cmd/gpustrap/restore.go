package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso"
)

func newRestore(w *world) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "restore IMAGE -o ISO",
		Short: "Give back the stock ISO that an image was made from, bit for bit",
		Long: `Takes the overlay off an image that gpustrap remastered. The result is the stock
ISO, bit for bit: its SHA-256 is the published one again.`,
		Example: "  gpustrap restore gpu.iso -o stock.iso && sha256sum stock.iso",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{withHint(errors.New("-o is needed"), "usage: %s", cmd.UseLine())}
			}
			if err := checkOutput(w, out); err != nil {
				return err
			}
			image, err := openMedium(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = image.Close() }() // read only
			layout, err := iso.Restore(image.Image)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := writeLayout(cmd.Context(), w, layout, image, out); err != nil {
				return err
			}
			if out != standardOutput {
				w.say("%s: %s, the stock medium %s", out, byteCount(layout.Size()), image.Description().Info)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - is standard output")
	return cmd
}
