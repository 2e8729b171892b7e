package main

import (
	"github.com/spf13/cobra"
)

func newSBOM(w *world) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "sbom [-o FILE] [MACHINE]",
		Short: "Write a bill of materials of what a machine installs",
		Long: `Writes an SPDX 2.3 document in JSON with every package that the lock gives the
machine: version, origin, checksums, and what it depends on. What the
installation medium itself brings is not among it. The same lock gives the same
bytes.`,
		Example:           "  gpustrap sbom node01 -o node01.spdx.json",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			lock, m, err := lockedMachine(w, cmd, args, false)
			if err != nil {
				return err
			}
			date, err := sourceDate(w)
			if err != nil {
				return err
			}
			text, err := lock.SBOM(m.Class, "ubuntu", versionText(), date)
			if err != nil {
				return err
			}
			return writeResult(w, cmd, out, text)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write (default: standard output)")
	return cmd
}
