package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing/fstest"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

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
	var out, format string
	cmd := &cobra.Command{
		Use:   "render [MACHINE...]",
		Short: "Render each machine's NoCloud seed",
		Long: `Renders what each machine is installed from, in one of three forms:

  autoinstall  a NoCloud seed for Ubuntu's installer: user-data, meta-data,
               vendor-data (the default)
  cloud-init   one plain cloud-config, for a cloud image or a VM
  script       one bash script, for a machine that already runs Ubuntu Server

With -o DIR each machine gets a folder of its own, with the mode 0700; files
whose content is unchanged are not touched. Without -o the one file that a
single machine needs is printed.`,
		Example: `  gpustrap render -o seeds/
  gpustrap render node01
  gpustrap render --format script > setup.sh`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := formOf(format)
			if err != nil {
				return err
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			if out == "" {
				warnUnkept(w, project)
				return printOne(w, cmd, project, form, args)
			}
			machines, err := project.Select(args)
			if err != nil {
				return usageError{err}
			}
			return writeAll(w, cmd, project, form, machines, out)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write into this `folder`, a folder a machine")
	cmd.Flags().StringVar(&format, "format", formatAutoinstall, "`form`: autoinstall, cloud-init or script")
	return cmd
}

// form renders a machine into files and names the one that is printed.
type form struct {
	main   string
	render func(*plan.Project, *plan.Machine) (fs.FS, report.Report)
}

func formOf(format string) (form, error) {
	switch format {
	case formatAutoinstall:
		return form{"user-data", func(p *plan.Project, m *plan.Machine) (fs.FS, report.Report) {
			seed, rep := p.Render(m)
			return seed.FS(), rep
		}}, nil
	case formatCloudInit:
		return form{"user-data", func(p *plan.Project, m *plan.Machine) (fs.FS, report.Report) {
			data, rep := p.RenderCloudInit(m)
			return fstest.MapFS{"user-data": {Data: data}}, rep
		}}, nil
	case formatScript:
		return form{"setup.sh", func(p *plan.Project, m *plan.Machine) (fs.FS, report.Report) {
			data, rep := p.RenderScript(m)
			return fstest.MapFS{"setup.sh": {Data: data}}, rep
		}}, nil
	}
	return form{}, usagef("there is no form %q; --format takes autoinstall, cloud-init or script", format)
}

func printOne(w *world, cmd *cobra.Command, project *plan.Project, form form, args []string) error {
	m, err := project.One(args)
	if err != nil {
		return usageError{withHint(err, "-o DIR writes all machines")}
	}
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

// writeAll renders and writes the machines side by side. Nothing is written when
// any of them could not be rendered.
func writeAll(w *world, cmd *cobra.Command, project *plan.Project, form form, machines []*plan.Machine, out string) error {
	if _, err := rendered(w, cmd, machines, project.Validate()); err != nil {
		return err
	}
	counts := make([]int, len(machines))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range machines {
		group.Go(func() error {
			files, rep := form.render(project, m)
			if err := rep.Err(); err != nil {
				return err
			}
			var err error
			counts[i], err = plan.WriteFolder(filepath.Join(out, m.Name), files)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("cannot write the seeds: %w", err)
	}
	changed := 0
	for _, n := range counts {
		if n > 0 {
			changed++
		}
	}
	w.say("%s in %s, %d changed", count(len(machines), "machine"), filepath.Clean(out)+string(os.PathSeparator), changed)
	return nil
}
