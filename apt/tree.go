package apt

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// tree is a file system of texts in memory and files on disk, all of one date.
type tree struct {
	date  time.Time
	nodes map[string]*treeNode
}

// treeNode is a file or a folder.
type treeNode struct {
	name     string // the last part of its path
	date     time.Time
	folder   bool
	children []fs.DirEntry
	text     []byte
	file     string // path on disk, of a file that is not in memory
	size     int64
}

func newTree(date time.Time) *tree {
	return &tree{date, map[string]*treeNode{".": {name: ".", date: date, folder: true}}}
}

func (t *tree) addText(name string, text []byte) {
	t.add(name, &treeNode{text: text, size: int64(len(text))})
}

// addFile takes a file on disk into the tree. It must have the size that is known
// of it.
func (t *tree) addFile(name, file string, size int64) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() != size {
		return fmt.Errorf("%s has %d bytes, and %d are expected", file, info.Size(), size)
	}
	t.add(name, &treeNode{file: file, size: size})
	return nil
}

func (t *tree) add(name string, n *treeNode) {
	n.name, n.date = path.Base(name), t.date
	t.nodes[name] = n
	for name != "." {
		parent := path.Dir(name)
		folder, there := t.nodes[parent]
		if !there {
			folder = &treeNode{name: path.Base(parent), date: t.date, folder: true}
			t.nodes[parent] = folder
		}
		folder.children = append(folder.children, fs.FileInfoToDirEntry(t.nodes[name]))
		if there {
			return
		}
		name = parent
	}
}

// sort brings the folders in order, once all is in the tree.
func (t *tree) sort() {
	for _, n := range t.nodes {
		sortEntries(n.children)
	}
}

// Name and the following make a treeNode an fs.FileInfo.
func (n *treeNode) Name() string       { return n.name }
func (n *treeNode) Size() int64        { return n.size }
func (n *treeNode) ModTime() time.Time { return n.date }
func (n *treeNode) IsDir() bool        { return n.folder }
func (n *treeNode) Sys() any           { return nil }

// Mode is readable for everyone.
func (n *treeNode) Mode() fs.FileMode {
	if n.folder {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// Open opens a file or folder of the tree.
func (t *tree) Open(name string) (fs.File, error) {
	n, ok := t.nodes[name]
	if !fs.ValidPath(name) || !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	switch {
	case n.folder:
		return &openFolder{node: n}, nil
	case n.file != "":
		f, err := os.Open(n.file)
		if err != nil {
			return nil, err
		}
		return &openFile{f, n}, nil
	}
	return &openText{bytes.NewReader(n.text), n}, nil
}

type openFile struct {
	*os.File
	node *treeNode
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }

type openText struct {
	*bytes.Reader
	node *treeNode
}

func (f *openText) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openText) Close() error               { return nil }

type openFolder struct {
	node *treeNode
	at   int
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFolder) Close() error               { return nil }

func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.node.name, Err: errIsFolder}
}

// ReadDir returns the next n entries, or all that are left.
func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	left := f.node.children[f.at:]
	if n <= 0 {
		f.at += len(left)
		return append([]fs.DirEntry(nil), left...), nil
	}
	if len(left) == 0 {
		return nil, io.EOF
	}
	left = left[:min(n, len(left))]
	f.at += len(left)
	return append([]fs.DirEntry(nil), left...), nil
}
