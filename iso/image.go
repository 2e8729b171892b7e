package iso

import (
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Image is an installation medium that was understood. It is not changed by
// anything done with it and can be used from several goroutines.
type Image struct {
	r       io.ReaderAt
	size    int64 // of the medium; a device may be longer
	sets    [2]metadataSet
	parts   partitions
	catalog *eltorito.Catalogue
	record  *restoreRecord

	regionsOnce sync.Once
	regionList  []region
}

// metadataSet is one of the two sets of volume descriptors and their trees.
type metadataSet struct {
	name      string
	volume    *iso9660.Volume
	rockRidge *iso9660.Tree
	joliet    *iso9660.Tree // nil when there is none
}

// trees returns the set's trees that were read, Rock Ridge first.
func (s *metadataSet) trees() []*iso9660.Tree {
	var list []*iso9660.Tree
	for _, t := range []*iso9660.Tree{s.rockRidge, s.joliet} {
		if t != nil {
			list = append(list, t)
		}
	}
	return list
}

// Sets of an Image.
const (
	setA = 0 // addresses count from the image's start
	setB = 1 // addresses count from the first partition's start
)

// Open reads the metadata of an installation medium and makes sure that it is
// one that Remaster, Restore and Verify understand: it must have both metadata
// sets, a boot catalogue and partition tables that agree, and every directory and
// path table must be one that Remaster would write the same way. It reads no file
// content.
//
// It returns a *RefusedError for what is not such a medium, and a *FormatError
// for one that is broken. r may be longer than the medium.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	im, err := detect(r, size)
	if err != nil {
		return nil, err
	}
	if errs := im.selfCheck(); len(errs) > 0 {
		return nil, errs[0]
	}
	return im, nil
}

// check makes sure that Open accepts a medium. Of its trees it holds two at a time.
func check(r io.ReaderAt, size int64) error {
	d := &detector{im: &Image{r: r, size: size}}
	err := d.structures()
	for _, kind := range []iso9660.Kind{iso9660.RockRidge, iso9660.Joliet} {
		if err == nil {
			err = d.checkTrees(kind)
		}
	}
	if err != nil {
		return imageError(err, d.catalogAt)
	}
	return nil
}

// checkTrees reads both sets' trees of one kind, checks them and lets them go.
func (d *detector) checkTrees(kind iso9660.Kind) error {
	im := d.im
	for i := range im.sets {
		if err := d.readTree(&im.sets[i], kind); err != nil {
			return err
		}
	}
	if err := d.oneSession(); err != nil {
		return err
	}
	if errs := im.selfCheck(); len(errs) > 0 {
		return errs[0]
	}
	for i := range im.sets {
		im.sets[i].rockRidge, im.sets[i].joliet = nil, nil
	}
	return nil
}

// selfCheck makes sure that the trees are what this package would write.
func (im *Image) selfCheck() []error {
	var errs []error
	for i := range im.sets {
		for _, t := range im.sets[i].trees() {
			if err := t.CheckRegenerates(im.r); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := im.checkSetsAgree(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// Size returns the medium's length in bytes. What it was read from may be longer,
// as a USB device mostly is.
func (im *Image) Size() int64 { return im.size }

// ReadAt reads the medium's bytes.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if off >= im.size {
		return 0, io.EOF
	}
	if rest := im.size - off; int64(len(p)) > rest {
		n, err := im.r.ReadAt(p[:rest], off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return im.r.ReadAt(p, off)
}

// FS shows the medium's files as a CD drive does: the Rock Ridge tree of set A.
func (im *Image) FS() fs.FS { return im.sets[setA].rockRidge.FS(im) }

// PartitionFS shows the medium's files as Linux sees them when it mounts the
// first partition of a USB device: the Rock Ridge tree of set B. Nothing outside
// the partition can be read through it.
func (im *Image) PartitionFS() fs.FS {
	return im.sets[setB].rockRidge.FS(&window{im, im.parts.first.Offset(), im.parts.esp.Offset()})
}

// window lets read only a range of an image, at the image's own offsets.
type window struct {
	r          io.ReaderAt
	start, end int64
}

func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if off < w.start || off+int64(len(p)) > w.end {
		return 0, io.ErrUnexpectedEOF
	}
	return w.r.ReadAt(p, off)
}

// Remastered reports whether the image carries a restore record.
func (im *Image) Remastered() bool { return im.record != nil }

// date returns the date that added files take unless told otherwise: the
// medium's own.
func (im *Image) date() time.Time {
	p := im.sets[setA].volume.Primary
	if !p.Created.IsZero() {
		return p.Created
	}
	return p.Modified
}

// partitions is where things lie by the partition tables.
type partitions struct {
	table *gpt.Table // nil: MBR only
	mbr   *gpt.MBR

	first    gpt.LBA // of the first partition
	esp      gpt.LBA // of the EFI system partition, directly behind the first
	espEnd   gpt.LBA
	espEntry int // of the EFI boot image in the catalogue
	// added names partitions that were added behind the medium since it was
	// written.
	added []gpt.Partition
}

// seedPartition is the name of the partition that "gpustrap write --cidata" adds on
// purpose.
const seedPartition = "cidata"

// strange returns the added partitions that nobody put there on purpose.
func (p *partitions) strange() []gpt.Partition {
	var list []gpt.Partition
	for _, a := range p.added {
		if a.Name != seedPartition {
			list = append(list, a)
		}
	}
	return list
}

// insertion returns the sector where new ones are inserted: the first one behind
// the first partition.
func (p *partitions) insertion() iso9660.Sector { return iso9660.Sector(p.esp / lbasPerSector) }

// lbasPerSector is how many sectors of a disk make one of an ISO 9660 volume.
const lbasPerSector = iso9660.SectorSize / gpt.SectorSize
