package iso9660

import (
	"bytes"
	"slices"
	"time"
)

// File flags of a directory record (ECMA-119 9.1.6).
const (
	flagDirectory   = 0x02
	flagMultiExtent = 0x80
)

// Positions inside a directory record (ECMA-119 9.1).
const (
	recordExtent     = 2
	recordSize       = 10
	recordDate       = 18
	recordFlags      = 25
	recordVolume     = 28
	recordIDLength   = 32
	recordIdentifier = 33

	// maxRecord is the longest record: LEN_DR is one byte and even.
	maxRecord = 254
)

// Extent is a run of sectors that holds file content: its first sector, relative
// to the volume's start, and its length in bytes.
type Extent struct {
	Sector Sector
	Length uint32
}

// MaxExtent is the greatest length in bytes of one extent of a file of several
// extents: the last whole sector that a 32-bit length can hold.
const MaxExtent = 0xFFFFF800

// record is one directory record, as stored (ECMA-119 9.1). Its bytes are never
// changed in place: a change makes a copy, so trees can share records.
type record []byte

// decodeRecord cuts one record from b, which starts at the given position and
// ends with its sector.
func decodeRecord(b []byte, at Offset) (record, error) {
	n := int(b[0])
	switch {
	case n < recordIdentifier+1:
		return nil, formatErrorf(at, "directory record of %d bytes; the shortest has 34", n)
	case n > len(b):
		return nil, formatErrorf(at, "directory record of %d bytes crosses the end of its sector", n)
	}
	r := record(b[:n:n])
	if id := int(r[recordIDLength]); id == 0 || recordIdentifier+id > n {
		return nil, formatErrorf(at, "file identifier of %d bytes in a directory record of %d", id, n)
	}
	if _, ok := both32(r[recordExtent:]); !ok {
		return nil, formatErrorf(at, "the two byte orders of an extent's location disagree")
	}
	if _, ok := both32(r[recordSize:]); !ok {
		return nil, formatErrorf(at, "the two byte orders of an extent's length disagree")
	}
	return r, nil
}

// newRecord makes a record with one extent, the date in UTC, and the system use
// field given.
func newRecord(id []byte, x Extent, flags byte, date time.Time, systemUse []byte) record {
	n := recordIdentifier + len(id)
	n += 1 - len(id)&1 // padding field, 9.1.12
	r := make(record, n+len(systemUse), n+len(systemUse)+1)
	copy(r[n:], systemUse)
	if len(r)&1 == 1 {
		r = append(r, 0)
	}
	r[0] = byte(len(r))
	putBoth32(r[recordExtent:], uint32(x.Sector))
	putBoth32(r[recordSize:], x.Length)
	d := shortDate(date)
	copy(r[recordDate:], d[:])
	r[recordFlags] = flags
	putBoth16(r[recordVolume:], 1)
	r[recordIDLength] = byte(len(id))
	copy(r[recordIdentifier:], id)
	return r
}

func (r record) extent() Extent {
	sector, _ := both32(r[recordExtent:])
	length, _ := both32(r[recordSize:])
	return Extent{Sector(sector), length}
}

// withExtent returns a copy of the record that leads elsewhere.
func (r record) withExtent(x Extent) record {
	c := slices.Clone(r)
	putBoth32(c[recordExtent:], uint32(x.Sector))
	putBoth32(c[recordSize:], x.Length)
	return c
}

func (r record) isDirectory() bool   { return r[recordFlags]&flagDirectory != 0 }
func (r record) isMultiExtent() bool { return r[recordFlags]&flagMultiExtent != 0 }

func (r record) identifier() []byte {
	return r[recordIdentifier : recordIdentifier+int(r[recordIDLength])]
}

// isSelf and isParent recognise the first two records of a directory (7.6.2).
func (r record) isSelf() bool   { return bytes.Equal(r.identifier(), []byte{0}) }
func (r record) isParent() bool { return bytes.Equal(r.identifier(), []byte{1}) }

// systemUseStart returns where the system use field begins.
func (r record) systemUseStart() int {
	id := int(r[recordIDLength])
	return min(recordIdentifier+id+(1-id&1), len(r))
}

func (r record) systemUse() []byte { return r[r.systemUseStart():] }

func (r record) date() time.Time { return decodeShortDate(r[recordDate : recordDate+7]) }

// shortDate encodes a date of 7 bytes (9.1.5) in UTC. Years outside 1900..2155
// are clamped.
func shortDate(t time.Time) [7]byte {
	t = t.UTC()
	year := min(max(t.Year()-1900, 0), 255)
	return [7]byte{byte(year), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

// decodeShortDate decodes a date of 7 bytes; the last one is the offset from
// UTC in quarters of an hour. An unset date is the zero time.
func decodeShortDate(b []byte) time.Time {
	if b[1] == 0 || b[2] == 0 {
		return time.Time{}
	}
	t := time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, time.UTC)
	return t.Add(-time.Duration(int8(b[6])) * 15 * time.Minute)
}
