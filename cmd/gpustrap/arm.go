package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/state"
)

func newArm(w *world) *cobra.Command {
	var server serverFlags
	var via string
	var reinstall, yes, asJSON bool
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "arm MACHINE...",
		Short: "Let machines be installed once, by a server that runs",
		Long: `Lets each machine be installed once, at its next start from the network or from
its medium, until it expires. What is erased is said, and asked for. A machine
that is installed, or is just being, is armed again only with --reinstall.`,
		Example: `  gpustrap arm node01
  gpustrap arm --yes --expires 2h 'rack1-*'
  gpustrap arm --reinstall node01`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if expires < 0 {
				return usagef("--expires is %s, and must be a time such as 6h", expires)
			}
			if via != string(state.Network) && via != string(state.Medium) {
				return usagef("--via is %q, and must be network or medium", via)
			}
			client, err := server.connect(cmd)
			if err != nil {
				return err
			}
			views, err := client.views(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := confirmArm(cmd.Context(), w, views, yes); err != nil {
				return err
			}
			order := map[string]any{"via": via, "reinstall": reinstall}
			if expires > 0 {
				order["expires"] = expires.String()
			}
			return armAll(cmd.Context(), w, client, views, order, asJSON)
		},
	}
	server.flags(cmd)
	cmd.Flags().StringVar(&via, "via", string(state.Network), "start from the `network` or from a medium: network, medium")
	cmd.Flags().BoolVar(&reinstall, "reinstall", false, "also where the machine is installed, or is just being")
	cmd.Flags().DurationVar(&expires, "expires", 0, "`time` for it to be started, such as 2h (default: the server's, 6h)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// confirmArm says what is erased and asks.
func confirmArm(ctx context.Context, w *world, views []netboot.View, yes bool) error {
	for _, v := range views {
		if !v.Known {
			return fmt.Errorf("the configuration has %s no more", v.Machine)
		}
		w.say("%s: ERASE %s", v.Machine, v.Erases)
	}
	if yes {
		return nil
	}
	word := "yes"
	if len(views) == 1 {
		word = views[0].Machine
	}
	_, _ = fmt.Fprintf(w.stderr, "to arm %s, type %s: ", count(len(views), "machine"), word)
	line, _ := await(ctx, func() (string, error) { return bufio.NewReader(w.stdin).ReadString('\n') })
	if strings.TrimSpace(line) != word {
		return withHint(errors.New("not confirmed; nothing was armed"), "type %s when asked, or say --yes", word)
	}
	return nil
}

// armAll arms the machines, all that can be.
func armAll(ctx context.Context, w *world, client *serverClient, views []netboot.View, order map[string]any, asJSON bool) error {
	return eachMachine(ctx, w, views, "armed", func(v netboot.View) error {
		var armed netboot.Armed
		if err := client.read(ctx, http.MethodPost, machinePath(v.Machine, "/arm"), order, &armed); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(w.stdout).Encode(armed)
		}
		text := fmt.Sprintf("%s: armed until %s, generation %d", armed.Machine, armed.Expires.Local().Format("2006-01-02 15:04"), armed.Generation)
		if armed.Medium != "" {
			text += ", medium " + armed.Medium
		}
		return w.print("%s\n", text)
	})
}

// eachMachine does something to each machine, also where it fails for another; become
// is what they all are if it does not.
func eachMachine(ctx context.Context, w *world, views []netboot.View, become string, do func(netboot.View) error) error {
	var failed error
	for _, v := range views {
		if err := do(v); err != nil {
			if len(views) == 1 || ctx.Err() != nil {
				return err
			}
			w.complain(err)
			failed = silentError{fmt.Errorf("not all machines are %s", become)}
		}
	}
	return failed
}
