package iso9660

import (
	"encoding/binary"
	"fmt"
)

// SectorSize is the length in bytes of a logical sector and, in every image
// that this package accepts, of a logical block (ECMA-119 6.1.2, 6.2.2).
const SectorSize = 2048

// Offset is a position in an image in bytes.
type Offset int64

// Sector is the number of a 2048-byte logical sector.
type Sector uint32

// Offset returns the position of the sector's first byte.
func (s Sector) Offset() Offset { return Offset(s) * SectorSize }

// Sectors returns how many sectors n bytes take.
func Sectors(n int64) int64 { return (n + SectorSize - 1) / SectorSize }

// FormatError says that the image breaks a rule of its format at a position.
type FormatError struct {
	Offset  Offset
	Message string
}

// Error returns the message with the position.
func (e *FormatError) Error() string {
	return fmt.Sprintf("at byte %d: %s", int64(e.Offset), e.Message)
}

func formatErrorf(at Offset, format string, args ...any) error {
	return &FormatError{Offset: at, Message: fmt.Sprintf(format, args...)}
}

// both32 decodes a number stored in both byte orders (ECMA-119 7.3.3) and
// reports whether the two halves agree.
func both32(b []byte) (uint32, bool) {
	v := binary.LittleEndian.Uint32(b)
	return v, v == binary.BigEndian.Uint32(b[4:])
}

// putBoth32 stores a number in both byte orders (ECMA-119 7.3.3).
func putBoth32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

// both16 decodes a number stored in both byte orders (ECMA-119 7.2.3).
func both16(b []byte) (uint16, bool) {
	v := binary.LittleEndian.Uint16(b)
	return v, v == binary.BigEndian.Uint16(b[2:])
}

// putBoth16 stores a number in both byte orders (ECMA-119 7.2.3).
func putBoth16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}
