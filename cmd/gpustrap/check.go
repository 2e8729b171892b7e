package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/report"
)

func newCheck(w *world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "check",
		Short:      "Report every mistake in the configuration at once",
		SuggestFor: []string{"validate"},
		Long: `Reads the configuration, resolves its profiles, works out each machine's driver
stack and builds each autoinstall. Every mistake is reported in one run,
with its place, what is wrong and what to write instead. Nothing is written.`,
		Example: "  gpustrap check\n  gpustrap check -c lab.yaml --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			project, rep, data, err := readProject(cmd)
			if err != nil {
				return err
			}
			if project != nil {
				rep.Merge(project.Validate())
				rep.Sort()
			}
			if asJSON {
				enc := json.NewEncoder(w.stdout)
				enc.SetIndent("", "  ")
				if rep.Diagnostics == nil {
					rep.Diagnostics = []report.Diagnostic{}
				}
				if err := enc.Encode(rep); err != nil {
					return err
				}
			} else if err := printReport(w, configName(cmd), rep, data); err != nil {
				return err
			}
			if rep.HasErrors() {
				if !asJSON {
					w.say("\n%s", count(rep.Count(report.Error), "error"))
				}
				return silentError{errInvalidConfig}
			}
			if asJSON {
				return nil
			}
			return w.print("%s: good, %s\n", configName(cmd), count(len(project.Machines), "machine"))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
