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
	var all, offline bool
	cmd := &cobra.Command{
		Use:        "remaster --iso ISO -o IMAGE [MACHINE | --all [MACHINE...]]",
		Short:      "Put a machine's seed and boot menu on a stock live-server ISO",
		SuggestFor: []string{"build"},
		Long: `Lays the machine's NoCloud seed and boot menu over a stock Ubuntu live-server
ISO. Every other byte stays as published and where it was; "gpustrap restore"
gives the original back, and "gpustrap inspect" lists what differs.

With --all the medium installs every machine of the configuration, or those that
are named: it finds out on the machine, by serial number, UUID or MAC address,
which one it is, and stops where it is none of them. Such a medium holds every
machine's secrets.

With --offline, or where the configuration says offline:, the medium also gets
the packages of the lock as a signed repository, and the installation takes them
from there; see "gpustrap bundle".

--iso takes a file, or a release such as 24.04, which is fetched and verified.
An image that gpustrap made before is a fine base too: its old overlay is
replaced.`,
		Example: `  gpustrap remaster --iso ubuntu-24.04.3-live-server-amd64.iso -o gpu.iso
  gpustrap remaster --iso 24.04 -o node01.iso node01
  gpustrap remaster --iso 24.04 -o rack1.iso --all 'rack1-*'`,
		Args:              cobra.ArbitraryArgs,
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
			machines, err := chosen(project, args, all)
			if err != nil {
				return err
			}
			return remaster(cmd.Context(), w, cmd, project, machines, source, out)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "one medium for all machines, or for those named")
	cmd.Flags().BoolVar(&offline, "offline", false, "put the locked packages on the medium, and install from it")
	cmd.Flags().StringVar(&source, "iso", "", "stock ISO: a `file`, or a release to fetch")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`image` to write; - is standard output")
	return cmd
}

// chosen returns the machines that a medium is for: one, or with all several.
func chosen(project *plan.Project, args []string, all bool) ([]*plan.Machine, error) {
	if !all {
		m, err := project.One(args)
		if err != nil {
			if len(project.Machines) > 1 {
				err = withHint(err, "--all makes one medium for several machines")
			}
			return nil, usageError{err}
		}
		return []*plan.Machine{m}, nil
	}
	machines, err := project.Select(args)
	if err != nil {
		return nil, usageError{err}
	}
	return machines, nil
}

func remaster(ctx context.Context, w *world, cmd *cobra.Command, project *plan.Project, machines []*plan.Machine, source, out string) error {
	m := machines[0]
	base, err := openISO(ctx, w, source, m.Arch)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }() // read only
	var layout *iso.Layout
	if len(machines) == 1 {
		layout, err = layoutFor(w, cmd, project, m, base)
	} else {
		layout, err = layoutForAll(w, cmd, project, machines, base)
	}
	if err != nil {
		return err
	}
	if err := writeLayout(ctx, w, layout, base, out); err != nil {
		return err
	}
	name, secrets := m.Name, plan.Secrets(m)
	if len(machines) > 1 {
		name, secrets = count(len(machines), "machine"), plan.CollectionSecrets(machines)
	}
	if out != standardOutput {
		w.say("%s: %s, installs %s from %s", out, byteCount(layout.Size()), name, base.Description().Info)
	}
	w.say("%s", secrets)
	return nil
}

// layoutFor plans the machine's image over the base.
func layoutFor(w *world, cmd *cobra.Command, project *plan.Project, m *plan.Machine, base *medium) (*iso.Layout, error) {
	if err := checkMedium(cmd, m, base); err != nil {
		return nil, err
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
	return layoutOf(w, overlay, base)
}

// layoutForAll plans an image for several machines over the base.
func layoutForAll(w *world, cmd *cobra.Command, project *plan.Project, machines []*plan.Machine, base *medium) (*iso.Layout, error) {
	for _, m := range machines {
		if err := checkMedium(cmd, m, base); err != nil {
			return nil, err
		}
	}
	if err := prepareOffline(w, cmd, project, machines...); err != nil {
		return nil, err
	}
	seed, rep := project.RenderCollection(machines)
	seed, err := rendered(w, cmd, seed, rep)
	if err != nil {
		return nil, err
	}
	overlay, err := plan.CollectionOverlay(machines, seed)
	if err != nil {
		return nil, err
	}
	if err := addRepository(w, cmd, project, machines, base, &overlay); err != nil {
		return nil, err
	}
	return layoutOf(w, overlay, base)
}

func checkMedium(cmd *cobra.Command, m *plan.Machine, base *medium) error {
	if err := plan.CheckMedium(m, base.Description()); err != nil {
		return withHint(err, "name another ISO, or set ubuntu: and arch: in %s", configName(cmd))
	}
	return nil
}

func layoutOf(w *world, overlay iso.Overlay, base *medium) (*iso.Layout, error) {
	var err error
	if overlay.ModTime, err = sourceDate(w); err != nil {
		return nil, err
	}
	layout, err := iso.Remaster(base.Image, overlay)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.name, err)
	}
	return layout, nil
}
