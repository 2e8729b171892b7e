package netboot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// Sweep finds the machines that have stalled or whose time has passed, and says so in
// the store.
func (s *Server) Sweep(ctx context.Context) {
	now := s.o.Now()
	for _, name := range s.board.names() {
		r := s.board.record(name)
		if r == nil || ctx.Err() != nil {
			continue
		}
		if to, why := s.overdue(r, now); to != "" {
			s.step(ctx, r, to, why)
		}
	}
}

// overdue returns the phase that a machine comes into because nothing happened, and
// why in words, or "".
func (s *Server) overdue(r *state.Record, now time.Time) (state.Phase, string) {
	l := s.o.Limits
	v := s.board.view(r.Machine)
	m := s.Machine(r.Machine)
	switch r.Phase {
	case state.Armed:
		if !now.Before(r.Expires) {
			return state.Expired, "nobody started it in time"
		}
	case state.Booting, state.Seeded:
		if !now.Before(r.Expires) {
			return state.Expired, s.stuck(m, &v)
		}
		if now.Sub(latest(r, &v)) > l.BootStall && !reportsElsewhere(m, r) {
			return state.Stalled, s.stuck(m, &v)
		}
	case state.Stalled:
		if !r.Writing && r.At(state.Installing).IsZero() && !now.Before(r.Expires) {
			return state.Expired, r.Why
		}
	case state.Installing:
		if now.Sub(latest(r, &v)) > l.EventStall {
			return state.Stalled, s.stuck(m, &v)
		}
	case state.Installed:
		if expectsProof(m) && m.After == config.AfterReboot && now.Sub(r.Since) > l.ProofStall {
			return state.Stalled, s.stuck(m, &v)
		}
	}
	return "", ""
}

// latest returns when something was last heard of a machine in its present phase.
func latest(r *state.Record, v *View) time.Time {
	last := r.Since
	for _, seen := range v.Seen {
		if seen.Last.After(last) {
			last = seen.Last
		}
	}
	return last
}

// reportsElsewhere reports whether a machine that has its seed tells its events to
// somebody else: then nothing can be said of it until its receipt.
func reportsElsewhere(m *plan.Machine, r *state.Record) bool {
	return m != nil && m.Report != "" && r.Phase == state.Seeded
}

// expectsProof reports whether the installed machine posts receipts to this server.
func expectsProof(m *plan.Machine) bool {
	return m != nil && (m.Stack != nil || m.Docker != nil) && m.Ready.Report == ""
}

// words says what a machine waits for, or why it is stuck.
func (s *Server) words(m *plan.Machine, v *View) string {
	r := v.Record
	if r == nil {
		return "it is not armed: it boots from its own disk"
	}
	switch r.Phase {
	case state.Armed:
		if m == nil {
			return "it is armed, and the configuration has it no more"
		}
		start := "start it from the network"
		if r.Via == state.Medium {
			start = "start it from its medium"
		}
		if seen := v.saw(SawDHCP); seen.Count > 0 {
			return "it asked for a boot file" + in(seen.Detail) + "; its boot script comes next"
		}
		return start + ", until " + r.Expires.UTC().Format("2006-01-02 15:04 MST")
	case state.Booting, state.Seeded:
		return s.booting(v)
	case state.Installing:
		if now, ok := v.Timeline.Current(); ok {
			return doing(now)
		}
		return "it installs"
	case state.Installed:
		return installedWords(m)
	case state.Disarmed:
		if v.saw(SawEvent).Last.After(r.Since) {
			return r.Why + ", and its installer goes on: it still reports"
		}
		return r.Why + ": it boots from its own disk"
	case state.Ready, state.Failed, state.Stalled, state.Expired:
		if r.Receipt != nil {
			return r.Receipt.Line
		}
		return r.Why
	}
	return ""
}

func installedWords(m *plan.Machine) string {
	switch {
	case m != nil && m.After == config.AfterPoweroff:
		return "it is installed and powered off: start it from its disk"
	case !expectsProof(m):
		return "it is installed; it sends no receipt here"
	}
	return "it is installed and starts from its disk; its receipt comes next"
}

func in(detail string) string {
	if detail == "" {
		return ""
	}
	return " (" + detail + ")"
}

func doing(now events.Span) string {
	if now.Doing == "" {
		return string(now.Step)
	}
	return string(now.Step) + ": " + now.Doing
}

// booting says what comes next for a machine between its boot script and its
// installation.
func (s *Server) booting(v *View) string {
	switch {
	case v.Record.Phase == state.Seeded:
		return "it has its seed; the installer comes up"
	case v.saw(SawImage).Count > 0:
		return "it reads its medium" + progress(v.saw(SawImage)) + "; its seed comes next"
	case v.saw(SawKernel).Count > 0:
		return "it has its kernel; the medium comes next"
	}
	return "it has its boot script; the kernel comes next"
}

func progress(seen Seen) string {
	if seen.Size == 0 || seen.Bytes == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d MiB)", min(seen.Bytes, seen.Size)>>20, seen.Size>>20)
}

// stuck says why a machine of which nothing was heard for long is stuck.
func (s *Server) stuck(m *plan.Machine, v *View) string {
	r := v.Record
	quiet := "nothing was heard of it since " + latest(r, v).UTC().Format("15:04:05 MST")
	switch r.Phase {
	case state.Booting:
		return quiet + ": " + s.stuckBooting(v)
	case state.Seeded:
		return quiet + ": it fetched its seed and its installer reports nothing: the word autoinstall is not on the kernel line, " +
			"the installer asks something on its screen, or it cannot reach " + s.o.Base
	case state.Installing:
		if now, ok := v.Timeline.Current(); ok {
			return quiet + ", in the step " + doing(now)
		}
		return quiet + ", while it installs"
	case state.Installed:
		return quiet + ": it was installed and sent no receipt: it does not start from its disk, is off, or cannot reach " + s.o.Base
	}
	return quiet
}

// stuckBooting tells from what was fetched last why the seed was not.
func (s *Server) stuckBooting(v *View) string {
	medium, kernel := v.saw(SawImage), v.saw(SawKernel)
	switch {
	case v.Record.Via == state.Medium:
		return "it read its medium, and its installer reports nothing: it did not boot from it, or cannot reach " + s.o.Base
	case medium.Count > 0 && medium.Size > 0 && medium.Bytes < medium.Size:
		return fmt.Sprintf("it fetched %d of the medium's %d MiB: the live system keeps the medium in memory and needs about twice its size (%d MiB) of it",
			medium.Bytes>>20, medium.Size>>20, 2*medium.Size>>20)
	case medium.Count > 0:
		return "it fetched the medium and never asked for its seed: DHCP in its live system is too slow " +
			"(a switch port that waits for spanning tree: the installer gives up after ten seconds and asks on the screen), or it ran out of memory"
	case kernel.Count > 0:
		return "it fetched its kernel and never asked for the medium: its live system has no driver for the network card, or gets no address by DHCP"
	case v.saw(SawScript).Count > 0:
		return "it has its boot script and never asked for the kernel: the firmware could not run the script, or the machine was switched off"
	}
	return "its boot script was served before this server was started"
}

// failureText says in words what failed, from the timeline and the event that told
// it.
func failureText(t events.Timeline, e events.Event) string {
	if e.Name == eventFailed {
		return strings.TrimPrefix(e.Description, "gpustrap: ")
	}
	f := t.Failure
	if f == nil {
		return "failed: " + e.Description
	}
	text := f.What
	if f.Step != "" {
		text = string(f.Step) + " failed: " + text
	}
	if end := lastLine(f.Log); end != "" {
		text += "; its log ends: " + end
	}
	return text
}

// lastLine returns the last line of a log that says something.
func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	if len(line) > maxCommandText {
		line = strings.ToValidUTF8(line[:maxCommandText], "") + " …"
	}
	return line
}
