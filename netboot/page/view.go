package page

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Source is what the pages show, and what they can do. Its methods may be called
// by several goroutines at a time.
type Source interface {
	// Machines returns all machines, in the order in which they are shown. The slice
	// is not changed by anybody.
	Machines() []Machine
	// Detail returns what one machine's page shows.
	Detail(name string) (Detail, bool)
	// Unknown returns the machines that asked for a boot file and are not configured.
	Unknown() []Unknown
	// Refused returns the report on a configuration that was not taken over, and when;
	// empty: the one in force is that of the file.
	Refused() (report string, at time.Time)
	// Watch returns a channel of machines that changed, and what ends it.
	Watch() (changed <-chan string, stop func())
	// Arm lets a machine be installed, and returns the address of the medium that it
	// is to boot, if it is one. An error that wraps ErrRefused is shown.
	Arm(ctx context.Context, machine string, o Order, address string) (medium string, err error)
	// Disarm takes that back; force: although the installation has begun.
	Disarm(ctx context.Context, machine string, force bool, address string) error
}

// Order says how a machine is to be installed.
type Order struct {
	Medium    bool // from a medium of its own, not over the network
	Reinstall bool // although it is installed, or is being
}

// ErrRefused is wrapped by what a person may read of why Arm or Disarm does not.
var ErrRefused = errors.New("refused")

// Machine is a cell of the grid.
type Machine struct {
	Name  string
	Phase Phase
	Since time.Time // when it came into its phase; zero: never armed
	Waits string    // what it waits for, or why it is stuck
	Find  string    // further words to be found by: addresses, serial number
}

// Phase is how far a machine's installation is. The empty phase is that of a
// machine that was never armed.
type Phase string

// Tone is what a phase means to somebody who looks at the whole fleet.
type Tone string

// The tones.
const (
	Idle Tone = "idle" // nothing is under way
	Busy Tone = "busy"
	Good Tone = "good"
	Bad  Tone = "bad" // somebody should look
)

// phase is what there is to know of a phase besides its name.
type phase struct {
	name Phase
	tone Tone
	mark string // a sign of its own, for those who do not see colours
}

func phases() []phase {
	return []phase{
		{"failed", Bad, "✕"}, {"stalled", Bad, "!"}, {"expired", Bad, "⌛"},
		{"armed", Busy, "◌"}, {"booting", Busy, "◔"}, {"seeded", Busy, "◑"}, {"installing", Busy, "◕"}, {"installed", Busy, "●"},
		{"ready", Good, "✓"}, {"disarmed", Idle, "○"}, {"", Idle, "–"},
	}
}

func (p Phase) known() phase {
	all := phases()
	for _, known := range all {
		if known.name == p {
			return known
		}
	}
	return phase{p, Idle, "?"}
}

// Tone returns the phase's tone.
func (p Phase) Tone() Tone { return p.known().tone }

// Mark returns the phase's sign.
func (p Phase) Mark() string { return p.known().mark }

// Words returns the phase's name for people.
func (p Phase) Words() string {
	if p == "" {
		return "not armed"
	}
	return string(p)
}

// Key is the phase's name in an address.
func (p Phase) Key() string {
	if p == "" {
		return "none"
	}
	return string(p)
}

// Detail is what a machine's own page shows.
type Detail struct {
	Machine
	Generation uint64
	Via        string    // network, or medium
	Expires    time.Time // of an armed machine
	Facts      []Fact
	Steps      []Step // from DHCP to receipt
	Failed     string // what failed, in the installer's words
	Log        string // the end of the log that came with it
	Installed  bool   // arming it means to install it again
	Active     bool   // an installation is under way
	Armed      bool   // there is something to disarm
	Begun      bool   // and the machine installs by itself, whatever is done here
}

// Fact is a line of what is known of a machine.
type Fact struct{ Name, Value string }

// Step is a line of a machine's timeline.
type Step struct {
	Name       string
	Detail     string
	Start, End time.Time // equal: a moment
	Tone       Tone
}

// Took returns how long a step took, in words; empty: it was a moment.
func (s Step) Took() string {
	if d := s.End.Sub(s.Start); d >= time.Second {
		return durationText(d)
	}
	return ""
}

// Unknown is a machine that asked for a boot file and is not configured.
type Unknown struct {
	MAC, UUID, Serial string
	Last              time.Time
	Count             int
}

// YAML returns the entry by which gpustrap.yaml would know the machine. What
// strangers send stands quoted.
func (u Unknown) YAML() string {
	var b strings.Builder
	name := "new"
	if tail := strings.ReplaceAll(u.MAC, ":", ""); len(tail) == 12 {
		name += "-" + tail[6:]
	}
	b.WriteString("  - name: " + name + "\n    match: {")
	comma := ""
	for _, f := range []Fact{{"mac", u.MAC}, {"serial", u.Serial}, {"uuid", u.UUID}} {
		// A MAC address is enough; the others only where there is none.
		if f.Value != "" && (f.Name == "mac" || u.MAC == "") {
			b.WriteString(comma + f.Name + ": " + strconv.QuoteToASCII(f.Value))
			comma = ", "
		}
	}
	b.WriteString("}\n")
	return b.String()
}

func durationText(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min " + strconv.Itoa(int(d.Seconds())%60) + " s"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h " + strconv.Itoa(int(d.Minutes())%60) + " min"
	}
	return strconv.Itoa(int(d.Hours())/24) + " days"
}
