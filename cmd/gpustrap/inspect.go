package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso"
)

func newInspect(w *world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE\n  gpustrap inspect BASE IMAGE",
		Short: "Show what a medium is, and which byte ranges were changed and why",
		Long: `Shows what an installation medium is: release, architecture, partitions, boot
entries. For an image that gpustrap remastered it lists every byte range that
differs from the stock ISO, and why; with two images it compares them.`,
		Example: "  gpustrap inspect gpu.iso\n  gpustrap inspect ubuntu-24.04.3-live-server-amd64.iso gpu.iso",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(_ *cobra.Command, args []string) error {
			image, err := openMedium(args[len(args)-1])
			if err != nil {
				return err
			}
			defer func() { _ = image.Close() }() // read only
			changes, err := changesOf(args, image)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(w.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(struct {
					Description iso.Description `json:"description"`
					Changes     []iso.Change    `json:"changes"`
				}{image.Description(), changes})
			}
			return printInspection(w.stdout, image.Description(), changes)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// changesOf compares two images, or an image with what it was made from.
func changesOf(args []string, image *medium) ([]iso.Change, error) {
	if len(args) == 1 {
		return image.Changes()
	}
	base, err := openMedium(args[0])
	if err != nil {
		return nil, err
	}
	defer func() { _ = base.Close() }() // read only
	return iso.Compare(base.Image, image.Image)
}

// mostFiles is how many paths of a kind are listed on one line.
const mostFiles = 8

func printInspection(out io.Writer, d iso.Description, changes []iso.Change) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	line("medium", "%s", d.Info)
	line("volume", "%s, %s", d.VolumeID, d.Created.UTC().Format(time.DateTime))
	line("for", "%s", d.Architecture)
	line("size", "%d bytes, %s", d.Size, count(d.Files, "file"))
	for _, p := range d.Partitions {
		line(fmt.Sprintf("partition %d", p.Number), "byte %d, %d bytes: %s %s", p.Offset, p.Length, p.Name, p.Meaning)
	}
	for _, e := range d.BootEntries {
		line("boots", "%s, byte %d: %s", e.Platform, e.Offset, e.Image)
	}
	if d.Remastered {
		line("remastered", "yes; the stock medium has %d bytes", d.BaseSize)
		for _, list := range []struct {
			what  string
			files []string
		}{{"added", d.Added}, {"replaced", d.Replaced}, {"removed", d.Removed}} {
			if len(list.files) > 0 {
				line(list.what, "%s", someOf(list.files))
			}
		}
	} else {
		line("remastered", "no")
	}
	if err := t.Flush(); err != nil || len(changes) == 0 {
		return err
	}
	_, _ = fmt.Fprintln(t, "\nOFFSET\tBYTES\tWHAT\tWHY")
	for _, c := range changes {
		_, _ = fmt.Fprintf(t, "%d\t%d\t%s\t%s\n", c.Offset, c.Length, c.Meaning, c.Why)
	}
	return t.Flush()
}

// someOf lists the first paths, and how many more there are.
func someOf(files []string) string {
	text := strings.Join(files[:min(mostFiles, len(files))], " ")
	if more := len(files) - mostFiles; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
