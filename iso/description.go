package iso

import (
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Description is what there is to say about a medium. Offsets and lengths are in
// bytes.
type Description struct {
	VolumeID string    `json:"volumeID"`
	Created  time.Time `json:"created"`
	// Info is the text of .disk/info, such as
	// Ubuntu-Server 24.04.2 LTS "Noble Numbat" - Release amd64 (20250216).
	Info         string `json:"info"`
	Architecture string `json:"architecture"` // amd64, arm64; empty when unknown
	Size         int64  `json:"size"`
	// PartitionTable is GPT or MBR.
	PartitionTable string          `json:"partitionTable"`
	Partitions     []PartitionInfo `json:"partitions"`
	BootEntries    []BootEntry     `json:"bootEntries"`
	Joliet         bool            `json:"joliet"`
	Files          int             `json:"files"` // regular files

	// What follows is about a remastered medium.
	Remastered bool     `json:"remastered"`
	BaseSize   int64    `json:"baseSize,omitempty"`
	Added      []string `json:"added,omitempty"`
	Replaced   []string `json:"replaced,omitempty"`
	Removed    []string `json:"removed,omitempty"`
}

// PartitionInfo is a partition of a medium.
type PartitionInfo struct {
	Number  int    `json:"number"`
	Name    string `json:"name,omitempty"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Meaning string `json:"meaning"`
}

// BootEntry is a boot image of the El Torito catalogue.
type BootEntry struct {
	Platform string `json:"platform"`
	Offset   int64  `json:"offset"`
	Image    string `json:"image"` // the file's path, or what else it is
}

// Description describes the medium. What cannot be read is left empty.
func (im *Image) Description() Description {
	p := im.sets[setA].volume.Primary
	d := Description{
		VolumeID: p.VolumeID, Created: im.date(), Size: im.size,
		PartitionTable: "MBR", Joliet: im.sets[setA].joliet != nil,
		Remastered: im.record != nil,
	}
	if im.parts.table != nil {
		d.PartitionTable = "GPT"
	}
	if text, err := readText(im.FS(), ".disk/info"); err == nil {
		d.Info = strings.TrimSpace(string(text))
	}
	d.Architecture = im.architecture(d.Info)
	d.Partitions = im.partitionInfos()
	d.BootEntries = im.bootEntries()
	for _, e := range im.sets[setA].rockRidge.Files() {
		if e.Mode.IsRegular() {
			d.Files++
		}
	}
	if im.record != nil {
		d.BaseSize = im.record.baseSize
		if base, _, err := im.original(); err == nil {
			d.Added, d.Replaced, d.Removed = im.fileChanges(base)
		}
	}
	return d
}

// architecture goes by the boot loader that is there, and without one by the last
// but one word of .disk/info.
func (im *Image) architecture(info string) string {
	loaders := []struct{ name, architecture string }{{"bootx64.efi", "amd64"}, {"bootaa64.efi", "arm64"}}
	for path, e := range im.sets[setA].rockRidge.Files() {
		for _, l := range loaders {
			if e.Mode.IsRegular() && strings.EqualFold(path, "EFI/boot/"+l.name) {
				return l.architecture
			}
		}
	}
	if words := strings.Fields(info); len(words) >= 2 {
		return words[len(words)-2]
	}
	return ""
}

func (im *Image) partitionInfos() []PartitionInfo {
	var list []PartitionInfo
	add := func(number int, name string, first, end gpt.LBA) {
		meaning := "added after the medium was written"
		switch {
		case first == im.parts.first:
			meaning = "ISO 9660, seen when the partition is mounted"
		case name == seedPartition:
			meaning = "a NoCloud seed that can be replaced"
		case first == im.parts.esp:
			meaning = "EFI system partition"
		case first == im.parts.espEnd:
			meaning = "padding"
		case end <= 1:
			meaning = "none: makes some firmware boot"
		}
		list = append(list, PartitionInfo{number, name, first.Offset(), (end - first).Offset(), meaning})
	}
	if t := im.parts.table; t != nil {
		for _, p := range t.Partitions {
			add(p.Number, p.Name, p.First, p.Last+1)
		}
		return list
	}
	for _, p := range im.parts.mbr.Partitions {
		add(p.Number, "", p.First, p.End())
	}
	return list
}

func (im *Image) bootEntries() []BootEntry {
	var list []BootEntry
	for i, e := range im.catalog.Entries {
		b := BootEntry{Platform: e.Platform.String(), Offset: int64(iso9660.Sector(e.Start).Offset())}
		if i == im.parts.espEntry {
			b.Image = "EFI system partition"
		} else if path, _ := im.bootImage(e); path != "" {
			b.Image = path
		}
		list = append(list, b)
	}
	return list
}

// bootImage finds the file that a boot entry leads to.
func (im *Image) bootImage(b eltorito.Entry) (string, *iso9660.Entry) {
	for path, e := range im.sets[setA].rockRidge.Files() {
		if e.Mode.IsRegular() && e.Size() > 0 && e.Extents()[0].Sector == iso9660.Sector(b.Start) {
			return path, e
		}
	}
	return "", nil
}

// fileChanges compares the medium's files with its base's. A directory that came
// or went stands for all below it.
func (im *Image) fileChanges(base *Image) (added, replaced, removed []string) {
	for path, e := range im.sets[setA].rockRidge.Files() {
		old := base.lookup(path)
		switch {
		case old == nil && !e.IsDir():
			added = append(added, path)
		case old != nil && e.Mode.IsRegular() && e.Size() > 0 && !slices.Equal(old.Extents(), e.Extents()),
			old != nil && (old.Size() > 0) != (e.Size() > 0) && !e.IsDir(),
			old != nil && e.Mode&fs.ModeSymlink != 0 && old.Link != e.Link:
			replaced = append(replaced, path)
		}
	}
	for path, e := range base.sets[setA].rockRidge.Files() {
		if im.lookup(path) == nil && !e.IsDir() {
			removed = append(removed, path)
		}
	}
	return added, replaced, removed
}

// Range is a run of bytes of an image.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// FileInfo is a regular file of a medium and where its content lies.
type FileInfo struct {
	Path    string    `json:"path"`
	ModTime time.Time `json:"modTime"`
	Ranges  []Range   `json:"ranges"`
}

// Files lists the medium's regular files.
func (im *Image) Files() []FileInfo {
	var list []FileInfo
	for path, e := range im.sets[setA].rockRidge.Files() {
		if !e.Mode.IsRegular() {
			continue
		}
		f := FileInfo{Path: path, ModTime: e.ModTime}
		for _, x := range e.Extents() {
			f.Ranges = append(f.Ranges, Range{int64(x.Sector.Offset()), int64(x.Length)})
		}
		list = append(list, f)
	}
	return list
}
