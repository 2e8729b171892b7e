package main

import (
	"io/fs"
	"runtime/debug"
	"slices"
	"testing/fstest"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// The forms of a render.
const (
	formatAutoinstall = "autoinstall"
	formatCloudInit   = "cloud-init"
	formatScript      = "script"
)

func newRender(w *world) *cobra.Command {
	var format, layout string
	var prune, difference bool
	tree := seedTree{}
	cmd := &cobra.Command{
		Use:   "render [MACHINE...]",
		Short: "Render each machine's NoCloud seed",
		Long: `Renders what each machine is installed from, in one of three forms:

  autoinstall  a NoCloud seed for Ubuntu's installer: user-data, meta-data,
               vendor-data (the default)
  cloud-init   one plain cloud-config, for a cloud image or a VM
  script       one bash script, for a machine that already runs Ubuntu Server

With -o DIR each machine gets a folder of its own, with the mode 0700; files
whose content is unchanged are not touched. Seeds of machines that the
configuration has no more are listed, and removed with --prune. Without -o the
one file that a single machine needs is printed.

--diff writes nothing and prints what a render would change, machines that
change alike together; it ends with 1 where anything differs.

For a server that machines start from, --layout names the folders by mac, serial
or uuid instead of by name, and each machine's kernel line is printed; --url is
where the server has them.`,
		Example: `  gpustrap render -o seeds/
  gpustrap render -o seeds/ --diff 'node0*'
  gpustrap render -o /srv/seeds --layout mac --url http://10.0.0.1/seeds
  gpustrap render --format script > setup.sh`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := formOf(format)
			if err != nil {
				return err
			}
			if tree.layout, err = layoutNamed(layout); err != nil {
				return err
			}
			tree.lines = cmd.Flags().Changed("layout") || tree.url != ""
			switch {
			case tree.dir == "" && (prune || difference || tree.lines):
				return usagef("--prune, --diff, --layout and --url are about a folder of seeds: name it with -o")
			case format != formatAutoinstall && (prune || tree.lines):
				return usagef("--prune, --layout and --url are about NoCloud seeds, not the form %s", format)
			case prune && difference:
				return usagef("--diff changes nothing: leave --prune out")
			}
			// A fleet's seeds pass through memory once and are soon done with.
			debug.SetGCPercent(laxCollection)
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			if tree.dir == "" {
				return printOne(w, cmd, project, form, args)
			}
			machines, err := project.Select(args)
			if err != nil {
				return usageError{err}
			}
			warnUnkept(w, project.Lock(), machines)
			if err := tree.name(project, machines); err != nil {
				return usageError{err}
			}
			if difference {
				return tree.diff(w, cmd, project, form, len(args) == 0)
			}
			return tree.write(w, cmd, project, form, prune)
		},
	}
	cmd.Flags().StringVarP(&tree.dir, "output", "o", "", "write into this `folder`, a folder a machine")
	cmd.Flags().StringVar(&format, "format", formatAutoinstall, "`form`: autoinstall, cloud-init or script")
	cmd.Flags().StringVar(&layout, "layout", string(plan.FoldersByName), "name the folders by `id`: name, mac, serial or uuid")
	cmd.Flags().StringVar(&tree.url, "url", "", "`address` of the folder of seeds, for the kernel lines")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove the seeds of machines that are gone")
	cmd.Flags().BoolVar(&difference, "diff", false, "print what would change, and change nothing")
	return cmd
}

// laxCollection is how much the heap may grow, in percent of what is in use, before
// it is collected.
const laxCollection = 400

func layoutNamed(name string) (plan.FolderLayout, error) {
	layout := plan.FolderLayout(name)
	if !slices.Contains(plan.FolderLayouts(), layout) {
		return "", usagef("there is no layout %q; --layout takes name, mac, serial or uuid", name)
	}
	return layout, nil
}

// form renders a machine into files and names the one that is printed.
type form struct {
	main   string
	seed   bool // a NoCloud seed, whose packages may come from the medium
	render func(*plan.Project, *plan.Machine) (fs.FS, report.Report)
	// preview renders for a comparison alone, files by name.
	preview func(*plan.Project, *plan.Machine) (map[string][]byte, report.Report)
}

func formOf(format string) (form, error) {
	one := func(main string, render func(*plan.Project, *plan.Machine) ([]byte, report.Report)) form {
		return form{main, false, func(p *plan.Project, m *plan.Machine) (fs.FS, report.Report) {
			data, rep := render(p, m)
			return fstest.MapFS{main: {Data: data}}, rep
		}, func(p *plan.Project, m *plan.Machine) (map[string][]byte, report.Report) {
			data, rep := render(p, m)
			return map[string][]byte{main: data}, rep
		}}
	}
	switch format {
	case formatAutoinstall:
		return form{"user-data", true, func(p *plan.Project, m *plan.Machine) (fs.FS, report.Report) {
			seed, rep := p.Render(m)
			return seed.FS(), rep
		}, func(p *plan.Project, m *plan.Machine) (map[string][]byte, report.Report) {
			seed, rep := p.Preview(m)
			return seed.Files(), rep
		}}, nil
	case formatCloudInit:
		return one("user-data", (*plan.Project).RenderCloudInit), nil
	case formatScript:
		return one("setup.sh", (*plan.Project).RenderScript), nil
	}
	return form{}, usagef("there is no form %q; --format takes autoinstall, cloud-init or script", format)
}

func printOne(w *world, cmd *cobra.Command, project *plan.Project, form form, args []string) error {
	m, err := project.One(args)
	if err != nil {
		return usageError{withHint(err, "-o DIR writes all machines")}
	}
	warnUnkept(w, project.Lock(), []*plan.Machine{m})
	files, rep := form.render(project, m)
	if files, err = rendered(w, cmd, files, rep); err != nil {
		return err
	}
	data, err := fs.ReadFile(files, form.main)
	if err != nil {
		return err
	}
	_, err = w.stdout.Write(data)
	return err
}
