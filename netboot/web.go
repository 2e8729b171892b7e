package netboot

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/netboot/page"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// pages returns the pages for people, which show this server's machines.
func (s *Server) pages() http.Handler {
	return page.New(page.Options{Source: &web{s: s}, Public: s.o.PublicPages, SignIn: s.TryAdmin, Now: s.o.Now, Random: s.o.Random})
}

// fresh is how long the cells of the grid are kept. It is shorter than a page waits
// after a change until it looks.
const fresh = 200 * time.Millisecond

// web shows a server to its pages.
type web struct {
	s *Server

	mu    sync.Mutex
	cells []page.Machine
	kept  map[string]keptCell
	until time.Time
}

// keptCell is a cell of the grid, and what it was made of.
type keptCell struct {
	cell    page.Machine
	machine *plan.Machine
	changes uint64
}

// Machines returns the cells of the grid.
func (w *web) Machines() []page.Machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.s.o.Now()
	if w.cells != nil && now.Before(w.until) && now.After(w.until.Add(-2*fresh)) {
		return w.cells
	}
	// Of ten thousand machines few have changed since.
	kept := make(map[string]keptCell, len(w.kept))
	w.cells = make([]page.Machine, 0, len(w.cells))
	for name, m := range w.s.all() {
		k, ok := w.kept[name]
		if changes := w.s.board.changes(name); !ok || k.changes != changes || k.machine != m {
			v := w.s.board.view(name)
			w.s.describe(m, &v)
			k = keptCell{w.cell(&v), m, changes}
		}
		kept[name] = k
		w.cells = append(w.cells, k.cell)
	}
	w.kept, w.until = kept, now.Add(fresh)
	return w.cells
}

func (w *web) cell(v *View) page.Machine {
	out := page.Machine{Name: v.Machine, Phase: page.Phase(v.Phase()), Waits: v.Waits}
	if v.Record != nil {
		out.Since = v.Record.Since
	}
	if m := w.s.Machine(v.Machine); m != nil {
		var words []string
		for _, f := range identityFacts(m) {
			words = append(words, f.Value)
		}
		out.Find = strings.Join(words, " ")
	}
	return out
}

func identityFacts(m *plan.Machine) []page.Fact {
	var out []page.Fact
	for _, mac := range m.Match.MACs {
		out = append(out, page.Fact{Name: "MAC address", Value: mac.String()})
	}
	for _, f := range []page.Fact{{Name: "serial number", Value: m.Match.Serial}, {Name: "UUID", Value: m.Match.UUID}} {
		if f.Value != "" {
			out = append(out, f)
		}
	}
	return out
}

// Detail returns what a machine's page shows.
func (w *web) Detail(name string) (page.Detail, bool) {
	v, ok := w.s.View(name)
	if !ok {
		return page.Detail{}, false
	}
	out := page.Detail{Machine: w.cell(&v), Steps: steps(&v)}
	if m := w.s.Machine(name); m != nil {
		out.Facts = append(identityFacts(m), page.Fact{Name: "system", Value: "Ubuntu " + m.Ubuntu + ", " + m.Arch})
		if m.GPU != nil && len(m.GPU.Models) > 0 {
			out.Facts = append(out.Facts, page.Fact{Name: "GPUs", Value: strings.Join(m.GPU.Models, ", ")})
		}
	} else {
		out.Facts = []page.Fact{{Name: "configuration", Value: "gpustrap.yaml has it no more"}}
	}
	if v.Erases != "" {
		out.Facts = append(out.Facts, page.Fact{Name: "its installation erases", Value: v.Erases})
	}
	if r := v.Record; r != nil {
		out.Generation, out.Via = r.Generation, string(r.Via)
		out.Active, out.Installed = r.Phase.Active(), !r.At(state.Installed).IsZero() || r.Holds()
		out.Armed, out.Begun = r.Phase == state.Armed || r.Phase.Active(), r.Begun()
		if r.Phase == state.Armed {
			out.Expires = r.Expires
		}
		if r.Receipt != nil {
			out.Facts = append(out.Facts, page.Fact{Name: "last receipt", Value: r.Receipt.Line + " (" + r.Receipt.Time.UTC().Format("2006-01-02 15:04:05 UTC") + ")"})
		}
	}
	if f := v.Timeline.Failure; f != nil {
		out.Failed, out.Log = f.What, f.Log
	}
	return out, true
}

// steps makes one timeline of what was seen of a boot, of the installer's events and
// of the phases that say how it ended.
func steps(v *View) []page.Step {
	var out []page.Step
	if v.Record == nil {
		return nil
	}
	out = append(out, page.Step{Name: "armed", Start: v.Record.Armed, End: v.Record.Armed, Tone: page.Idle})
	for _, seen := range v.Seen {
		if seen.Kind == SawEvent || seen.Kind == SawProof {
			continue
		}
		detail := seen.Detail
		if seen.Kind == SawImage && seen.Size > 0 {
			detail = strings.TrimSpace(fmt.Sprintf("%s %d of %d MiB", detail, seen.Bytes>>20, seen.Size>>20))
		}
		out = append(out, page.Step{Name: string(seen.Kind), Detail: detail, Start: seen.First, End: seen.Last, Tone: page.Good})
	}
	current, _ := v.Timeline.Current()
	for _, span := range v.Timeline.Spans {
		step := page.Step{Name: string(span.Step), Detail: span.Doing, Start: span.Start, End: span.End, Tone: page.Good}
		switch failure := v.Timeline.Failure; {
		case failure != nil && failure.Step == span.Step:
			step.Tone = page.Bad
		case failure == nil && !v.Timeline.Over && span.Step == current.Step:
			step.Tone = page.Busy
		}
		out = append(out, step)
	}
	for _, edge := range v.Record.History {
		if tone := page.Phase(edge.Phase).Tone(); tone != page.Busy || edge.Phase == state.Installed {
			if tone == page.Busy {
				tone = page.Good
			}
			out = append(out, page.Step{Name: string(edge.Phase), Detail: edge.Why, Start: edge.Time, End: edge.Time, Tone: tone})
		}
	}
	slices.SortStableFunc(out, func(a, b page.Step) int { return a.Start.Compare(b.Start) })
	return out
}

// Unknown returns the machines that are not configured.
func (w *web) Unknown() []page.Unknown {
	const shown = 50
	strangers := w.s.Unknown()
	out := make([]page.Unknown, 0, min(len(strangers), shown))
	for _, u := range strangers[:min(len(strangers), shown)] {
		uuid := ""
		if len(u.Identity.UUIDs) > 0 {
			uuid = u.Identity.UUIDs[0]
		}
		out = append(out, page.Unknown{MAC: u.Identity.MAC.String(), UUID: uuid, Serial: u.Identity.Serial, Last: u.Last, Count: u.Count})
	}
	return out
}

// Refused returns the report on a configuration that was not taken over.
func (w *web) Refused() (string, time.Time) {
	if _, trouble := w.s.Config(); trouble != nil {
		return trouble.Text, trouble.Time
	}
	return "", time.Time{}
}

// Watch returns a channel of machines that changed.
func (w *web) Watch() (<-chan string, func()) { return w.s.Changes() }

// Arm lets a machine be installed.
func (w *web) Arm(ctx context.Context, machine string, o page.Order, address string) (string, error) {
	order := ArmOrder{Via: state.Network, Reinstall: o.Reinstall}
	if o.Medium {
		order.Via = state.Medium
	}
	r, err := w.s.Arm(ctx, machine, order)
	w.s.audit(address, "arm", machine, err, "via", order.Via, "reinstall", order.Reinstall, "by", "page")
	if err != nil || !o.Medium {
		return "", w.refusal(machine, err)
	}
	return w.s.MediumURL(r), nil
}

// Disarm takes that back.
func (w *web) Disarm(ctx context.Context, machine string, force bool, address string) error {
	_, err := w.s.Disarm(ctx, machine, force)
	w.s.audit(address, "disarm", machine, err, "force", force, "by", "page")
	return w.refusal(machine, err)
}

// refusal tells what a person may read of an error from what is for the log.
func (w *web) refusal(machine string, err error) error {
	switch {
	case err == nil:
		return nil
	case statusOf(err) != http.StatusInternalServerError:
		return fmt.Errorf("%w: %w", page.ErrRefused, err)
	}
	w.s.o.Log.Error("cannot do what was asked for on the page", "machine", machine, "why", err)
	return err
}

var _ page.Source = (*web)(nil)
