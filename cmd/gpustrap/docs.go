package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/gpustrap/gpustrap/config"
)

// newDocs writes the generated documents. It is for the project's own use and
// for packagers, and hidden from the help.
func newDocs(w *world) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:    "docs --out DIR",
		Short:  "Write the reference documents and manual pages",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out is needed")
			}
			return writeDocs(cmd.Root(), out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`folder` to write into")
	return cmd
}

// writeDocs writes reference/config.md, reference/commands.md and man/*.1.
func writeDocs(root *cobra.Command, out string) error {
	root.DisableAutoGenTag = true
	manual := filepath.Join(out, "man")
	reference := filepath.Join(out, "reference")
	for _, dir := range []string{manual, reference} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// The date is left out of the pages, so that they change only with the text.
	header := &doc.GenManHeader{Section: "1", Source: "gpustrap", Manual: "gpustrap", Date: &time.Time{}}
	if err := doc.GenManTree(root, header, manual); err != nil {
		return err
	}
	var commands bytes.Buffer
	commands.WriteString("# Commands\n\nMade by `make docs` from the program's own help.\n\n")
	if err := commandPages(&commands, root); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(reference, "commands.md"), commands.Bytes(), 0o644); err != nil {
		return err
	}
	names, err := modelNames()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(reference, "config.md"), []byte(config.Reference(names)), 0o644)
}

// commandPages writes the help of every visible command.
func commandPages(out *bytes.Buffer, cmd *cobra.Command) error {
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		var help bytes.Buffer
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "## gpustrap %s\n\n```text\n%s```\n\n", c.Name(), help.Bytes())
	}
	return nil
}
