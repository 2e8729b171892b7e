package main

import (
	"encoding/json"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/state"
)

func newDisarm(w *world) *cobra.Command {
	var server serverFlags
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "disarm MACHINE...",
		Short: "Take back what arm said, by a server that runs",
		Long: `Ends what "gpustrap arm" began: from then on the machine boots from its own
disk, and its seed and its medium are closed. A machine that has its seed
installs by itself and cannot be stopped from here; it is disarmed only with
--force, which lets the server forget of it. What is not armed stays as it is.`,
		Example:           "  gpustrap disarm node01\n  gpustrap disarm 'rack1-*'",
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := server.connect(cmd)
			if err != nil {
				return err
			}
			views, err := client.views(cmd.Context(), args)
			if err != nil {
				return err
			}
			return eachMachine(cmd.Context(), w, views, "disarmed", func(v netboot.View) error {
				if phase := v.Phase(); phase != state.Armed && !phase.Active() {
					w.say("%s: it was not armed", v.Machine)
					return nil
				}
				var done netboot.Disarmed
				order := map[string]any{"force": force}
				if err := client.read(cmd.Context(), http.MethodPost, machinePath(v.Machine, "/disarm"), order, &done); err != nil {
					if !force && v.Record.Begun() {
						return withHint(err, "it has its seed, and nobody can stop it from here; --force forgets of it")
					}
					return err
				}
				if asJSON {
					return json.NewEncoder(w.stdout).Encode(done)
				}
				return w.print("%s: disarmed, generation %d\n", done.Machine, done.Generation)
			})
		},
	}
	server.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "also where the installation has begun, which goes on")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
