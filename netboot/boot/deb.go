package boot

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	// arMagic begins a Debian package, which is an ar archive (deb(5), ar(5)).
	arMagic = "!<arch>\n"
	// arHeader is the length of a member's header, in bytes.
	arHeader = 60
	// maxLoader is the size, in bytes, of the largest boot loader that is taken.
	maxLoader = 32 << 20
)

// debFile returns a regular file out of a Debian package. The error is
// fs.ErrNotExist when the package has no file of that path.
func debFile(r io.Reader, name string) ([]byte, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, errors.New("this is not a Debian package")
	}
	for {
		header := make([]byte, arHeader)
		if _, err := io.ReadFull(r, header); err != nil {
			return nil, fmt.Errorf("the Debian package has no data: %w", err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != "`\n" {
			return nil, errors.New("the Debian package is broken: a member has no valid header")
		}
		member := strings.TrimRight(string(header[:16]), " /")
		if strings.HasPrefix(member, "data.tar") {
			return tarFile(io.LimitReader(r, size), path.Ext(member), name)
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, fmt.Errorf("the Debian package is cut short: %w", err)
		}
	}
}

// tarFile returns a file out of an archive that is compressed as its ending says.
func tarFile(r io.Reader, ending, name string) ([]byte, error) {
	var err error
	switch ending {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20)); err == nil {
			defer d.Close()
			r = d
		}
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".tar":
	default:
		err = fmt.Errorf("its data is compressed in a way that is not known: %s", ending)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot unpack the Debian package: %w", err)
	}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, fs.ErrNotExist
		}
		if err != nil {
			return nil, fmt.Errorf("cannot unpack the Debian package: %w", err)
		}
		if h.Typeflag != tar.TypeReg || path.Clean("/"+h.Name) != "/"+name {
			continue
		}
		if h.Size > maxLoader {
			return nil, fmt.Errorf("%s has %d bytes, which no boot loader has", name, h.Size)
		}
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(archive, data); err != nil {
			return nil, fmt.Errorf("cannot unpack the Debian package: %w", err)
		}
		return data, nil
	}
}
