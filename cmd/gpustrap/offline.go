package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/plan"
)

// keyName is the file with the key that signs the fleet's offline repository: where
// the configuration says, or beside it.
func keyName(cmd *cobra.Command, project *plan.Project) string {
	name := configName(cmd)
	switch key := project.SigningKey; {
	case filepath.IsAbs(key):
		return key
	case key != "":
		return filepath.Join(filepath.Dir(name), key)
	}
	return strings.TrimSuffix(name, filepath.Ext(name)) + ".key"
}

// readSigningKey reads the key; nil when there is none.
func readSigningKey(name string) (*apt.SigningKey, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the signing key: %w", err)
	}
	key, err := apt.ParseSigningKey(text)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", name, err), "move it away, and a new key is made; media signed with another key stay as they are")
	}
	return key, nil
}

// needSigningKey is the same, and makes the key when there is none.
func needSigningKey(w *world, name string) (*apt.SigningKey, error) {
	key, err := readSigningKey(name)
	if err != nil || key != nil {
		return key, err
	}
	fleet := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	if key, err = apt.NewSigningKey(fleet, rand.Reader); err != nil {
		return nil, err
	}
	text, err := key.Encode()
	if err != nil {
		return nil, err
	}
	if err := writeNew(name, string(text), secretFile); err != nil {
		return nil, err
	}
	w.say("%s: written, the key that signs this fleet's packages, %s; keep it, and to yourself", name, key.Fingerprint())
	return key, nil
}

// useSigningKey tells a project of the key.
func useSigningKey(project *plan.Project, key *apt.SigningKey) error {
	if key == nil {
		return nil
	}
	public, err := key.Public()
	if err != nil {
		return err
	}
	project.UseSigningKey(public)
	return nil
}

// prepareOffline gets ready to render machines that may install offline: it has
// the key made. Where one has no lock, the render says what is missing.
func prepareOffline(w *world, cmd *cobra.Command, project *plan.Project, machines ...*plan.Machine) error {
	warnUnkept(w, project.Lock(), machines)
	offline := func(m *plan.Machine) bool { return m.Offline != config.OfflineOff && m.Class != "" }
	if !slices.ContainsFunc(machines, offline) {
		return nil
	}
	key, err := needSigningKey(w, keyName(cmd, project))
	if err != nil {
		return err
	}
	return useSigningKey(project, key)
}

// addRepository puts the packages of those machines that install offline on the
// medium.
func addRepository(w *world, cmd *cobra.Command, project *plan.Project, machines []*plan.Machine, base *medium, overlay *iso.Overlay) error {
	var offline []*plan.Machine
	for _, m := range machines {
		if m.Offline == config.OfflineOff || m.Class == "" {
			continue
		}
		if err := project.CheckBase(m, base.Description().Info); err != nil {
			return withHint(err, "lock again for this one: gpustrap lock --update --iso %s", base.name)
		}
		offline = append(offline, m)
	}
	if len(offline) == 0 {
		return nil
	}
	repository, err := fetchRepository(cmd.Context(), w, cmd, project, offline)
	if err != nil {
		return err
	}
	plan.AddRepository(overlay, repository)
	return nil
}

// fetchRepository makes the offline repository of some machines.
func fetchRepository(ctx context.Context, w *world, cmd *cobra.Command, project *plan.Project, machines []*plan.Machine) (fs.FS, error) {
	key, err := needSigningKey(w, keyName(cmd, project))
	if err != nil {
		return nil, err
	}
	date, err := sourceDate(w)
	if err != nil {
		return nil, err
	}
	o, err := aptOptions(w)
	if err != nil {
		return nil, err
	}
	update, finish := w.progress("download packages")
	defer finish()
	o.Progress = update
	b := plan.Bundle{Machines: machines, Key: key, Date: date, Folder: filepath.Dir(configName(cmd))}
	return project.Repository(ctx, b, o)
}
