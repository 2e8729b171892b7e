package iso

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"
	"sync"
	"time"
)

// Kind says where a segment's bytes come from.
type Kind int

// The kinds of segment.
const (
	Base  Kind = iota + 1 // a range of the base image
	Bytes                 // bytes in memory
	File                  // a range of an overlay's file
	Zero                  // zeros
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Base:
		return "base"
	case Bytes:
		return "bytes"
	case File:
		return "file"
	case Zero:
		return "zero"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Segment is a run of bytes of an image. Offset and Length are in bytes.
type Segment struct {
	Offset, Length int64
	Kind           Kind
	// BaseOffset is where a Base segment begins in the base image, in bytes.
	BaseOffset int64
	// Bytes are a Bytes segment's content.
	Bytes []byte
	// Path is the path of a File segment's file in the overlay, FileOffset where
	// in the file it begins.
	Path       string
	FileOffset int64

	file *overlayFile
}

// End returns the offset of the first byte behind the segment.
func (s Segment) End() int64 { return s.Offset + s.Length }

// cut returns the part of the segment between two offsets of the image.
func (s Segment) cut(from, to int64) Segment {
	skip := from - s.Offset
	s.Offset, s.Length = from, to-from
	switch s.Kind {
	case Base:
		s.BaseOffset += skip
	case Bytes:
		s.Bytes = s.Bytes[skip : skip+s.Length]
	case File:
		s.FileOffset += skip
	}
	return s
}

// Layout is an image as a list of segments over a base image. It is not changed
// once made, holds no copy of the base, and can be read from several goroutines.
type Layout struct {
	base     io.ReaderAt
	size     int64
	segments []Segment

	once    sync.Once
	opened  *Image
	openErr error
}

// newLayout joins segments that follow one another without gap or overlap from 0
// to size.
func newLayout(base io.ReaderAt, size int64, segments []Segment) (*Layout, error) {
	var at int64
	for _, s := range segments {
		if s.Offset != at || s.Length <= 0 {
			return nil, fmt.Errorf("segment of %d bytes at %d where one at %d is due", s.Length, s.Offset, at)
		}
		if s.Kind == Bytes && int64(len(s.Bytes)) != s.Length {
			return nil, fmt.Errorf("segment of %d bytes at %d holds %d", s.Length, s.Offset, len(s.Bytes))
		}
		at = s.End()
	}
	if at != size {
		return nil, fmt.Errorf("the segments end at byte %d of %d", at, size)
	}
	return &Layout{base: base, size: size, segments: segments}, nil
}

// cover lays segments over a background. Both are sorted; the background has no
// gaps.
func cover(background, over []Segment) ([]Segment, error) {
	slices.SortFunc(over, func(a, b Segment) int { return cmp.Compare(a.Offset, b.Offset) })
	var out []Segment
	i := 0
	for _, b := range background {
		for at := b.Offset; at < b.End(); {
			end := b.End()
			if i < len(over) {
				if over[i].Offset < at {
					return nil, fmt.Errorf("segments overlap at byte %d", over[i].Offset)
				}
				end = min(end, over[i].Offset)
			}
			if end > at {
				out = append(out, b.cut(at, end))
				at = end
				continue
			}
			if over[i].End() > b.End() {
				return nil, fmt.Errorf("a segment crosses byte %d", b.End())
			}
			out = append(out, over[i])
			at = over[i].End()
			i++
		}
	}
	if i < len(over) {
		return nil, fmt.Errorf("segment at byte %d lies beyond the end", over[i].Offset)
	}
	return out, nil
}

// through replaces the ranges of one layout's base by what another layout, which
// is that base, is made of.
func through(segments []Segment, inner *Layout) []Segment {
	var out []Segment
	for _, s := range segments {
		if s.Kind != Base {
			out = append(out, s)
			continue
		}
		for at := s.Offset; at < s.End(); {
			from := s.BaseOffset + at - s.Offset
			part := inner.segments[inner.find(from)]
			part = part.cut(from, min(part.End(), from+s.End()-at))
			part.Offset = at
			out = append(out, part)
			at += part.Length
		}
	}
	return out
}

// find returns the index of the segment that holds a byte of the image.
func (l *Layout) find(off int64) int {
	return sort.Search(len(l.segments), func(i int) bool { return l.segments[i].End() > off })
}

// Size returns the image's length in bytes.
func (l *Layout) Size() int64 { return l.size }

// Segments returns the segments in order, without gap or overlap.
func (l *Layout) Segments() []Segment { return slices.Clone(l.segments) }

// ReadAt reads the image. A file of the overlay that is no longer what it was
// when the layout was planned is an error.
func (l *Layout) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("cannot read at byte %d", off)
	}
	for i := l.find(off); i < len(l.segments) && len(p) > 0; i++ {
		s := l.segments[i]
		part := p[:min(int64(len(p)), s.End()-off)]
		if err := l.readSegment(s, part, off-s.Offset); err != nil {
			return n, err
		}
		p, n, off = p[len(part):], n+len(part), off+int64(len(part))
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// readSegment fills p from skip bytes into a segment.
func (l *Layout) readSegment(s Segment, p []byte, skip int64) error {
	switch s.Kind {
	case Bytes:
		copy(p, s.Bytes[skip:])
		return nil
	case Zero:
		clear(p)
		return nil
	case File:
		return s.file.readAt(p, s.FileOffset+skip)
	}
	n, err := l.base.ReadAt(p, s.BaseOffset+skip)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("cannot read the base image at byte %d: %w", s.BaseOffset+skip+int64(n), io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("cannot read the base image at byte %d: %w", s.BaseOffset+skip, err)
}

// SharedBytes returns how many of the image's bytes are the base's own.
func (l *Layout) SharedBytes() int64 {
	var n int64
	for _, s := range l.segments {
		if s.Kind == Base {
			n += s.Length
		}
	}
	return n
}

// overlayFile is a file of an overlay as it was when the layout was planned.
type overlayFile struct {
	fsys fs.FS
	path string
	size int64
	date time.Time
}

// open opens the file and makes sure that it is still the one planned with.
func (f *overlayFile) open() (fs.File, error) {
	file, err := f.fsys.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the overlay: %w", err)
	}
	info, err := file.Stat()
	if err == nil && (info.Size() != f.size || !info.ModTime().Equal(f.date)) {
		err = fmt.Errorf("cannot read the overlay: %s has changed since the image was planned", f.path)
	}
	if err != nil {
		_ = file.Close() // opened for reading: nothing is lost
		return nil, err
	}
	return file, nil
}

// readAt fills p from an offset of the file.
func (f *overlayFile) readAt(p []byte, off int64) error {
	file, err := f.open()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading: nothing is lost
	if err := readFileAt(file, p, off); err != nil {
		return fmt.Errorf("cannot read the overlay: %s: %w", f.path, err)
	}
	return nil
}

// readFileAt fills p from an offset of an opened file, by the best means that the
// file offers.
func readFileAt(file fs.File, p []byte, off int64) error {
	if r, ok := file.(io.ReaderAt); ok {
		n, err := r.ReadAt(p, off)
		if n == len(p) {
			return nil
		}
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if s, ok := file.(io.Seeker); ok {
		if _, err := s.Seek(off, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, file, off); err != nil {
		return err
	}
	_, err := io.ReadFull(file, p)
	return err
}
