package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/download"
	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/redfish"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// bmcPassword is the environment variable with the password of BMCs.
const bmcPassword = "GPUSTRAP_BMC_PASSWORD"

func newInstall(w *world) *cobra.Command {
	var server serverFlags
	var byBMC, reinstall, yes bool
	var expires, timeout time.Duration
	cmd := &cobra.Command{
		Use:   "install [MACHINE]",
		Short: "Install a machine by a server, and follow it to its receipt",
		Long: `Lets a machine be installed once, as "gpustrap arm" does, and says how far it is
until it has proved itself.

With --bmc the machine is started, too: its BMC (bmc in the configuration) gets
the machine's own medium from the server as a virtual CD, boots it once and
switches the power; afterwards the CD is ejected. A running system is asked to
shut down, and cut off after two minutes. The BMC must reach the server. Without
--bmc somebody starts the machine from the network.

The BMC's password is read from bmc.password_file, or is in the environment
variable GPUSTRAP_BMC_PASSWORD. When this command is interrupted the
installation goes on, unless the machine was not started yet.`,
		Example:           "  gpustrap install node01\n  gpustrap install --bmc --yes node01",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if expires < 0 || timeout <= 0 {
				return usagef("--expires and --timeout are times such as 2h")
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			machine, err := project.One(args)
			if err != nil {
				return usageError{err}
			}
			client, err := server.connect(cmd)
			if err != nil {
				return err
			}
			run := installRun{w: w, client: client, machine: machine, yes: yes, order: map[string]any{"via": state.Network, "reinstall": reinstall}}
			if expires > 0 {
				run.order["expires"] = expires.String()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if byBMC {
				return run.byBMC(ctx, filepath.Dir(configName(cmd)))
			}
			return run.byHand(ctx)
		},
	}
	server.flags(cmd)
	cmd.Flags().BoolVar(&byBMC, "bmc", false, "start the machine by its BMC")
	cmd.Flags().BoolVar(&reinstall, "reinstall", false, "also where the machine is installed, or is just being")
	cmd.Flags().DurationVar(&expires, "expires", 0, "`time` for it to be started, such as 2h (default: the server's, 6h)")
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Hour, "`time` to follow the installation for")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// installRun is one run of install.
type installRun struct {
	w       *world
	client  *serverClient
	machine *plan.Machine
	order   map[string]any
	yes     bool
}

// arm asks, and arms the machine.
func (i *installRun) arm(ctx context.Context) (netboot.Armed, error) {
	var armed netboot.Armed
	var view netboot.View
	if err := i.client.read(ctx, http.MethodGet, machinePath(i.machine.Name), nil, &view); err != nil {
		return armed, err
	}
	if err := confirmArm(ctx, i.w, []netboot.View{view}, i.yes); err != nil {
		return armed, err
	}
	return armed, i.client.read(ctx, http.MethodPost, machinePath(i.machine.Name, "/arm"), i.order, &armed)
}

// byHand lets a person start the machine.
func (i *installRun) byHand(ctx context.Context) error {
	armed, err := i.arm(ctx)
	if err != nil {
		return err
	}
	i.w.say("%s: armed; start it from the network until %s", armed.Machine, armed.Expires.Local().Format("2006-01-02 15:04"))
	return i.follow(ctx, armed)
}

// ejectTime is how long it may take to tidy up at the BMC after an interruption.
const ejectTime = 2 * time.Minute

// byBMC has the BMC start the machine. The BMC is spoken to before the machine is
// armed: a wrong password arms nothing.
func (i *installRun) byBMC(ctx context.Context, folder string) error {
	access, err := bmcConfig(i.w, i.machine, folder)
	if err != nil {
		return err
	}
	bmc, err := redfish.Connect(ctx, access)
	if err != nil {
		return fmt.Errorf("%s: %w", i.machine.Name, err)
	}
	i.w.say("%s: its BMC has the %s", i.machine.Name, bmc.System())
	i.order["via"] = state.Medium
	armed, err := i.arm(ctx)
	if err == nil {
		err = i.start(ctx, bmc, armed.Medium)
	}
	// A BMC has few sessions, and ends them sooner than an installation does.
	if closed := bmc.Close(ctx); closed != nil {
		i.w.say("%s: %v", i.machine.Name, closed)
	}
	if err != nil {
		return err
	}
	err = i.follow(ctx, armed)
	if errors.Is(err, errUnfollowed) {
		i.w.say("%s: the installation goes on, and its medium stays in the BMC's virtual CD", i.machine.Name)
		return err
	}
	if err == nil && lastPhase(i.machine) == state.Installed {
		err = download.Wait(ctx, leaveTime)
	}
	return errors.Join(err, i.eject(ctx, access, armed.Medium))
}

// leaveTime is how long a live system may take to end after the installer's last
// word: it still reads the medium.
const leaveTime = time.Minute

// start boots the medium. Where that fails, the machine does not boot it as far as is
// known, and it is ejected again.
func (i *installRun) start(ctx context.Context, bmc *redfish.Client, medium string) error {
	mode := redfish.UEFI
	if i.machine.BMC.Legacy {
		mode = redfish.Legacy
	}
	steps := []struct {
		say string
		do  func() error
	}{
		{"its medium is inserted", func() error { return bmc.Insert(ctx, medium) }},
		{"it boots the medium once", func() error { return bmc.BootOnce(mode) }},
		{"it is started anew", func() error { return bmc.PowerCycle(ctx) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			err = fmt.Errorf("%s: %w", i.machine.Name, err)
			tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), ejectTime)
			defer cancel()
			if left := bmc.With(tidy).Eject(tidy, medium); left != nil {
				i.w.say("%s: the medium stays in the BMC's virtual CD: %v", i.machine.Name, left)
			}
			return withHint(err, "%s stays armed for its medium until it expires; gpustrap disarm %s takes it back", i.machine.Name, i.machine.Name)
		}
		i.w.say("%s: %s", i.machine.Name, step.say)
	}
	return nil
}

// eject tidies up in a session of its own.
func (i *installRun) eject(ctx context.Context, access redfish.Config, medium string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ejectTime)
	defer cancel()
	bmc, err := redfish.Connect(ctx, access)
	if err != nil {
		return fmt.Errorf("%s: cannot eject its medium: %w", i.machine.Name, err)
	}
	err = errors.Join(bmc.Eject(ctx, medium), bmc.Close(ctx))
	if err == nil {
		i.w.say("%s: its medium is ejected", i.machine.Name)
	}
	return err
}

// bmcConfig returns how a machine's BMC is reached; folder is that of the
// configuration.
func bmcConfig(w *world, m *plan.Machine, folder string) (redfish.Config, error) {
	if m.BMC == nil {
		return redfish.Config{}, usageError{withHint(fmt.Errorf("%s has no bmc in the configuration", m.Name),
			"add bmc: {url: https://…, user: …, password_file: …}, or leave --bmc out")}
	}
	password := w.getenv(bmcPassword)
	if name := m.BMC.PasswordFile; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, name)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return redfish.Config{}, fmt.Errorf("cannot read the BMC's password: %w", err)
		}
		password = strings.TrimRight(string(data), "\r\n")
	}
	if password == "" {
		return redfish.Config{}, withHint(fmt.Errorf("there is no password for the BMC of %s", m.Name), "write it to the file that bmc.password_file names, or set %s", bmcPassword)
	}
	if m.BMC.Insecure {
		w.say("%s: the connection to its BMC is insecure: whoever is in between can read the password", m.Name)
	}
	return redfish.Config{
		URL: m.BMC.URL, User: m.BMC.User, Password: password, System: m.BMC.System,
		Fingerprint: m.BMC.Fingerprint, CA: []byte(m.BMC.CA), Insecure: m.BMC.Insecure, Wait: download.Wait,
	}, nil
}

// lastPhase is the phase that ends a machine's installation well: its receipt, where
// it sends one to the server and starts by itself.
func lastPhase(m *plan.Machine) state.Phase {
	if m.After == config.AfterPoweroff || m.Stack == nil && m.Docker == nil || m.Ready.Report != "" {
		return state.Installed
	}
	return state.Ready
}

// errUnfollowed: the installation goes on, and nobody here sees how it ends.
var errUnfollowed = errors.New("is no longer followed")

// follow says each change until the installation is over. A server that is
// restarted meanwhile is waited for; one that refuses to tell is not.
func (i *installRun) follow(ctx context.Context, armed netboot.Armed) error {
	said := ""
	for {
		over, err := i.watch(ctx, armed, &said)
		switch {
		case ctx.Err() != nil:
			why := "interrupted"
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = "the time of --timeout is over"
			}
			return withHint(fmt.Errorf("%s %w: %s", armed.Machine, errUnfollowed, why), "gpustrap status --watch %s goes on; gpustrap disarm %s takes it back", armed.Machine, armed.Machine)
		case over || err == nil:
			return err
		case !passing(err):
			return fmt.Errorf("%s %w: %w", armed.Machine, errUnfollowed, err)
		}
		if gone := "the server does not answer; waiting for it"; said != gone {
			said = gone
			i.w.say("%s: %s", armed.Machine, said)
		}
		_ = download.Wait(ctx, 2*time.Second) // the next try says that the time is over
	}
}

// watch follows one connection to the server. over reports that the error, or its
// absence, is the installation's end, not the connection's.
func (i *installRun) watch(ctx context.Context, armed netboot.Armed, said *string) (over bool, err error) {
	answer, err := i.client.call(ctx, http.MethodGet, "/api/v1/watch?machine="+url.QueryEscape(armed.Machine), nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = answer.Body.Close() }() // it has ended
	for lines := json.NewDecoder(answer.Body); ; {
		var v netboot.View
		if err := lines.Decode(&v); err != nil {
			return false, fmt.Errorf("cannot read from the server: %w", err)
		}
		if text := phaseAndWords(&v); text != *said {
			*said = text
			if err := i.w.print("%s  %s  %s\n", i.w.now().Format("15:04:05"), v.Machine, text); err != nil {
				return true, err
			}
		}
		switch phase := v.Phase(); {
		case v.Record != nil && v.Record.Generation > armed.Generation:
			return true, fmt.Errorf("%s was armed again by somebody else", v.Machine)
		case phase == state.Disarmed:
			return true, fmt.Errorf("%s was disarmed by somebody else", v.Machine)
		case phase == state.Failed || phase == state.Expired:
			return true, withHint(fmt.Errorf("%s: the installation has %s: %s", v.Machine, phase, oneLine(v.Waits)), "gpustrap status %s tells more", v.Machine)
		case phase == state.Ready || phase == lastPhase(i.machine):
			return true, nil
		}
	}
}
