package netboot

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// Kind is a kind of Sighting.
type Kind string

// The kinds, in the order in which a boot makes them.
const (
	SawDHCP   Kind = "DHCP"        // it asked for a boot file
	SawLoader Kind = "boot loader" // it fetched one, by TFTP or HTTP
	SawScript Kind = "boot script"
	SawKernel Kind = "kernel"
	SawInitrd Kind = "initrd"
	SawImage  Kind = "medium" // bytes of an ISO
	SawSeed   Kind = "seed"   // its user-data
	SawEvent  Kind = "event"  // the installer's
	SawProof  Kind = "receipt"
)

// Kinds returns the kinds in their order.
func Kinds() []Kind {
	return []Kind{SawDHCP, SawLoader, SawScript, SawKernel, SawInitrd, SawImage, SawSeed, SawEvent, SawProof}
}

// Sighting is something that a machine was seen to do.
type Sighting struct {
	Kind   Kind
	Detail string // in words, such as the firmware or a file's name
	Bytes  int64  // that were sent
	Size   int64  // bytes of the whole; 0: not known
}

// Seen is what was seen of a kind since the machine last began to boot.
type Seen struct {
	Kind   Kind      `json:"kind"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Count  int       `json:"count"`
	Detail string    `json:"detail,omitempty"` // of the last
	Bytes  int64     `json:"bytes,omitempty"`  // of all
	Size   int64     `json:"size,omitempty"`
}

// View is what there is to say of a machine. It is a copy: nobody changes it.
type View struct {
	Machine  string          `json:"machine"`
	Known    bool            `json:"known"`            // the configuration has it
	Record   *state.Record   `json:"record,omitempty"` // its public part; nil: never armed; it is not to be changed
	Seen     []Seen          `json:"seen,omitempty"`   // in the order of Kinds
	Timeline events.Timeline `json:"timeline"`
	Erases   string          `json:"erases,omitempty"` // the disks that an installation erases, in words
	// Waits says in words what it waits for, or why it is stuck.
	Waits string `json:"waits"`
}

// Phase returns the machine's phase, and "" for one that was never armed.
func (v *View) Phase() state.Phase {
	if v.Record == nil {
		return ""
	}
	return v.Record.Phase
}

// Unknown is a machine that asked and is not in the configuration.
type Unknown struct {
	Identity Identity
	First    time.Time
	Last     time.Time
	Count    int
}

// maxUnknown bounds the unknown machines that are remembered.
const maxUnknown = 1000

// live is what is known of a machine in memory.
type live struct {
	record   *state.Record
	seen     map[Kind]*Seen
	timeline events.Timeline
	loaded   uint64 // the generation whose events the timeline has
	changes  uint64 // how often any of this has changed
}

// board is all that is known of the machines in memory: what the store says, and
// what was seen. It may be used by several goroutines at a time.
type board struct {
	mu       sync.Mutex
	machines map[string]*live
	tokens   map[state.Hash]string // of the present generations
	unknown  map[string]*Unknown
	watchers map[chan string]bool
}

func newBoard() *board {
	return &board{machines: map[string]*live{}, tokens: map[state.Hash]string{}, unknown: map[string]*Unknown{}, watchers: map[chan string]bool{}}
}

// of returns a machine's entry. The board must be locked.
func (b *board) of(machine string) *live {
	l := b.machines[machine]
	if l == nil {
		l = &live{seen: map[Kind]*Seen{}}
		b.machines[machine] = l
	}
	return l
}

// put takes a record in, unless a newer one is there already.
func (b *board) put(r *state.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(r.Machine)
	if l.record != nil && l.record.Revision >= r.Revision {
		return
	}
	if l.record == nil || l.record.Generation != r.Generation {
		l.seen, l.timeline, l.loaded = map[Kind]*Seen{}, events.Timeline{}, 0
		for _, p := range state.Purposes() {
			if l.record != nil {
				delete(b.tokens, l.record.Hash(p))
			}
			b.tokens[r.Hash(p)] = r.Machine
		}
	}
	l.record = r
	l.changes++
	b.tell(r.Machine)
}

// changes returns a number that is another one when there may be something new to say
// of a machine.
func (b *board) changes(machine string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.machines[machine]; l != nil {
		return l.changes
	}
	return 0
}

// record returns the latest record that was heard of, or nil.
func (b *board) record(machine string) *state.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.machines[machine]; l != nil {
		return l.record
	}
	return nil
}

// byToken returns the machine that a token is of, if it was heard of.
func (b *board) byToken(t state.Token) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	machine, ok := b.tokens[t.Hash()]
	return machine, ok
}

// saw takes a sighting in. A boot script begins a new boot.
func (b *board) saw(machine string, s Sighting, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(machine)
	if s.Kind == SawScript {
		for _, later := range Kinds()[slices.Index(Kinds(), SawScript):] {
			if later != SawEvent && later != SawProof {
				delete(l.seen, later)
			}
		}
	}
	seen := l.seen[s.Kind]
	if seen == nil {
		seen = &Seen{Kind: s.Kind, First: now}
		l.seen[s.Kind] = seen
	}
	seen.Last, seen.Detail = now, s.Detail
	seen.Count++
	seen.Bytes += s.Bytes
	seen.Size = max(seen.Size, s.Size)
	l.changes++
	b.tell(machine)
}

// stranger takes note of a machine that the configuration does not have.
func (b *board) stranger(id Identity, now time.Time) {
	key := id.MAC.String() + " " + strings.Join(id.UUIDs, " ") + " " + id.Serial
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.unknown[key]
	if u == nil {
		if len(b.unknown) >= maxUnknown {
			oldest := ""
			for k, v := range b.unknown {
				if oldest == "" || v.Last.Before(b.unknown[oldest].Last) {
					oldest = k
				}
			}
			delete(b.unknown, oldest)
		}
		u = &Unknown{Identity: id, First: now}
		b.unknown[key] = u
		b.tell("")
	}
	u.Last = now
	u.Count++
}

// tell tells the watchers that something about a machine has changed. Who is slow
// misses some: a change says that there is something to look at, not what.
func (b *board) tell(machine string) {
	for w := range b.watchers {
		select {
		case w <- machine:
		default:
		}
	}
}

// view returns a copy of what is known of a machine, without words.
func (b *board) view(machine string) View {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := View{Machine: machine}
	l := b.machines[machine]
	if l == nil {
		return v
	}
	if l.record != nil {
		v.Record = l.record.Public()
	}
	v.Timeline = l.timeline
	v.Timeline.Spans = slices.Clone(l.timeline.Spans)
	for _, k := range Kinds() {
		if s := l.seen[k]; s != nil {
			v.Seen = append(v.Seen, *s)
		}
	}
	return v
}

// names returns all machines that anything is known of.
func (b *board) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.machines))
}

// strangers returns the unknown machines, the latest first.
func (b *board) strangers() []Unknown {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Unknown
	for _, u := range b.unknown {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(x, y Unknown) int { return y.Last.Compare(x.Last) })
	return out
}

// watch returns a channel of machines that changed, and what ends it.
func (b *board) watch() (<-chan string, func()) {
	w := make(chan string, 256)
	b.mu.Lock()
	if b.watchers == nil {
		close(w)
	} else {
		b.watchers[w] = true
	}
	b.mu.Unlock()
	return w, func() {
		b.mu.Lock()
		delete(b.watchers, w)
		b.mu.Unlock()
	}
}

// endWatches closes all watchers' channels, and those that come.
func (b *board) endWatches() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers {
		close(w)
	}
	b.watchers = nil
}

// saw returns what was seen of a kind, and the zero value when nothing was.
func (v *View) saw(k Kind) Seen {
	if i := slices.IndexFunc(v.Seen, func(s Seen) bool { return s.Kind == k }); i >= 0 {
		return v.Seen[i]
	}
	return Seen{}
}
