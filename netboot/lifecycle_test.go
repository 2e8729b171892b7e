package netboot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// TestStuck: what was seen of a machine says why nothing comes any more.
func TestStuck(t *testing.T) {
	image := Sighting{Kind: SawImage, Bytes: 3 << 30, Size: 3 << 30}
	short := Sighting{Kind: SawImage, Bytes: 1 << 30, Size: 3 << 30}
	for _, tt := range []struct {
		name   string
		saw    []Sighting
		seed   bool
		events []string
		after  time.Duration
		want   string
	}{
		{"only the script", nil, false, nil, 6 * time.Minute, "never asked for the kernel"},
		{"the kernel", []Sighting{{Kind: SawKernel}}, false, nil, 6 * time.Minute, "no driver for the network card, or gets no address"},
		{"a part of the medium", []Sighting{{Kind: SawKernel}, short}, false, nil, 6 * time.Minute, "fetched 1024 of the medium's 3072 MiB: the live system keeps the medium in memory and needs about twice its size (6144 MiB)"},
		{"the medium and no seed", []Sighting{{Kind: SawKernel}, image}, false, nil, 6 * time.Minute, "never asked for its seed: DHCP in its live system is too slow"},
		{"the seed and no event", []Sighting{{Kind: SawKernel}, image}, true, nil, 6 * time.Minute, "the word autoinstall is not on the kernel line"},
		{"silence in a late-command", []Sighting{image}, true, []string{
			event("subiquity/Install/install", "start", "", "", 1), event("subiquity/Late/run/command_7", "start", "", "curtin in-target -- bash install.sh\nmore", 2),
		}, 46 * time.Minute, "in the step late-commands: curtin in-target -- bash install.sh"},
		{"installed and no receipt", nil, true, []string{
			event("subiquity/Install/install", "start", "", "", 1), event("subiquity/Shutdown/shutdown", "start", "", "", 2),
		}, 61 * time.Minute, "it was installed and sent no receipt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, fleet(1))
			r := b.arm(0, ArmOrder{})
			d := b.boot(0)
			for _, s := range tt.saw {
				b.Saw("node00000", s)
			}
			if tt.seed {
				get(t, d.Seed+"user-data")
			}
			for _, e := range tt.events {
				post(t, b.reportURL(r)+"/event", e)
			}
			before := b.phase(0)
			b.clock.pass(tt.after - 2*time.Minute)
			b.Sweep(t.Context())
			b.want(0, before)
			b.clock.pass(2 * time.Minute)
			b.Sweep(t.Context())
			b.want(0, state.Stalled)
			if v, _ := b.View("node00000"); !strings.Contains(v.Waits, tt.want) {
				t.Errorf("%q does not say %q", v.Waits, tt.want)
			}
			// What was thought lost may be heard again.
			if status := post(t, b.reportURL(r)+"/receipt", fmt.Sprintf(proofOf, "node00000", true, "GPU-ready: x")); status != 204 {
				t.Error(status)
			}
			if before != state.Booting { // nothing was installed there
				b.want(0, state.Ready)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []string
		want   string
	}{
		{"a late-command with its log", []string{
			event("subiquity/Install/install", "start", "", "", 1),
			`{"name":"subiquity/Late/run/command_3","description":"curtin in-target -- bash install.sh --installer\nHASH=$6$secret","event_type":"finish","result":"FAIL","timestamp":2,
			"files":[{"path":"log","content":"one\nE: Unable to locate package nvidia-x\n"}]}`,
		}, "late-commands failed: curtin in-target -- bash install.sh --installer; its log ends: E: Unable to locate package nvidia-x"},
		{"what failed.sh says comes last", []string{
			event("subiquity/Early/run/command_1", "finish", "FAIL", "bash guard.sh", 1),
			event("gpustrap/failed", "finish", "FAIL", "gpustrap: the installation of node00000 stopped, and nothing was written: its UUID is another", 2),
		}, "the installation of node00000 stopped, and nothing was written: its UUID is another"},
		{"in the middle of curtin", []string{
			event("subiquity/Install/install", "start", "", "", 1), event("subiquity/Install/install/curtin_install", "start", "", "", 2),
			event("subiquity/Install/install/curtin_install/run_curtin_step", "finish", "FAIL", "executing curtin install partitioning step", 3),
		}, "partition the disk failed: executing curtin install partitioning step"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, fleet(1))
			r := b.arm(0, ArmOrder{})
			get(t, b.boot(0).Seed+"user-data")
			for _, e := range tt.events {
				if status := post(t, b.reportURL(r)+"/event", e); status != 204 {
					t.Error(status)
				}
			}
			b.want(0, state.Failed)
			v, _ := b.View("node00000")
			if v.Waits != tt.want || strings.Contains(v.Waits, "secret") {
				t.Errorf("%q", v.Waits)
			}
			if b.boot(0).Install {
				t.Error("a failed installation begins again by itself")
			}
			if again := b.arm(0, ArmOrder{}); again.Generation != 2 { // no --reinstall: nothing is installed
				t.Error(again)
			}
		})
	}
}

func TestAMirrorThatDoesNotAnswer(t *testing.T) {
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	get(t, b.boot(0).Seed+"user-data")
	post(t, b.reportURL(r)+"/event", event("subiquity/Mirror/cmd-apt-config", "finish", "FAIL", "curtin command apt-config", 1))
	b.want(0, state.Seeded)
}

// TestResetInTheMiddle: until the disk is written a reset begins again; after that the
// machine boots from its disk.
func TestResetInTheMiddle(t *testing.T) {
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	d := b.boot(0)
	get(t, d.Seed+"user-data")
	events := b.reportURL(r) + "/event"
	post(t, events, event("subiquity/Install/install", "start", "", "", 1))
	if !b.boot(0).Install {
		t.Error("nothing was written, and it does not begin again")
	}
	b.want(0, state.Booting)
	if status, _ := get(t, d.Seed+"user-data"); status != 200 {
		t.Error(status)
	}
	post(t, events, event("subiquity/Install/install", "start", "", "", 2))
	post(t, events, event("subiquity/Install/install/curtin_install", "start", "", "", 3))
	if d := b.boot(0); d.Install || !strings.Contains(d.Why, "while its disk was being written") {
		t.Errorf("%+v", d)
	}
	b.want(0, state.Stalled)
	if b.boot(0).Install {
		t.Error("it begins again at the second try")
	}
	if status, _ := get(t, d.Seed+"user-data"); status != http.StatusGone {
		t.Errorf("its seed is still open: %d", status)
	}
}

func TestSeedCloses(t *testing.T) {
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	seed := b.boot(0).Seed + "user-data"
	get(t, seed)
	b.clock.pass(seedOpen - time.Second)
	if status, _ := get(t, seed); status != 200 {
		t.Error(status)
	}
	post(t, b.reportURL(r)+"/event", event("subiquity/Install/install", "start", "", "", 1))
	b.clock.pass(59 * time.Second)
	if status, _ := get(t, seed); status != 200 {
		t.Errorf("within the grace: %d", status)
	}
	b.clock.pass(2 * time.Second)
	if status, _ := get(t, seed); status != http.StatusGone {
		t.Errorf("after it: %d", status)
	}
}

func TestExpiry(t *testing.T) {
	b := newBench(t, fleet(2))
	b.arm(0, ArmOrder{Expires: time.Hour})
	b.arm(1, ArmOrder{Expires: time.Hour})
	d := b.boot(1)
	b.clock.pass(time.Hour)
	if b.boot(0).Install || b.boot(1).Install {
		t.Error("an expired machine is installed")
	}
	if status, _ := get(t, d.Seed+"user-data"); status != http.StatusGone {
		t.Errorf("an expired seed: %d", status)
	}
	b.Sweep(t.Context())
	b.want(0, state.Expired)
	b.want(1, state.Expired)
	b.clock.pass(-2 * time.Hour) // somebody sets the clock back
	if b.boot(0).Install {
		t.Error("the clock went back, and the machine is armed again")
	}
}

func TestMedium(t *testing.T) {
	b := newBench(t, fleet(2))
	r := b.arm(0, ArmOrder{Via: state.Medium})
	if b.boot(0).Install {
		t.Error("a machine that is armed for a medium is installed over the network")
	}
	token, _, _ := strings.Cut(strings.TrimPrefix(b.MediumURL(r), b.o.Base+"/iso/"), "/")
	if !strings.HasSuffix(b.MediumURL(r), "/node00000.iso") {
		t.Error(b.MediumURL(r))
	}
	for range 3 {
		if m, r, err := b.ClaimMedium(t.Context(), state.Token(token), "10.0.0.9"); err != nil || m.Name != "node00000" || r.Phase != state.Booting {
			t.Fatal(m, r, err)
		}
	}
	if _, _, err := b.ClaimMedium(t.Context(), b.token(r, state.ForSeed), "10.0.0.9"); err == nil {
		t.Error("the seed's token opens the medium")
	}
	if status, _ := get(t, b.o.Base+"/s/"+token+"/user-data"); status != http.StatusNotFound {
		t.Errorf("the medium's token opens the seed: %d", status)
	}
	events := b.reportURL(r) + "/event"
	post(t, events, event("subiquity/Install/install/curtin_install", "start", "", "", 1))
	b.want(0, state.Installing)
	b.clock.pass(7 * time.Hour) // the live system reads from it throughout
	if _, _, err := b.ClaimMedium(t.Context(), state.Token(token), "10.0.0.9"); err != nil {
		t.Error(err)
	}
	post(t, events, event("subiquity/Shutdown/shutdown", "start", "", "", 2))
	if _, _, err := b.ClaimMedium(t.Context(), state.Token(token), "10.0.0.9"); err == nil {
		t.Error("the medium of an installed machine is open")
	}
}

// TestUntakenEvent: what the store could not take down is taken down later, and never
// of the installation that was begun since.
func TestUntakenEvent(t *testing.T) {
	failed, err := events.Decode(strings.NewReader(event("subiquity/Late/run/command_3", "finish", "FAIL", "bash install.sh", 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		b := newBench(t, fleet(1))
		b.arm(0, ArmOrder{})
		b.boot(0)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		b.intake.take(gone, b.board.record("node00000"), failed)
		b.want(0, state.Booting)
		want := state.Failed
		if again {
			b.arm(0, ArmOrder{Reinstall: true})
			b.boot(0)
			want = state.Booting
		}
		b.intake.retry(t.Context())
		b.want(0, want)
		if len(b.intake.pending) != 0 {
			t.Errorf("armed again: %t, and %d events wait on", again, len(b.intake.pending))
		}
	}
}

// TestDisarm: what was given out to start an installation is closed, and the machine
// boots from its disk.
func TestDisarm(t *testing.T) {
	b := newBench(t, fleet(2))
	b.arm(0, ArmOrder{})
	seed := b.boot(0).Seed
	if _, err := b.Disarm(t.Context(), "node00000", false); err != nil {
		t.Fatal(err)
	}
	if d := b.boot(0); d.Install || d.Why != neverArmed {
		t.Errorf("%+v", d)
	}
	if status, _ := get(t, seed+"user-data"); status != http.StatusGone {
		t.Errorf("its seed is open: %d", status)
	}
	r := b.arm(1, ArmOrder{Via: state.Medium})
	token := b.token(r, state.ForMedium)
	if _, _, err := b.ClaimMedium(t.Context(), token, "10.0.0.9"); err != nil {
		t.Fatal(err)
	}
	events := b.reportURL(r) + "/event"
	post(t, events, event("subiquity/Install/install", "start", "", "", 1))
	if _, err := b.Disarm(t.Context(), "node00001", false); !errors.Is(err, state.ErrActive) {
		t.Errorf("while it installs: %v", err)
	}
	if _, err := b.Disarm(t.Context(), "node00001", true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.ClaimMedium(t.Context(), token, "10.0.0.9"); err == nil {
		t.Error("its medium is open")
	}
	b.clock.pass(time.Second)
	post(t, events, event("subiquity/Shutdown/shutdown", "start", "", "", 2))
	b.want(1, state.Disarmed)
	if v, _ := b.View("node00001"); !strings.Contains(v.Waits, "its installer goes on") {
		t.Error(v.Waits)
	}
}

// TestRestart: a server that starts again knows the addresses that it gave out, and
// the timelines.
func TestRestart(t *testing.T) {
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	d := b.boot(0)
	post(t, b.reportURL(r)+"/event", event("subiquity/core_validation", "start", "", "", 1))
	ctx, stop := cancelled(t)
	stop()
	b.intake.run(ctx) // writes what waits
	base := b.http.URL
	b.start(func(o *Options) { o.Base = base })
	if again := b.boot(0); again.Seed != d.Seed {
		t.Errorf("%s, and before %s", again.Seed, d.Seed)
	}
	if v, _ := b.View("node00000"); len(v.Timeline.Spans) != 1 {
		t.Errorf("%+v", v.Timeline)
	}
}

// TestOneMachine: a configuration without machines: is of any hardware, which over
// the network would be all that boots.
func TestOneMachine(t *testing.T) {
	head, _, _ := strings.Cut(fleetHead, "machines:")
	b := newBench(t, head)
	name := b.Views()[0].Machine
	if _, err := b.Arm(t.Context(), name, ArmOrder{Via: state.Network}); !errors.Is(err, errUnmatched) {
		t.Error(err)
	}
	if _, err := b.Arm(t.Context(), name, ArmOrder{Via: state.Medium}); err != nil {
		t.Error(err)
	}
	if _, ok := b.Claim(t.Context(), identity(1)); ok {
		t.Error("any hardware is answered")
	}
}

// TestClockJumps sets the clock far back and forth between all steps of an
// installation: it comes to its end, and is none a second time.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-24 * time.Hour, 24 * time.Hour, -10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			b := newBench(t, fleet(1))
			r := b.arm(0, ArmOrder{})
			b.clock.pass(jump)
			b.Sweep(t.Context())
			if jump > 0 { // its time is over, whoever says so
				b.want(0, state.Expired)
				if d := b.boot(0); d.Install {
					t.Error("what has expired is installed")
				}
				r = b.arm(0, ArmOrder{})
			}
			d := b.boot(0)
			if status, _ := get(t, d.Seed+"user-data"); status != 200 {
				t.Fatal(status)
			}
			b.clock.pass(-jump.Abs())
			b.Sweep(t.Context())
			if status, _ := get(t, d.Seed+"user-data"); status != 410 {
				t.Errorf("the seed is open for longer: %d", status)
			}
			b.want(0, state.Seeded)
			report := b.reportURL(r)
			post(t, report+"/event", event(eventInstall, "start", "", "", 1))
			post(t, report+"/event", event(eventWrite, "start", "", "", 2))
			for _, back := range []time.Duration{jump, -2 * jump, jump} {
				b.clock.pass(back)
				b.Sweep(t.Context())
				if d := b.boot(0); d.Install {
					t.Errorf("%s later it is installed again, as %s", back, b.phase(0))
				}
			}
			post(t, report+"/event", event(eventShutdown, "start", "", "", 3))
			b.want(0, state.Installed)
			b.clock.pass(-jump.Abs())
			b.Sweep(t.Context())
			if status := post(t, report+"/receipt", fmt.Sprintf(proofOf, "node00000", true, "GPU-ready: x")); status != 204 {
				t.Error(status)
			}
			b.want(0, state.Ready)
			for _, back := range []time.Duration{jump, -2 * jump} {
				b.clock.pass(back)
				b.Sweep(t.Context())
				if d := b.boot(0); d.Install || b.phase(0) != state.Ready {
					t.Errorf("after all it is %s", b.phase(0))
				}
			}
		})
	}
}
