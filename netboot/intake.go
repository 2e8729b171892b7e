package netboot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// Bounds of the intake.
const (
	queueLength = 4096            // events that wait for their files
	keptLogs    = 3               // generations of a machine whose event logs stay
	maxPending  = 20000           // steps that wait for the store to answer again
	stepTime    = 3 * time.Second // that a reporting installer waits for the store
)

// intake takes what installers report: into the timelines in memory, into log files
// with a cap, and what is a milestone into the store.
type intake struct {
	s     *Server
	queue chan logged

	mu      sync.Mutex
	pending map[string]untaken // by machine
}

// untaken is a milestone that the store did not take.
type untaken struct {
	generation uint64
	event      events.Event
}

// logged is an event on its way to a file.
type logged struct {
	machine    string
	generation uint64
	line       []byte
}

func newIntake(s *Server) *intake {
	return &intake{s: s, queue: make(chan logged, queueLength), pending: map[string]untaken{}}
}

// serveEvent answers POST /report/TOKEN/event. The installer stands still until it
// has its answer: what takes long is done after it.
func (s *Server) serveEvent(w http.ResponseWriter, r *http.Request) {
	record, err := s.reporter(r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	e, err := events.Decode(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.meters.events.Inc()
	s.intake.take(r.Context(), record, e)
	w.WriteHeader(http.StatusNoContent)
}

// reporter returns the record that a request's report token is of, as it was last
// heard of: an event needs no more, since a step of another generation than the
// present one is refused by the store.
func (s *Server) reporter(r *http.Request) (*state.Record, error) {
	token := state.Token(r.PathValue("token"))
	if machine, ok := s.board.byToken(token); ok {
		if record := s.board.record(machine); record != nil && record.Hash(state.ForReport).Is(token) {
			return record, nil
		}
	}
	return s.lookup(r.Context(), token, state.ForReport, addressOf(r))
}

// take takes an event of a generation.
func (in *intake) take(ctx context.Context, r *state.Record, e events.Event) {
	in.load(r)
	e = redact(e)
	in.s.board.event(r, e, in.s.o.Now())
	if line, err := json.Marshal(wireOf(e)); err == nil {
		select {
		case in.queue <- logged{r.Machine, r.Generation, append(line, '\n')}:
		default:
			in.s.meters.dropped.Inc()
		}
	}
	if !news(r, e) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := in.s.reached(ctx, r, e); err != nil {
		in.s.o.Log.Error("cannot take down a milestone yet", "machine", r.Machine, "event", e.Name, "why", err)
		in.mu.Lock()
		if len(in.pending) < maxPending {
			in.pending[r.Machine] = untaken{r.Generation, e}
		}
		in.mu.Unlock()
	}
}

// retry takes down what the store did not take.
func (in *intake) retry(ctx context.Context) {
	in.mu.Lock()
	machines := slices.Collect(maps.Keys(in.pending))
	in.mu.Unlock()
	for _, machine := range machines {
		if err := in.settle(ctx, machine); err != nil {
			return // the others wait for the same store
		}
	}
}

// settle takes down what the store did not take of a machine. Until it has, nobody
// knows how far the machine is.
func (in *intake) settle(ctx context.Context, machine string) error {
	in.mu.Lock()
	waits, ok := in.pending[machine]
	in.mu.Unlock()
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	// What was begun since by arming the machine again it says nothing of.
	if r := in.s.board.record(machine); r != nil && r.Generation == waits.generation {
		if err := in.s.reached(ctx, r, waits.event); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if now := in.pending[machine]; now.generation == waits.generation && now.event.Name == waits.event.Name && now.event.Time.Equal(waits.event.Time) {
		delete(in.pending, machine)
	}
	return nil
}

// The events that are milestones, as Subiquity 24.04 names them.
const (
	eventInstall  = "subiquity/Install/install"
	eventWrite    = "subiquity/Install/install/curtin_install"
	eventPackages = "subiquity/Install/install/postinstall"
	eventLate     = "subiquity/Late/run"
	eventLogs     = "subiquity/Shutdown/copy_logs_to_target"
	eventShutdown = "subiquity/Shutdown/shutdown"
	eventFailed   = "gpustrap/failed" // scripts/failed.sh
	eventMirror   = "subiquity/Mirror/"
)

// milestone returns the phase that an event leads to, or "", and whether it says that
// the disk is being written, or was. An installer does not send an event again that
// did not arrive: so each later one says it, too.
func milestone(e events.Event) (to state.Phase, writing bool) {
	within := func(name string) bool { return e.Name == name || strings.HasPrefix(e.Name, name+"/") }
	switch {
	case e.Name == eventFailed:
		return state.Failed, false
	case e.Name == eventShutdown:
		return state.Installed, true
	case e.Type == events.Finish && e.Result == events.Fail:
		// A mirror that does not answer is followed by the next one.
		if strings.HasPrefix(e.Name, eventMirror) {
			return "", false
		}
		return state.Failed, false
	case within(eventWrite), within(eventPackages), within(eventLate), within(eventLogs):
		return state.Installing, true
	case e.Name == eventInstall && e.Type == events.Start:
		return state.Installing, false
	}
	return "", false
}

// news reports whether an event says something that a record does not have yet.
func news(r *state.Record, e events.Event) bool {
	switch to, writing := milestone(e); to {
	case "":
		return false
	case r.Phase:
		return writing && !r.Writing || e.Name == eventFailed
	default:
		return nextPhase(r.Phase, to) != ""
	}
}

// reached takes the steps that a milestone says were taken.
func (s *Server) reached(ctx context.Context, r *state.Record, e events.Event) error {
	to, writing := milestone(e)
	why := ""
	if to == state.Failed {
		why = failureText(s.board.timeline(r), e)
	}
	change := func(r *state.Record) {
		r.Writing = r.Writing || writing
		if r.Phase == state.Failed && why != "" {
			r.Why = why
		}
	}
	for range claims {
		now, err := s.latest(ctx, r.Machine)
		if errors.Is(err, state.ErrUnknown) || err == nil && now.Generation != r.Generation {
			return nil // it is another installation's by now
		}
		if err != nil {
			return err
		}
		s.board.put(now)
		if !news(now, e) {
			return nil
		}
		if now.Phase == to {
			if now, err = s.o.Store.Amend(ctx, r.Machine, r.Generation, change); err == nil {
				s.board.put(now)
				return nil
			}
		} else if next := nextPhase(now.Phase, to); next != "" {
			if _, err = s.advance(ctx, now, []state.Phase{now.Phase}, next, why, change); err == nil && next == to {
				return nil
			}
		}
		if err != nil && !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("its state changes too fast: %w", state.ErrConflict)
}

// nextPhase returns the next phase on the way from one to another that something
// says was reached, and "" where there is nothing to do, or no way.
func nextPhase(from, to state.Phase) state.Phase {
	if from == to {
		return ""
	}
	switch to {
	case state.Failed:
		switch from {
		case state.Booting, state.Seeded, state.Installing, state.Installed, state.Stalled:
			return state.Failed
		}
	case state.Installing:
		switch from {
		case state.Booting, state.Seeded, state.Stalled:
			return state.Installing
		}
	case state.Installed:
		switch from {
		case state.Booting, state.Seeded:
			return state.Installing
		case state.Installing, state.Stalled:
			return state.Installed
		}
	case state.Ready:
		switch from {
		case state.Installed, state.Failed:
			return state.Ready
		case state.Booting, state.Seeded:
			return state.Installing
		case state.Installing, state.Stalled:
			return state.Installed
		}
	}
	return ""
}

// commandEvent is an event whose description is a command's text.
var commandEvent = regexp.MustCompile(`^subiquity/(?:Early|Late|Error)/`)

// Bounds of what is kept of an event.
const (
	maxCommandText = 200
	maxDescription = 4 << 10
	maxEventFile   = 4 << 10
)

// redact cuts what is not needed: of a command's text only its first line is kept,
// of a log its end.
func redact(e events.Event) events.Event {
	limit := maxDescription
	if commandEvent.MatchString(e.Name) {
		e.Description, _, _ = strings.Cut(strings.TrimSpace(e.Description), "\n")
		limit = maxCommandText
	}
	if len(e.Description) > limit {
		e.Description = strings.ToValidUTF8(e.Description[:limit], "") + " …"
	}
	if len(e.Name) > maxCommandText {
		e.Name = strings.ToValidUTF8(e.Name[:maxCommandText], "")
	}
	for i, f := range e.Files {
		e.Files[i].Content = f.Content[max(0, len(f.Content)-maxEventFile):]
	}
	if len(e.Files) > 1 {
		e.Files = e.Files[len(e.Files)-1:]
	}
	return e
}

// wireEvent is an event as it is posted, and as it stands in the log.
type wireEvent struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Type        string          `json:"event_type"`
	Origin      string          `json:"origin,omitempty"`
	Timestamp   float64         `json:"timestamp"`
	Level       string          `json:"level,omitempty"`
	Result      string          `json:"result,omitempty"`
	Files       []wireEventFile `json:"files,omitempty"`
}

type wireEventFile struct {
	Path     string `json:"path"`
	Content  []byte `json:"content"`
	Encoding string `json:"encoding"`
}

func wireOf(e events.Event) wireEvent {
	out := wireEvent{
		Name: e.Name, Description: e.Description, Type: string(e.Type), Origin: e.Origin, Level: e.Level, Result: string(e.Result),
		Timestamp: float64(e.Time.Unix()) + float64(e.Time.Nanosecond())/1e9,
	}
	for _, f := range e.Files {
		out.Files = append(out.Files, wireEventFile{f.Path, f.Content, "base64"})
	}
	return out
}

func (in *intake) file(machine string, generation uint64) string {
	return filepath.Join(in.s.o.Events, machine, strconv.FormatUint(generation, 10)+".jsonl")
}

// run writes events to their files, until the context is done and the queue empty.
func (in *intake) run(ctx context.Context) {
	every := time.NewTicker(in.s.o.Limits.Check)
	defer every.Stop()
	for {
		select {
		case l := <-in.queue:
			in.write(l)
		case <-every.C:
			in.retry(ctx)
		case <-ctx.Done():
			for {
				select {
				case l := <-in.queue:
					in.write(l)
				default:
					return
				}
			}
		}
	}
}

// write appends an event to its file, up to the cap. A full disk costs the log, and
// nothing else.
func (in *intake) write(l logged) {
	name := in.file(l.machine, l.generation)
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil {
			if info.Size()+int64(len(l.line)) <= in.s.o.Limits.EventLog {
				_, err = f.Write(l.line)
			} else {
				in.s.meters.dropped.Inc()
			}
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		in.s.meters.dropped.Inc()
		in.s.o.Log.Error("cannot keep an event", "machine", l.machine, "why", err)
	}
}

// load reads the log of a record's generation into its timeline, once.
func (in *intake) load(r *state.Record) {
	if !in.s.board.wants(r) {
		return
	}
	f, err := os.Open(in.file(r.Machine, r.Generation))
	if err != nil {
		return // nothing was reported yet
	}
	defer func() { _ = f.Close() }() // read only
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if e, bad := events.Decode(bytes.NewReader(line)); bad == nil {
			in.s.board.event(r, e, time.Time{})
		}
		if err != nil {
			return
		}
	}
}

// forget removes the logs of generations long past.
func (in *intake) forget(r *state.Record) {
	for old := int64(r.Generation) - keptLogs; old > int64(r.Generation)-keptLogs-8 && old > 0; old-- {
		if err := os.Remove(in.file(r.Machine, uint64(old))); err != nil {
			return
		}
	}
}

// Log returns the events that are kept of a machine's present generation, a line of
// JSON each. The caller closes it.
func (s *Server) Log(machine string) (io.ReadCloser, error) {
	r := s.board.record(machine)
	if r == nil {
		return nil, fmt.Errorf("%s: %w", machine, state.ErrUnknown)
	}
	f, err := os.Open(s.intake.file(r.Machine, r.Generation))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has reported no events yet", machine)
	}
	if err != nil {
		return nil, fmt.Errorf("there are no events of %s: %w", machine, err)
	}
	return f, nil
}

// event takes an event into the timeline of a generation. A zero time is for one
// that was read again.
func (b *board) event(r *state.Record, e events.Event, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(r.Machine)
	if l.record == nil || l.record.Generation != r.Generation {
		return
	}
	changed := l.timeline.Add(e)
	l.changes++
	if now.IsZero() {
		return
	}
	seen := l.seen[SawEvent]
	if seen == nil {
		seen = &Seen{Kind: SawEvent, First: now}
		l.seen[SawEvent] = seen
	}
	seen.Last = now
	seen.Count++
	if changed {
		b.tell(r.Machine)
	}
}

// wants reports whether the log of a record's generation is to be read into its
// timeline, and takes note that it was.
func (b *board) wants(r *state.Record) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(r.Machine)
	if l.record == nil || l.record.Generation != r.Generation || l.loaded == r.Generation {
		return false
	}
	l.loaded = r.Generation
	return true
}

// timeline returns a copy of a generation's timeline.
func (b *board) timeline(r *state.Record) events.Timeline {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.machines[r.Machine]; l != nil && l.record != nil && l.record.Generation == r.Generation {
		return l.timeline
	}
	return events.Timeline{}
}
