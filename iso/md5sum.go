package iso

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// md5sumPath is the list of checksums that the installer's media check goes by.
const md5sumPath = "md5sum.txt"

// maxTextFile bounds in bytes what is read as text from a medium: md5sum.txt and
// the boot menus.
const maxTextFile = 64 << 20

// md5Line is one line of md5sum.txt. A line that is not a checksum and a path has
// only its text.
type md5Line struct {
	text []byte // without the line feed
	sum  [md5.Size]byte
	path string // as fs.FS wants it
}

// parseMD5 reads md5sum.txt: 32 hexadecimal digits, a space, a space or an
// asterisk, and the path.
func parseMD5(b []byte) []md5Line {
	var lines []md5Line
	for text := range bytes.Lines(b) {
		l := md5Line{text: bytes.TrimSuffix(text, []byte("\n"))}
		if len(l.text) > 34 && l.text[32] == ' ' && (l.text[33] == ' ' || l.text[33] == '*') {
			p := path.Clean(string(l.text[34:]))
			if _, err := hex.Decode(l.sum[:], l.text[:32]); err == nil && fs.ValidPath(p) {
				l.path = p
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// editMD5 returns md5sum.txt with the checksums of changed files, without what
// was removed, and with what was added at its end.
func editMD5(b []byte, removed []string, added *node) ([]byte, error) {
	var out bytes.Buffer
	listed := map[string]bool{}
	for _, l := range parseMD5(b) {
		if l.path == "" {
			out.Write(l.text)
			out.WriteByte('\n')
			continue
		}
		n := added.find(l.path)
		switch {
		case n != nil && n.mode.IsRegular():
			if !listed[l.path] {
				// The path stays as the medium writes it.
				fmt.Fprintf(&out, "%x%s\n", n.md5, l.text[32:])
				listed[l.path] = true
			}
		case n != nil && !n.mode.IsDir(), isRemoved(l.path, removed):
		default:
			out.Write(l.text)
			out.WriteByte('\n')
		}
	}
	err := added.files(func(n *node) error {
		if !listed[n.path] && n.path != md5sumPath {
			fmt.Fprintf(&out, "%x  ./%s\n", n.md5, n.path)
		}
		return nil
	})
	return out.Bytes(), err
}

// isRemoved reports whether a path is among those removed or below one.
func isRemoved(p string, removed []string) bool {
	for _, r := range removed {
		if p == r || strings.HasPrefix(p, r+"/") {
			return true
		}
	}
	return false
}

// hashFiles computes the checksums of everything that is added.
func hashFiles(added *node) error {
	buffer := make([]byte, 128<<10)
	return added.files(func(n *node) error {
		r, err := n.open()
		if err != nil {
			return err
		}
		h := md5.New()
		// Not io.Copy, which would let a file's WriteTo choose its own buffer.
		read, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, buffer)
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
		if err == nil && read != n.size() {
			err = fmt.Errorf("%d bytes were announced and %d are there", n.size(), read)
		}
		if err != nil {
			return &OverlayError{Path: n.path, Reason: pathReason(err)}
		}
		h.Sum(n.md5[:0])
		return nil
	})
}

// readText reads a text file of a medium.
func readText(fsys fs.FS, p string) ([]byte, error) {
	f, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing is lost
	b, err := io.ReadAll(io.LimitReader(f, maxTextFile+1))
	if err == nil && len(b) > maxTextFile {
		err = &fs.PathError{Op: "read", Path: p, Err: fmt.Errorf("larger than %d bytes", maxTextFile)}
	}
	return b, err
}
