package gpt

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"
)

// memoryDisk is what go-diskfs takes for a disk: it reads the image and keeps
// what is written, so that the image itself is never touched.
type memoryDisk struct {
	r       io.ReaderAt
	size    int64
	at      int64
	written []Patch
}

var _ backend.WritableFile = (*memoryDisk)(nil)

func (d *memoryDisk) ReadAt(p []byte, off int64) (int, error) { return d.r.ReadAt(p, off) }

func (d *memoryDisk) WriteAt(p []byte, off int64) (int, error) {
	d.written = append(d.written, Patch{off, bytes.Clone(p)})
	return len(p), nil
}

func (d *memoryDisk) Read(p []byte) (int, error) {
	n, err := d.r.ReadAt(p, d.at)
	d.at += int64(n)
	return n, err
}

func (d *memoryDisk) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += d.at
	case io.SeekEnd:
		offset += d.size
	default:
		return 0, os.ErrInvalid
	}
	d.at = offset
	return d.at, nil
}

func (d *memoryDisk) Stat() (fs.FileInfo, error) {
	return nil, errors.New("an image in memory has no file information")
}

func (d *memoryDisk) Close() error { return nil }
