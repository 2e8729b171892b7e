package usb

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gpustrap/gpustrap/iso/gpt"
)

// Range is a run of bytes of a device.
type Range struct{ Offset, Length int64 }

// End returns the offset of the first byte behind the range.
func (r Range) End() int64 { return r.Offset + r.Length }

// Sizes of what Plan adds to an image.
const (
	// headSize is how much of the beginning is written last: with it zero, no
	// firmware finds anything to boot.
	headSize = 1 << 20
	// tailSize is how much of the device's end is cleared: what lies there from
	// before (backup partition tables, RAID and ZFS labels) would come back to life.
	tailSize = 1 << 20
	// partitionAlign is where partitions behind the image begin.
	partitionAlign = 1 << 20
	// SeedPartitionSize is the length of the partition for a NoCloud seed.
	SeedPartitionSize = 8 << 20
	// SeedPartitionName is its name in the partition table.
	SeedPartitionName = "cidata"
)

const seedMeaning = "the NoCloud seed's partition"

// Options are what Plan adds to an image.
type Options struct {
	// Seed is the image of a NoCloud seed, put into a partition of its own behind
	// the image; nil for none.
	Seed []byte
}

// Plan is what a device will hold: an image, and what writing it to a device
// changes. Both Write and Verify read it.
type Plan struct {
	image     io.ReaderAt
	imageSize int64
	size      int64   // the device's
	ranges    []Range // that are written, in order
	patches   []patch // over the image and behind it; later ones win
	seed      Range   // the seed's partition, empty without one

	head       Range   // written last
	clear      []Range // zeroed first, besides the head
	blankState string  // what a device is like whose head is zero
}

// patch is bytes of the plan that are not the image's.
type patch struct {
	offset  int64
	bytes   []byte
	meaning string
}

// RequiredSize returns how many bytes a device must have for an image of size
// bytes with these options.
func RequiredSize(size int64, o Options) int64 {
	if o.Seed == nil {
		return roundUp(size, mediumSector)
	}
	return roundUp(size, partitionAlign) + SeedPartitionSize + tailSize
}

// NewPlan plans an image of size bytes on a device of deviceSize bytes. The image
// must begin with a partition table or hold an ISO 9660 volume: anything else, such
// as a compressed image, would not boot.
func NewPlan(image io.ReaderAt, size, deviceSize int64, o Options) (*Plan, error) {
	if need := RequiredSize(size, o); deviceSize < need {
		return nil, fmt.Errorf("cannot plan the device: %d bytes do not fit on %d", need, deviceSize)
	}
	if int64(len(o.Seed)) > SeedPartitionSize {
		return nil, fmt.Errorf("cannot plan the device: the NoCloud seed takes %d bytes, and its partition has %d", len(o.Seed), SeedPartitionSize)
	}
	if size < mediumSector {
		return nil, ErrNoImage
	}
	p := &Plan{image: image, imageSize: size, size: deviceSize,
		head:       Range{0, min(headSize, roundUp(size, mediumSector))},
		clear:      []Range{{max(0, deviceSize-tailSize), min(tailSize, deviceSize)}},
		blankState: "the device's first MiB is zero, so no machine boots from it; write it again",
	}
	p.add(0, roundUp(size, mediumSector))
	p.add(max(p.ranges[0].End(), (deviceSize-tailSize)/headSize*headSize), deviceSize)
	if o.Seed != nil {
		p.seed = Range{roundUp(size, partitionAlign), SeedPartitionSize}
		p.add(p.seed.Offset, p.seed.End())
		p.patches = append(p.patches, patch{p.seed.Offset, o.Seed, seedMeaning})
	}
	if err := p.partitionTable(); err != nil {
		return nil, err
	}
	p.mergeRanges()
	return p, nil
}

// ErrNoSeedPartition says that a device was not written with a partition for a seed.
var ErrNoSeedPartition = errors.New("it has no partition for a NoCloud seed")

// NewSeedPlan plans to put another NoCloud seed into the partition that a device of
// deviceSize bytes, read through device, has for it. Nothing else is written.
func NewSeedPlan(device io.ReaderAt, deviceSize int64, seed []byte) (*Plan, error) {
	at, err := findSeedPartition(device, deviceSize)
	if err != nil {
		return nil, err
	}
	if int64(len(seed)) > at.Length {
		return nil, fmt.Errorf("cannot plan the device: the NoCloud seed takes %d bytes, and its partition has %d", len(seed), at.Length)
	}
	p := &Plan{size: deviceSize, seed: at, ranges: []Range{at},
		head:       Range{at.Offset, min(headSize, at.Length)},
		blankState: "there is no NoCloud seed on the device now, so its installer has nothing to install by; write it again",
		patches:    []patch{{at.Offset, seed, seedMeaning}},
	}
	return p, nil
}

// findSeedPartition finds the partition that NewPlan adds for a seed.
func findSeedPartition(r io.ReaderAt, size int64) (Range, error) {
	table, err := gpt.Read(r, size)
	if err == nil {
		for _, p := range table.Partitions {
			at := Range{p.First.Offset(), (p.Last - p.First + 1).Offset()}
			if p.Name == SeedPartitionName && p.Type == gpt.TypeBasicData && at.isSeedPartition(size) {
				return at, nil
			}
		}
		return Range{}, ErrNoSeedPartition
	}
	if !errors.Is(err, gpt.ErrNone) {
		return Range{}, fmt.Errorf("cannot read the device's partition table: %w", err)
	}
	mbr, err := gpt.ReadMBR(r, size)
	if errors.Is(err, gpt.ErrNoMBR) {
		return Range{}, ErrNoSeedPartition
	} else if err != nil {
		return Range{}, fmt.Errorf("cannot read the device's partition table: %w", err)
	}
	for _, p := range mbr.Partitions {
		if at := (Range{p.First.Offset(), p.Count.Offset()}); p.Type == gpt.TypeMBRISO && at.isSeedPartition(size) {
			return at, nil
		}
	}
	return Range{}, ErrNoSeedPartition
}

// isSeedPartition reports whether a range is as long and lies as NewPlan lays the
// seed's partition. One that another program made, of the same name or type, may
// hold anything: on media for arm64 it may be the installer itself.
func (r Range) isSeedPartition(deviceSize int64) bool {
	return r.Length == SeedPartitionSize && r.Offset >= headSize && r.Offset%partitionAlign == 0 && r.End() <= deviceSize
}

// ErrNoImage says that what is to be written is no image of a medium.
var ErrNoImage = errors.New("it begins with no partition table and holds no ISO 9660 volume; an image that is compressed must be unpacked first")

// partitionTable fits the image's partition table to the device.
func (p *Plan) partitionTable() error {
	table, err := gpt.Read(p.image, p.imageSize)
	if errors.Is(err, gpt.ErrNone) {
		return p.masterBootRecord()
	}
	if err != nil {
		return fmt.Errorf("cannot read the image's partition table: %w", err)
	}
	old := Range{table.BackupFirst().Offset(), (table.Backup - table.BackupFirst() + 1).Offset()}
	if old.End() > p.imageSize {
		return errors.New("cannot read the image's partition table: the image ends before its backup; it is truncated")
	}
	if last := gpt.LBA(p.size/gpt.SectorSize - 1); last != table.Backup {
		// Left where it was, it would be found by programs that repair tables.
		p.patches = append(p.patches, patch{old.Offset, make([]byte, old.Length), "where the image had its backup partition table"})
		if err := table.MoveBackup(last); err != nil {
			return err
		}
	}
	if p.seed.Length > 0 {
		first := gpt.LBA(p.seed.Offset / gpt.SectorSize)
		if _, err := table.Add(SeedPartitionName, first, first+SeedPartitionSize/gpt.SectorSize-1); err != nil {
			return err
		}
	}
	patches, err := table.Encode()
	if err != nil {
		return err
	}
	for _, w := range patches {
		meaning := "partition table"
		if w.Offset >= table.BackupFirst().Offset() {
			meaning = "backup partition table"
		}
		p.patches = append(p.patches, patch{w.Offset, w.Bytes, "the " + meaning})
	}
	return nil
}

// masterBootRecord does the same for an image without a GUID partition table,
// which says nothing about the device's end.
func (p *Plan) masterBootRecord() error {
	mbr, err := gpt.ReadMBR(p.image, p.imageSize)
	if errors.Is(err, gpt.ErrNoMBR) {
		var magic [5]byte
		if n, _ := p.image.ReadAt(magic[:], 32769); n < len(magic) || string(magic[:]) != "CD001" {
			return ErrNoImage
		}
	} else if err != nil {
		return fmt.Errorf("cannot read the image's partition table: %w", err)
	}
	if p.seed.Length == 0 {
		return nil
	}
	if mbr == nil {
		return errors.New("the image has no partition table to add a partition to")
	}
	first := gpt.LBA(p.seed.Offset / gpt.SectorSize)
	if _, err := mbr.Add(gpt.TypeMBRISO, first, first+SeedPartitionSize/gpt.SectorSize-1); err != nil {
		return err
	}
	p.patches = append(p.patches, patch{0, mbr.Bytes(), "the partition table"})
	return nil
}

func (p *Plan) add(from, to int64) {
	if to > from {
		p.ranges = append(p.ranges, Range{from, to - from})
	}
}

// mergeRanges sorts the ranges and joins those that touch or overlap.
func (p *Plan) mergeRanges() {
	slices.SortFunc(p.ranges, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	merged := p.ranges[:1]
	for _, r := range p.ranges[1:] {
		if last := &merged[len(merged)-1]; r.Offset <= last.End() {
			last.Length = max(last.End(), r.End()) - last.Offset
			continue
		}
		merged = append(merged, r)
	}
	p.ranges = merged
}

// Ranges returns what is written, in order and without overlap. The rest of the
// device stays as it is.
func (p *Plan) Ranges() []Range { return slices.Clone(p.ranges) }

// Written returns how many bytes are written.
func (p *Plan) Written() int64 {
	var n int64
	for _, r := range p.ranges {
		n += r.Length
	}
	return n
}

// Seed returns where the partition of the NoCloud seed lies; empty without one.
func (p *Plan) Seed() Range { return p.seed }

// ReadAt reads what the device will hold. Outside the ranges that is zeros.
func (p *Plan) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > p.size {
		return 0, fmt.Errorf("cannot read %d bytes of the plan at %d: %w", len(b), off, io.EOF)
	}
	n := 0
	if off < p.imageSize {
		n = int(min(int64(len(b)), p.imageSize-off))
		got, err := p.image.ReadAt(b[:n], off)
		if got < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("cannot read the image at byte %d: %w", off+int64(got), err)
		}
	}
	clear(b[n:])
	for _, w := range p.patches {
		from, to := max(off, w.offset), min(off+int64(len(b)), w.offset+int64(len(w.bytes)))
		if from < to {
			copy(b[from-off:to-off], w.bytes[from-w.offset:])
		}
	}
	return len(b), nil
}

// meaning names what the byte at an offset belongs to; image does so for the
// image's own.
func (p *Plan) meaning(off int64, image func(int64) string) string {
	for _, w := range slices.Backward(p.patches) {
		if off >= w.offset && off < w.offset+int64(len(w.bytes)) {
			return w.meaning
		}
	}
	switch {
	case off < p.imageSize && image != nil:
		return image(off)
	case off < p.imageSize:
		return "the image"
	case off >= p.seed.Offset && off < p.seed.End():
		return seedMeaning
	}
	return "the cleared space behind the image"
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
