package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/plan"
)

// ignored is what a repository with a gpustrap.yaml should not track: secrets,
// renders and images hold password hashes and keys.
var ignored = []string{"/secrets/", "/seeds/", "*.key", "*.iso", "*.img"}

func newInit(w *world) *cobra.Command {
	var v config.StarterValues
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented gpustrap.yaml, asking for what cannot be guessed",
		Long: `Writes a new gpustrap.yaml. On a terminal it asks for what cannot be guessed and
offers what it finds here: SSH keys, time zone, GPUs, disks. Elsewhere the flags
say it all. Secrets, renders and images are added to .gitignore. A file that
exists is never overwritten.`,
		Example: `  gpustrap init
  gpustrap init --user ops --key ~/.ssh/id_ed25519.pub --gpu rtx-5090 \
    --disk-serial S6ESNX0W123456`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := configName(cmd)
			if _, err := os.Lstat(name); err == nil {
				return withHint(fmt.Errorf("%s exists; nothing was changed", name), "-c FILE names another")
			}
			keys, err := readKeys(keyFiles)
			if err != nil {
				return err
			}
			v.Keys = keys
			here := probe{os.DirFS("/")}
			var password string
			if isTerminal(w.stdin) {
				if password, err = newInterview(cmd.Context(), w, here).fill(&v); err != nil {
					return err
				}
			}
			return initialise(w, name, v, password)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&v.Release, "ubuntu", "24.04", "Ubuntu `release`")
	flags.StringVar(&v.Hostname, "hostname", "", "host `name`")
	flags.StringVar(&v.UserName, "user", "", "`name` of the first user (default: ops)")
	flags.StringSliceVar(&keyFiles, "key", nil, "`file` with SSH public keys of that user; may be repeated")
	flags.StringVar(&v.PasswordFile, "password-file", "", "`file` with that user's password hash")
	flags.StringSliceVar(&v.GPUModels, "gpu", nil, "GPU `model`; may be repeated (default: auto)")
	flags.StringVar(&v.DiskSerial, "disk-serial", "", "serial `number` of the disk to erase")
	flags.StringVar(&v.Timezone, "timezone", "", "time `zone` (default: Etc/UTC)")
	return cmd
}

// readKeys returns the public keys in the files, one line each.
func readKeys(files []string) ([]string, error) {
	var keys []string
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("cannot read the SSH key: %w", err)}
		}
		if strings.Contains(string(data), "PRIVATE KEY") {
			return nil, usageError{withHint(fmt.Errorf("%s is a private key", name), "the public one is %s.pub", name)}
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

// initialise writes the files, when the configuration is one that check accepts.
func initialise(w *world, name string, v config.StarterValues, password string) error {
	dir := filepath.Dir(name)
	hash := ""
	if password != "" {
		var err error
		if hash, err = config.Hash(password, config.SHA512Crypt, rand.Reader); err != nil {
			return err
		}
		v.PasswordFile = filepath.Join("secrets", v.UserName+".hash")
	}
	text, err := config.Starter(v)
	if err != nil {
		return err
	}
	_, rep := plan.Load(name, []byte(text), func(file string) ([]byte, error) {
		if hash != "" && file == v.PasswordFile {
			return []byte(hash), nil
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		return readFile(file)
	})
	if rep.HasErrors() {
		if err := printReport(w, name, rep, []byte(text)); err != nil {
			return err
		}
		return withHint(usagef("%s was not written: check would refuse it", name), "gpustrap init --help lists the flags; --key FILE is an SSH key")
	}
	if hash != "" {
		secret := filepath.Join(dir, v.PasswordFile)
		if err := os.MkdirAll(filepath.Dir(secret), 0o700); err != nil {
			return fmt.Errorf("cannot make a folder for the password's hash: %w", err)
		}
		if err := writeNew(secret, hash+"\n", secretFile); err != nil {
			return withHint(err, "--password-file %s takes the hash that is there", v.PasswordFile)
		}
		w.say("%s: the password's hash, readable by you alone", secret)
	}
	if err := writeNew(name, text, 0o644); err != nil {
		return err
	}
	w.say("%s: written", name)
	if err := ignore(w, filepath.Join(dir, ".gitignore")); err != nil {
		return err
	}
	w.say("next: gpustrap check; gpustrap explain; gpustrap remaster --iso %s -o gpu.iso", v.Release)
	return nil
}

// writeNew writes a file that must not exist yet, whole or not at all.
func writeNew(name, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, pathReason(err))
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", name, pathReason(err)), os.Remove(name))
	}
	return nil
}

// ignore adds what is missing to a .gitignore.
func ignore(w *world, name string) error {
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	have := strings.Fields(string(old))
	var added []string
	for _, pattern := range ignored {
		if !slices.Contains(have, pattern) {
			added = append(added, pattern)
		}
	}
	if len(added) == 0 {
		return nil
	}
	text := strings.Join(added, "\n") + "\n"
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		text = "\n" + text
	}
	// What is there is only added to: a disk that is full must not take it.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot add %s to %s: %w", strings.Join(added, " "), name, pathReason(err))
	}
	w.say("%s: ignores %s", name, strings.Join(added, " "))
	return nil
}

// modelsHere names the GPUs of this machine that the tables know.
func modelsHere(here probe) ([]string, error) {
	tables, err := gpu.Load()
	if err != nil {
		return nil, err
	}
	var models []string
	for _, id := range here.gpus() {
		i := slices.IndexFunc(tables.Models(), func(d gpu.Device) bool { return slices.Contains(d.PCI, id) })
		if i >= 0 && !slices.Contains(models, tables.Models()[i].Model) {
			models = append(models, tables.Models()[i].Model)
		}
	}
	return models, nil
}
