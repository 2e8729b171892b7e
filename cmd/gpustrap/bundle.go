package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func newBundle(w *world) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "bundle -o DIR|FILE.tar [MACHINE...]",
		Short: "Write the locked packages as a signed repository",
		Long: `Downloads every package that the lock gives the machines and writes them as a
repository that apt reads: dists/CLASS for each class of machines, pool, the key
that signs it, gpustrap.asc, under keys the keys of the repositories that the
machines use later, and under images the archives of their apps' images, where
the configuration names some. "gpustrap remaster --offline" puts the same on a
medium.

The signing key is made at the first run, beside the configuration: gpustrap.key
for gpustrap.yaml, with the mode 0600. It is never part of a bundle or a medium.`,
		Example:           "  gpustrap bundle -o packages/\n  gpustrap bundle -o packages.tar node01",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{withHint(errors.New("-o is needed"), "usage: %s", cmd.UseLine())}
			}
			if err := checkBundle(out); err != nil {
				return err
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			if project.Lock() == nil {
				_, err := needLock(lockName(cmd))
				return err
			}
			machines, err := project.Select(args)
			if err != nil {
				return usageError{err}
			}
			repository, err := fetchRepository(cmd.Context(), w, cmd, project, machines)
			if err != nil {
				return err
			}
			size, err := writeBundle(cmd.Context(), w, repository, out)
			if err != nil {
				return fmt.Errorf("cannot write %s: %w", out, pathReason(err))
			}
			w.say("%s: %s", out, byteCount(size))
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`folder` to write, or a file that ends in .tar")
	return cmd
}

// isArchive reports whether a bundle of this name is an archive, not a folder.
func isArchive(out string) bool { return strings.HasSuffix(out, ".tar") }

// checkBundle refuses to put a bundle in the place of anything but an empty folder,
// or of another archive.
func checkBundle(out string) error {
	info, err := os.Stat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot write %s: %w", out, pathReason(err))
	case isArchive(out):
		name, err := outputFile(out)
		if err != nil {
			return err
		}
		return onlyOver(name, tarMagic, tarMagicAt, "an archive")
	case !info.IsDir():
		return withHint(fmt.Errorf("cannot write %s: it is a file, and no folder", out), "name a folder, or a file that ends in .tar")
	}
	list, err := os.ReadDir(out)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", out, pathReason(err))
	}
	if len(list) > 0 {
		return withHint(fmt.Errorf("%s exists and is not empty", out), "name another folder, or remove this one")
	}
	return nil
}

// writeBundle writes a repository, whole or not at all, and returns its size in
// bytes.
func writeBundle(ctx context.Context, w *world, repository fs.FS, out string) (int64, error) {
	size, err := sizeOf(repository)
	if err != nil {
		return 0, err
	}
	update, finish := w.progress("write the bundle")
	defer finish()
	var done int64
	each := func(n int64) error {
		done += n
		update(done, size)
		return ctx.Err()
	}
	if isArchive(out) {
		return size, writeTar(repository, out, each)
	}
	return size, writeTree(repository, filepath.Clean(out), each)
}

func sizeOf(files fs.FS) (int64, error) {
	var size int64
	err := fs.WalkDir(files, ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// writeTree writes the files into a new folder.
func writeTree(files fs.FS, out string, each func(int64) error) (err error) {
	temporary, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		at := filepath.Join(temporary, filepath.FromSlash(name))
		switch {
		case err != nil || name == ".":
			return err
		case d.IsDir():
			return os.Mkdir(at, 0o755)
		}
		f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		n, err := copyOut(f, files, name)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		return each(n)
	})
	if err != nil {
		return err
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty folder
		return err
	}
	return os.Rename(temporary, out)
}

// writeTar writes the files into an archive (POSIX.1-1988's ustar form), in the
// order of their names and with their own dates.
func writeTar(files fs.FS, out string, each func(int64) error) error {
	return replaceFile(out, resultFile, func(f io.Writer) error {
		t := tar.NewWriter(f)
		err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || name == "." {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: info.ModTime()}
			if d.IsDir() {
				header.Typeflag, header.Name, header.Size, header.Mode = tar.TypeDir, name+"/", 0, 0o755
				return t.WriteHeader(header)
			}
			if err := t.WriteHeader(header); err != nil {
				return err
			}
			n, err := copyOut(t, files, name)
			if err != nil {
				return err
			}
			return each(n)
		})
		if err != nil {
			return err
		}
		return t.Close()
	})
}

func copyOut(to io.Writer, files fs.FS, name string) (int64, error) {
	f, err := files.Open(name)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(to, f)
	return n, errors.Join(err, f.Close())
}
