package netboot

import (
	"io"
	"log/slog"
	"time"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// Options is what a Server is made of. The fields without a default must be set.
type Options struct {
	// Source reads gpustrap.yaml and what belongs to it.
	Source Source
	Store  *state.Store
	// Key makes the tokens; it is the same after a restart.
	Key state.Key
	// AdminToken opens the API and the page.
	AdminToken string
	// PublicPages lets everybody read the page who reaches it; else it is for those who
	// have signed in.
	PublicPages bool
	// Events is the folder of the installers' event logs, which is made.
	Events string
	// Base is where machines reach this server, such as http://10.0.0.1:80, without a
	// slash at the end.
	Base string

	Now    func() time.Time
	Random io.Reader
	Log    *slog.Logger
	// Audit gets a line of JSON for each thing that an administrator does.
	Audit *slog.Logger

	Limits Limits // zero fields have their defaults
}

// Limits are the server's patience and its bounds.
type Limits struct {
	Expires     time.Duration // how long a machine stays armed
	BootStall   time.Duration // without a next step before the installation begins
	EventStall  time.Duration // without an event in an installation
	ProofStall  time.Duration // without a receipt after it
	SeedGrace   time.Duration // that the seed stays open after the installation began
	Check       time.Duration // between two looks at the configuration's files, and for what stalls
	EventLog    int64         // bytes of events that are kept of an installation
	SeedCache   int64         // bytes of rendered seeds that are kept
	WrongTokens int           // that an address may try in a minute
}

// Defaults returns the limits where nothing else is asked for.
func (l Limits) withDefaults() Limits {
	orTime := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	orTime(&l.Expires, 6*time.Hour)
	orTime(&l.BootStall, 5*time.Minute)
	orTime(&l.EventStall, 45*time.Minute) // a driver is built without a word in between
	orTime(&l.ProofStall, 60*time.Minute) // dcgmi diag takes its time
	orTime(&l.SeedGrace, time.Minute)
	orTime(&l.Check, 2*time.Second)
	if l.EventLog == 0 {
		l.EventLog = 4 << 20
	}
	if l.SeedCache == 0 {
		l.SeedCache = 64 << 20
	}
	if l.WrongTokens == 0 {
		l.WrongTokens = 30
	}
	return l
}
