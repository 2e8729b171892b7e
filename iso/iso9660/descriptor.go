package iso9660

import (
	"encoding/binary"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// firstDescriptor is the sector of a volume where its descriptors begin: the
// sixteen before it are the System Area (ECMA-119 6.2.1).
const firstDescriptor Sector = 16

// maxDescriptors bounds the descriptor set; images have three to five.
const maxDescriptors = 64

// Volume descriptor types (ECMA-119 8.1.1).
const (
	typeBootRecord    = 0
	typePrimary       = 1
	typeSupplementary = 2
	typePartition     = 3
	typeTerminator    = 255
)

// Positions inside a primary or supplementary descriptor (ECMA-119 8.4, 8.5).
const (
	descVolumeID      = 40
	descSpaceSize     = 80
	descEscapes       = 88
	descBlockSize     = 128
	descPathTableSize = 132
	descPathTableL    = 140
	descOptionalL     = 144
	descPathTableM    = 148
	descOptionalM     = 152
	descRoot          = 156
	descCreation      = 813
	descModification  = 830
)

// Volume is one descriptor set of an image.
type Volume struct {
	// Start is the sector of the image that is sector 0 of the volume.
	Start Sector
	// Primary leads to the tree with Rock Ridge.
	Primary *Descriptor
	// Joliet is nil when the volume has no Joliet tree.
	Joliet *Descriptor
	// HasBootRecord is set when an El Torito boot record is among the
	// descriptors; BootRecord is its sector in the image, BootCatalog the
	// catalogue's sector relative to Start.
	HasBootRecord bool
	BootRecord    Sector
	BootCatalog   Sector
	// Foreign names descriptors that are neither of the above, such as an
	// enhanced volume descriptor.
	Foreign []string
}

// Descriptor is a primary or supplementary volume descriptor (ECMA-119 8.4, 8.5).
type Descriptor struct {
	// Sector is where in the image the descriptor lies.
	Sector Sector
	// VolumeID is the volume identifier without its padding.
	VolumeID string
	// SpaceSize is the volume's length in sectors.
	SpaceSize uint32
	// Created and Modified are the volume's dates; zero when unset.
	Created, Modified time.Time

	raw           [SectorSize]byte
	joliet        bool
	pathTableSize uint32
	pathTableL    Sector
	pathTableM    Sector
	root          record
}

// ReadVolume reads the volume descriptors of the volume that starts at the given
// sector of an image of size bytes.
func ReadVolume(r io.ReaderAt, size int64, start Sector) (*Volume, error) {
	v := &Volume{Start: start}
	for i := range Sector(maxDescriptors) {
		sector := start + firstDescriptor + i
		at := sector.Offset()
		if sector < start || int64(at)+SectorSize > size {
			return nil, formatErrorf(at, "the image ends before its volume descriptors do")
		}
		var b [SectorSize]byte
		if err := readFull(r, b[:], at); err != nil {
			return nil, err
		}
		if string(b[1:6]) != "CD001" {
			if i == 0 {
				return nil, formatErrorf(at, "no ISO 9660 volume descriptor")
			}
			return nil, formatErrorf(at, "the volume descriptors end without a terminator")
		}
		done, err := v.add(sector, &b)
		if err != nil {
			return nil, err
		}
		if done {
			return v, v.complete(at)
		}
	}
	return nil, formatErrorf((start + firstDescriptor).Offset(), "more than %d volume descriptors", maxDescriptors)
}

func (v *Volume) complete(at Offset) error {
	if v.Primary == nil {
		return formatErrorf(at, "no primary volume descriptor")
	}
	return nil
}

// add takes one descriptor and reports whether it was the terminator.
func (v *Volume) add(sector Sector, b *[SectorSize]byte) (done bool, err error) {
	switch b[0] {
	case typeTerminator:
		return true, nil
	case typeBootRecord:
		// El Torito 1.0, figure 7.
		if strings.TrimRight(string(b[7:39]), "\x00") == "EL TORITO SPECIFICATION" {
			v.HasBootRecord, v.BootRecord = true, sector
			v.BootCatalog = Sector(binary.LittleEndian.Uint32(b[71:]))
			return false, nil
		}
		v.Foreign = append(v.Foreign, "a boot record that is not El Torito")
	case typePrimary:
		if v.Primary != nil {
			v.Foreign = append(v.Foreign, "a second primary volume descriptor")
			return false, nil
		}
		v.Primary, err = decodeDescriptor(sector, b)
	case typeSupplementary:
		if !isJoliet(b) || v.Joliet != nil {
			v.Foreign = append(v.Foreign, "a supplementary volume descriptor that is not Joliet")
			return false, nil
		}
		v.Joliet, err = decodeDescriptor(sector, b)
	case typePartition:
		v.Foreign = append(v.Foreign, "a volume partition descriptor")
	default:
		v.Foreign = append(v.Foreign, "a volume descriptor of type "+strconv.Itoa(int(b[0])))
	}
	return false, err
}

// isJoliet recognises the escape sequences of UCS-2 levels 1 to 3 (Joliet 2.2).
func isJoliet(b *[SectorSize]byte) bool {
	e := b[descEscapes : descEscapes+3]
	return e[0] == '%' && e[1] == '/' && (e[2] == '@' || e[2] == 'C' || e[2] == 'E')
}

func decodeDescriptor(sector Sector, b *[SectorSize]byte) (*Descriptor, error) {
	d := &Descriptor{Sector: sector, raw: *b, joliet: b[0] == typeSupplementary}
	at := sector.Offset()
	var ok bool
	if d.SpaceSize, ok = both32(b[descSpaceSize:]); !ok {
		return nil, formatErrorf(at+descSpaceSize, "the two byte orders of the volume space size disagree")
	}
	if n, ok := both16(b[descBlockSize:]); !ok || n != SectorSize {
		return nil, formatErrorf(at+descBlockSize, "logical block size %d; only %d is understood", n, SectorSize)
	}
	if d.pathTableSize, ok = both32(b[descPathTableSize:]); !ok {
		return nil, formatErrorf(at+descPathTableSize, "the two byte orders of the path table size disagree")
	}
	d.pathTableL = Sector(binary.LittleEndian.Uint32(b[descPathTableL:]))
	d.pathTableM = Sector(binary.BigEndian.Uint32(b[descPathTableM:]))
	if binary.LittleEndian.Uint32(b[descOptionalL:]) != 0 || binary.BigEndian.Uint32(b[descOptionalM:]) != 0 {
		return nil, formatErrorf(at+descOptionalL, "optional path tables, which are not understood")
	}
	root, err := decodeRecord(b[descRoot:descRoot+34], at+descRoot)
	if err != nil {
		return nil, err
	}
	if !root.isDirectory() {
		return nil, formatErrorf(at+descRoot, "the root directory's record is not marked as a directory")
	}
	d.root = root
	if d.joliet {
		d.VolumeID = decodeUCS2(b[descVolumeID : descVolumeID+32])
	} else {
		d.VolumeID = string(b[descVolumeID : descVolumeID+32])
	}
	d.VolumeID = strings.TrimRight(d.VolumeID, " \x00")
	d.Created = decodeLongDate(b[descCreation : descCreation+17])
	d.Modified = decodeLongDate(b[descModification : descModification+17])
	return d, nil
}

// decodeLongDate decodes a date of 17 bytes (ECMA-119 8.4.26.1): digits, then
// the offset from UTC in quarters of an hour.
func decodeLongDate(b []byte) time.Time {
	t, err := time.Parse("20060102150405", string(b[:14]))
	if err != nil {
		return time.Time{}
	}
	hundredths, err := strconv.Atoi(string(b[14:16]))
	if err != nil || hundredths < 0 {
		return time.Time{}
	}
	return t.Add(time.Duration(hundredths)*10*time.Millisecond - time.Duration(int8(b[16]))*15*time.Minute)
}

// bytes returns the descriptor as stored, with the space size given and the
// addresses that the tree has after its last Commit.
func (d *Descriptor) bytes() []byte {
	b := d.raw
	putBoth32(b[descSpaceSize:], d.SpaceSize)
	putBoth32(b[descPathTableSize:], d.pathTableSize)
	binary.LittleEndian.PutUint32(b[descPathTableL:], uint32(d.pathTableL))
	binary.BigEndian.PutUint32(b[descPathTableM:], uint32(d.pathTableM))
	copy(b[descRoot:], d.root)
	return b[:]
}

// decodeUCS2 decodes big-endian UCS-2; a lone surrogate becomes U+FFFD.
func decodeUCS2(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// readFull fills b from the image. A read that ends early is a truncated image.
func readFull(r io.ReaderAt, b []byte, at Offset) error {
	n, err := r.ReadAt(b, int64(at))
	switch {
	case n == len(b):
		return nil
	case err == io.EOF || err == io.ErrUnexpectedEOF || err == nil:
		return formatErrorf(at+Offset(n), "the image is truncated here")
	}
	return &ReadError{Offset: at, Err: err}
}

// ReadError is a failure of the underlying reader, not of the image's format.
type ReadError struct {
	Offset Offset
	Err    error
}

// Error returns the reader's message with the position.
func (e *ReadError) Error() string {
	return "cannot read at byte " + strconv.FormatInt(int64(e.Offset), 10) + ": " + e.Err.Error()
}

// Unwrap returns the reader's error.
func (e *ReadError) Unwrap() error { return e.Err }
