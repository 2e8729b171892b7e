package netboot

import (
	"container/list"
	"errors"
	"fmt"
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
		return nil, fmt.Errorf("cannot read the installation medium: %w", err)
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

// machineImage is a machine's image: a medium with what installs the machine laid over
// it.
type machineImage struct {
	*image.Compact
	medium *Medium
}

// planned is an image as it was planned. It is in memory only until it is a Compact.
type planned struct {
	*iso.Layout
	segments []iso.Segment
}

// Base says where in the medium a byte of the image lies.
func (p *planned) Base(offset int64) (at, length int64, ok bool) {
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].End() > offset })
	if offset < 0 || i == len(p.segments) {
		return 0, 0, false
	}
	s := p.segments[i]
	return s.BaseOffset + offset - s.Offset, s.End() - offset, s.Kind == iso.Base
}

// newMachineImage plans a machine's image.
func newMachineImage(medium *Medium, overlay iso.Overlay) (*machineImage, error) {
	layout, err := iso.Remaster(medium.Image, overlay)
	if err != nil {
		return nil, err
	}
	compact, err := image.NewCompact(&planned{layout, layout.Segments()}, medium.Image, medium.ID)
	if err != nil {
		return nil, err
	}
	return &machineImage{compact, medium}, nil
}

// mediumOverlay is what is laid over a medium so that it installs a machine that was
// armed: the person who armed it has answered what the boot menu would ask.
func mediumOverlay(m *plan.Machine, r *state.Record, seed autoinstall.Seed) (iso.Overlay, error) {
	unasked := *m
	unasked.Boot.Confirm, unasked.Boot.Timeout = config.ConfirmNone, 0
	unasked.Reinstall = m.Reinstall || r.Reinstall
	return plan.Overlay(&unasked, seed)
}

// Bounds of the images that are kept. Planning one takes milliseconds and megabytes;
// once it is, it takes some ten kilobytes besides what it shares with the others.
const (
	maxImages = 10000 // that are kept
	maxPlans  = 4     // that are planned at a time
)

// imageKey names an image. It stays the same while the machine reads it, whatever
// becomes of the configuration.
type imageKey struct {
	machine    string
	generation uint64
}

// imageEntry is an image that is planned, or is just being.
type imageEntry struct {
	key  imageKey
	once sync.Once
	made *machineImage
	err  error
}

// imageCache keeps the images that were read last.
type imageCache struct {
	plans chan struct{} // holds a place for each that is being planned

	mu      sync.Mutex
	entries map[string]*list.Element // by machine: its latest generation's
	order   *list.List               // of *imageEntry, the latest first
}

func newImageCache() *imageCache {
	return &imageCache{plans: make(chan struct{}, maxPlans), entries: map[string]*list.Element{}, order: list.New()}
}

// get returns an image, which is planned the first time.
func (c *imageCache) get(key imageKey, plan func() (*machineImage, error)) (*machineImage, error) {
	entry := c.entry(key)
	entry.once.Do(func() {
		c.plans <- struct{}{}
		defer func() { <-c.plans }()
		if entry.made, entry.err = plan(); entry.err != nil {
			c.forget(entry)
		}
	})
	return entry.made, entry.err
}

// entry returns the entry of an image. A former generation's makes room for it.
func (c *imageCache) entry(key imageKey) *imageEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[key.machine]
	if ok && element.Value.(*imageEntry).key == key {
		c.order.MoveToFront(element)
		return element.Value.(*imageEntry)
	}
	if ok {
		c.order.Remove(element)
	}
	entry := &imageEntry{key: key}
	c.entries[key.machine] = c.order.PushFront(entry)
	for c.order.Len() > maxImages {
		last := c.order.Back()
		delete(c.entries, last.Value.(*imageEntry).key.machine)
		c.order.Remove(last)
	}
	return entry
}

// forget drops an image that could not be made, unless another is in its place.
func (c *imageCache) forget(entry *imageEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[entry.key.machine]; ok && element.Value == entry {
		delete(c.entries, entry.key.machine)
		c.order.Remove(element)
	}
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
