package gpt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Positions in a master boot record and in its entries (UEFI specification 5.2.1).
const (
	mbrEntries   = 446
	mbrEntrySize = 16
	mbrSignature = 510

	mbrFirstCHS = 1
	mbrType     = 4
	mbrLastCHS  = 5
	mbrFirst    = 8
	mbrCount    = 12
)

// MBR partition types.
const (
	TypeProtective byte = 0xEE
	TypeMBRESP     byte = 0xEF
)

// MBRPartition is one entry in use of a master boot record.
type MBRPartition struct {
	// Number counts from 1.
	Number int
	Status byte
	Type   byte
	First  LBA
	Count  LBA
}

// End returns the sector after the partition's last.
func (p MBRPartition) End() LBA { return p.First + p.Count }

// MBR is a master boot record.
type MBR struct {
	Partitions []MBRPartition
	raw        [SectorSize]byte
	geometry   geometry
}

// ReadMBR reads the master boot record of an image of size bytes. It returns
// ErrNoMBR when there is none.
func ReadMBR(r io.ReaderAt, size int64) (*MBR, error) {
	m := &MBR{}
	if size < SectorSize {
		return nil, ErrNoMBR
	}
	if err := readFull(r, m.raw[:], 0); err != nil {
		return nil, err
	}
	if m.raw[mbrSignature] != 0x55 || m.raw[mbrSignature+1] != 0xAA {
		return nil, ErrNoMBR
	}
	for i := range 4 {
		e := m.entry(i)
		if bytes.Equal(e, make([]byte, mbrEntrySize)) {
			continue
		}
		m.Partitions = append(m.Partitions, MBRPartition{
			Number: i + 1, Status: e[0], Type: e[mbrType],
			First: LBA(binary.LittleEndian.Uint32(e[mbrFirst:])),
			Count: LBA(binary.LittleEndian.Uint32(e[mbrCount:])),
		})
	}
	m.geometry = m.findGeometry()
	return m, nil
}

// ErrNoMBR says that the image has no master boot record.
var ErrNoMBR = fmt.Errorf("no master boot record")

func (m *MBR) entry(i int) []byte {
	return m.raw[mbrEntries+i*mbrEntrySize : mbrEntries+(i+1)*mbrEntrySize]
}

// HasProtective reports whether an entry protects a GUID partition table.
func (m *MBR) HasProtective() bool {
	for _, p := range m.Partitions {
		if p.Type == TypeProtective {
			return true
		}
	}
	return false
}

// Alignment returns how many sectors the start and end of partitions behind the
// first are a multiple of: the cylinder when the table was made with cylinder
// alignment, else 1.
func (m *MBR) Alignment() LBA {
	c := m.geometry.cylinder()
	if c == 0 {
		return 1
	}
	for _, p := range m.Partitions {
		if p.End()%c != 0 {
			return 1
		}
	}
	return c
}

// Insert makes room for n sectors at a sector, as Table.Insert does.
func (m *MBR) Insert(at, n LBA) error {
	for i := range m.Partitions {
		p := &m.Partitions[i]
		switch {
		case p.End() == at:
			p.Count += n
		case p.First >= at:
			p.First += n
		case p.End() > at:
			return fmt.Errorf("partition %d lies across sector %d", p.Number, at)
		}
		if p.End() > math.MaxUint32 {
			return fmt.Errorf("partition %d would end beyond the two TiB that a master boot record can address", p.Number)
		}
		m.store(*p)
	}
	return nil
}

func (m *MBR) store(p MBRPartition) {
	e := m.entry(p.Number - 1)
	first, last := m.geometry.chs(p.First), m.geometry.chs(p.End()-1)
	copy(e[mbrFirstCHS:], first[:])
	copy(e[mbrLastCHS:], last[:])
	binary.LittleEndian.PutUint32(e[mbrFirst:], uint32(p.First))
	binary.LittleEndian.PutUint32(e[mbrCount:], uint32(p.Count))
}

// Bytes returns the sector as stored, with what Insert changed.
func (m *MBR) Bytes() []byte { return bytes.Clone(m.raw[:]) }

// geometry is the heads per cylinder and sectors per head that the table's
// cylinder addresses were made with; zero when they follow none.
type geometry struct{ heads, sectors LBA }

func (g geometry) cylinder() LBA { return g.heads * g.sectors }

// beyond is the cylinder address of what lies beyond cylinder 1023 or is not
// addressed that way.
var beyond = [3]byte{0xFE, 0xFF, 0xFF}

// chs returns the cylinder address of a sector in its stored form.
func (g geometry) chs(l LBA) [3]byte {
	if g.cylinder() == 0 || l/g.cylinder() > 1023 {
		return beyond
	}
	c, h, s := l/g.cylinder(), l%g.cylinder()/g.sectors, l%g.sectors+1
	return [3]byte{byte(h), byte(s) | byte(c>>8)<<6, byte(c)}
}

// findGeometry finds the geometry by which every entry's cylinder addresses
// agree with its sectors.
func (m *MBR) findGeometry() geometry {
	for _, sectors := range []LBA{32, 63} {
		for heads := LBA(1); heads <= 255; heads++ {
			if g := (geometry{heads, sectors}); m.follows(g) {
				return g
			}
		}
	}
	return geometry{}
}

func (m *MBR) follows(g geometry) bool {
	told := false
	for _, p := range m.Partitions {
		if p.Count == 0 {
			return false
		}
		e := m.entry(p.Number - 1)
		first, last := g.chs(p.First), g.chs(p.End()-1)
		if !bytes.Equal(e[mbrFirstCHS:mbrFirstCHS+3], first[:]) || !bytes.Equal(e[mbrLastCHS:mbrLastCHS+3], last[:]) {
			return false
		}
		told = told || last != beyond
	}
	return told
}

// setProtectiveSize makes the entry that protects a GUID partition table cover
// the disk up to its last sector. Its cylinder addresses are changed only when
// they follow a geometry: nobody reads them.
func (m *MBR) setProtectiveSize(last LBA) {
	for _, p := range m.Partitions {
		if p.Type != TypeProtective {
			continue
		}
		e := m.entry(p.Number - 1)
		binary.LittleEndian.PutUint32(e[mbrCount:], uint32(min(last, math.MaxUint32)))
		if m.geometry.cylinder() > 0 {
			end := m.geometry.chs(last)
			copy(e[mbrLastCHS:], end[:])
		}
	}
}
