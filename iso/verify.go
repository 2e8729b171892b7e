package iso

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// Checks that Verify makes, as a Fault names them.
const (
	CheckStructure  = "structure"       // volume descriptors, directories, path tables
	CheckPartitions = "partition table" // MBR, GUID partition table and its backup
	CheckBoot       = "boot"            // boot catalogue and boot images
	CheckFiles      = "checksums"       // md5sum.txt
	CheckMenu       = "boot menu"       // GRUB's menus and the kernel arguments in them
	CheckSeed       = "seed"            // what the kernel arguments lead the installer to
	CheckBase       = "base image"      // every byte that was not meant to change
)

// Fault is one thing wrong with an image.
type Fault struct {
	Check string `json:"check"`
	// Where is a path on the medium or the name of a structure.
	Where string `json:"where"`
	// Offset is a byte of the image; -1 when the fault has no one place.
	Offset  int64  `json:"offset"`
	Message string `json:"message"`
	// Base is set for a fault that the base image has too, by design or by
	// mistake: not a reason to reject the remastered one.
	Base bool `json:"base"`
}

// String returns the fault on one line.
func (f Fault) String() string {
	s := f.Check + ": "
	if f.Where != "" {
		s += f.Where + ": "
	}
	s += f.Message
	if f.Offset >= 0 {
		s += fmt.Sprintf(" (at byte %d)", f.Offset)
	}
	if f.Base {
		s += " (the base image's own)"
	}
	return s
}

// VerifyOptions are options of Verify.
type VerifyOptions struct {
	// Base is the image that the one to verify was made from, when it is at hand:
	// it tells a wrong line that its md5sum.txt had already from damage, and every
	// byte that Restore would give back must be its.
	Base *Image
	// Progress is called now and then with the bytes checked and those to check.
	Progress func(done, total int64)
}

// Verify proves an image: that its metadata is sound and shows the same files to
// a CD drive, to a USB device's reader and with Joliet names; that its partition
// tables and boot catalogue agree; that every file listed in md5sum.txt has its
// checksum, read both through the whole image and through the first partition;
// that the boot menus can be read by GRUB and give the kernel whole arguments; and
// that the seed which those arguments name is there. r may be longer than the
// image, as a device is.
//
// It returns every fault found, and an error only when the image cannot be read or
// the context is done.
func Verify(ctx context.Context, r io.ReaderAt, size int64, o VerifyOptions) ([]Fault, error) {
	v := &verifier{ctx: ctx, progress: o.Progress, given: o.Base}
	im, err := detect(r, size)
	if err != nil {
		return v.structure(err)
	}
	v.im = im
	for _, err := range im.selfCheck() {
		if _, err := v.structure(err); err != nil {
			return nil, err
		}
	}
	if im.record != nil {
		if v.base, _, err = im.original(); err != nil {
			if _, err := v.structure(err); err != nil {
				return nil, err
			}
		}
	}
	if err := v.metadata(); err != nil {
		return nil, err
	}
	if err := v.baseFaults(); err != nil {
		return nil, err
	}
	if err := v.checksums(); err != nil {
		return nil, err
	}
	err = v.againstBase()
	return v.faults, err
}

// againstBase compares what the image was made from, read through the image's
// restore record, with the base that the caller has. It finds what no checksum
// covers: boot images, directories, the space between files.
func (v *verifier) againstBase() error {
	if v.given == nil {
		return nil
	}
	was := v.im
	if v.base != nil {
		was = v.base
	}
	changes, err := Compare(v.given, was)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		v.faults = append(v.faults, Fault{
			Check: CheckBase, Where: c.Meaning, Offset: c.Offset,
			Message: fmt.Sprintf("%d bytes are not those of the base image", c.Length),
		})
	}
	return nil
}

// metadata makes the checks that read little.
func (v *verifier) metadata() error {
	return inOrder(v.joliet, v.partitions, v.bootImages, v.menus)
}

// baseFaults marks the faults found so far that the base has too. What is read
// from content that the image shares with its base proves nothing: damage done
// since would show in both. The boot images are such content, and nothing else
// vouches for them; the menus are in md5sum.txt.
func (v *verifier) baseFaults() error {
	if v.base == nil || len(v.faults) == 0 {
		return nil
	}
	b := &verifier{ctx: v.ctx, im: v.base}
	if err := b.metadata(); err != nil {
		return err
	}
	for i := range v.faults {
		f := &v.faults[i]
		f.Base = f.Check != CheckBoot && slices.ContainsFunc(b.faults, func(o Fault) bool {
			return f.Check == o.Check && f.Where == o.Where && f.Message == o.Message
		})
	}
	return nil
}

// verifier is one run of Verify.
type verifier struct {
	ctx      context.Context
	im       *Image
	base     *Image // what im was remastered from, by its restore record; nil when it was not
	given    *Image // what im was made from, as the caller has it
	progress func(done, total int64)
	faults   []Fault
	listed   map[string]bool // by the base's md5sum.txt, once asked for
}

func (v *verifier) fault(check, where string, offset int64, format string, args ...any) {
	v.faults = append(v.faults, Fault{Check: check, Where: where, Offset: offset, Message: fmt.Sprintf(format, args...)})
}

// structure turns an error about the image's format into a fault. Other errors are
// returned: the image could not be read.
func (v *verifier) structure(err error) ([]Fault, error) {
	var format *FormatError
	var refused *RefusedError
	switch {
	case errors.As(err, &format):
		v.fault(CheckStructure, "", int64(format.Offset), "%s", format.Message)
	case errors.As(err, &refused):
		v.fault(CheckStructure, "", -1, "%s", refused.Reason)
	default:
		return nil, err
	}
	return v.faults, nil
}

// unreadable turns an error about a file into a fault, unless the image itself
// could not be read.
func (v *verifier) unreadable(check, where string, err error) error {
	if isReadError(err) {
		return err
	}
	v.fault(check, where, v.offset(where), "cannot be read: %s", pathReason(err))
	return nil
}

// isReadError tells a reader that fails from an image that is wrong.
func isReadError(err error) bool {
	var read *iso9660.ReadError
	return errors.As(err, &read)
}

// joliet compares the Joliet tree of each set with its Rock Ridge tree: both must
// show the same files. Symbolic links are Rock Ridge's alone.
func (v *verifier) joliet() error {
	for i := range v.im.sets {
		s := &v.im.sets[i]
		if s.joliet != nil {
			v.compareDirs(s, ".", s.rockRidge.Root, s.joliet.Root)
		}
	}
	return nil
}

func (v *verifier) compareDirs(s *metadataSet, dir string, rockRidge, joliet *iso9660.Dir) {
	counterparts := iso9660.Counterparts(rockRidge, joliet)
	shown := map[*iso9660.Entry]bool{}
	var missing []*iso9660.Entry
	for _, e := range rockRidge.Entries {
		if e.Mode&fs.ModeSymlink != 0 {
			continue
		}
		c := counterparts[e]
		if c == nil {
			missing = append(missing, e)
			continue
		}
		shown[c] = true
		if e.Dir != nil {
			v.compareDirs(s, path.Join(dir, e.Name), e.Dir, c.Dir)
		}
	}
	var extra []*iso9660.Entry
	for _, c := range joliet.Entries {
		if !shown[c] {
			extra = append(extra, c)
		}
	}
	// Of what is empty and has a name that Joliet changed, only the number tells.
	for _, e := range missing {
		i := slices.IndexFunc(extra, func(c *iso9660.Entry) bool {
			return (c.Dir != nil) == (e.Dir != nil) && !c.HasContent() && !e.HasContent()
		})
		if i >= 0 {
			extra = slices.Delete(extra, i, i+1)
			continue
		}
		v.fault(CheckStructure, path.Join(dir, e.Name), -1, "not in the Joliet tree, or with other content (%s)", s.name)
	}
	for _, c := range extra {
		v.fault(CheckStructure, path.Join(dir, c.Name), -1, "only in the Joliet tree (%s)", s.name)
	}
}

// partitions checks the partition tables against each other and the image's end.
func (v *verifier) partitions() error {
	p := &v.im.parts
	strange := p.strange()
	for _, a := range strange {
		v.fault(CheckPartitions, "", a.First.Offset(),
			"partition %d was added behind the medium after it was written; casper adds one named writable when it boots from a USB device", a.Number)
	}
	if p.table == nil {
		return nil
	}
	if len(strange) == 0 {
		// On a device the backup lies at its end, behind the image.
		if err := p.table.CheckBackup(v.im.r, max(v.im.size, (p.table.Backup+1).Offset())); err != nil {
			var format *gpt.FormatError
			if !errors.As(err, &format) {
				return err
			}
			v.fault(CheckPartitions, "", format.Offset, "%s", format.Message)
		}
	}
	for _, m := range p.mbr.Partitions {
		if end := p.table.Backup; m.Type == gpt.TypeProtective && len(strange) == 0 && m.End() != end+1 {
			v.fault(CheckPartitions, "master boot record", 0, "the protective entry ends at sector %d and the image at %d", m.End(), end+1)
		}
	}
	return nil
}

// bootImages checks what the boot catalogue leads to.
func (v *verifier) bootImages() error {
	im := v.im
	if err := v.bootCode(); err != nil {
		return err
	}
	for i, e := range im.catalog.Entries {
		at := int64(iso9660.Sector(e.Start).Offset())
		if i == im.parts.espEntry {
			v.bootSector(at)
			continue
		}
		name, file := im.bootImage(e)
		if file == nil {
			v.fault(CheckBoot, "boot catalogue", at, "the %s boot image is none of the medium's files", e.Platform)
			continue
		}
		image, err := readText(im.FS(), name)
		if err != nil {
			if err := v.unreadable(CheckBoot, name, err); err != nil {
				return err
			}
			continue
		}
		info, has := eltorito.DecodeBootInfo(image, e.Start)
		if !has {
			continue
		}
		switch {
		case !im.isPrimary(info.Descriptor) || int(info.Length) != len(image):
			v.fault(CheckBoot, name, at+8, "its boot information table is not about this image")
		case info.Checksum != eltorito.ImageChecksum(image):
			v.fault(CheckBoot, name, at+8, "the checksum in its boot information table is wrong")
		}
	}
	return nil
}

// bootCode holds the MBR's boot code against that of the base: a remaster changes the
// sector for its partition entry alone.
func (v *verifier) bootCode() error {
	if v.base == nil {
		return nil
	}
	const length = 440 // UEFI Specification 2.10, 5.2.1
	var is, was [length]byte
	if err := readRange(v.im, is[:], 0); err != nil {
		return err
	}
	if err := readRange(v.base, was[:], 0); err != nil {
		return err
	}
	for i := range is {
		if is[i] != was[i] {
			v.fault(CheckBoot, "master boot record", int64(i), "its boot code is not the base image's")
			break
		}
	}
	return nil
}

// isPrimary reports whether a sector holds a primary volume descriptor. xorriso
// writes a second copy, to which the boot information table may lead.
func (im *Image) isPrimary(sector uint32) bool {
	var b [6]byte
	n, _ := im.ReadAt(b[:], int64(iso9660.Sector(sector).Offset()))
	return n == len(b) && string(b[:]) == "\x01CD001"
}

// bootSector checks that the EFI system partition begins as a FAT file system does.
func (v *verifier) bootSector(at int64) {
	var b [gpt.SectorSize]byte
	if n, _ := v.im.ReadAt(b[:], at); n < len(b) || b[510] != 0x55 || b[511] != 0xAA || b[11] != 0 || b[12] != 2 {
		v.fault(CheckBoot, "EFI system partition", at, "does not begin with the boot sector of a FAT file system")
	}
}
