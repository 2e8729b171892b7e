package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// loadProject reads and checks the configuration of --config. Warnings are
// printed; errors are printed and end the command.
func loadProject(w *world, cmd *cobra.Command) (*plan.Project, error) {
	return printedProject(w, cmd, readProject)
}

// printedProject reads the project and prints what is to be said of it.
func printedProject(w *world, cmd *cobra.Command, read func(*cobra.Command) (*plan.Project, report.Report, []byte, error)) (*plan.Project, error) {
	project, rep, data, err := read(cmd)
	if err != nil {
		return nil, err
	}
	if len(rep.Diagnostics) > 0 {
		if err := printReport(w, configName(cmd), rep, data); err != nil {
			return nil, err
		}
	}
	if project == nil {
		return nil, silentError{errInvalidConfig}
	}
	return project, nil
}

// readProject reads and checks the configuration of --config, and the lock beside
// it if there is one, and prints nothing.
func readProject(cmd *cobra.Command) (*plan.Project, report.Report, []byte, error) {
	return readProjectBy(cmd, readFile)
}

// readProjectBy is the same for a reader of the configuration's files.
func readProjectBy(cmd *cobra.Command, readFile func(string) ([]byte, error)) (*plan.Project, report.Report, []byte, error) {
	project, rep, data, err := readUnlockedBy(cmd, readFile)
	if err != nil || project == nil {
		return project, rep, data, err
	}
	lock, err := readLock(lockName(cmd))
	if err != nil || lock == nil {
		return project, rep, data, err
	}
	found := project.UseLock(lock, lockName(cmd))
	if rep.Merge(found); found.HasErrors() {
		return nil, rep, data, nil
	}
	key, err := readSigningKey(keyName(cmd, project))
	if err == nil {
		err = useSigningKey(project, key)
	}
	return project, rep, data, err
}

// readUnlocked is the same without the lock.
func readUnlocked(cmd *cobra.Command) (*plan.Project, report.Report, []byte, error) {
	return readUnlockedBy(cmd, readFile)
}

func readUnlockedBy(cmd *cobra.Command, readFile func(string) ([]byte, error)) (*plan.Project, report.Report, []byte, error) {
	name := configName(cmd)
	data, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, report.Report{}, nil, usageError{withHint(
			fmt.Errorf("there is no %s", name), "gpustrap init writes one, -c FILE names another")}
	}
	if err != nil {
		return nil, report.Report{}, nil, usageError{fmt.Errorf("cannot read the configuration: %w", err)}
	}
	dir := filepath.Dir(name)
	project, rep := plan.Load(name, data, func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		return readFile(file)
	})
	return project, rep, data, nil
}

// readFile reads the configuration or a file that it names, and of one that is too
// large, or has no end, no more than it takes to say so.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(io.LimitReader(f, config.MaxFileSize+1))
}

func configName(cmd *cobra.Command) string {
	name, _ := cmd.Flags().GetString("config")
	return name
}

// printReport shows diagnostics with excerpts of the configuration.
func printReport(w *world, name string, rep report.Report, data []byte) error {
	options := report.PrintOptions{Color: w.color()}
	if len(data) <= config.MaxFileSize { // else no line of it was read
		options.Sources = map[string][]byte{name: config.Mask(data)}
	}
	return rep.Print(w.stderr, options)
}

// rendered passes on what was rendered, or prints why it was not.
func rendered[T any](w *world, cmd *cobra.Command, value T, rep report.Report) (T, error) {
	if len(rep.Diagnostics) > 0 {
		data, err := os.ReadFile(configName(cmd))
		if err != nil {
			data = nil // the report stands without excerpts
		}
		if err := printReport(w, configName(cmd), rep, data); err != nil {
			return value, err
		}
	}
	if rep.HasErrors() {
		return value, silentError{errInvalidConfig}
	}
	return value, nil
}

// machineNames completes the names of machines on the command line.
func machineNames(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	project, _, _, err := readProject(cmd)
	if err != nil || project == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, m := range project.Machines {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
