package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/graph"
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

// writeDocs writes reference/config.md, reference/commands.md, graph.svg and man/*.1.
func writeDocs(root *cobra.Command, out string) error {
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd() // as running the program does; the root page names it
	var commands bytes.Buffer
	commands.WriteString("# Commands\n\nMade by `make docs` from the program's own help.\n\n")
	names, err := modelNames()
	if err != nil {
		return err
	}
	pages := map[string][]byte{
		"reference/config.md": []byte(config.Reference(names)),
		"graph.svg":           graph.Simple(nil).SVG(), // what graph --simple draws; the README shows it
	}
	for _, cmd := range append([]*cobra.Command{root}, documented(root)...) {
		if pages["man/"+manName(cmd)], err = manPage(cmd); err != nil {
			return err
		}
		if cmd != root {
			if err := commandPage(&commands, cmd); err != nil {
				return err
			}
		}
	}
	pages["reference/commands.md"] = commands.Bytes()
	for name, text := range pages {
		file := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// documented lists the commands that have a page.
func documented(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion"
	})
}

func manName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
}

// manPage returns a manual page. It has no date, so that it changes only with
// its text.
func manPage(cmd *cobra.Command) ([]byte, error) {
	var page bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Source: "gpustrap", Manual: "gpustrap", Date: &time.Time{}}, &page)
	return bytes.Replace(page.Bytes(), []byte("\"Jan 0001\""), []byte("\"\""), 1), err
}

// commandPage writes a command's help as Markdown.
func commandPage(out *bytes.Buffer, cmd *cobra.Command) error {
	var help bytes.Buffer
	cmd.SetOut(&help)
	if err := cmd.Help(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "## gpustrap %s\n\n```text\n%s```\n\n", cmd.Name(), help.Bytes())
	return err
}
