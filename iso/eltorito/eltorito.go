// Package eltorito reads the boot catalogue of a bootable CD-ROM ("El Torito"
// Bootable CD-ROM Format Specification, version 1.0, 1995) and the boot
// information table that mkisofs stores in a boot image, and moves a boot image
// by changing its catalogue entry.
package eltorito

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Size is the length in bytes of the part of a catalogue that this package
// reads: one sector, which holds 64 entries.
const Size = 2048

// Platform is the platform identifier of an entry (El Torito 2.1; EFI: UEFI
// specification 13.3.2.1).
type Platform byte

// Platforms.
const (
	BIOS    Platform = 0x00
	PowerPC Platform = 0x01
	Mac     Platform = 0x02
	EFI     Platform = 0xEF
)

// String returns the platform's usual name.
func (p Platform) String() string {
	switch p {
	case BIOS:
		return "BIOS"
	case PowerPC:
		return "PowerPC"
	case Mac:
		return "Mac"
	case EFI:
		return "UEFI"
	}
	return fmt.Sprintf("platform %#02x", byte(p))
}

// FormatError says that a catalogue breaks the format at an offset in bytes from
// its start.
type FormatError struct {
	Offset  int
	Message string
}

// Error returns the message with the offset.
func (e *FormatError) Error() string {
	return fmt.Sprintf("boot catalogue, byte %d: %s", e.Offset, e.Message)
}

// Entry is one boot image.
type Entry struct {
	Platform Platform
	Bootable bool
	// Emulation is the media type; 0 is no emulation.
	Emulation byte
	// LoadSectors is how many 512-byte sectors the firmware loads.
	LoadSectors uint16
	// Start is the boot image's first 2048-byte sector.
	Start uint32

	offset int // of the entry in the catalogue, in bytes
}

// Catalogue is a boot catalogue.
type Catalogue struct {
	Entries []Entry
	raw     []byte
}

const (
	entrySize = 32

	headerValidation = 0x01
	headerMore       = 0x90
	headerLast       = 0x91
	extension        = 0x44
	bootable         = 0x88

	entryStart = 8
)

// Decode reads a catalogue. Bytes beyond Size are not looked at.
func Decode(b []byte) (*Catalogue, error) {
	b = b[:min(len(b), Size)]
	if len(b) < 2*entrySize {
		return nil, &FormatError{0, fmt.Sprintf("%d bytes; a catalogue has at least 64", len(b))}
	}
	if b[0] != headerValidation || b[30] != 0x55 || b[31] != 0xAA {
		return nil, &FormatError{0, "no validation entry"}
	}
	if sum(b[:entrySize]) != 0 {
		return nil, &FormatError{28, "the validation entry's checksum is wrong"}
	}
	c := &Catalogue{raw: slices.Clone(b)}
	c.Entries = append(c.Entries, decodeEntry(b, entrySize, Platform(b[1])))
	return c, c.sections(b)
}

// sections reads the section headers and their entries (El Torito 2.3, 2.4).
func (c *Catalogue) sections(b []byte) error {
	for i := 2 * entrySize; i+entrySize <= len(b); {
		header := b[i]
		if header != headerMore && header != headerLast {
			return nil
		}
		platform, count := Platform(b[i+1]), int(binary.LittleEndian.Uint16(b[i+2:]))
		i += entrySize
		for range count {
			if i+entrySize > len(b) {
				return &FormatError{i, fmt.Sprintf("the catalogue ends within a section of %d entries", count)}
			}
			c.Entries = append(c.Entries, decodeEntry(b, i, platform))
			i += entrySize
			for i+entrySize <= len(b) && b[i] == extension {
				i += entrySize
			}
		}
		if header == headerLast {
			return nil
		}
	}
	return nil
}

func decodeEntry(b []byte, at int, p Platform) Entry {
	e := b[at : at+entrySize]
	return Entry{
		Platform:    p,
		Bootable:    e[0] == bootable,
		Emulation:   e[1] & 0x0F,
		LoadSectors: binary.LittleEndian.Uint16(e[6:]),
		Start:       binary.LittleEndian.Uint32(e[entryStart:]),
		offset:      at,
	}
}

// sum adds the 16-bit words of the validation entry; they are to add up to zero
// (El Torito 2.1).
func sum(b []byte) uint16 {
	var s uint16
	for i := 0; i < len(b); i += 2 {
		s += binary.LittleEndian.Uint16(b[i:])
	}
	return s
}

// Clone returns a catalogue that can be changed without changing this one.
func (c *Catalogue) Clone() *Catalogue {
	return &Catalogue{Entries: slices.Clone(c.Entries), raw: slices.Clone(c.raw)}
}

// Move lets the i-th entry begin at another 2048-byte sector. The validation
// entry's checksum covers that entry alone, so nothing else changes.
func (c *Catalogue) Move(i int, start uint32) {
	e := &c.Entries[i]
	e.Start = start
	binary.LittleEndian.PutUint32(c.raw[e.offset+entryStart:], start)
}

// Bytes returns the catalogue as stored, with the moved entries, in as many bytes
// as Decode looked at.
func (c *Catalogue) Bytes() []byte { return bytes.Clone(c.raw) }

// Where the boot information table lies in a boot image.
const (
	bootInfo    = 8
	bootInfoEnd = 64
)

// BootInfo is the boot information table that mkisofs -boot-info-table writes
// into bytes 8 to 63 of a boot image (mkisofs manual, "EL TORITO BOOT INFORMATION
// TABLE").
type BootInfo struct {
	// Descriptor and Image are 2048-byte sectors: of the primary volume
	// descriptor and of the boot image itself.
	Descriptor, Image uint32
	// Length is the boot image's length in bytes.
	Length uint32
	// Checksum is the sum of the image's 32-bit words from byte 64 on.
	Checksum uint32
}

// DecodeBootInfo reads the table from the beginning of a boot image and reports
// whether there is one: whether what stands there describes this image, which
// begins at the given sector.
func DecodeBootInfo(image []byte, sector uint32) (BootInfo, bool) {
	if len(image) < bootInfoEnd {
		return BootInfo{}, false
	}
	t := image[bootInfo:]
	info := BootInfo{
		Descriptor: binary.LittleEndian.Uint32(t),
		Image:      binary.LittleEndian.Uint32(t[4:]),
		Length:     binary.LittleEndian.Uint32(t[8:]),
		Checksum:   binary.LittleEndian.Uint32(t[12:]),
	}
	return info, info.Image == sector && info.Descriptor != 0
}

// ImageChecksum returns the checksum of a boot image for its table.
func ImageChecksum(image []byte) uint32 {
	var s uint32
	for i := bootInfoEnd; i < len(image); i += 4 {
		var word [4]byte
		copy(word[:], image[i:])
		s += binary.LittleEndian.Uint32(word[:])
	}
	return s
}
