package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder permissions and file permissions of what holds password hashes and keys.
const (
	secretFolder fs.FileMode = 0o700
	secretFile   fs.FileMode = 0o600
)

// WriteFolder writes the files into a folder, which it makes with mode 0700;
// files get mode 0600. Each file appears whole or not at all, and one whose
// content is unchanged is not touched. It returns how many files it wrote.
func WriteFolder(dir string, files fs.FS) (written int, err error) {
	if err := os.MkdirAll(dir, secretFolder); err != nil {
		return 0, fmt.Errorf("cannot make the folder: %w", err)
	}
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		changed, err := writeSecret(filepath.Join(dir, filepath.FromSlash(name)), content)
		if changed {
			written++
		}
		return err
	})
	return written, err
}

// writeSecret replaces a file when its content differs, by way of a temporary
// file beside it.
func writeSecret(name string, content []byte) (changed bool, err error) {
	old, err := os.ReadFile(name)
	switch {
	case err == nil && bytes.Equal(old, content):
		return false, os.Chmod(name, secretFile)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("cannot read what is there: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".gpustrap-*") // made with mode 0600
	if err != nil {
		return false, fmt.Errorf("cannot write: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("cannot write %s: %w", name, err), os.Remove(f.Name()))
	}
	return true, nil
}
