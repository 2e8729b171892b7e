package iso

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// hintGenuine is what to do about an image of a kind that is not understood.
const hintGenuine = "use an unchanged Ubuntu Server 22.04, 24.04 or 26.04 image for amd64 or arm64 from releases.ubuntu.com or cdimage.ubuntu.com"

// detector works out what an image is, by its structures alone.
type detector struct {
	im        *Image
	catalogAt iso9660.Offset
	mbr       *gpt.MBR
}

func refuse(hint, format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// detect reads the metadata of an image.
func detect(r io.ReaderAt, size int64) (*Image, error) {
	d := &detector{im: &Image{r: r, size: size}}
	if err := d.run(); err != nil {
		return nil, imageError(err, d.catalogAt)
	}
	return d.im, nil
}

func (d *detector) run() error {
	return inOrder(d.structures, d.trees, d.oneSession)
}

// structures reads all but the directory trees.
func (d *detector) structures() error {
	return inOrder(d.wholeVolume, d.notIsohybrid, d.bootCatalogue, d.partitionTables, d.record, d.partitionVolume, d.length)
}

// inOrder runs steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// wholeVolume reads set A and makes sure that all of the volume is there.
func (d *detector) wholeVolume() error {
	im := d.im
	v, err := iso9660.ReadVolume(im.r, im.size, 0)
	var format *FormatError
	if errors.As(err, &format) && v == nil && !hasMagic(im) {
		return refuse("give the .iso file of an installation medium",
			"this is not an ISO 9660 image: there is no volume descriptor at byte 32768")
	}
	if err != nil {
		return err
	}
	if need := int64(v.Primary.SpaceSize) * iso9660.SectorSize; need > im.size {
		return refuse("download the image again and compare its SHA-256",
			"the image is truncated: its volume takes %d bytes and only %d are there", need, im.size)
	}
	im.sets[setA] = metadataSet{name: "whole image", volume: v}
	return nil
}

// hasMagic reports whether a volume descriptor begins where the first one should.
func hasMagic(im *Image) bool {
	var b [5]byte
	n, _ := im.r.ReadAt(b[:], 16*iso9660.SectorSize+1)
	return n == len(b) && string(b[:]) == "CD001"
}

// notIsohybrid refuses the media made before 20.10, whose MBR has one partition
// that covers the whole image from its first byte, boot images included.
func (d *detector) notIsohybrid() error {
	var err error
	d.mbr, err = gpt.ReadMBR(d.im.r, d.im.size)
	if errors.Is(err, gpt.ErrNoMBR) {
		return refuse(hintGenuine, "the image has no partition table, so it could not boot from a USB device")
	}
	if err != nil {
		return err
	}
	for _, p := range d.mbr.Partitions {
		// One sector at 0 is the dummy entry that makes some firmware boot.
		if p.First == 0 && p.Count > 1 {
			return refuse(hintGenuine,
				"this is an isohybrid image as Ubuntu made them up to 20.04: its first partition begins at the image's first byte and holds the boot images, so nothing can be inserted")
		}
	}
	return nil
}

// bootCatalogue reads the El Torito boot catalogue.
func (d *detector) bootCatalogue() error {
	im := d.im
	v := im.sets[setA].volume
	if !v.HasBootRecord {
		return refuse(hintGenuine, "the image is not bootable: it has no El Torito boot record")
	}
	d.catalogAt = v.BootCatalog.Offset()
	if int64(d.catalogAt)+eltorito.Size > im.size {
		return &FormatError{Offset: d.catalogAt, Message: "the boot catalogue lies beyond the end of the image"}
	}
	b := make([]byte, eltorito.Size)
	if n, err := im.r.ReadAt(b, int64(d.catalogAt)); n < len(b) {
		return fmt.Errorf("cannot read the boot catalogue: %w", err)
	}
	var err error
	im.catalog, err = eltorito.Decode(b)
	return err
}

// partitionTables finds the first partition and the EFI system partition behind
// it, in the GUID partition table or, without one, in the MBR.
func (d *detector) partitionTables() error {
	table, err := gpt.Read(d.im.r, d.im.size)
	d.im.parts.mbr = d.mbr
	switch {
	case errors.Is(err, gpt.ErrNone) && d.mbr.HasProtective():
		return &FormatError{Offset: gpt.SectorSize, Message: "the MBR protects a GUID partition table that is not there"}
	case errors.Is(err, gpt.ErrNone):
		return d.mbrPartitions()
	case err != nil:
		return err
	}
	d.im.parts.table = table
	return d.gptPartitions(table)
}

// extent is a partition as either table shows it.
type extent struct {
	first, end gpt.LBA
	esp        bool
}

func (d *detector) gptPartitions(table *gpt.Table) error {
	list := slices.Clone(table.Partitions)
	slices.SortFunc(list, func(a, b gpt.Partition) int { return cmp.Compare(a.First, b.First) })
	extents := make([]extent, len(list))
	for i, p := range list {
		extents[i] = extent{p.First, p.Last + 1, p.Type == gpt.TypeESP}
	}
	behind, err := d.known(extents)
	if err != nil {
		return err
	}
	for _, p := range list[behind:] {
		// The padding behind the EFI system partition is a partition of its own.
		gap := p.First == d.im.parts.espEnd && p.Last < table.BackupFirst() && p.Type == gpt.TypeBasicData
		if !gap {
			d.im.parts.added = append(d.im.parts.added, p)
		}
	}
	return nil
}

func (d *detector) mbrPartitions() error {
	list := slices.Clone(d.mbr.Partitions)
	slices.SortFunc(list, func(a, b gpt.MBRPartition) int { return cmp.Compare(a.First, b.First) })
	extents := make([]extent, len(list))
	for i, p := range list {
		extents[i] = extent{p.First, p.End(), p.Type == gpt.TypeMBRESP}
	}
	behind, err := d.known(extents)
	if err != nil {
		return err
	}
	for _, p := range list[behind:] {
		name := "" // which a master boot record has no room for
		if p.Type == gpt.TypeMBRISO {
			name = seedPartition
		}
		d.im.parts.added = append(d.im.parts.added, gpt.Partition{Number: p.Number, Name: name, First: p.First, Last: p.End() - 1})
	}
	return nil
}

// known checks that the two lowest partitions are the ISO 9660 one and the EFI
// system partition directly behind it, which is also the EFI boot image, and
// returns how many it knows.
func (d *detector) known(list []extent) (int, error) {
	parts := &d.im.parts
	volume := slices.IndexFunc(list, d.holdsVolume)
	switch {
	case volume > 0:
		return 0, refuse(hintGenuine,
			"partitions lie in front of the ISO 9660 one, as boot firmware's do on riscv64 images; such a layout is not understood")
	case volume < 0:
		return 0, refuse(hintGenuine,
			"no partition holds a second set of volume descriptors, so files added here could not be seen from a USB device")
	case len(list) < 2 || !list[1].esp || list[1].first != list[0].end || list[1].first%lbasPerSector != 0:
		return 0, refuse(hintGenuine, "the partition behind the ISO 9660 one is not an EFI system partition; such a layout is not understood")
	}
	parts.first, parts.esp, parts.espEnd = list[0].first, list[1].first, list[1].end
	parts.espEntry = -1
	for i, e := range d.im.catalog.Entries {
		if e.Platform == eltorito.EFI && gpt.LBA(e.Start)*lbasPerSector == parts.esp {
			parts.espEntry = i
		} else if gpt.LBA(e.Start)*lbasPerSector >= parts.esp {
			return 0, refuse(hintGenuine, "the boot catalogue leads to a %s boot image behind the ISO 9660 partition that is not the EFI system partition", e.Platform)
		}
	}
	if parts.espEntry < 0 {
		return 0, refuse(hintGenuine, "the boot catalogue does not lead to the EFI system partition; such a layout is not understood")
	}
	return 2, nil
}

// holdsVolume reports whether the partition is an ISO 9660 volume of its own.
func (d *detector) holdsVolume(p extent) bool {
	if p.first%lbasPerSector != 0 || p.first == 0 {
		return false
	}
	var b [6]byte
	n, _ := d.im.r.ReadAt(b[:], p.first.Offset()+16*iso9660.SectorSize)
	return n == len(b) && string(b[:]) == "\x01CD001"
}

// record looks for a restore record.
func (d *detector) record() error {
	var err error
	d.im.record, err = readRecord(d.im.r, d.im.size, d.im.parts.esp.Offset())
	return err
}

// partitionVolume reads set B and compares its extent with the partition's.
func (d *detector) partitionVolume() error {
	im := d.im
	start := iso9660.Sector(im.parts.first / lbasPerSector)
	v, err := iso9660.ReadVolume(im.r, im.size, start)
	if err != nil {
		return err
	}
	end := start + iso9660.Sector(v.Primary.SpaceSize)
	if insertion := im.parts.insertion(); end != insertion {
		return refuse(hintGenuine,
			"the first partition ends at sector %d and the volume in it at sector %d; such a layout is not understood", insertion, end)
	}
	im.sets[setB] = metadataSet{name: "partition 1", volume: v}
	for i := range im.sets {
		if f := im.sets[i].volume.Foreign; len(f) > 0 {
			return refuse(hintGenuine, "the image has %s, which is not understood", f[0])
		}
	}
	return nil
}

// maxPadding is how many bytes behind its partition table still belong to a
// medium: xorriso may write 150 sectors of padding there. What is longer is the
// rest of a device.
const maxPadding = 1 << 20

// length works out where the medium ends: the image may be a device's.
func (d *detector) length() error {
	im := d.im
	volume := int64(im.sets[setA].volume.Primary.SpaceSize) * iso9660.SectorSize
	end := volume
	switch {
	case im.record != nil:
		end = im.record.imageSize
	case len(im.parts.added) > 0:
		p := im.parts.added[0]
		return refuse("use the image file that the device was written from",
			"partition %d was added behind the medium since it was written, as casper does on a USB device when it boots; the medium's own partition table is gone", p.Number)
	case im.parts.table != nil:
		end = (im.parts.table.Backup + 1).Offset()
		if volume > end {
			return refuse(hintGenuine, "this is a multi-session image: a session was appended behind the backup partition table")
		}
	}
	if end > im.size {
		return refuse("download the image again and compare its SHA-256",
			"the image is truncated: its partition table takes %d bytes and only %d are there", end, im.size)
	}
	if rest := im.size - end; im.record == nil && rest <= maxPadding {
		end = im.size
	}
	if end < im.parts.espEnd.Offset() {
		return &FormatError{Offset: iso9660.Offset(end), Message: "the medium ends within its EFI system partition"}
	}
	im.size = end
	return nil
}

// trees reads all directory trees.
func (d *detector) trees() error {
	for i := range d.im.sets {
		for _, kind := range []iso9660.Kind{iso9660.RockRidge, iso9660.Joliet} {
			if err := d.readTree(&d.im.sets[i], kind); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTree reads a set's tree of one kind. Not every volume has a Joliet tree.
func (d *detector) readTree(s *metadataSet, kind iso9660.Kind) error {
	var err error
	switch {
	case kind == iso9660.Joliet && s.volume.Joliet != nil:
		s.joliet, err = s.volume.ReadTree(d.im.r, d.im.size, s.volume.Joliet)
	case kind == iso9660.RockRidge:
		s.rockRidge, err = s.volume.ReadTree(d.im.r, d.im.size, s.volume.Primary)
		if err == nil && s.rockRidge.Kind != iso9660.RockRidge {
			err = refuse(hintGenuine, "the image has no Rock Ridge names")
		}
	}
	return err
}

// oneSession refuses an image to which a session was appended: its directories or
// files lie behind the first partition, out of set B's reach.
func (d *detector) oneSession() error {
	im := d.im
	end := im.parts.insertion()
	for i := range im.sets {
		for _, t := range im.sets[i].trees() {
			if p, outside := t.Outside(end); outside {
				return refuse(hintGenuine,
					"this is a multi-session image, or one that was changed by other means: %q lies behind the first partition, where it cannot be seen from a USB device", p)
			}
		}
	}
	return nil
}

// checkSetsAgree makes sure that both sets show the same files at the same places.
func (im *Image) checkSetsAgree() error {
	a, b := im.sets[setA].trees(), im.sets[setB].trees()
	if len(a) != len(b) {
		return refuse(hintGenuine, "only one of the two metadata sets has a Joliet tree: the image was changed by something that knows only one of them")
	}
	for i := range a {
		if path, differ := iso9660.Differ(a[i], b[i]); differ {
			return refuse(hintGenuine,
				"the two metadata sets disagree about %q: the image was changed by something that knows only one of them", path)
		}
	}
	return nil
}
