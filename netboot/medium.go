package netboot

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/netboot/image"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// Medium is an installation medium that is served.
type Medium struct {
	*boot.Medium
	Path  string // the image's file
	Name  string // in addresses: casper wants one that ends in .iso
	Image *iso.Image

	modified time.Time
	whole    *boot.Extents
}

// notInName is what a medium's name in an address does without.
var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// OpenMedium opens the image of an installation medium. The file stays open; it must
// not change while the server runs.
func OpenMedium(path string) (*Medium, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the installation medium: %w", err)
	}
	m, err := readMedium(file, path)
	if err != nil {
		_ = file.Close() // read only
		return nil, fmt.Errorf("cannot serve %s: %w", path, err)
	}
	return m, nil
}

func readMedium(file *os.File, path string) (*Medium, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	im, err := iso.Open(file, info.Size())
	if err != nil {
		return nil, err
	}
	if im.Remastered() {
		return nil, errors.New("it was remastered for a machine already: give the genuine image, or restore it with gpustrap restore")
	}
	files, err := boot.ReadMedium(im)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".iso")
	return &Medium{
		Medium: files, Path: path, Name: notInName.ReplaceAllString(name, "-") + ".iso", Image: im, modified: info.ModTime(),
		whole: boot.NewExtents(im, iso.Range{Length: im.Size()}),
	}, nil
}

// file returns a file that is served of the medium.
func (m *Medium) file(name string) (*boot.Extents, bool) {
	if name == m.Name {
		return m.whole, true
	}
	return m.File(name)
}

// serveFile answers a request for a boot file, or for the whole medium.
func (m *Medium) serveFile(w http.ResponseWriter, r *http.Request, name string, file *boot.Extents) error {
	return image.Serve(w, r, file, m.Path, fmt.Sprintf("%q", m.ID+"-"+name), m.modified)
}

// overlaid is a machine's image: a layout over a medium.
type overlaid struct {
	medium   *Medium
	layout   *iso.Layout
	segments []iso.Segment
	tag      string // strong ETag
}

// ReadAt reads the image.
func (o *overlaid) ReadAt(p []byte, off int64) (int, error) { return o.layout.ReadAt(p, off) }

// Size returns the image's length in bytes.
func (o *overlaid) Size() int64 { return o.layout.Size() }

// Base says where in the medium a byte of the image lies.
func (o *overlaid) Base(offset int64) (at, length int64, ok bool) {
	i := sort.Search(len(o.segments), func(i int) bool { return o.segments[i].End() > offset })
	if offset < 0 || i == len(o.segments) {
		return 0, 0, false
	}
	s := o.segments[i]
	return s.BaseOffset + offset - s.Offset, s.End() - offset, s.Kind == iso.Base
}

// newOverlaid plans a machine's image.
func newOverlaid(medium *Medium, overlay iso.Overlay) (*overlaid, error) {
	layout, err := iso.Remaster(medium.Image, overlay)
	if err != nil {
		return nil, err
	}
	o := &overlaid{medium: medium, layout: layout, segments: layout.Segments()}
	// Two images with one tag must have the same bytes: what is the medium's own is
	// said by its place, the rest is hashed.
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s %d\n", medium.ID, layout.Size()) // a hash takes everything
	for _, s := range o.segments {
		_, _ = fmt.Fprintf(sum, "%d %d %d\n", s.Offset, s.Length, s.BaseOffset)
		if s.Kind == iso.Base {
			continue
		}
		if _, err := io.Copy(sum, io.NewSectionReader(layout, s.Offset, s.Length)); err != nil {
			return nil, err
		}
	}
	o.tag = fmt.Sprintf("%q", hex.EncodeToString(sum.Sum(nil)[:16]))
	return o, nil
}

// mediumOverlay is what is laid over a medium so that it installs a machine that was
// armed: the person who armed it has answered what the boot menu would ask.
func mediumOverlay(m *plan.Machine, r *state.Record, seed autoinstall.Seed) (iso.Overlay, error) {
	unasked := *m
	unasked.Boot.Confirm, unasked.Boot.Timeout = config.ConfirmNone, 0
	unasked.Reinstall = m.Reinstall || r.Reinstall
	return plan.Overlay(&unasked, seed)
}

// maxOverlaid bounds the images whose layouts are kept. One takes some hundred
// kilobytes; planning one again takes milliseconds.
const maxOverlaid = 256

// overlaidKey names an image. It stays the same while the machine reads it, whatever
// becomes of the configuration.
type overlaidKey struct {
	machine    string
	generation uint64
}

// overlaidEntry is an image that is planned, or is just being.
type overlaidEntry struct {
	key  overlaidKey
	once sync.Once
	made *overlaid
	err  error
}

// overlaidCache keeps the images that were read last.
type overlaidCache struct {
	mu      sync.Mutex
	entries map[overlaidKey]*list.Element
	order   *list.List // of *overlaidEntry, the latest first
}

func newOverlaidCache() *overlaidCache {
	return &overlaidCache{entries: map[overlaidKey]*list.Element{}, order: list.New()}
}

// get returns an image, which is planned the first time.
func (c *overlaidCache) get(key overlaidKey, plan func() (*overlaid, error)) (*overlaid, error) {
	c.mu.Lock()
	element, ok := c.entries[key]
	if ok {
		c.order.MoveToFront(element)
	} else {
		element = c.order.PushFront(&overlaidEntry{key: key})
		c.entries[key] = element
		for c.order.Len() > maxOverlaid {
			c.forget(c.order.Back())
		}
	}
	entry := element.Value.(*overlaidEntry)
	c.mu.Unlock()
	entry.once.Do(func() {
		if entry.made, entry.err = plan(); entry.err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.entries[key] == element {
				c.forget(element)
			}
		}
	})
	return entry.made, entry.err
}

// forget drops an image. The cache must be locked.
func (c *overlaidCache) forget(element *list.Element) {
	delete(c.entries, element.Value.(*overlaidEntry).key)
	c.order.Remove(element)
}

// mediumFor returns the first medium that the machine can be installed from.
func mediumFor(media []*Medium, m *plan.Machine) (*Medium, error) {
	var reasons []error
	for _, medium := range media {
		err := plan.CheckMedium(m, medium.Description)
		if err == nil {
			return medium, nil
		}
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no medium that is served fits: %w", errors.Join(slices.Compact(reasons)...))
}
