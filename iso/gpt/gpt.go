// Package gpt reads and rewrites the partition tables of a disk image: the GUID
// partition table (UEFI specification 2.10, chapter 5) with its protective MBR,
// and the plain MBR.
//
// Reading takes an io.ReaderAt and checks every bound before it allocates.
// Rewriting answers with the bytes to write; nothing is written here.
package gpt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	wire "github.com/diskfs/go-diskfs/partition/gpt"
)

// SectorSize is the length in bytes of a disk's logical sector.
const SectorSize = 512

// LBA is the number of a 512-byte sector of a disk.
type LBA uint64

// Offset returns the position of the sector's first byte.
func (l LBA) Offset() int64 { return int64(l) * SectorSize }

// FormatError says that a partition table breaks the format at a byte of the
// image.
type FormatError struct {
	Offset  int64
	Message string
}

// Error returns the message with the position.
func (e *FormatError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Message) }

// ErrNone says that the image has no GUID partition table.
var ErrNone = fmt.Errorf("no GUID partition table")

// Partition types (UEFI specification 5.3.3; the second is Microsoft's).
const (
	TypeESP       = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeBasicData = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
)

// Partition is one entry in use.
type Partition struct {
	// Number counts from 1.
	Number      int
	Type, Name  string
	First, Last LBA
	Attributes  uint64
}

// Table is a GUID partition table with its backup.
type Table struct {
	Partitions []Partition
	// Backup is where the backup header lies; on a sound disk, the last sector.
	Backup LBA
	// EntryCount is how many entries the table has room for.
	EntryCount int

	wire *wire.Table
	mbr  *MBR
}

// Positions inside a header (UEFI specification 5.3.2) and its only known sizes.
const (
	headerSize     = 92
	headerCRC      = 16
	headerMyLBA    = 24
	headerBackup   = 32
	headerEntries  = 72
	headerCount    = 80
	headerEntrySz  = 84
	headerTableCRC = 88

	entrySize  = 128
	maxEntries = 1024
)

// Read reads the primary table of an image of size bytes. It returns ErrNone
// when there is none, and a *FormatError when there is one that is not sound:
// one that the library underneath would not write back byte for byte.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	if size < 2*SectorSize {
		return nil, ErrNone
	}
	h, err := readHeader(r, size, 1)
	if err != nil {
		return nil, err
	}
	t := &Table{}
	if t.mbr, err = ReadMBR(r, size); err != nil {
		return nil, err
	}
	t.EntryCount, t.Backup = h.count, h.other
	disk := &memoryDisk{r: r, size: size}
	if t.wire, err = wire.Read(disk, SectorSize, SectorSize); err != nil {
		return nil, &FormatError{SectorSize, err.Error()}
	}
	if t.wire.RecoveredFromBackup {
		return nil, &FormatError{SectorSize, "the primary partition table is not sound"}
	}
	for _, p := range t.wire.Partitions {
		if p.Start == 0 || p.End < p.Start || p.End > uint64(size/SectorSize) {
			return nil, &FormatError{h.entries.Offset() + int64(p.Index-1)*entrySize,
				fmt.Sprintf("partition %d lies at sectors %d to %d of %d", p.Index, p.Start, p.End, size/SectorSize)}
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: p.Index, Type: string(p.Type), Name: p.Name,
			First: LBA(p.Start), Last: LBA(p.End), Attributes: p.Attributes,
		})
	}
	// Our own record of the protective MBR, whose size the library does not know.
	t.wire.ProtectiveMBR = false
	return t, t.checkRewrites(r, size, h)
}

// checkRewrites compares what would be written with what is there.
func (t *Table) checkRewrites(r io.ReaderAt, size int64, h *header) error {
	disk := &memoryDisk{r: r, size: max(size, (t.Backup + 1).Offset())}
	if err := t.wire.Write(disk, disk.size); err != nil {
		return &FormatError{SectorSize, err.Error()}
	}
	for _, w := range disk.written {
		if w.Offset != SectorSize && w.Offset != h.entries.Offset() {
			continue // the backup, which CheckBackup looks at
		}
		have := make([]byte, len(w.Bytes))
		if err := readFull(r, have, w.Offset); err != nil {
			return err
		}
		if !bytes.Equal(have, w.Bytes) {
			return &FormatError{w.Offset, "the partition table holds what would be lost in rewriting it"}
		}
	}
	return nil
}

// header is what Read needs of a header before anything is allocated.
type header struct {
	my, other, entries LBA
	count              int
}

// readHeader reads and checks the header at a sector and its entries' checksum.
func readHeader(r io.ReaderAt, size int64, at LBA) (*header, error) {
	fail := func(field int, format string, args ...any) (*header, error) {
		return nil, &FormatError{at.Offset() + int64(field), fmt.Sprintf(format, args...)}
	}
	var b [SectorSize]byte
	if at.Offset()+SectorSize > size {
		return fail(0, "a partition table header beyond the end of the image")
	}
	if err := readFull(r, b[:], at.Offset()); err != nil {
		return nil, err
	}
	if string(b[:8]) != "EFI PART" {
		return nil, ErrNone
	}
	if n := binary.LittleEndian.Uint32(b[12:]); n != headerSize {
		return fail(12, "a partition table header of %d bytes", n)
	}
	stored := binary.LittleEndian.Uint32(b[headerCRC:])
	binary.LittleEndian.PutUint32(b[headerCRC:], 0)
	if crc32.ChecksumIEEE(b[:headerSize]) != stored {
		return fail(headerCRC, "the partition table header's checksum is wrong")
	}
	h := &header{
		my:      LBA(binary.LittleEndian.Uint64(b[headerMyLBA:])),
		other:   LBA(binary.LittleEndian.Uint64(b[headerBackup:])),
		entries: LBA(binary.LittleEndian.Uint64(b[headerEntries:])),
	}
	count, length := binary.LittleEndian.Uint32(b[headerCount:]), binary.LittleEndian.Uint32(b[headerEntrySz:])
	sectors := LBA(size / SectorSize)
	switch {
	case h.my != at:
		return fail(headerMyLBA, "a partition table header that says it lies at sector %d", h.my)
	case length != entrySize || count == 0 || count > maxEntries || count%4 != 0:
		return fail(headerCount, "%d partition entries of %d bytes", count, length)
	case h.entries >= sectors || h.entries+LBA(count)/4 > sectors:
		return fail(headerEntries, "partition entries at sector %d of %d", h.entries, sectors)
	case at == 1 && h.entries != 2:
		return fail(headerEntries, "partition entries at sector %d and not directly behind the header", h.entries)
	case at == 1 && (h.other <= 2+LBA(count)/4 || h.other > 1<<40):
		return fail(headerBackup, "a backup table at sector %d", h.other)
	}
	h.count = int(count)
	entries := make([]byte, h.count*entrySize)
	if err := readFull(r, entries, h.entries.Offset()); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(b[headerTableCRC:]) {
		return fail(headerTableCRC, "the partition entries' checksum is wrong")
	}
	return h, nil
}

// CheckBackup reads the backup table and reports where it is not the primary's
// equal.
func (t *Table) CheckBackup(r io.ReaderAt, size int64) error {
	h, err := readHeader(r, size, t.Backup)
	if err == ErrNone {
		return &FormatError{t.Backup.Offset(), "no backup partition table where the primary says it is"}
	}
	if err != nil {
		return err
	}
	if h.other != 1 || h.count != t.EntryCount {
		return &FormatError{t.Backup.Offset(), "the backup partition table does not belong to the primary"}
	}
	patches, err := t.Encode()
	if err != nil {
		return err
	}
	for _, p := range patches {
		have := make([]byte, len(p.Bytes))
		if err := readFull(r, have, p.Offset); err != nil {
			return err
		}
		if !bytes.Equal(have, p.Bytes) {
			return &FormatError{p.Offset, "the primary and the backup partition table differ"}
		}
	}
	return nil
}

// BackupFirst returns where the backup's entries begin; the backup reaches from
// there to the Backup sector.
func (t *Table) BackupFirst() LBA { return t.Backup - LBA(t.EntryCount)/4 }

// Insert makes room for n sectors at a sector: the partition that ends just
// before it grows, those that begin there or later move up, and the image and
// its backup table end n sectors later. A partition that lies across the sector
// is an error.
func (t *Table) Insert(at, n LBA) error {
	for i := range t.Partitions {
		p, w := &t.Partitions[i], t.wire.Partitions[i]
		switch {
		case p.Last+1 == at:
			p.Last += n
			w.Expand(uint64(n))
		case p.First >= at:
			p.First, p.Last = p.First+n, p.Last+n
			w.Start, w.End = w.Start+uint64(n), w.End+uint64(n)
		case p.Last >= at:
			return fmt.Errorf("partition %d lies across sector %d", p.Number, at)
		}
	}
	t.Backup += n
	t.wire.Resize(uint64((t.Backup + 1).Offset()))
	t.mbr.setProtectiveSize(t.Backup)
	return nil
}

// Patch is a run of bytes to write at an offset in bytes.
type Patch struct {
	Offset int64
	Bytes  []byte
}

// Encode returns what to write: the MBR, the primary table and the backup.
func (t *Table) Encode() ([]Patch, error) {
	disk := &memoryDisk{size: (t.Backup + 1).Offset()}
	if err := t.wire.Write(disk, disk.size); err != nil {
		return nil, fmt.Errorf("cannot encode the partition table: %w", err)
	}
	return append([]Patch{{0, t.mbr.Bytes()}}, disk.written...), nil
}

// readFull fills b; a read that ends early is a truncated image.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF || err == io.ErrUnexpectedEOF:
		return &FormatError{off + int64(n), "the image is truncated here"}
	}
	return fmt.Errorf("cannot read the partition table: %w", err)
}
