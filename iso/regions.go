package iso

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// regionKind says what a run of bytes of a medium is for.
type regionKind int

const (
	regionUnused regionKind = iota
	regionSystem
	regionTable
	regionDescriptor
	regionCatalogue
	regionPathTable
	regionDirectory
	regionContinuation
	regionFile
	regionESP
	regionGap
	regionRecord
)

// region is a run of bytes of a medium with one meaning.
type region struct {
	start, end int64
	kind       regionKind
	meaning    string
	path       string // of a file or directory
}

// regions returns the medium's bytes by meaning, in order and without gaps.
func (im *Image) regions() []region {
	im.regionsOnce.Do(func() { im.regionList = im.findRegions() })
	return im.regionList
}

func (im *Image) findRegions() []region {
	list := im.partitionRegions()
	add := func(start, length int64, kind regionKind, path, format string, args ...any) {
		if length > 0 {
			list = append(list, region{start, start + length, kind, fmt.Sprintf(format, args...), path})
		}
	}
	const sector = iso9660.SectorSize
	add(int64(im.sets[setA].volume.BootRecord.Offset()), sector, regionDescriptor, "", "El Torito boot record")
	add(int64(im.sets[setA].volume.BootCatalog.Offset()), sector, regionCatalogue, "", "El Torito boot catalogue")
	for i := range im.sets {
		s := &im.sets[i]
		for _, t := range s.trees() {
			view := t.Kind.String() + ", " + s.name
			for _, x := range t.Structures() {
				add(int64(x.Sector.Offset()), int64(x.Sectors)*sector, structureKind(x), x.Path, "%s (%s)", x.Meaning(), view)
			}
		}
	}
	tree := im.sets[setA].rockRidge
	for path, e := range tree.Files() {
		for _, x := range e.Extents() {
			add(int64(x.Sector.Offset()), iso9660.Sectors(int64(x.Length))*sector, regionFile, path, "file /%s", path)
		}
	}
	return fillRegions(list, im.size)
}

func structureKind(s iso9660.Structure) regionKind {
	switch s.Kind {
	case iso9660.StructureDescriptor:
		return regionDescriptor
	case iso9660.StructurePathTable:
		return regionPathTable
	case iso9660.StructureDirectory:
		return regionDirectory
	}
	return regionContinuation
}

// partitionRegions lists what belongs to the partition tables and what they lead
// to, except the volumes.
func (im *Image) partitionRegions() []region {
	p := &im.parts
	list := []region{{start: 0, end: gpt.SectorSize, kind: regionTable, meaning: "master boot record"}}
	add := func(start, end int64, kind regionKind, meaning string) {
		if end > start {
			list = append(list, region{start: start, end: end, kind: kind, meaning: meaning})
		}
	}
	tail := im.size
	if t := p.table; t != nil {
		entries := gpt.LBA(t.EntryCount) / 4
		add(gpt.SectorSize, 2*gpt.SectorSize, regionTable, "GUID partition table header")
		add(2*gpt.SectorSize, (2 + entries).Offset(), regionTable, "GUID partition table entries")
		// On a device the backup may have moved to its end.
		if first := t.BackupFirst().Offset(); first < im.size && len(p.added) == 0 {
			tail = first
			add(first, (t.Backup + 1).Offset(), regionTable, "backup GUID partition table")
		}
	}
	add(p.esp.Offset(), p.espEnd.Offset(), regionESP, "EFI system partition")
	add(p.espEnd.Offset(), tail, regionGap, "padding behind the EFI system partition")
	if r := im.record; r != nil {
		add(r.bodyAt, r.insertAt+r.insertSize, regionRecord, "restore record")
	}
	return list
}

// fillRegions sorts regions, lets the first of two that overlap win, and fills the
// gaps: the System Area in front of the first volume descriptor, and what nothing
// leads to.
func fillRegions(list []region, size int64) []region {
	slices.SortStableFunc(list, func(a, b region) int { return cmp.Compare(a.start, b.start) })
	var out []region
	at := int64(0)
	gap := func(to int64) {
		if to <= at {
			return
		}
		const system = 16 * iso9660.SectorSize
		if at < system {
			end := min(to, system)
			out = append(out, region{start: at, end: end, kind: regionSystem, meaning: "System Area"})
			at = end
		}
		if to > at {
			out = append(out, region{start: at, end: to, meaning: "unused"})
			at = to
		}
	}
	for _, r := range list {
		if r.end <= at {
			continue
		}
		gap(r.start)
		r.start = max(r.start, at)
		r.end = min(r.end, size)
		if r.start < r.end {
			out = append(out, r)
			at = r.end
		}
	}
	gap(size)
	return out
}

// Describe names the structure or file that the byte at an offset belongs to.
func (im *Image) Describe(offset int64) string {
	list := im.regions()
	i := sort.Search(len(list), func(i int) bool { return list[i].end > offset })
	if i == len(list) || offset < 0 {
		return "outside the image"
	}
	return list[i].meaning
}

// Describe names the structure or file that the byte at an offset of the image
// belongs to. The first call parses the image.
func (l *Layout) Describe(offset int64) string {
	im, err := l.image()
	if err != nil {
		return "unknown: " + err.Error()
	}
	return im.Describe(offset)
}

// image opens the layout as the image that it is, once.
func (l *Layout) image() (*Image, error) {
	l.once.Do(func() { l.opened, l.openErr = Open(l, l.size) })
	return l.opened, l.openErr
}
