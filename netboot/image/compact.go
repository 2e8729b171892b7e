package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"unique"
)

// blockSize is how the bytes that are not the base's are cut, in bytes: small, so that
// what two images do not have in common is little more than what they differ in.
const blockSize = 512

// Compact is an image of which little is kept: where it is the base's, the place there,
// and its own bytes in blocks, of which any number of images has each but once. The
// images of a fleet's machines differ in some kilobytes. It is not changed once made,
// and can be read from several goroutines.
type Compact struct {
	base     io.ReaderAt
	size     int64
	sections []section
	tag      string
}

// section is a part of an image that is all the base's, or all its own.
type section struct {
	offset, length int64
	at             int64 // in the base
	// own are the bytes of a section that is not the base's, cut where the image's offset is
	// a multiple of blockSize.
	own []unique.Handle[string]
}

func (r *section) end() int64 { return r.offset + r.length }

// NewCompact reads what is an image's own, once. base is the base file's content; name
// says which it is, for the image's tag.
func NewCompact(source Source, base io.ReaderAt, name string) (*Compact, error) {
	c := &Compact{base: base, size: source.Size()}
	// Two images with one tag must have the same bytes: what is the base's is said by its
	// place, the rest is hashed.
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%q %d\n", name, c.size) // a hash takes everything
	block := make([]byte, blockSize)
	for offset := int64(0); offset < c.size; {
		at, length, ok := source.Base(offset)
		if length <= 0 {
			return nil, fmt.Errorf("an image of %d bytes ends at byte %d", c.size, offset)
		}
		if ok {
			c.sections = append(c.sections, section{offset: offset, length: length, at: at})
			_, _ = fmt.Fprintf(sum, "%d %d %d\n", offset, length, at)
			offset += length
			continue
		}
		if n := len(c.sections); n == 0 || c.sections[n-1].own == nil {
			c.sections = append(c.sections, section{offset: offset})
		}
		own := &c.sections[len(c.sections)-1]
		length = joined(source, offset, length)
		_, _ = fmt.Fprintf(sum, "%d %d own\n", offset, length)
		for end := offset + length; offset < end; {
			b := block[:min(end-offset, blockSize-offset%blockSize)]
			if _, err := source.ReadAt(b, offset); err != nil && err != io.EOF {
				return nil, fmt.Errorf("cannot read an image at byte %d: %w", offset, err)
			}
			_, _ = sum.Write(b)
			own.own = append(own.own, unique.Make(string(b)))
			own.length += int64(len(b))
			offset += int64(len(b))
		}
	}
	c.tag = fmt.Sprintf("%q", hex.EncodeToString(sum.Sum(nil)[:16]))
	return c, nil
}

// joined returns how many bytes from an offset on are not the base's. A source may say
// so in parts.
func joined(source Source, offset, length int64) int64 {
	for offset+length < source.Size() {
		_, further, ok := source.Base(offset + length)
		if ok || further <= 0 {
			break
		}
		length += further
	}
	return length
}

// Size returns the image's length in bytes.
func (c *Compact) Size() int64 { return c.size }

// Tag returns the image's strong ETag in its quotes.
func (c *Compact) Tag() string { return c.tag }

// find returns the index of the section that holds a byte of the image.
func (c *Compact) find(offset int64) int {
	return sort.Search(len(c.sections), func(i int) bool { return c.sections[i].end() > offset })
}

// Base says where in the base a byte of the image lies.
func (c *Compact) Base(offset int64) (at, length int64, ok bool) {
	i := c.find(offset)
	if offset < 0 || i == len(c.sections) {
		return 0, 0, false
	}
	r := &c.sections[i]
	return r.at + offset - r.offset, r.end() - offset, r.own == nil
}

// ReadAt reads the image.
func (c *Compact) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("cannot read at byte %d", off)
	}
	for i := c.find(off); i < len(c.sections) && len(p) > 0; i++ {
		r := &c.sections[i]
		part := p[:min(int64(len(p)), r.end()-off)]
		if r.own == nil {
			if got, err := c.base.ReadAt(part, r.at+off-r.offset); got < len(part) {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return n + got, fmt.Errorf("cannot read the base at byte %d: %w", r.at+off-r.offset+int64(got), err)
			}
		} else {
			r.read(part, off)
		}
		p, n, off = p[len(part):], n+len(part), off+int64(len(part))
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// read fills p with own bytes from an offset of the image on.
func (r *section) read(p []byte, offset int64) {
	i := offset/blockSize - r.offset/blockSize
	skip := offset - max(r.offset, offset/blockSize*blockSize)
	for len(p) > 0 {
		n := copy(p, r.own[i].Value()[skip:])
		p, i, skip = p[n:], i+1, 0
	}
}
