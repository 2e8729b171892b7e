package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso/cidata"
	"github.com/gpustrap/gpustrap/plan"
)

func newSeed(w *world) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "seed -o IMAGE [MACHINE]",
		Short: "Make a cidata image for use beside an untouched ISO",
		Long: `Writes the machine's NoCloud seed as a small image with the volume label cidata.
Attached beside an untouched live-server ISO, as a second stick or a second
virtual CD, the installer finds it. The stock boot menu does not say
"autoinstall", so the installer asks "Continue with autoinstall? (yes|no)" at
the screen and waits; "gpustrap remaster" makes a medium that does not ask.`,
		Example:           "  gpustrap seed -o node01-seed.iso node01",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{withHint(errors.New("-o is needed"), "usage: %s", cmd.UseLine())}
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			m, err := project.One(args)
			if err != nil {
				return usageError{err}
			}
			seed, rep := project.Render(m)
			if seed, err = rendered(w, cmd, seed, rep); err != nil {
				return err
			}
			date, err := sourceDate(w)
			if err != nil {
				return err
			}
			if date.IsZero() {
				date = time.Unix(0, 0).UTC() // a seed has no date of its own, and the same seed is the same bytes
			}
			var image bytes.Buffer
			if err := cidata.Write(&image, seed.FS(), date); err != nil {
				return err
			}
			if err := writeWhole(out, image.Bytes()); err != nil {
				return err
			}
			w.say("%s: %s, the NoCloud seed of %s", out, byteCount(int64(image.Len())), m.Name)
			w.say("beside an untouched ISO the installer asks \"Continue with autoinstall? (yes|no)\" and waits")
			w.say("%s", plan.Secrets(m))
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`image` to write")
	return cmd
}

// writeWhole writes a file that may hold secrets, whole or not at all.
func writeWhole(name string, data []byte) error {
	pending, err := renameio.NewPendingFile(name, renameio.WithPermissions(secretFile))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	_, err = pending.Write(data)
	if err == nil {
		err = pending.CloseAtomicallyReplace()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", name, err), pending.Cleanup())
	}
	return nil
}
