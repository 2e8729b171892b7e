package main

import (
	"bytes"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso/cidata"
	"github.com/gpustrap/gpustrap/plan"
)

func newSeed(w *world) *cobra.Command {
	var out, device string
	var consent deviceConsent
	cmd := &cobra.Command{
		Use:   "seed (-o IMAGE | --device DEVICE) [MACHINE]",
		Short: "Make a cidata image, or put the seed on a written device",
		Long: `Writes the machine's NoCloud seed as a small image with the volume label cidata.
Attached beside an untouched live-server ISO, as a second stick or a second
virtual CD, the installer finds it. The stock boot menu does not say
"autoinstall", so the installer asks "Continue with autoinstall? (yes|no)" at
the screen and waits; "gpustrap remaster" makes a medium that does not ask.

With --device the seed goes to the partition for it on a device that "gpustrap
write --cidata" has written: the same device then installs the next machine, and
nothing else on it is touched.`,
		Example: `  gpustrap seed -o node01-seed.iso node01
  gpustrap seed --device /dev/sdb node02`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (out == "") == (device == "") {
				return usageError{withHint(errors.New("either -o or --device is needed"), "usage: %s", cmd.UseLine())}
			}
			if err := checkOutput(w, out); err != nil {
				return err
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			m, err := project.One(args)
			if err != nil {
				return usageError{err}
			}
			image, err := seedImage(w, cmd, project, m)
			if err != nil {
				return err
			}
			if device != "" {
				return writeSeed(cmd, w, m, image, device, consent)
			}
			if err := writeImage(w, out, image); err != nil {
				return err
			}
			if out != standardOutput {
				w.say("%s: %s, the NoCloud seed of %s", out, byteCount(int64(len(image))), m.Name)
			}
			w.say("beside an untouched ISO the installer asks \"Continue with autoinstall? (yes|no)\" and waits")
			w.say("%s", plan.Secrets(m))
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`image` to write; - is standard output")
	cmd.Flags().StringVar(&device, "device", "", "`device` to put the seed on")
	consent.flags(cmd)
	return cmd
}

// seedImage makes the machine's NoCloud seed into a cidata image.
func seedImage(w *world, cmd *cobra.Command, project *plan.Project, m *plan.Machine) ([]byte, error) {
	if err := prepareOffline(w, cmd, project, m); err != nil {
		return nil, err
	}
	seed, rep := project.Render(m)
	seed, err := rendered(w, cmd, seed, rep)
	if err != nil {
		return nil, err
	}
	date, err := sourceDate(w)
	if err != nil {
		return nil, err
	}
	if date.IsZero() {
		date = time.Unix(0, 0).UTC() // a seed has no date of its own, and the same seed is the same bytes
	}
	var image bytes.Buffer
	err = cidata.Write(&image, seed.FS(), date)
	return image.Bytes(), err
}
