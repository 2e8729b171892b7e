package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/graph"
	"github.com/gpustrap/gpustrap/plan"
)

// The forms of a picture.
const (
	formSVG = "svg"
	formDOT = "dot"
)

func newGraph(w *world) *cobra.Command {
	var simple bool
	var out, form string
	cmd := &cobra.Command{
		Use:   "graph [--simple] [-o FILE] [MACHINE]",
		Short: "Draw what the stack's packages need",
		Long: `Draws every package that the lock gives a machine, with its version and what it
needs, and which half of them lives on the host and which in containers.
--simple draws the six boxes that a newcomer needs; it takes neither a lock nor
a configuration, and shows the versions of a lock that is there.

The picture is an SVG, or text in Graphviz's language: --format dot, or a name
that ends in .dot.`,
		Example:           "  gpustrap graph --simple -o stack.svg\n  gpustrap graph node01 -o closure.dot",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if form == "" {
				form = formSVG
				if ext := filepath.Ext(out); ext == ".dot" || ext == ".gv" {
					form = formDOT
				}
			}
			if form != formSVG && form != formDOT {
				return usagef("there is no form %q; --format takes svg or dot", form)
			}
			g, err := graphOf(w, cmd, simple, args)
			if err != nil {
				return err
			}
			picture := g.SVG()
			if form == formDOT {
				picture = g.DOT()
			}
			return writeResult(w, cmd, out, picture)
		},
	}
	cmd.Flags().BoolVar(&simple, "simple", false, "draw the six boxes that a newcomer needs")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write (default: standard output)")
	cmd.Flags().StringVar(&form, "format", "", "`form`: svg or dot (default: by the file's name)")
	return cmd
}

func graphOf(w *world, cmd *cobra.Command, simple bool, args []string) (graph.Graph, error) {
	if simple && len(args) == 0 {
		if _, err := os.Stat(configName(cmd)); errors.Is(err, fs.ErrNotExist) {
			return graph.Simple(nil), nil
		}
	}
	lock, m, err := lockedMachine(w, cmd, args, simple)
	switch {
	case err != nil:
		return graph.Graph{}, err
	case simple:
		return graph.Simple(partVersions(lock, m)), nil
	}
	var packages []graph.Package
	for _, key := range lock.Class(m.Class).Packages {
		p := lock.Package(key)
		packages = append(packages, graph.Package{Name: p.Name(), Version: p.Version(), Needs: p.Needs})
	}
	return graph.Closure("What "+m.Name+" installs", packages), nil
}

// partVersions are the versions of the stack's parts, by the names that the simple
// picture has for them.
func partVersions(lock *apt.Lock, m *plan.Machine) map[string]string {
	out := map[string]string{}
	if lock == nil {
		return out
	}
	for name, version := range lock.Versions(m.Class) {
		switch {
		case strings.HasPrefix(name, "nvidia-utils-"):
			out["nvidia-driver"] = version
		case name == "docker-ce":
			out["docker"] = version
		case name == "nvidia-container-toolkit":
			out[name] = version
		}
	}
	return out
}

// lockedMachine returns the machine that the arguments name, and the lock. A lock
// that may be missing is nil then.
func lockedMachine(w *world, cmd *cobra.Command, args []string, mayLack bool) (*apt.Lock, *plan.Machine, error) {
	project, err := loadProject(w, cmd)
	if err != nil {
		return nil, nil, err
	}
	if project.Lock() == nil && !mayLack {
		_, err := needLock(lockName(cmd))
		return nil, nil, err
	}
	if len(args) == 0 && mayLack && project.Lock() == nil {
		return nil, &project.Machines[0], nil
	}
	m, err := project.One(args)
	if err != nil {
		return nil, nil, usageError{err}
	}
	if project.Lock() != nil && m.Class == "" {
		return nil, nil, usagef("%s installs no packages", m.Name)
	}
	return project.Lock(), m, nil
}
