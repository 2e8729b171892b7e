package iso

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Positions in a restore record's footer; the package documentation has the
// table.
const (
	recordMagic   = "gpustrap restore"
	recordVersion = 1

	recordVersionAt  = 16
	recordCountAt    = 20
	recordBaseSize   = 24
	recordImageSize  = 32
	recordInsertAt   = 40
	recordInsertSize = 48
	recordBodyAt     = 56
	recordHashAt     = 64
	recordHashEnd    = recordHashAt + sha256.Size

	savedRangeSize = 16

	// maxRecordBody bounds a record's body in bytes: every directory and path
	// table of a medium with tens of thousands of files fits.
	maxRecordBody = 256 << 20
)

// savedRange is a range of the base image that was overwritten, in bytes.
type savedRange struct{ offset, length int64 }

// restoreRecord is what a remastered image says about its base.
type restoreRecord struct {
	baseSize, imageSize  int64
	insertAt, insertSize int64
	bodyAt               int64
	saved                []savedRange
}

// bodySize returns the length of the record's body in bytes.
func (r *restoreRecord) bodySize() int64 {
	n := int64(len(r.saved)) * savedRangeSize
	for _, s := range r.saved {
		n += s.length
	}
	return n
}

// encode returns the record's body, filled up to whole sectors, and its footer.
// The base still holds what is saved.
func (r *restoreRecord) encode(base io.ReaderAt) (body, footer []byte, err error) {
	body = make([]byte, 0, iso9660.Sectors(r.bodySize())*iso9660.SectorSize)
	for _, s := range r.saved {
		body = binary.LittleEndian.AppendUint64(body, uint64(s.offset))
		body = binary.LittleEndian.AppendUint64(body, uint64(s.length))
	}
	for _, s := range r.saved {
		at := len(body)
		body = body[:at+int(s.length)]
		if n, err := base.ReadAt(body[at:], s.offset); n < int(s.length) {
			return nil, nil, fmt.Errorf("cannot read the base image at byte %d: %w", s.offset, err)
		}
	}
	footer = make([]byte, iso9660.SectorSize)
	copy(footer, recordMagic)
	le := binary.LittleEndian
	le.PutUint32(footer[recordVersionAt:], recordVersion)
	le.PutUint32(footer[recordCountAt:], uint32(len(r.saved)))
	le.PutUint64(footer[recordBaseSize:], uint64(r.baseSize))
	le.PutUint64(footer[recordImageSize:], uint64(r.imageSize))
	le.PutUint64(footer[recordInsertAt:], uint64(r.insertAt))
	le.PutUint64(footer[recordInsertSize:], uint64(r.insertSize))
	le.PutUint64(footer[recordBodyAt:], uint64(r.bodyAt))
	copy(footer[recordHashAt:], recordHash(body, footer))
	return body[:cap(body)], footer, nil
}

func recordHash(body, footer []byte) []byte {
	h := sha256.New()
	h.Write(body)
	h.Write(footer[:recordHashAt])
	return h.Sum(nil)
}

// readRecord reads the restore record of an image of size bytes whose first
// partition ends at the given byte. It returns nil when there is none.
func readRecord(r io.ReaderAt, size, partitionEnd int64) (*restoreRecord, error) {
	footerAt := partitionEnd - iso9660.SectorSize
	footer := make([]byte, iso9660.SectorSize)
	if n, err := r.ReadAt(footer, footerAt); n < len(footer) {
		return nil, fmt.Errorf("cannot read the end of the first partition: %w", err)
	}
	if string(footer[:len(recordMagic)]) != recordMagic {
		return nil, nil
	}
	broken := func(format string, args ...any) (*restoreRecord, error) {
		return nil, &FormatError{Offset: iso9660.Offset(footerAt), Message: "restore record: " + fmt.Sprintf(format, args...)}
	}
	le := binary.LittleEndian
	if v := le.Uint32(footer[recordVersionAt:]); v != recordVersion {
		return broken("version %d; a newer gpustrap wrote it", v)
	}
	rec := &restoreRecord{
		baseSize:   int64(le.Uint64(footer[recordBaseSize:])),
		imageSize:  int64(le.Uint64(footer[recordImageSize:])),
		insertAt:   int64(le.Uint64(footer[recordInsertAt:])),
		insertSize: int64(le.Uint64(footer[recordInsertSize:])),
		bodyAt:     int64(le.Uint64(footer[recordBodyAt:])),
	}
	count := int64(le.Uint32(footer[recordCountAt:]))
	switch bodyMax := footerAt - rec.bodyAt; {
	case rec.insertAt < 0 || rec.insertAt > footerAt || rec.bodyAt < rec.insertAt || bodyMax < 0 || bodyMax > maxRecordBody:
		return broken("a body at byte %d", rec.bodyAt)
	case rec.insertSize != partitionEnd-rec.insertAt || rec.imageSize != rec.baseSize+rec.insertSize || rec.baseSize < rec.insertAt:
		return broken("%d bytes inserted into %d", rec.insertSize, rec.baseSize)
	case rec.imageSize > size:
		return nil, refuse("write or download the image again", "the image is truncated: it takes %d bytes and only %d are there", rec.imageSize, size)
	case count*savedRangeSize > bodyMax:
		return broken("%d saved ranges", count)
	}
	return rec, rec.readBody(r, footer, int(count))
}

// readBody reads the saved ranges and checks the hash.
func (r *restoreRecord) readBody(image io.ReaderAt, footer []byte, count int) error {
	broken := func(message string) error {
		return &FormatError{Offset: iso9660.Offset(r.bodyAt), Message: "restore record: " + message}
	}
	table := make([]byte, count*savedRangeSize)
	if n, err := image.ReadAt(table, r.bodyAt); n < len(table) {
		return fmt.Errorf("cannot read the restore record: %w", err)
	}
	end := r.insertAt + r.insertSize - iso9660.SectorSize
	left := end - r.bodyAt - int64(len(table))
	var last int64
	for i := range count {
		s := savedRange{
			offset: int64(binary.LittleEndian.Uint64(table[i*savedRangeSize:])),
			length: int64(binary.LittleEndian.Uint64(table[i*savedRangeSize+8:])),
		}
		if s.offset < last || s.length <= 0 || s.length > left || s.offset > r.baseSize-s.length {
			return broken("a saved range outside the base image")
		}
		last, left = s.offset+s.length, left-s.length
		r.saved = append(r.saved, s)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(image, r.bodyAt, r.bodySize())); err != nil {
		return fmt.Errorf("cannot read the restore record: %w", err)
	}
	h.Write(footer[:recordHashAt])
	if string(h.Sum(nil)) != string(footer[recordHashAt:recordHashEnd]) {
		return broken("its SHA-256 is wrong, so the original cannot be restored")
	}
	return nil
}

// Restore plans the original of a remastered image, bit for bit. What casper adds
// to a USB device at boot, a partition "writable" behind the medium and its entry
// in the partition table, is not part of it. It returns a *RefusedError for an
// image that carries no restore record.
func Restore(im *Image) (*Layout, error) {
	r := im.record
	if r == nil {
		return nil, refuse("", "the image was not remastered by gpustrap: it carries no restore record")
	}
	background := []Segment{{Length: r.insertAt, Kind: Base}}
	if r.baseSize > r.insertAt {
		background = append(background, Segment{
			Offset: r.insertAt, Length: r.baseSize - r.insertAt,
			Kind: Base, BaseOffset: r.insertAt + r.insertSize,
		})
	}
	at := r.bodyAt + int64(len(r.saved))*savedRangeSize
	var over []Segment
	for _, s := range r.saved {
		over = append(over, Segment{Offset: s.offset, Length: s.length, Kind: Base, BaseOffset: at})
		at += s.length
	}
	segments, err := cover(background, over)
	if err != nil {
		return nil, fmt.Errorf("cannot restore the image: %w", err)
	}
	l, err := newLayout(im, r.baseSize, segments)
	if err != nil {
		return nil, fmt.Errorf("cannot restore the image: %w", err)
	}
	return l, nil
}

// original returns the image without its overlay: itself when it has none. The
// layout is nil then.
func (im *Image) original() (*Image, *Layout, error) {
	if im.record == nil {
		return im, nil, nil
	}
	l, err := Restore(im)
	if err != nil {
		return nil, nil, err
	}
	base, err := Open(l, l.Size())
	if err != nil {
		return nil, nil, fmt.Errorf("the image's restore record does not lead to a sound original: %w", err)
	}
	return base, l, nil
}
