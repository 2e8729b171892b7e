package iso

import (
	"io/fs"
	"path"
	"slices"
)

// Overlay returns what was laid over a remastered medium's base: the files that
// were added or replaced, the boot menus among them, and what was removed. A
// medium that was not remastered has an empty one. md5sum.txt is left out, since
// Remaster writes it anew.
func (im *Image) Overlay() (Overlay, error) {
	base, _, err := im.original()
	if err != nil || base == im {
		return Overlay{}, err
	}
	added, replaced, removed := im.fileChanges(base)
	kept := map[string]bool{}
	for _, p := range slices.Concat(added, replaced) {
		if p == md5sumPath {
			continue
		}
		for ; p != "."; p = path.Dir(p) {
			kept[p] = true
		}
	}
	return Overlay{Files: subset{im.FS(), kept}, Remove: removed, ModTime: im.date()}, nil
}

// subset shows some paths of a file system. Directories above a path are among
// the paths.
type subset struct {
	whole fs.FS
	kept  map[string]bool
}

func (s subset) Open(name string) (fs.File, error) {
	if name != "." && !s.kept[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return s.whole.Open(name)
}

// ReadDir lists what is kept of a directory.
func (s subset) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.whole, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !s.kept[path.Join(name, e.Name())]
	}), err
}

// ReadLink returns the target of a symbolic link that is kept.
func (s subset) ReadLink(name string) (string, error) { return fs.ReadLink(s.whole, name) }

// Lstat describes a path without following a symbolic link.
func (s subset) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(s.whole, name) }
