package main

import (
	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
)

func newSchema(w *world) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Prints the JSON Schema (draft 2020-12) that gpustrap.yaml follows. An editor
with the YAML language server completes and checks the file with it:

  gpustrap schema > gpustrap.schema.json
  # first line of gpustrap.yaml:
  # yaml-language-server: $schema=gpustrap.schema.json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
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
