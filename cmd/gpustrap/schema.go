package main

import (
	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/scripts"
)

func newSchema(w *world) *cobra.Command {
	return &cobra.Command{
		Use:   "schema [receipt]",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Prints the JSON Schema (draft 2020-12) that gpustrap.yaml follows. An editor
with the YAML language server completes and checks the file with it:

  gpustrap schema > gpustrap.schema.json
  # first line of gpustrap.yaml:
  # yaml-language-server: $schema=gpustrap.schema.json

With the word receipt, prints the schema of what gpu-ready writes on the
machine and sends to ready.report.`,
		Args:      usageArgs(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"receipt"},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				_, err := w.stdout.Write(scripts.ReceiptSchema())
				return err
			}
			names, err := modelNames()
			if err != nil {
				return err
			}
			schema, err := config.Schema(names)
			if err != nil {
				return err
			}
			_, err = w.stdout.Write(schema)
			return err
		},
	}
}

// modelNames lists every GPU name that the configuration may say.
func modelNames() ([]string, error) {
	tables, err := gpu.Load()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range tables.Models() {
		names = append(names, d.Model)
	}
	return names, nil
}
