package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/plan"
)

// seedTree is a folder of seeds, a folder a machine.
type seedTree struct {
	dir    string
	layout plan.FolderLayout
	url    string // where a server has it; empty: not known
	lines  bool   // kernel lines are wanted

	seeds  []machineFolder // that are rendered
	wanted map[string]bool // folders of every machine
}

// machineFolder is a folder for a machine's seed.
type machineFolder struct {
	machine *plan.Machine
	name    string
}

// name works out the folders of the machines that are rendered, and of all.
func (t *seedTree) name(project *plan.Project, machines []*plan.Machine) error {
	for _, m := range machines {
		names, err := t.layout.Folders(m)
		if err != nil {
			return withHint(err, "add it to the machine, or take another --layout")
		}
		for _, name := range names {
			t.seeds = append(t.seeds, machineFolder{m, name})
		}
	}
	t.wanted = map[string]bool{}
	for i := range project.Machines {
		names, err := t.layout.Folders(&project.Machines[i])
		if err != nil {
			continue // it has none
		}
		for _, name := range names {
			t.wanted[name] = true
		}
	}
	return nil
}

// each runs work for every folder, several at a time.
func (t *seedTree) each(work func(i int, f machineFolder) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range t.seeds {
		group.Go(func() error { return work(i, f) })
	}
	return group.Wait()
}

func (t *seedTree) shown() string { return filepath.Clean(t.dir) + string(os.PathSeparator) }

// write renders and writes the machines. Nothing is written when any of them
// could not be rendered.
func (t *seedTree) write(w *world, cmd *cobra.Command, project *plan.Project, form form, prune bool) error {
	var seeds []*plan.Machine
	if form.seed {
		for _, f := range t.seeds {
			seeds = append(seeds, f.machine)
		}
	}
	if _, err := rendered(w, cmd, t, project.Validate(seeds...)); err != nil {
		return err
	}
	counts := make([]int, len(t.seeds))
	err := t.each(func(i int, f machineFolder) error {
		files, rep := form.render(project, f.machine)
		if err := rep.Err(); err != nil {
			return err
		}
		var err error
		counts[i], err = plan.WriteFolder(filepath.Join(t.dir, f.name), files)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write the seeds: %w", err)
	}
	machines, changed := map[*plan.Machine]bool{}, map[*plan.Machine]bool{}
	for i, f := range t.seeds {
		machines[f.machine] = true
		if counts[i] > 0 {
			changed[f.machine] = true
		}
	}
	w.say("%s in %s, %d changed", count(len(machines), "machine"), t.shown(), len(changed))
	if err := t.leftovers(w, prune); err != nil || !t.lines {
		return err
	}
	return t.printLines(w)
}

// leftovers lists the seeds of machines that are gone, or removes them.
func (t *seedTree) leftovers(w *world, prune bool) error {
	gone, err := plan.Leftovers(t.dir, t.wanted)
	if err != nil {
		return err
	}
	for _, l := range gone {
		if prune {
			if err := l.Prune(t.dir); err != nil {
				return err
			}
			w.say("%s: removed, the seed of %s", filepath.Join(t.dir, l.Folder), l.Machine)
			continue
		}
		w.say("%s: left over, the seed of %s", filepath.Join(t.dir, l.Folder), l.Machine)
	}
	if len(gone) > 0 && !prune {
		w.say("--prune removes what is left over")
	}
	return nil
}

// printLines prints each machine's kernel line. Without the server's address it
// has SERVER in it.
func (t *seedTree) printLines(w *world) error {
	base := t.url
	if base == "" {
		base = "http://SERVER/" + filepath.Base(filepath.Clean(t.dir))
	}
	table := tabwriter.NewWriter(w.stdout, 0, 8, 2, ' ', 0)
	for _, f := range t.seeds {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", f.machine.Name, f.name, plan.KernelLine(f.machine, base, f.name))
	}
	return table.Flush()
}

// errDiffers is the reason when --diff found something.
type errDiffers struct{ count int }

func (e errDiffers) Error() string { return fmt.Sprintf("%d seeds differ", e.count) }

// diff prints what a render would change, and what it would leave over.
func (t *seedTree) diff(w *world, cmd *cobra.Command, project *plan.Project, form form, all bool) error {
	differences := make([]plan.Difference, len(t.seeds))
	var memo plan.DiffMemo
	err := t.each(func(i int, f machineFolder) error {
		files, rep := form.preview(project, f.machine)
		if rep.HasErrors() {
			_, err := rendered(w, cmd, files, rep)
			return err
		}
		var err error
		differences[i], err = plan.Compare(t.dir, f.name, f.machine.Name, files, &memo)
		return err
	})
	if err != nil {
		return err
	}
	var out strings.Builder
	found := 0
	for _, group := range plan.GroupDifferences(differences) {
		found += len(group.Machines)
		writeGroup(&out, group)
	}
	if all {
		gone, err := plan.Leftovers(t.dir, t.wanted)
		if err != nil {
			return err
		}
		found += len(gone)
		for _, l := range gone {
			fmt.Fprintf(&out, "%s: left over, the seed of %s; render --prune removes it\n", filepath.Join(t.dir, l.Folder), l.Machine)
		}
	}
	if err := w.print("%s", out.String()); err != nil {
		return err
	}
	if found > 0 {
		return silentError{errDiffers{found}}
	}
	w.say("%s in %s, none would change", count(len(t.seeds), "seed"), t.shown())
	return nil
}

// writeGroup writes machines that change alike, and the lines of the first.
func writeGroup(out *strings.Builder, group plan.DiffGroup) {
	const most = 8
	var names []string
	for _, d := range group.Machines[:min(most, len(group.Machines))] {
		names = append(names, d.Machine)
	}
	text := strings.Join(names, ", ")
	if rest := len(group.Machines) - most; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	first := group.Machines[0]
	switch {
	case first.New && len(group.Machines) == 1:
		fmt.Fprintf(out, "%s is new\n", text)
		return
	case first.New:
		fmt.Fprintf(out, "%d machines are new: %s\n", len(group.Machines), text)
		return
	case len(group.Machines) == 1:
		fmt.Fprintf(out, "%s:\n", text)
	default:
		fmt.Fprintf(out, "%d machines change alike: %s\n", len(group.Machines), text)
	}
	for _, line := range first.Lines {
		if line.Kind == '.' {
			out.WriteString("    ...\n")
			continue
		}
		fmt.Fprintf(out, "  %c %s\n", line.Kind, line.Text)
	}
}
