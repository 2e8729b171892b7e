package iso

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Change is a range of an image that is not what its base has at the same place.
// Offset and Length are in bytes.
type Change struct {
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Meaning string `json:"meaning"` // what lies there
	Why     string `json:"why"`
}

// Changes lists what was changed in a remastered image, by its restore record
// alone: the rest of the image is not read. It is empty for other images.
func (im *Image) Changes() ([]Change, error) {
	if im.record == nil {
		return nil, nil
	}
	base, _, err := im.original()
	if err != nil {
		return nil, err
	}
	r := im.record
	var touched []savedRange // of this image
	for _, s := range r.saved {
		if s.offset < r.insertAt {
			touched = append(touched, s)
		}
	}
	touched = append(touched, savedRange{r.insertAt, r.imageSize - r.insertAt})
	return im.differences(base, touched)
}

// Changes lists what the layout changes in its base.
func (l *Layout) Changes() ([]Change, error) {
	im, err := l.image()
	if err != nil {
		return nil, err
	}
	return im.Changes()
}

// Compare lists where image b differs from image a. It reads both.
func Compare(a, b *Image) ([]Change, error) {
	changes, err := b.differences(a, []savedRange{{0, b.size}})
	if err != nil {
		return nil, err
	}
	if a.size > b.size {
		changes = append(changes, Change{
			Offset: b.size, Length: a.size - b.size,
			Meaning: "behind the end", Why: "the image is shorter",
		})
	}
	return changes, nil
}

// differences compares ranges of the image with the same ranges of another, region
// by region.
func (im *Image) differences(base *Image, ranges []savedRange) ([]Change, error) {
	regions := im.regions()
	var changes []Change
	d := &comparison{im: im, base: base}
	for _, s := range ranges {
		i, _ := slices.BinarySearchFunc(regions, s.offset, func(r region, off int64) int { return cmp.Compare(r.end, off+1) })
		for ; i < len(regions) && regions[i].start < s.offset+s.length; i++ {
			start, end := max(regions[i].start, s.offset), min(regions[i].end, s.offset+s.length)
			first, last, err := d.difference(start, end)
			if err != nil {
				return nil, err
			}
			if first < last {
				changes = append(changes, Change{first, last - first, regions[i].meaning, im.why(base, regions[i])})
			}
		}
	}
	return changes, nil
}

// comparison compares an image with its base.
type comparison struct {
	im, base *Image
	a, b     [64 << 10]byte
}

// difference returns the smallest range between two offsets that holds all bytes in
// which the images differ; it is empty when they do not. What lies behind the end
// of the base differs.
func (c *comparison) difference(start, end int64) (first, last int64, err error) {
	first, last = end, start
	for at := start; at < end; at += int64(len(c.a)) {
		n := min(end-at, int64(len(c.a)))
		if err := readRange(c.im, c.a[:n], at); err != nil {
			return 0, 0, err
		}
		same := min(n, max(c.base.size-at, 0))
		if err := readRange(c.base, c.b[:same], at); err != nil {
			return 0, 0, err
		}
		if same == n && bytes.Equal(c.a[:n], c.b[:n]) {
			continue
		}
		for i := range n {
			if i >= same || c.a[i] != c.b[i] {
				first, last = min(first, at+i), at+i+1
			}
		}
	}
	return first, last, nil
}

func readRange(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		return fmt.Errorf("cannot read the image at byte %d: %w", off, err)
	}
	return nil
}

// why says why a region differs from the base.
func (im *Image) why(base *Image, r region) string {
	switch r.kind {
	case regionTable:
		return "the first partition is longer and what follows it lies further on"
	case regionSystem:
		return "changed by something else than gpustrap"
	case regionDescriptor:
		return "gives the volume's new length, and where its directories are"
	case regionCatalogue:
		return "leads to the new place of the EFI system partition"
	case regionPathTable:
		return "lists directories that were added, removed or moved"
	case regionDirectory:
		if e := base.lookup(r.path); e == nil {
			return "added"
		}
		return "lists what was added, replaced, removed or moved"
	case regionContinuation:
		return "holds long names of what was added"
	case regionFile:
		return im.whyFile(base, r)
	case regionESP, regionGap:
		return fmt.Sprintf("moved by %d bytes, unchanged", im.parts.esp.Offset()-base.parts.esp.Offset())
	case regionRecord:
		return "keeps what was overwritten, so that the original can be restored"
	}
	return "not used"
}

func (im *Image) whyFile(base *Image, r region) string {
	e := base.lookup(r.path)
	switch {
	case e == nil:
		return "added"
	case slices.Equal(e.Extents(), im.lookup(r.path).Extents()):
		return "its content differs at the same place"
	}
	return "replaces the base's file, whose content keeps its place"
}

// lookup finds an entry of set A's Rock Ridge tree by its path, without following
// links. "." has none.
func (im *Image) lookup(path string) *iso9660.Entry {
	return im.sets[setA].rockRidge.Find(path)
}
