package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/iso"
)

// secretFile is the mode of an image that holds password hashes and keys.
const secretFile fs.FileMode = 0o600

// resultFile is the mode of a file that anybody may read.
const resultFile fs.FileMode = 0o644

// standardOutput is the name that means standard output instead of a file.
const standardOutput = "-"

// checkOutput refuses to send an image to a terminal.
func checkOutput(w *world, out string) error {
	if out == standardOutput && isTerminal(w.stdout) {
		return usagef("an image is not for a terminal; name a file with -o, or pipe the output")
	}
	return nil
}

// writeLayout writes an image to a file or to standard output.
func writeLayout(ctx context.Context, w *world, layout *iso.Layout, base *medium, out string) error {
	update, finish := w.progress("write")
	defer finish()
	if out == standardOutput {
		return iso.WriteTo(ctx, layout, w.stdout, update)
	}
	out, err := outputImage(out)
	if err != nil {
		return err
	}
	return iso.WriteFile(ctx, layout, base.file, out, iso.WriteOptions{Perm: secretFile, Progress: update})
}

// writeImage writes an image that may hold secrets, whole or not at all, or to
// standard output.
func writeImage(w *world, out string, data []byte) error {
	if out == standardOutput {
		_, err := w.stdout.Write(data)
		return err
	}
	name, err := outputImage(out)
	if err != nil {
		return err
	}
	return writeWhole(name, secretFile, data)
}

// writeResult writes to a file, whole or not at all, or to standard output.
func writeResult(w *world, cmd *cobra.Command, out string, data []byte) error {
	if out == "" || out == standardOutput {
		_, err := w.stdout.Write(data)
		return err
	}
	name, err := outputFile(out)
	if err != nil {
		return err
	}
	there, err := os.Stat(name)
	for _, own := range []string{configName(cmd), lockName(cmd)} {
		if info, ownErr := os.Stat(own); err == nil && ownErr == nil && os.SameFile(info, there) {
			return fmt.Errorf("cannot write %s: it is the configuration or its lock; name another file", out)
		}
	}
	return writeWhole(name, resultFile, data)
}

func writeWhole(name string, mode fs.FileMode, data []byte) error {
	err := replaceFile(name, mode, func(f io.Writer) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, pathReason(err))
	}
	return nil
}

// replaceFile puts a new file in a file's place, whole or not at all.
func replaceFile(name string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	if err = f.Chmod(mode); err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what matters is why it was not renamed
	}
	return err
}

// outputFile returns the file that a path leads to. What takes the file's place is
// renamed to it, so a symbolic link must be followed first: /dev/stdout is one. What
// is there already must be a file.
func outputFile(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(name); err == nil {
			return "", fmt.Errorf("cannot write %s: it is a symbolic link that leads nowhere", name)
		}
		return name, nil
	case err != nil:
		return "", fmt.Errorf("cannot write %s: %w", name, pathReason(err))
	case info.IsDir():
		return "", fmt.Errorf("cannot write %s: it is a folder; give the name of a file", name)
	case !info.Mode().IsRegular():
		return "", withHint(fmt.Errorf("cannot write %s: it is no file", name),
			"-o - writes to standard output, gpustrap write to a device")
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "", fmt.Errorf("cannot write %s: %w", name, pathReason(err))
	}
	return real, nil
}

// outputImage is outputFile for an image. Where a file is, only another image gives
// way to it: a name mistyped must not cost somebody the configuration or a key.
func outputImage(name string) (string, error) {
	file, err := outputFile(name)
	if err != nil {
		return "", err
	}
	return file, onlyOver(file, isoMagic, isoMagicAt, "an image")
}

// What tells the two kinds of files that replace others, and where, in bytes: the
// first volume descriptor (ECMA-119, 8.1.2), and the header of a tar archive's first
// member (POSIX.1-2017, ustar interchange format).
const (
	isoMagic   = "CD001"
	isoMagicAt = 16*2048 + 1
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// onlyOver refuses to replace a file that is there, has any content, and is of
// another kind.
func onlyOver(name, magic string, at int64, kind string) error {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot write %s: cannot read what is there: %w", name, pathReason(err))
	}
	defer func() { _ = f.Close() }() // read only
	found := make([]byte, len(magic))
	if _, err := f.ReadAt(found, at); err == nil && string(found) == magic {
		return nil
	}
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		return nil
	}
	return withHint(fmt.Errorf("cannot write %s: the file that is there is not %s", name, kind), "name another file, or remove this one")
}

// pathReason takes the path off an error, for a message that names it already.
func pathReason(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
