package iso

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// assemble plans the restore record and the boot structures, which depend on how
// many sectors are inserted, and joins all segments.
func (p *plan) assemble() (*Layout, error) {
	record, err := p.planRecord()
	if err != nil {
		return nil, err
	}
	if err := inOrder(p.moveTables, p.moveBootImage, p.growVolumes); err != nil {
		return nil, err
	}
	body, footer, err := record.encode(p.base)
	if err != nil {
		return nil, err
	}
	p.patch(record.bodyAt, body)
	p.patch(record.insertAt+record.insertSize-iso9660.SectorSize, footer)

	background := []Segment{
		{Length: record.insertAt, Kind: Base},
		{Offset: record.insertAt, Length: record.insertSize, Kind: Zero},
		{
			Offset: record.insertAt + record.insertSize, Length: record.baseSize - record.insertAt,
			Kind: Base, BaseOffset: record.insertAt,
		},
	}
	segments, err := cover(background, slices.Concat(p.content, p.patches))
	if err != nil {
		return nil, fmt.Errorf("cannot remaster the image: %w", err)
	}
	return newLayout(p.base, record.imageSize, segments)
}

// planRecord decides what the restore record saves, where it lies, and with it how
// many sectors are inserted.
func (p *plan) planRecord() (*restoreRecord, error) {
	parts := &p.base.parts
	insertion := parts.insertion()
	r := &restoreRecord{baseSize: p.base.size, insertAt: int64(insertion.Offset())}
	r.saved = p.overwritten()

	sectors := iso9660.Sectors(r.bodySize()) + 1
	if r.bodySize() > maxRecordBody {
		return nil, fmt.Errorf("cannot remaster the image: its directories take more than %d bytes", maxRecordBody)
	}
	if _, err := p.take(sectors); err != nil {
		return nil, err
	}
	// What moves up keeps its alignment: to 4 KiB, for file systems that share
	// blocks, and to cylinders where the partition table keeps to them.
	unit := iso9660.Sector(2)
	if parts.table == nil {
		unit = leastMultiple(unit, iso9660.Sector(leastMultiple(parts.mbr.Alignment(), lbasPerSector)/lbasPerSector))
	}
	inserts := (p.next - insertion + unit - 1) / unit * unit
	p.next = insertion + inserts
	p.inserts = inserts

	r.insertSize = int64(inserts.Offset())
	r.imageSize = r.baseSize + r.insertSize
	r.bodyAt = r.insertAt + r.insertSize - sectors*iso9660.SectorSize
	return r, nil
}

func leastMultiple[T ~uint32 | ~uint64](a, b T) T {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// overwritten returns the ranges of the base whose bytes are not elsewhere in the
// image: everything below the insertion that is written over, all of the System
// Area, and the backup partition table.
func (p *plan) overwritten() []savedRange {
	parts := &p.base.parts
	// The whole System Area, not only what changes here: other programs write to
	// the partition table of a USB device too.
	saved := []savedRange{{0, parts.first.Offset()}}
	below := int64(parts.insertion().Offset())
	for _, s := range p.patches {
		if s.Offset < below {
			saved = append(saved, savedRange{s.Offset, s.Length})
		}
	}
	saved = append(saved, savedRange{int64(p.base.sets[setA].volume.BootCatalog.Offset()), iso9660.SectorSize})
	for i := range p.base.sets {
		v := p.base.sets[i].volume
		saved = append(saved, savedRange{int64(v.Primary.Sector.Offset()), iso9660.SectorSize})
		if v.Joliet != nil {
			saved = append(saved, savedRange{int64(v.Joliet.Sector.Offset()), iso9660.SectorSize})
		}
	}
	if parts.table != nil {
		first, end := parts.table.BackupFirst().Offset(), (parts.table.Backup + 1).Offset()
		saved = append(saved, savedRange{first, end - first})
	}
	slices.SortFunc(saved, func(a, b savedRange) int { return cmp.Compare(a.offset, b.offset) })
	joined := saved[:1]
	for _, s := range saved[1:] {
		if last := &joined[len(joined)-1]; s.offset <= last.offset+last.length {
			last.length = max(last.length, s.offset+s.length-last.offset)
		} else {
			joined = append(joined, s)
		}
	}
	return joined
}

// moveTables rewrites the partition tables for the inserted sectors.
func (p *plan) moveTables() error {
	at, n := p.base.parts.esp, gpt.LBA(p.inserts)*lbasPerSector
	if p.base.parts.table == nil {
		mbr, err := gpt.ReadMBR(p.base, p.base.size)
		if err != nil {
			return imageError(err, 0)
		}
		if err := mbr.Insert(at, n); err != nil {
			return fmt.Errorf("cannot remaster the image: %w", err)
		}
		p.patch(0, mbr.Bytes())
		return nil
	}
	table, err := gpt.Read(p.base, p.base.size)
	if err != nil {
		return imageError(err, 0)
	}
	if err := table.Insert(at, n); err != nil {
		return fmt.Errorf("cannot remaster the image: %w", err)
	}
	patches, err := table.Encode()
	if err != nil {
		return err
	}
	for _, c := range patches {
		p.patch(c.Offset, c.Bytes)
	}
	return nil
}

// moveBootImage lets the boot catalogue lead to where the EFI system partition is
// now.
func (p *plan) moveBootImage() error {
	// A catalogue of our own: the base's is shared.
	c := p.base.catalog.Clone()
	i := p.base.parts.espEntry
	c.Move(i, c.Entries[i].Start+uint32(p.inserts))
	p.patch(int64(p.base.sets[setA].volume.BootCatalog.Offset()), c.Bytes())
	return nil
}

// growVolumes rewrites the volume descriptors of both sets.
func (p *plan) growVolumes() error {
	for _, v := range p.volumes {
		c := v.Grow(p.inserts)
		p.patch(int64(c.Sector.Offset()), c.Bytes)
	}
	return nil
}
