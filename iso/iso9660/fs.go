package iso9660

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// FS shows the tree as a read-only file system whose content comes from r, the
// image that the tree was read from. It has Rock Ridge names, modes and symbolic
// links; Open and Stat follow links, inside the tree only. Opened files are also
// io.ReaderAt and io.Seeker. It can be used from several goroutines.
func (t *Tree) FS(r io.ReaderAt) fs.FS { return &treeFS{t, r} }

type treeFS struct {
	tree *Tree
	r    io.ReaderAt
}

var (
	_ fs.ReadDirFS  = (*treeFS)(nil)
	_ fs.StatFS     = (*treeFS)(nil)
	_ fs.ReadLinkFS = (*treeFS)(nil)
)

// maxLinks is how many symbolic links one path may lead through, as on Linux.
const maxLinks = 40

var errLoop = errors.New("too many levels of symbolic links")

// resolve finds the entry of a path. The root has an entry of its own making.
func (f *treeFS) resolve(op, name string, followLast bool) (*Entry, error) {
	fail := func(err error) (*Entry, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	root := f.root()
	stack := []*Entry{root}
	parts := splitPath(name)
	for links := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		here := stack[len(stack)-1]
		if part == ".." {
			stack = stack[:max(len(stack)-1, 1)]
			continue
		}
		d := here.directory()
		if d == nil {
			return fail(fs.ErrNotExist)
		}
		e := d.Lookup(part)
		if e == nil {
			return fail(fs.ErrNotExist)
		}
		if e.Mode&fs.ModeSymlink == 0 || len(parts) == 0 && !followLast {
			stack = append(stack, e)
			continue
		}
		if links++; links > maxLinks {
			return fail(errLoop)
		}
		if strings.HasPrefix(e.Link, "/") {
			stack = stack[:1]
		}
		parts = slices.Concat(splitPath(e.Link), parts)
	}
	return stack[len(stack)-1], nil
}

func splitPath(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
}

func (f *treeFS) root() *Entry {
	return &Entry{
		Name: ".", Dir: f.tree.Root, Mode: fs.ModeDir | 0o555,
		ModTime: f.tree.Root.self.date(), records: []record{f.tree.Root.self},
	}
}

// Open opens a file or directory.
func (f *treeFS) Open(name string) (fs.File, error) {
	e, err := f.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	info := fileInfo{e, path.Base(name)}
	switch {
	case e.IsDir():
		return &openDir{info: info, name: name, entries: e.directory().list()}, nil
	case !e.Mode.IsRegular():
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	case e.zisofs:
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("compressed with zisofs, which is not understood")}
	}
	content := &extentReader{r: f.r, at: f.tree.Start.Offset(), extents: e.Extents()}
	return &openFile{info, io.NewSectionReader(content, 0, e.Size())}, nil
}

// ReadDir lists a directory by name.
func (f *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.resolve("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return e.directory().list(), nil
}

// Stat describes what a path leads to.
func (f *treeFS) Stat(name string) (fs.FileInfo, error) {
	e, err := f.resolve("stat", name, true)
	if err != nil {
		return nil, err
	}
	return fileInfo{e, path.Base(name)}, nil
}

// Lstat describes a path without following a link at its end.
func (f *treeFS) Lstat(name string) (fs.FileInfo, error) {
	e, err := f.resolve("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return fileInfo{e, path.Base(name)}, nil
}

// ReadLink returns the target of a symbolic link.
func (f *treeFS) ReadLink(name string) (string, error) {
	e, err := f.resolve("readlink", name, false)
	if err != nil {
		return "", err
	}
	if e.Mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return e.Link, nil
}

// list returns the entries sorted by name, as fs.ReadDir wants them. Of entries
// that share a name only the first can be opened, so only it is listed.
func (d *Dir) list() []fs.DirEntry {
	list := make([]fs.DirEntry, 0, len(d.Entries))
	for _, e := range d.Entries {
		if !e.hidden {
			list = append(list, fs.FileInfoToDirEntry(fileInfo{e, e.Name}))
		}
	}
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(list, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() })
}

// fileInfo is an Entry under the name it was asked for.
type fileInfo struct {
	entry *Entry
	name  string
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.entry.Size() }
func (i fileInfo) Mode() fs.FileMode  { return i.entry.Mode }
func (i fileInfo) ModTime() time.Time { return i.entry.ModTime }
func (i fileInfo) IsDir() bool        { return i.entry.IsDir() }

// Sys returns the *Entry.
func (i fileInfo) Sys() any { return i.entry }

type openFile struct {
	info fileInfo
	*io.SectionReader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info    fileInfo
	name    string
	entries []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		all := d.entries
		d.entries = nil
		return all, nil
	}
	if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	some := d.entries[:n]
	d.entries = d.entries[n:]
	return some, nil
}

// extentReader reads the content of a file of one or several extents.
type extentReader struct {
	r       io.ReaderAt
	at      Offset // of the tree's sector 0
	extents []Extent
}

func (x *extentReader) ReadAt(p []byte, off int64) (n int, err error) {
	for _, e := range x.extents {
		length := int64(e.Length)
		if off >= length {
			off -= length
			continue
		}
		for len(p) > 0 && off < length {
			part := p[:min(int64(len(p)), length-off)]
			at := x.at + e.Sector.Offset() + Offset(off)
			if err := readFull(x.r, part, at); err != nil {
				return n, err
			}
			p, n, off = p[len(part):], n+len(part), off+int64(len(part))
		}
		off = 0
		if len(p) == 0 {
			return n, nil
		}
	}
	return n, io.EOF
}
