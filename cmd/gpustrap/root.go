package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the linker; without it the module's version is told.
var version string

// The groups of commands in the help.
const (
	groupDaily  = "daily"
	groupFleet  = "fleet"
	groupExpert = "expert"
)

func newRoot(w *world) *cobra.Command {
	root := &cobra.Command{
		Use:   "gpustrap",
		Short: "One YAML file to machines that come up GPU- and container-ready",
		Long: `gpustrap turns a short YAML file into machines that come up GPU- and
container-ready on first boot: it works out the NVIDIA driver stack, renders
Ubuntu's autoinstall, and remasters the stock live-server ISO with it.

Start with "gpustrap init", then "gpustrap check", then "gpustrap remaster".`,
		SuggestionsMinimumDistance: 2,

		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionText(),
		Args: func(cmd *cobra.Command, args []string) error {
			err := cobra.NoArgs(cmd, args)
			if err == nil {
				return nil
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usageError{withHint(err, "did you mean gpustrap %s?", strings.Join(near, ", or gpustrap "))}
			}
			return usageError{withHint(err, "gpustrap --help lists the commands")}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: false,
		},
	}
	root.SetVersionTemplate("gpustrap {{.Version}}\n")
	root.SetUsageFunc(usage)
	root.SetIn(w.stdin)
	root.SetOut(w.stdout)
	root.SetErr(w.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{withHint(err, "%s --help lists the flags", cmd.CommandPath())}
	})
	root.PersistentFlags().StringP("config", "c", "gpustrap.yaml", "configuration `file`")
	root.AddGroup(
		&cobra.Group{ID: groupDaily, Title: "Every day:"},
		&cobra.Group{ID: groupFleet, Title: "Fleets:"},
		&cobra.Group{ID: groupExpert, Title: "Experts:"},
	)
	root.SetCompletionCommandGroupID(groupExpert)
	root.SetHelpCommandGroupID(groupExpert)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupDaily, newInit(w), newCheck(w), newExplain(w), newRemaster(w), newVerify(w), newWrite(w), newDevices(w), newFetch(w), newHash(w))
	add(groupFleet, newServe(w), newArm(w), newDisarm(w), newInstall(w), newStatus(w), newRender(w), newSeed(w), newLock(w), newExport(w), newBundle(w), newSBOM(w), newGraph(w))
	add(groupExpert, newInspect(w), newRestore(w), newSchema(w), newDocs(w), newVersion(w))
	return root
}

// usage prints how a command is used, by cobra's own template.
func usage(cmd *cobra.Command) error {
	page := template.New("usage").Funcs(template.FuncMap{
		"rpad":                    func(s string, width int) string { return fmt.Sprintf("%-*s", width, s) },
		"trimTrailingWhitespaces": func(s string) string { return strings.TrimRight(s, " \n") },
	})
	page, err := page.Parse(cmd.UsageTemplate())
	if err != nil {
		return err
	}
	return page.Execute(cmd.OutOrStdout(), usageView{cmd})
}

// usageView is a command as the template of its usage sees it.
type usageView struct{ *cobra.Command }

func (v usageView) LocalFlags() flagsView     { return flagsView{v.Command.LocalFlags()} }
func (v usageView) InheritedFlags() flagsView { return flagsView{v.Command.InheritedFlags()} }

type flagsView struct{ *pflag.FlagSet }

// FlagUsages lists the flags, 80 columns wide and without what pflag puts behind the
// name of each switch: [=true|false].
func (v flagsView) FlagUsages() string {
	shown := pflag.NewFlagSet("", pflag.ContinueOnError)
	v.VisitAll(func(f *pflag.Flag) {
		flag := *f
		if flag.Value.Type() == "bool" {
			flag.Value = switchView{flag.Value}
		}
		shown.AddFlag(&flag)
	})
	return shown.FlagUsagesWrapped(80)
}

// switchView is a switch of a type whose values pflag does not list.
type switchView struct{ pflag.Value }

func (switchView) Type() string { return "boolfunc" }

func newVersion(w *world) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return w.print("gpustrap %s\n", versionText())
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "devel"
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{withHint(err, "usage: %s", cmd.UseLine())}
		}
		return nil
	}
}
