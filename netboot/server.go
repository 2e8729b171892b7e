// Package netboot installs machines over the network. It knows which machine may be
// installed, gives each its own seed, hears what its installer reports, and says why
// one is stuck. A machine that nobody armed boots from its own disk.
package netboot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// Server installs machines. Its methods may be called by several goroutines at a
// time.
type Server struct {
	o      Options
	loader *loader
	board  *board
	seeds  *seedCache
	intake *intake
	media  []*Medium // that machines are installed from, where a PXE serves them
	dhcp   DHCPMode  // of that PXE, or empty
	wrong  *limiter
	meters *meters
}

// New reads the configuration and the state, and returns a server. It fails where
// the configuration is not valid: there is none yet that could stay.
func New(ctx context.Context, o Options) (*Server, error) {
	o.Limits = o.Limits.withDefaults()
	o.Base = strings.TrimSuffix(o.Base, "/")
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if err := os.MkdirAll(o.Events, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder for the event logs: %w", err)
	}
	s := &Server{
		o: o, board: newBoard(), loader: &loader{source: o.Source, now: o.Now},
		seeds: newSeedCache(o.Limits.SeedCache), wrong: newLimiter(o.Limits.WrongTokens, o.Now),
	}
	s.meters = newMeters(s)
	s.intake = newIntake(s)
	s.loader.look(ctx)
	if good, trouble := s.loader.current(); good == nil {
		return nil, fmt.Errorf("the configuration is refused:\n%s", strings.TrimSpace(trouble.Text))
	}
	records, _, err := o.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		s.board.put(r)
		if r.Phase.Active() {
			s.intake.load(r)
		}
	}
	return s, nil
}

// Run does what goes on beside the requests, until the context is done: it follows
// the configuration's files and the store, writes events to their files, and finds
// what has stalled or expired.
func (s *Server) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { s.follow(ctx) })
	group.Go(func() { s.intake.run(ctx) })
	group.Go(func() {
		every := time.NewTicker(s.o.Limits.Check)
		defer every.Stop()
		var health error
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			health = s.checkHealth(ctx, health)
			s.Reload(ctx)
			s.Sweep(ctx)
		}
	})
	group.Wait()
}

// Reload reads the configuration again where its files have changed.
func (s *Server) Reload(ctx context.Context) {
	before, _ := s.loader.current()
	if !s.loader.look(ctx) {
		return
	}
	after, trouble := s.loader.current()
	switch {
	case trouble != nil:
		s.o.Log.Error("the changed configuration is refused; the last good one stays", "why", trouble.Text)
	case after != before:
		s.o.Log.Info("the configuration has changed", "machines", len(after.project.Machines))
	}
	s.board.mu.Lock()
	s.board.tell("")
	s.board.mu.Unlock()
}

// follow takes in what the store tells, also of what other servers do.
func (s *Server) follow(ctx context.Context) {
	for ctx.Err() == nil {
		records, revision, err := s.o.Store.List(ctx)
		if err != nil {
			s.o.Log.Error("cannot follow the state", "why", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		for _, r := range records {
			s.board.put(r)
		}
		for r := range s.o.Store.Watch(ctx, revision) {
			s.board.put(r)
		}
	}
}

// Config returns the configuration in use, and what was refused since, or nil.
func (s *Server) Config() (*plan.Project, *Trouble) {
	good, trouble := s.loader.current()
	return good.project, trouble
}

// Machine returns a machine of the configuration by its name, or nil.
func (s *Server) Machine(name string) *plan.Machine {
	good, _ := s.loader.current()
	return good.index.byName[name]
}

// View returns what there is to say of a machine, and false when there is nothing.
func (s *Server) View(name string) (View, bool) {
	m := s.Machine(name)
	if r := s.board.record(name); r != nil {
		s.intake.load(r)
	}
	v := s.board.view(name)
	if m == nil && v.Record == nil {
		return v, false
	}
	s.describe(m, &v)
	return v, true
}

// describe says in words what there is to say of a machine.
func (s *Server) describe(m *plan.Machine, v *View) {
	if m != nil {
		v.Known, v.Erases = true, plan.ErasedText(m.Storage)
	}
	v.Waits = s.words(m, v)
}

// Views returns that of all machines: those of the configuration in its order, then
// others that have a record.
func (s *Server) Views() []View {
	var out []View
	for name, m := range s.all() {
		v := s.board.view(name)
		s.describe(m, &v)
		out = append(out, v)
	}
	return out
}

// all goes through the machines in the order of Views. Those that the configuration
// does not have are nil.
func (s *Server) all() iter.Seq2[string, *plan.Machine] {
	return func(yield func(string, *plan.Machine) bool) {
		good, _ := s.loader.current()
		for i := range good.project.Machines {
			if m := &good.project.Machines[i]; !yield(m.Name, m) {
				return
			}
		}
		others := slices.DeleteFunc(s.board.names(), func(name string) bool {
			return good.index.byName[name] != nil || s.board.record(name) == nil
		})
		slices.Sort(others)
		for _, name := range others {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// Unknown returns the machines that asked and are not in the configuration, the
// latest first.
func (s *Server) Unknown() []Unknown { return s.board.strangers() }

// Changes returns a channel of the names of machines that changed, and what ends it.
// An empty name says that the configuration or the unknown machines did. Who is slow
// misses some. The channel is closed when the server is about to stop.
func (s *Server) Changes() (<-chan string, func()) { return s.board.watch() }

// EndWatches ends all that follows Changes, for the server to stop.
func (s *Server) EndWatches() { s.board.endWatches() }

// Saw takes note of what a machine was seen to do.
func (s *Server) Saw(machine string, what Sighting) {
	s.board.saw(machine, what, s.o.Now())
}

// ArmOrder says how a machine is to be installed.
type ArmOrder struct {
	Via       state.Via     `json:"via"`
	Reinstall bool          `json:"reinstall"`
	Expires   time.Duration `json:"-"` // 0: the server's own
}

// Arm lets a machine be installed once. It fails with state.ErrActive and
// state.ErrInstalled unless the order says to install it again, and with
// state.ErrUnknown where the configuration has no such machine.
func (s *Server) Arm(ctx context.Context, machine string, o ArmOrder) (*state.Record, error) {
	m := s.Machine(machine)
	if m == nil {
		return nil, fmt.Errorf("the configuration has no machine %q: %w", machine, state.ErrUnknown)
	}
	if o.Via == state.Network {
		if err := s.answered(m); err != nil {
			return nil, err
		}
	}
	salt := make([]byte, 16)
	if _, err := io.ReadFull(s.o.Random, salt); err != nil {
		return nil, fmt.Errorf("cannot make tokens: %w", err)
	}
	now := s.o.Now()
	if o.Expires == 0 {
		o.Expires = s.o.Limits.Expires
	}
	// What would not render is said now, and not when the machine has booted.
	if rep := s.validate(m); rep != nil {
		return nil, rep
	}
	if len(s.media) > 0 {
		if _, err := mediumFor(s.media, m); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", machine, errNoMedium, err)
		}
	}
	r, err := s.o.Store.Arm(ctx, state.Order{
		Machine: machine, Via: o.Via, Reinstall: o.Reinstall, Now: now, Expires: now.Add(o.Expires), Salt: hex.EncodeToString(salt), Key: s.o.Key,
	})
	if err != nil {
		return nil, err
	}
	s.intake.forget(r)
	s.board.put(r)
	s.edge(r)
	return r, nil
}

// Disarm ends what Arm began: the machine boots from its own disk. It fails with
// state.ErrIdle where the machine is not armed, and with state.ErrActive where it has
// its seed, unless it is forced: the installer goes on then, as nobody can stop it
// from here, and what it reports changes nothing any more.
func (s *Server) Disarm(ctx context.Context, machine string, force bool) (*state.Record, error) {
	r, err := s.o.Store.Disarm(ctx, machine, force, s.o.Now(), "somebody disarmed it")
	if err != nil {
		return nil, err
	}
	s.board.put(r)
	s.edge(r)
	return r, nil
}

// errNoMedium: there is nothing to install a machine from.
var errNoMedium = errors.New("it cannot be installed from here")

// answered fails where a machine is never answered over the network. DHCP carries no
// serial number; where another server does the DHCP, iPXE says it by HTTP.
func (s *Server) answered(m *plan.Machine) error {
	switch {
	case len(m.Match.MACs) > 0 || m.Match.UUID != "":
		return nil
	case m.Match.Serial == "":
		return fmt.Errorf("%s has no match in the configuration: over the network it cannot be told from others: %w", m.Name, errUnmatched)
	case s.dhcp == DHCPProxy || s.dhcp == DHCPReservation:
		return fmt.Errorf("%s has a serial number alone in its match, which DHCP does not carry: it is never answered over the network: %w, or arm it for its medium", m.Name, errUnmatched)
	}
	return nil
}

// errUnmatched: a machine cannot be told from others over the network.
var errUnmatched = errors.New("give it a mac or uuid under match")

// MediumURL returns the address of the medium that installs the machine, for a
// management controller.
func (s *Server) MediumURL(r *state.Record) string {
	return s.o.Base + "/iso/" + string(s.token(r, state.ForMedium)) + "/" + r.Machine + ".iso"
}

func (s *Server) token(r *state.Record, p state.Purpose) state.Token {
	return s.o.Key.Token(r.Machine, r.Generation, r.Salt, p)
}

// edge tells of a step that was taken.
func (s *Server) edge(r *state.Record) {
	s.meters.edges.WithLabelValues(string(r.Phase)).Inc()
	s.o.Log.Info("machine "+string(r.Phase), "machine", r.Machine, "generation", r.Generation, "via", r.Via, "why", r.Why)
}
