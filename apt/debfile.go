package apt

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
)

// maxControl is the largest control file of a package that is read, in bytes.
const maxControl = 4 << 20

// ReadControl returns the control file of a package (deb(5)): an ar archive, whose
// second member is a tar archive that holds it. size is the package's in bytes.
func ReadControl(r io.ReaderAt, size int64) (Stanza, error) {
	const magic = "!<arch>\n"
	head := make([]byte, len(magic))
	if _, err := r.ReadAt(head, 0); err != nil || string(head) != magic {
		return Stanza{}, errors.New("cannot read the package: it is no Debian package")
	}
	for at := int64(len(magic)); at+60 <= size; {
		header := make([]byte, 60)
		if _, err := r.ReadAt(header, at); err != nil {
			return Stanza{}, fmt.Errorf("cannot read the package: %w", err)
		}
		name := strings.TrimRight(string(header[:16]), " /")
		n, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || n < 0 || at+60+n > size {
			return Stanza{}, fmt.Errorf("cannot read the package: byte %d: the size of %q is none", at+48, name)
		}
		if strings.HasPrefix(name, "control.tar") {
			return controlOf(io.NewSectionReader(r, at+60, n), path.Ext(name))
		}
		at += 60 + n + n%2
	}
	return Stanza{}, errors.New("cannot read the package: it has no control.tar")
}

func controlOf(r io.Reader, form string) (Stanza, error) {
	if form == ".tar" {
		form = ""
	}
	plain, err := unpack(r, form)
	if err != nil {
		return Stanza{}, fmt.Errorf("cannot read the package's control.tar: %w", err)
	}
	for members := tar.NewReader(io.LimitReader(plain, 64<<20)); ; {
		h, err := members.Next()
		if err != nil {
			return Stanza{}, fmt.Errorf("cannot read the package's control.tar: %w", err)
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(members, maxControl))
		if err != nil {
			return Stanza{}, fmt.Errorf("cannot read the package's control.tar: %w", err)
		}
		for s, err := range Stanzas(string(bytes.TrimLeft(text, "\n"))) {
			return s, err
		}
		return Stanza{}, errors.New("cannot read the package: its control file is empty")
	}
}

// readControlFile reads the control file of a package on disk.
func readControlFile(name string) (s Stanza, err error) {
	f, err := os.Open(name)
	if err != nil {
		return Stanza{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return Stanza{}, err
	}
	return ReadControl(f, info.Size())
}
