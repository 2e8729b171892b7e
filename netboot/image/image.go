// Package image serves images that are a base file with something laid over it, by
// HTTP with exact ranges. What lies in the base goes from the file to the socket
// inside the kernel; no image exists as a file.
//
// The virtual media of management controllers read so: many small ranges, several at
// a time, HEAD requests first.
package image

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Source is an image.
type Source interface {
	io.ReaderAt
	// Size is the image's length in bytes.
	Size() int64
	// Base returns where in the base file the byte at an offset of the image lies, and
	// how many bytes from there on lie there together. Where the image has bytes of its
	// own, ok is false, and length is how many follow.
	Base(offset int64) (at, length int64, ok bool)
}

// Serve answers a GET or HEAD request with the image. base is the name of its base
// file, which is opened for this request: it keeps its place there. tag is the
// image's strong ETag in its quotes; modified may be zero. When the connection breaks
// the request ends; the error is for what failed here, before or while bytes went out.
func Serve(w http.ResponseWriter, r *http.Request, source Source, base, tag string, modified time.Time) error {
	file, err := os.Open(base)
	if err != nil {
		http.Error(w, "the installation medium cannot be read", http.StatusInternalServerError)
		return fmt.Errorf("cannot open the installation medium: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream") // or the first bytes would be read to guess it
	header.Set("ETag", tag)
	c := &content{source: source}
	http.ServeContent(&sender{ResponseWriter: w, base: file}, r, "", modified, c)
	return c.err
}

// content is the image at a place, as http.ServeContent wants it.
type content struct {
	source Source
	at     int64
	err    error // why reading failed
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.source.Size()
	}
	if offset < 0 {
		return 0, errors.New("seek in front of the image")
	}
	c.at = offset
	return offset, nil
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.source.ReadAt(p, c.at)
	c.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// sender writes what lies in the base by the connection's own ReadFrom, which calls
// sendfile for a file.
type sender struct {
	http.ResponseWriter
	base *os.File
}

// Unwrap is for http.ResponseController.
func (s *sender) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// ReadFrom sends the rest of a limited reader, which is how io.CopyN calls it.
func (s *sender) ReadFrom(r io.Reader) (sent int64, err error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(writer{s.ResponseWriter}, r)
	}
	c, ok := limited.R.(*content)
	if !ok {
		return io.Copy(writer{s.ResponseWriter}, r)
	}
	for limited.N > 0 {
		at, length, inBase := c.source.Base(c.at)
		length = min(length, limited.N)
		if length <= 0 {
			return sent, io.ErrUnexpectedEOF
		}
		var n int64
		if inBase {
			n, err = s.sendBase(at, length)
			c.at += n
			if errors.Is(err, io.ErrUnexpectedEOF) {
				c.err = err
			}
		} else {
			n, err = io.CopyN(writer{s.ResponseWriter}, c, length)
		}
		sent += n
		limited.N -= n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (s *sender) sendBase(at, length int64) (int64, error) {
	if _, err := s.base.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.CopyN(s.ResponseWriter, s.base, length)
	if errors.Is(err, io.EOF) {
		return n, fmt.Errorf("the installation medium ends at byte %d: %w", at+n, io.ErrUnexpectedEOF)
	}
	return n, err
}

// writer hides the ReadFrom of what it writes to, which would buffer what it reads
// once more.
type writer struct{ io.Writer }
