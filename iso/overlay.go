package iso

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Overlay is what Remaster puts on a medium.
type Overlay struct {
	// Files are added to the medium or replace what is there, at their paths.
	// Directories are made as needed and merged with those there. Content is read
	// when the image is: it must stay as it is until then. A symbolic link is
	// taken over when Files implements fs.ReadLinkFS.
	//
	// On the medium all belongs to root and can be read by everyone, as mkisofs -r
	// would have it; what anyone may execute, everyone may.
	Files fs.FS
	// Remove lists files and whole directories to take off the medium, before
	// Files are put on it.
	Remove []string
	// Menu is what the boot menus become; nil leaves them alone.
	Menu *grubcfg.Menu
	// ModTime is the date of everything added; zero means the medium's own.
	ModTime time.Time
}

// node is a file or directory of an overlay.
type node struct {
	name, path string
	mode       fs.FileMode // type, and permissions as on the medium
	link       string
	children   []*node // of a directory, by name

	// Content of a regular file: text or, when that is nil, file.
	text []byte
	file *overlayFile
	md5  [16]byte
	// extents hold the content, in sectors of the image.
	extents []iso9660.Extent
}

func (n *node) size() int64 {
	if n.file != nil {
		return n.file.size
	}
	return int64(len(n.text))
}

// open opens a regular file's content.
func (n *node) open() (io.ReadCloser, error) {
	if n.file == nil {
		return io.NopCloser(strings.NewReader(string(n.text))), nil
	}
	return n.file.open()
}

// Modes of what is added.
const (
	modeFile       fs.FileMode = 0o444
	modeExecutable fs.FileMode = 0o555
	modeDir                    = fs.ModeDir | 0o555
	modeLink                   = fs.ModeSymlink | 0o777
)

// readOverlay turns the overlay's files into a tree. Content is not read.
func readOverlay(files fs.FS) (*node, error) {
	root := &node{name: ".", path: ".", mode: modeDir}
	if files == nil {
		return root, nil
	}
	dirs := map[string]*node{".": root}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return &OverlayError{Path: p, Reason: pathReason(err)}
		}
		if p == "." {
			return nil
		}
		n, err := newNode(files, p, d)
		if err != nil {
			return err
		}
		if n.mode.IsDir() {
			dirs[p] = n
		}
		parent := dirs[path.Dir(p)]
		parent.children = append(parent.children, n)
		return nil
	})
	if err != nil {
		var known *OverlayError
		if !errors.As(err, &known) {
			return nil, fmt.Errorf("cannot read the overlay: %w", err)
		}
		return nil, err
	}
	return root, nil
}

func newNode(files fs.FS, p string, d fs.DirEntry) (*node, error) {
	n := &node{name: path.Base(p), path: p} // of the path, which is kept anyway
	if reason := badName(d.Name()); reason != "" {
		return nil, &OverlayError{Path: p, Reason: reason}
	}
	info, err := d.Info()
	if err != nil {
		return nil, &OverlayError{Path: p, Reason: pathReason(err)}
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		n.mode = modeDir
	case 0:
		n.mode = modeFile
		if info.Mode()&0o111 != 0 {
			n.mode = modeExecutable
		}
		n.file = &overlayFile{fsys: files, path: p, size: info.Size(), date: info.ModTime()}
	case fs.ModeSymlink:
		n.mode = modeLink
		if n.link, err = fs.ReadLink(files, p); err != nil {
			return nil, &OverlayError{Path: p, Reason: "cannot read the symbolic link: " + pathReason(err)}
		}
		if n.link == "" {
			return nil, &OverlayError{Path: p, Reason: "a symbolic link without a target"}
		}
	default:
		return nil, &OverlayError{Path: p, Reason: "neither a file, a directory nor a symbolic link"}
	}
	return n, nil
}

// badName says what is wrong with a name for an installation medium.
func badName(name string) string {
	switch {
	case len(name) > 253:
		return fmt.Sprintf("a name of %d bytes; Linux reads at most 253 from such a medium", len(name))
	case strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 || c == 0x7F }):
		return "a name with a control character, which md5sum.txt cannot list"
	case strings.Contains(name, `\`):
		return "a name with a backslash, which md5sum.txt cannot list"
	}
	return ""
}

// files calls f for every regular file below the node, in the order of paths.
func (n *node) files(f func(*node) error) error {
	for _, c := range n.children {
		var err error
		switch {
		case c.mode.IsDir():
			err = c.files(f)
		case c.mode.IsRegular():
			err = f(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find returns the node at a path below this one, or nil.
func (n *node) find(p string) *node {
	for part := range strings.SplitSeq(p, "/") {
		i, found := slices.BinarySearchFunc(n.children, part, func(c *node, name string) int { return strings.Compare(c.name, name) })
		if !found {
			return nil
		}
		n = n.children[i]
	}
	return n
}

// put sets the content of the file at a path, which is added where it is missing.
func (n *node) put(p string, text []byte) error {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		j, found := slices.BinarySearchFunc(n.children, part, func(c *node, name string) int { return strings.Compare(c.name, name) })
		if !found {
			c := &node{name: part, path: strings.Join(parts[:i+1], "/"), mode: modeDir}
			if i == len(parts)-1 {
				c.mode = modeFile
			}
			n.children = slices.Insert(n.children, j, c)
		}
		n = n.children[j]
		if n.mode.IsDir() != (i < len(parts)-1) {
			return &OverlayError{Path: n.path, Reason: "a file where there must be a directory, or the other way round"}
		}
	}
	n.text, n.file = text, nil
	return nil
}
