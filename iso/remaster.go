package iso

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/gpustrap/gpustrap/iso/grubcfg"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// bootMenus are the boot menus of a medium. The second is for GRUB that loops the
// image itself.
var bootMenus = [...]string{"boot/grub/grub.cfg", "boot/grub/loopback.cfg"}

// Remaster plans the medium with the overlay on it. It reads the base's metadata,
// boot menus and md5sum.txt, and the whole overlay once for its checksums; it
// copies nothing and reads none of the base's other content. The overlay of a base
// that was itself remastered is replaced. The same base and overlay give the same
// bytes.
//
// It returns an *OverlayError for what cannot be put on the medium.
func Remaster(base *Image, o Overlay) (*Layout, error) {
	pristine, restored, err := base.original()
	if err != nil {
		return nil, err
	}
	p := &plan{
		base:    pristine,
		removed: cleanPaths(o.Remove),
		date:    o.ModTime,
		next:    pristine.parts.insertion(),
	}
	if p.date.IsZero() {
		p.date = pristine.date()
	}
	if p.added, err = readOverlay(o.Files); err != nil {
		return nil, err
	}
	l, err := p.layout(o.Menu)
	if err != nil {
		return nil, err
	}
	// The result must be a medium that this package itself accepts, whatever is
	// wrong above: better no image than a bad one.
	if err := check(l, l.Size()); err != nil {
		return nil, fmt.Errorf("cannot remaster the image: the result would not be sound: %w", err)
	}
	if restored != nil {
		l.segments, l.base = through(l.segments, restored), base
	}
	return l, nil
}

// plan is one run of Remaster.
type plan struct {
	base    *Image
	added   *node
	removed []string
	date    time.Time

	next    iso9660.Sector        // the first free one behind what was placed so far
	content []Segment             // of added files
	patches []Segment             // Bytes segments: metadata
	volumes []*iso9660.Descriptor // of the edited trees
	inserts iso9660.Sector        // how many sectors are inserted, in the end
}

// layout runs the plan's steps.
func (p *plan) layout(menu *grubcfg.Menu) (*Layout, error) {
	err := inOrder(
		p.checkPaths,
		func() error { return p.editMenus(menu) },
		func() error { return hashFiles(p.added) },
		p.editChecksums,
		p.placeFiles,
		p.editTrees,
		p.clearChecksumTags,
	)
	if err != nil {
		return nil, err
	}
	return p.assemble()
}

// cleanPaths sorts paths and drops repetitions.
func cleanPaths(paths []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(paths)))
}

// checkPaths refuses changes to what the boot structures lead to, and removals of
// what is not there.
func (p *plan) checkPaths() error {
	fsys := p.base.FS()
	for _, r := range p.removed {
		if !fs.ValidPath(r) || r == "." {
			return &OverlayError{Path: r, Reason: "cannot be removed: not a path on the medium"}
		}
		if _, err := fs.Lstat(fsys, r); err != nil {
			return &OverlayError{Path: r, Reason: "cannot be removed: there is no such file on the medium"}
		}
	}
	for _, fixed := range p.base.bootFiles() {
		n := p.added.find(fixed)
		if n != nil || isRemoved(fixed, p.removed) {
			return &OverlayError{Path: fixed, Reason: "cannot be replaced or removed: the medium boots from its place"}
		}
	}
	if p.added.find(md5sumPath) != nil || isRemoved(md5sumPath, p.removed) {
		return &OverlayError{Path: md5sumPath, Reason: "cannot be replaced or removed: it is kept true to the medium's files"}
	}
	return nil
}

// bootFiles returns the paths of files that the boot catalogue and the boot record
// lead to: the catalogue itself and the boot images.
func (im *Image) bootFiles() []string {
	places := map[iso9660.Sector]bool{im.sets[setA].volume.BootCatalog: true}
	for _, e := range im.catalog.Entries {
		places[iso9660.Sector(e.Start)] = true
	}
	var found []string
	for path, e := range im.sets[setA].rockRidge.Files() {
		if places[e.Extents()[0].Sector] && e.Dir == nil && e.Size() > 0 {
			found = append(found, path)
		}
	}
	return found
}

// editMenus puts the boot menus among the added files.
func (p *plan) editMenus(menu *grubcfg.Menu) error {
	if menu == nil {
		return nil
	}
	for i, path := range bootMenus {
		text, err := p.read(path)
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			continue
		}
		if err != nil {
			return &OverlayError{Path: path, Reason: "cannot read the boot menu: " + pathReason(err)}
		}
		edited, err := grubcfg.Edit(text, *menu)
		if err != nil {
			return fmt.Errorf("cannot edit the boot menu %s: %w", path, err)
		}
		if err := p.added.put(path, edited); err != nil {
			return err
		}
	}
	return nil
}

// read returns a text file as the overlay or else the base has it.
func (p *plan) read(path string) ([]byte, error) {
	if n := p.added.find(path); n != nil && n.file != nil {
		return readText(n.file.fsys, path)
	}
	if isRemoved(path, p.removed) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return readText(p.base.FS(), path)
}

// editChecksums puts md5sum.txt among the added files, when the base has one and
// anything changes.
func (p *plan) editChecksums() error {
	if len(p.added.children) == 0 && len(p.removed) == 0 {
		return nil
	}
	text, err := readText(p.base.FS(), md5sumPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &OverlayError{Path: md5sumPath, Reason: "cannot read the medium's checksums: " + pathReason(err)}
	}
	edited, err := editMD5(text, p.removed, p.added)
	if err != nil {
		return err
	}
	return p.added.put(md5sumPath, edited)
}

// take gives away the next free sectors.
func (p *plan) take(sectors int64) (iso9660.Sector, error) {
	s := p.next
	// What is inserted moves the EFI system partition, whose sector the boot
	// catalogue holds in 32 bits, as all sectors.
	if int64(s)+sectors+int64(p.base.size/iso9660.SectorSize) > math.MaxUint32 {
		return 0, errors.New("cannot remaster the image: it would grow beyond the 8 TiB that ISO 9660 can address")
	}
	p.next += iso9660.Sector(sectors)
	return s, nil
}

// alignSize is the size in bytes from which a file begins at a multiple of 4 KiB,
// the block size of file systems that can share its blocks.
const alignSize = 1 << 20

// placeFiles finds room for the content of added files.
func (p *plan) placeFiles() error {
	return p.added.files(func(n *node) error {
		size := n.size()
		if size >= alignSize && p.next%2 == 1 {
			p.next++
		}
		at, err := p.take(iso9660.Sectors(size))
		if err != nil {
			return err
		}
		n.extents = splitExtents(at, size)
		if size > 0 {
			p.content = append(p.content, n.segment(at))
		}
		return nil
	})
}

// segment makes the segment of a file's content at a sector.
func (n *node) segment(at iso9660.Sector) Segment {
	s := Segment{Offset: int64(at.Offset()), Length: n.size(), Path: n.path}
	if n.file != nil {
		s.Kind, s.file = File, n.file
	} else {
		s.Kind, s.Bytes = Bytes, n.text
	}
	return s
}

// splitExtents cuts content into the extents that a directory record can hold.
func splitExtents(at iso9660.Sector, size int64) []iso9660.Extent {
	var x []iso9660.Extent
	for {
		n := min(size, iso9660.MaxExtent)
		x = append(x, iso9660.Extent{Sector: at, Length: uint32(n)})
		if size -= n; size == 0 {
			return x
		}
		at += iso9660.Sector(n / iso9660.SectorSize)
	}
}

// patch records metadata to write at an offset in bytes.
func (p *plan) patch(off int64, b []byte) {
	if len(b) > 0 {
		p.patches = append(p.patches, Segment{Offset: off, Length: int64(len(b)), Kind: Bytes, Bytes: b})
	}
}
