package netboot

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// seedKey names a seed: it is rendered once for each.
type seedKey struct {
	configuration string
	machine       string
	generation    uint64
}

// seedEntry is a seed that is rendered, or is just being.
type seedEntry struct {
	key  seedKey
	once sync.Once
	seed autoinstall.Seed
	size int64
	err  error
}

// seedCache keeps the seeds that were asked for last.
type seedCache struct {
	max int64

	mu      sync.Mutex
	size    int64
	entries map[seedKey]*list.Element
	order   *list.List // of *seedEntry, the latest first
}

func newSeedCache(limit int64) *seedCache {
	return &seedCache{max: limit, entries: map[seedKey]*list.Element{}, order: list.New()}
}

// get returns a seed, which is rendered the first time.
func (c *seedCache) get(key seedKey, render func() (autoinstall.Seed, error)) (autoinstall.Seed, error) {
	c.mu.Lock()
	element, ok := c.entries[key]
	if ok {
		c.order.MoveToFront(element)
	} else {
		element = c.order.PushFront(&seedEntry{key: key})
		c.entries[key] = element
	}
	entry := element.Value.(*seedEntry)
	c.mu.Unlock()
	entry.once.Do(func() {
		entry.seed, entry.err = render()
		c.mu.Lock()
		defer c.mu.Unlock()
		if entry.err != nil {
			c.remove(key)
			return
		}
		entry.size = int64(len(entry.seed.UserData) + len(entry.seed.MetaData) + len(entry.seed.VendorData))
		c.size += entry.size
		for c.size > c.max && c.order.Len() > 1 {
			c.remove(c.order.Back().Value.(*seedEntry).key)
		}
	})
	return entry.seed, entry.err
}

// remove forgets a seed. The cache must be locked.
func (c *seedCache) remove(key seedKey) {
	if element, ok := c.entries[key]; ok {
		c.size -= element.Value.(*seedEntry).size
		c.order.Remove(element)
		delete(c.entries, key)
	}
}

// Seed returns the seed of a machine's generation, with this server's addresses for
// what it reports and the generation's stamp.
func (s *Server) Seed(m *plan.Machine, r *state.Record) (autoinstall.Seed, error) {
	good, _ := s.loader.current()
	return s.seeds.get(seedKey{good.id, m.Name, r.Generation}, func() (autoinstall.Seed, error) { return s.renderSeed(m, r) })
}

// renderSeed renders what Seed returns.
func (s *Server) renderSeed(m *plan.Machine, r *state.Record) (autoinstall.Seed, error) {
	good, _ := s.loader.current()
	begin := s.o.Now()
	report := s.o.Base + "/report/" + string(s.token(r, state.ForReport))
	seed, rep := good.project.RenderServed(m, plan.Served{
		Report: report + "/event", Receipt: report + "/receipt", Stamp: r.Stamp(), Reinstall: r.Reinstall,
	})
	s.meters.renders.Observe(s.o.Now().Sub(begin).Seconds())
	return seed, reportError(m, rep)
}

// validate renders a machine without a generation, to hear what is wrong.
func (s *Server) validate(m *plan.Machine) error {
	good, _ := s.loader.current()
	_, rep := good.project.RenderServed(m, plan.Served{Stamp: "g0-000000"})
	return reportError(m, rep)
}

// errUnrendered: a machine's seed cannot be rendered.
var errUnrendered = errors.New("its configuration does not allow it")

func reportError(m *plan.Machine, rep report.Report) error {
	if !rep.HasErrors() {
		return nil
	}
	var text bytes.Buffer
	if err := rep.Print(&text, report.PrintOptions{}); err != nil {
		return fmt.Errorf("cannot render %s: %w", m.Name, err)
	}
	return fmt.Errorf("cannot render %s: %w: %s", m.Name, errUnrendered, strings.TrimSpace(text.String()))
}

// seedOpen is how long a seed stays open after it was fetched. cloud-init fetches it
// within seconds; a reset by hand opens it again.
const seedOpen = 10 * time.Minute

// errClosed: a seed was there, and is closed.
var errClosed = errors.New("the seed is closed")

// open reports whether a record's seed may still be fetched.
func (s *Server) open(r *state.Record) bool {
	now := s.o.Now()
	if !r.Live(now) {
		return false
	}
	switch r.Phase {
	case state.Booting:
		return true
	case state.Seeded:
		return now.Sub(r.Since).Abs() < seedOpen // a clock set back does not open it longer
	case state.Installing:
		return now.Sub(r.At(state.Installing)).Abs() < s.o.Limits.SeedGrace
	case state.Stalled:
		return r.At(state.Installing).IsZero()
	}
	return false
}

// serveSeed answers GET /s/TOKEN/FILE. Between the token and the file there may be
// what cloud-init put in the place of __dmi.system-uuid__ or
// __dmi.system-serial-number__: the hardware that asks must then be the machine's.
func (s *Server) serveSeed(w http.ResponseWriter, r *http.Request) {
	token, rest, _ := strings.Cut(r.PathValue("rest"), "/")
	ids, name := "", rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		ids, name = rest[:i], rest[i+1:]
	}
	record, err := s.lookup(r.Context(), state.Token(token), state.ForSeed, addressOf(r))
	if err != nil {
		s.refuse(w, err)
		return
	}
	m := s.Machine(record.Machine)
	if m == nil || record.Via != state.Network || !s.open(record) {
		http.Error(w, errClosed.Error(), http.StatusGone)
		return
	}
	if !isHardware(m, ids) {
		s.o.Log.Warn("another machine asked for a seed", "machine", m.Name, "asked", ids)
		http.Error(w, "this seed is for another machine", http.StatusForbidden)
		return
	}
	content, err := s.seedFile(r.Context(), r.Method, m, record, name)
	switch {
	case errors.Is(err, errNoFile):
		http.NotFound(w, r)
	case errors.Is(err, errClosed), errors.Is(err, state.ErrConflict):
		http.Error(w, errClosed.Error(), http.StatusGone)
	case errors.Is(err, state.ErrFull):
		s.refuse(w, err) // cloud-init asks again
	case err != nil:
		s.o.Log.Error("cannot serve a seed", "machine", m.Name, "why", err)
		http.Error(w, "the seed cannot be made; the server's log says why", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
			// In one piece: ServeContent would copy it through a small buffer.
			w.Header().Set("Accept-Ranges", "bytes")
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content) // a client that is gone asks again
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// errNoFile: a seed has no such file.
var errNoFile = errors.New("a seed has no such file")

// seedFile returns a file of a seed. user-data goes out only after the machine has
// the phase seeded.
func (s *Server) seedFile(ctx context.Context, method string, m *plan.Machine, r *state.Record, name string) ([]byte, error) {
	switch name {
	case "network-config", "vendor-data":
		return nil, nil // empty, and there: cloud-init waits ten seconds for what is not
	case "meta-data", "user-data":
	default:
		return nil, errNoFile
	}
	seed, err := s.Seed(m, r)
	if err != nil {
		return nil, err
	}
	if name == "meta-data" {
		return seed.MetaData, nil
	}
	if method == http.MethodHead {
		return seed.UserData, nil
	}
	for r.Phase == state.Booting || r.Phase == state.Stalled {
		next, err := s.advance(ctx, r, []state.Phase{r.Phase}, state.Seeded, "")
		if errors.Is(err, state.ErrConflict) { // asked for twice at the same time
			again, err := s.o.Store.Get(ctx, r.Machine)
			if err != nil {
				return nil, err
			}
			if again.Generation != r.Generation || !s.open(again) {
				return nil, errClosed
			}
			r = again
			continue
		}
		if err != nil {
			return nil, err
		}
		r = next
	}
	s.Saw(m.Name, Sighting{Kind: SawSeed, Bytes: int64(len(seed.UserData)), Size: int64(len(seed.UserData))})
	return seed.UserData, nil
}

// isHardware reports whether ids, which cloud-init took from the hardware, can be the
// machine's. What it did not know it leaves as it was or empty.
func isHardware(m *plan.Machine, ids string) bool {
	ids = strings.Trim(ids, "/")
	if ids == "" || strings.Contains(ids, "__dmi.") || m.Match.UUID == "" && m.Match.Serial == "" {
		return true
	}
	return strings.EqualFold(ids, m.Match.UUID) || ids == strings.Trim(m.Match.Serial, "/")
}
