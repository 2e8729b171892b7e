package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/plan"
)

func newRemaster(w *world) *cobra.Command {
	var source, out string
	var offline bool
	cmd := &cobra.Command{
		Use:   "remaster --iso ISO -o IMAGE [MACHINE]",
		Short: "Put a machine's seed and boot menu on a stock live-server ISO",
		Long: `Lays the machine's NoCloud seed and boot menu over a stock Ubuntu live-server
ISO. Every other byte stays as published and where it was; "gpustrap restore"
gives the original back, and "gpustrap inspect" lists what differs.

With --offline, or where the configuration says offline:, the medium also gets
the packages of the lock as a signed repository, and the installation takes them
from there; see "gpustrap bundle".

--iso takes a file, or a release such as 24.04, which is fetched and verified.
An image that gpustrap made before is a fine base too: its old overlay is
replaced.`,
		Example: `  gpustrap remaster --iso ubuntu-24.04.3-live-server-amd64.iso -o gpu.iso
  gpustrap remaster --iso 24.04 -o node01.iso node01`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if source == "" || out == "" {
				return usageError{withHint(errors.New("--iso and -o are needed"), "usage: %s", cmd.UseLine())}
			}
			if err := checkOutput(w, out); err != nil {
				return err
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			if offline {
				project.InstallOffline()
			}
			m, err := project.One(args)
			if err != nil {
				return usageError{err}
			}
			return remaster(cmd.Context(), w, cmd, project, m, source, out)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "put the locked packages on the medium, and install from it")
	cmd.Flags().StringVar(&source, "iso", "", "stock ISO: a `file`, or a release to fetch")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`image` to write; - is standard output")
	return cmd
}

func remaster(ctx context.Context, w *world, cmd *cobra.Command, project *plan.Project, m *plan.Machine, source, out string) error {
	base, err := openISO(ctx, w, source, m.Arch)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }() // read only
	layout, err := layoutFor(w, cmd, project, m, base)
	if err != nil {
		return err
	}
	if err := writeLayout(ctx, w, layout, base, out); err != nil {
		return err
	}
	if out != standardOutput {
		w.say("%s: %s, installs %s from %s", out, byteCount(layout.Size()), m.Name, base.Description().Info)
	}
	w.say("%s", plan.Secrets(m))
	return nil
}

// layoutFor plans the machine's image over the base.
func layoutFor(w *world, cmd *cobra.Command, project *plan.Project, m *plan.Machine, base *medium) (*iso.Layout, error) {
	if err := plan.CheckMedium(m, base.Description()); err != nil {
		return nil, withHint(err, "name another ISO, or set ubuntu: and arch: in %s", configName(cmd))
	}
	if err := prepareOffline(w, cmd, project, m); err != nil {
		return nil, err
	}
	seed, rep := project.Render(m)
	seed, err := rendered(w, cmd, seed, rep)
	if err != nil {
		return nil, err
	}
	overlay, err := plan.Overlay(m, seed)
	if err != nil {
		return nil, err
	}
	if err := addRepository(w, cmd, project, []*plan.Machine{m}, base, &overlay); err != nil {
		return nil, err
	}
	overlay.ModTime, err = sourceDate(w)
	if err != nil {
		return nil, err
	}
	layout, err := iso.Remaster(base.Image, overlay)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.name, err)
	}
	return layout, nil
}
