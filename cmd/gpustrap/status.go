package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
)

func newStatus(w *world) *cobra.Command {
	var server serverFlags
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "status [MACHINE...]",
		Short: "Say how far machines are, and why one is stuck",
		Long: `Says how far the installation of each machine is, by a server that runs, and
what it waits for or why it is stuck. For one machine its timeline is shown,
too.

--watch goes on and prints each change, until it is interrupted.`,
		Example:           "  gpustrap status\n  gpustrap status --watch node01",
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := server.connect(cmd)
			if err != nil {
				return err
			}
			views, err := client.views(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(args) == 1 && len(views) == 1 { // the list has no timeline of what is long over
				if err := client.read(cmd.Context(), http.MethodGet, machinePath(views[0].Machine), nil, &views[0]); err != nil {
					return err
				}
			}
			if err := printViews(w, views, len(args) == 1 && len(views) == 1, asJSON); err != nil || !watch {
				return err
			}
			return watchViews(cmd.Context(), w, client, views, asJSON)
		},
	}
	server.flags(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "go on, and print what changes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printViews prints how far machines are.
func printViews(w *world, views []netboot.View, whole, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w.stdout).Encode(views)
	}
	t := tabwriter.NewWriter(w.stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "MACHINE\tPHASE\tSINCE\tWAITS FOR")
	for i := range views {
		_, _ = fmt.Fprintln(t, viewLine(w, &views[i]))
	}
	if err := t.Flush(); err != nil || !whole {
		return err
	}
	return printTimeline(w, &views[0])
}

func viewLine(w *world, v *netboot.View) string {
	phase, since := "-", "-"
	if r := v.Record; r != nil {
		phase, since = string(r.Phase), roughly(w.now().Sub(r.Since))
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", v.Machine, phase, since, oneLine(v.Waits))
}

// roughly writes a time as people say it.
func roughly(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// printTimeline prints what is known of one machine's installation.
func printTimeline(w *world, v *netboot.View) error {
	type line struct {
		at         time.Time
		what, more string
	}
	var lines []line
	if v.Record != nil {
		for _, e := range v.Record.History {
			lines = append(lines, line{e.Time, string(e.Phase), oneLine(e.Why)})
		}
	}
	for _, s := range v.Seen {
		lines = append(lines, line{s.First, string(s.Kind), fmt.Sprintf("%s, last at %s %s", count(s.Count, "time"), s.Last.Local().Format("15:04:05"), oneLine(s.Detail))})
	}
	for _, s := range v.Timeline.Spans {
		lines = append(lines, line{s.Start, string(s.Step), roughly(s.End.Sub(s.Start)) + ", " + oneLine(s.Doing)})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	t := tabwriter.NewWriter(w.stdout, 0, 8, 2, ' ', 0)
	for _, l := range lines {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", l.at.Local().Format("01-02 15:04:05"), l.what, l.more)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if f := v.Timeline.Failure; f != nil && f.Log != "" {
		return w.print("the end of its log:\n%s\n", printable(f.Log))
	}
	return nil
}

// watchViews prints the machines' changes until the context is done.
func watchViews(ctx context.Context, w *world, client *serverClient, views []netboot.View, asJSON bool) error {
	path := "/api/v1/watch"
	if len(views) == 1 {
		path += "?machine=" + url.QueryEscape(views[0].Machine)
	}
	answer, err := client.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it has ended
	said := map[string]string{}
	for i := range views {
		said[views[i].Machine] = phaseAndWords(&views[i])
	}
	for lines := json.NewDecoder(answer.Body); ; {
		var v netboot.View
		switch err := lines.Decode(&v); {
		case ctx.Err() != nil:
			return nil // somebody has seen enough
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the server has stopped")
		case err != nil:
			return fmt.Errorf("cannot read from the server: %w", err)
		}
		wanted := slices.ContainsFunc(views, func(known netboot.View) bool { return known.Machine == v.Machine })
		if !wanted || said[v.Machine] == phaseAndWords(&v) {
			continue
		}
		said[v.Machine] = phaseAndWords(&v)
		if asJSON {
			err = json.NewEncoder(w.stdout).Encode(v)
		} else {
			err = w.print("%s  %s  %s\n", w.now().Format("15:04:05"), v.Machine, said[v.Machine])
		}
		if err != nil {
			return err
		}
	}
}

func phaseAndWords(v *netboot.View) string {
	phase := string(v.Phase())
	if phase == "" {
		phase = "not armed"
	}
	return phase + ": " + oneLine(v.Waits)
}
