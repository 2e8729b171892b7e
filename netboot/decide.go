package netboot

import (
	"context"
	"errors"
	"fmt"

	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// Decision is what a machine that boots gets.
type Decision struct {
	Machine *plan.Machine
	// Install is false for a machine that boots from its own disk.
	Install bool
	Why     string // in words, for the log and for the screen
	// Seed is the address of its seed, with a slash at the end, and Args are the kernel
	// arguments that start the installer with it, as the kernel is to see them. They
	// are only there once a Claim says to install.
	Seed string
	Args []string
}

// Decide says whether a machine would be installed now. It changes nothing. False
// means that the configuration has no such machine: it is not answered.
func (s *Server) Decide(id Identity) (Decision, bool) {
	good, _ := s.loader.current()
	m := good.index.find(id)
	if m == nil {
		s.board.stranger(id, s.o.Now())
		return Decision{}, false
	}
	d := Decision{Machine: m, Why: neverArmed}
	if r := s.board.record(m.Name); r != nil {
		d.Install, d.Why = s.startable(r)
	}
	return d, true
}

const neverArmed = "it is not armed"

// startable says whether a boot over the network starts a generation's installation.
func (s *Server) startable(r *state.Record) (bool, string) {
	switch {
	case r.Phase == state.Failed:
		return false, "its installation failed; arm it again"
	case r.Phase == state.Expired:
		return false, "it was armed, and nobody started it in time"
	case r.Phase.Done():
		return false, "it is installed"
	case r.Phase == state.Disarmed:
		return false, neverArmed
	case r.Via != state.Network:
		return false, "it is armed for a medium, not for the network"
	case r.Writing:
		return false, writingText
	case !s.o.Now().Before(r.Expires):
		return false, "it was armed, and nobody started it in time"
	}
	return true, ""
}

// writingText is why a machine is not started a second time.
const writingText = "it booted again while its disk was being written, so it was reset in the middle of the installation or that had come to its end unheard: " +
	"it boots from its disk; if nothing comes up there, arm it again with --reinstall"

// claims is how often a Claim looks again when something else changes the machine's
// state at the same time.
const claims = 5

// Claim is called when a machine is about to be given what starts its installation:
// its boot script. Where it says to install, the machine has the phase booting by
// then. Where the state cannot be read or written, the machine boots from its disk.
func (s *Server) Claim(ctx context.Context, id Identity) (Decision, bool) {
	d, known := s.Decide(id)
	if !known {
		return d, false
	}
	deny := func(why string) (Decision, bool) {
		s.o.Log.Info("boots from its disk", "machine", d.Machine.Name, "why", why)
		return Decision{Machine: d.Machine, Why: why}, true
	}
	if err := s.intake.settle(ctx, d.Machine.Name); err != nil {
		return deny("what it reported cannot be written down: " + err.Error())
	}
	for range claims {
		r, err := s.latest(ctx, d.Machine.Name)
		if errors.Is(err, state.ErrUnknown) {
			return deny(neverArmed)
		}
		if err != nil {
			return deny(err.Error())
		}
		s.board.put(r)
		start, why := s.startable(r)
		if !start {
			if r.Phase == state.Installing && r.Writing {
				s.step(ctx, r, state.Stalled, writingText)
			}
			return deny(why)
		}
		if r.Phase != state.Booting {
			r, err = s.advance(ctx, r, []state.Phase{r.Phase}, state.Booting, "")
			if errors.Is(err, state.ErrConflict) {
				continue
			}
			if err != nil {
				return deny(err.Error())
			}
		}
		s.Saw(r.Machine, Sighting{Kind: SawScript})
		d.Install, d.Why = true, ""
		d.Seed = fmt.Sprintf("%s/s/%s/", s.o.Base, s.token(r, state.ForSeed))
		d.Args = plan.ServedArgs(d.Machine, d.Seed)
		return d, true
	}
	return deny("its state changes too fast")
}

// ClaimMedium is called when bytes of a machine's medium are asked for: by its
// token. The machine has the phase booting by then. It fails with state.ErrUnknown
// where the token opens nothing, or not any more.
func (s *Server) ClaimMedium(ctx context.Context, token state.Token, address string) (*plan.Machine, *state.Record, error) {
	r, err := s.lookup(ctx, token, state.ForMedium, address)
	if err != nil {
		return nil, nil, err
	}
	m := s.Machine(r.Machine)
	if m == nil || r.Via != state.Medium || !r.Live(s.o.Now()) {
		return nil, nil, fmt.Errorf("the medium of %s is closed: %w", r.Machine, state.ErrUnknown)
	}
	if r.Phase == state.Armed {
		r, err = s.advance(ctx, r, []state.Phase{state.Armed}, state.Booting, "")
		if errors.Is(err, state.ErrConflict) { // a range that came at the same time
			r, err = s.lookup(ctx, token, state.ForMedium, address)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return m, r, nil
}

// advance takes a step of a generation and tells of it.
func (s *Server) advance(ctx context.Context, r *state.Record, from []state.Phase, to state.Phase, why string, changes ...state.Change) (*state.Record, error) {
	next, err := s.o.Store.Advance(ctx, r.Machine, r.Generation, from, state.Edge{Phase: to, Time: s.o.Now(), Why: why}, changes...)
	if err != nil {
		if next != nil {
			s.board.put(next)
		}
		return nil, err
	}
	s.board.put(next)
	s.edge(next)
	return next, nil
}

// step is an advance from the phase that a record has. Somebody else may have taken
// another one, which is none of its business.
func (s *Server) step(ctx context.Context, r *state.Record, to state.Phase, why string, changes ...state.Change) {
	_, err := s.advance(ctx, r, []state.Phase{r.Phase}, to, why, changes...)
	if err != nil && !errors.Is(err, state.ErrConflict) {
		s.o.Log.Error("cannot take a step", "machine", r.Machine, "phase", to, "why", err)
	}
}
