package iso

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// libisofs, with xorriso's option --md5, keeps checksums of a session's metadata
// in sectors of their own (libisofs, doc/checksums.txt): the first one lies behind
// the volume descriptors, and each names the next. It refuses to load an image in
// which they are wrong and takes one without them.
const (
	checksumTag     = "libisofs_"
	checksumTagMark = "checksum_tag_v1 pos="
	checksumTagNext = " next="

	// maxTagSearch is how many sectors behind the first descriptor the first tag
	// may lie: descriptor sets are short.
	maxTagSearch = 16
	// maxTagLength is how long the text of a tag can be.
	maxTagLength = 320
)

// clearChecksumTags zeroes the tags, which remastering makes untrue.
func (p *plan) clearChecksumTags() error {
	first := p.base.sets[setA].volume.Primary.Sector
	for at := first; at < first+maxTagSearch; at++ {
		next, found, err := p.checksumTag(at)
		if err != nil {
			return err
		}
		if found {
			return p.clearTags(at, next)
		}
	}
	return nil
}

// clearTags zeroes a tag and those that it leads to, ever further on.
func (p *plan) clearTags(tag, next iso9660.Sector) error {
	for {
		p.patch(int64(tag.Offset()), make([]byte, iso9660.SectorSize))
		if next <= tag || next >= p.base.parts.insertion() {
			return nil
		}
		after, found, err := p.checksumTag(next)
		if err != nil || !found {
			return err
		}
		tag, next = next, after
	}
}

// checksumTag reports whether a sector holds a tag, and which sector has the next
// one; 0 when there is none.
func (p *plan) checksumTag(at iso9660.Sector) (next iso9660.Sector, found bool, err error) {
	var b [maxTagLength]byte
	if n, err := p.base.ReadAt(b[:], int64(at.Offset())); n < len(b) {
		return 0, false, fmt.Errorf("cannot read the base image at byte %d: %w", at.Offset(), err)
	}
	text := b[:]
	_, after, found := bytes.Cut(text, []byte(checksumTagMark+strconv.Itoa(int(at))+" "))
	if !bytes.HasPrefix(text, []byte(checksumTag)) || !found {
		return 0, false, nil
	}
	if _, rest, ok := bytes.Cut(after, []byte(checksumTagNext)); ok {
		digits, _, _ := bytes.Cut(rest, []byte(" "))
		// A number that is none ends the chain.
		n, _ := strconv.ParseUint(string(digits), 10, 32)
		next = iso9660.Sector(n)
	}
	return next, true, nil
}
