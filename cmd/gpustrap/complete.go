package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// flagValues are what a shell completes the values of flags by that take one of a
// few: by command, then by flag.
func flagValues() map[string]map[string]func() []string {
	few := func(values ...string) func() []string { return func() []string { return values } }
	return map[string]map[string]func() []string{
		"render": {"format": few(formatAutoinstall, formatCloudInit, formatScript), "layout": layoutNames},
		"graph":  {"format": few(formSVG, formDOT)},
		"hash":   {"method": few(string(config.SHA512Crypt), string(config.Yescrypt))},
		"fetch":  {"arch": few("amd64", "arm64")},
		"init":   {"ubuntu": config.Releases, "gpu": knownModels},
		"arm":    {"via": few(string(state.Network), string(state.Medium))},
	}
}

func layoutNames() []string {
	var names []string
	for _, l := range plan.FolderLayouts() {
		names = append(names, string(l))
	}
	return names
}

// knownModels are the names of the GPUs; none where the tables cannot be read, which
// every other command says.
func knownModels() []string {
	names, err := modelNames()
	if err != nil {
		return nil
	}
	return names
}

// addCompletions tells cobra of flagValues.
func addCompletions(root *cobra.Command) error {
	for command, flags := range flagValues() {
		cmd, _, err := root.Find([]string{command})
		if err != nil {
			return err
		}
		for flag, values := range flags {
			err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return values(), cobra.ShellCompDirectiveNoFileComp
			})
			if err != nil {
				return fmt.Errorf("cannot complete --%s of %s: %w", flag, command, err)
			}
		}
	}
	return root.MarkPersistentFlagFilename("config", "yaml", "yml")
}

// releaseNames completes the one release that a command takes.
func releaseNames(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return config.Releases(), cobra.ShellCompDirectiveNoFileComp
}

// writtenNames completes what "write" takes: with --iso a machine first; images and
// devices are files.
func writtenNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 || !cmd.Flags().Changed("iso") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, _ := machineNames(cmd, args, "")
	return names, cobra.ShellCompDirectiveDefault
}
