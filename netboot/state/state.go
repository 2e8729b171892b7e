// Package state keeps what a server of installations must not forget: which machine
// may be installed, by which generation, and how far that is. It lies in etcd, in
// this process or in a cluster of the operator's own. Every step from one phase to
// the next is one transaction, acknowledged after it is on the disk: of several that
// want to take a step, one does.
package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Phase is how far a machine's installation is.
type Phase string

// The phases. A machine without a record was never armed.
const (
	Armed      Phase = "armed"      // may be installed; nothing was served yet
	Booting    Phase = "booting"    // the boot script was served, or the medium read
	Seeded     Phase = "seeded"     // the seed was fetched
	Installing Phase = "installing" // the installer said that it begins
	Installed  Phase = "installed"  // the installer shut the machine down
	Ready      Phase = "ready"      // the installed system proved itself
	Failed     Phase = "failed"     // the installer, or the proof, said so
	Stalled    Phase = "stalled"    // nothing was heard for too long
	Expired    Phase = "expired"    // nobody installed it in time
	Disarmed   Phase = "disarmed"   // somebody thought better of it
)

// Phases returns the phases in their order.
func Phases() []Phase {
	return []Phase{Armed, Booting, Seeded, Installing, Installed, Ready, Failed, Stalled, Expired, Disarmed}
}

// edges are the steps that there are, from a phase to the others. Arming is none of
// them: it begins a generation; and Disarm ends one.
func edges(from Phase) []Phase {
	switch from {
	case Armed:
		return []Phase{Booting, Expired}
	case Booting:
		return []Phase{Seeded, Installing, Stalled, Failed, Expired}
	case Seeded: // a reset by hand boots again
		return []Phase{Booting, Installing, Stalled, Failed, Expired}
	case Installing:
		return []Phase{Booting, Installed, Stalled, Failed}
	case Stalled: // what was thought lost is heard again
		return []Phase{Booting, Seeded, Installing, Installed, Failed, Expired}
	case Installed:
		return []Phase{Ready, Failed, Stalled}
	case Failed: // the proof at a later boot
		return []Phase{Ready}
	}
	return nil
}

// Active reports whether an installation is under way: a machine in this phase may be
// writing its disk.
func (p Phase) Active() bool {
	return p == Booting || p == Seeded || p == Installing || p == Stalled
}

// Done reports whether the machine was installed.
func (p Phase) Done() bool { return p == Installed || p == Ready }

// Via is the way that an installation is started.
type Via string

// The ways.
const (
	Network Via = "network" // PXE or HTTP Boot
	Medium  Via = "medium"  // an ISO as the virtual medium of a management controller
)

// Token is a secret of 128 bits that stands in an address.
type Token string

// Hash is the SHA-256 of a Token: what is kept of it.
type Hash [sha256.Size]byte

// Hash returns what is kept of the token.
func (t Token) Hash() Hash { return sha256.Sum256([]byte(t)) }

// Is reports whether the hash is the token's, in constant time.
func (h Hash) Is(t Token) bool {
	sum := t.Hash()
	return subtle.ConstantTimeCompare(h[:], sum[:]) == 1
}

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads it.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("a hash has %d digits, and this one %d", 2*len(h), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Purpose is what a token opens.
type Purpose string

// The purposes. A token of one opens nothing of another.
const (
	ForSeed   Purpose = "seed"
	ForMedium Purpose = "medium"
	ForReport Purpose = "report"
)

// Purposes returns them.
func Purposes() []Purpose { return []Purpose{ForSeed, ForMedium, ForReport} }

// tokenBytes is the length of a token: 128 bits.
const tokenBytes = 16

// Key makes the tokens of a generation. It is a secret of the server's: with it a
// restarted server knows the addresses that it gave out, and the records hold only
// hashes of them.
type Key []byte

// Token returns the token of a generation for a purpose. Salt is the generation's
// own, so no two generations have one in common.
func (k Key) Token(machine string, generation uint64, salt string, purpose Purpose) Token {
	mac := hmac.New(sha256.New, k)
	_, _ = fmt.Fprintf(mac, "%q %d %q %q", machine, generation, salt, purpose)
	return Token(hex.EncodeToString(mac.Sum(nil)[:tokenBytes]))
}

// Edge is a step that was taken.
type Edge struct {
	Phase Phase     `json:"phase"`
	Time  time.Time `json:"time"`
	Why   string    `json:"why,omitempty"` // in words
}

// Receipt is what the installed system last proved.
type Receipt struct {
	Time  time.Time `json:"time"` // when it came
	Ready bool      `json:"ready"`
	Line  string    `json:"line"` // the result in words
}

// Record is what is known of a machine.
type Record struct {
	Machine    string    `json:"machine"`
	Generation uint64    `json:"generation"` // counts how often it was armed
	Phase      Phase     `json:"phase"`
	Via        Via       `json:"via"`
	Reinstall  bool      `json:"reinstall,omitempty"` // an installed system may be erased
	Before     bool      `json:"before,omitempty"`    // the disk held an installed system when this began
	Salt       string    `json:"salt,omitzero"`       // of this generation's tokens and stamp
	Armed      time.Time `json:"armed"`
	Expires    time.Time `json:"expires"` // an installation must have begun until then
	Since      time.Time `json:"since"`   // when it came into its phase
	SeedHash   Hash      `json:"seed_hash,omitzero"`
	MediumHash Hash      `json:"medium_hash,omitzero"`
	ReportHash Hash      `json:"report_hash,omitzero"`
	// Writing is set when the installer begins to write the disk: from then on a
	// reset does not start the installation again.
	Writing bool     `json:"writing,omitempty"`
	Why     string   `json:"why,omitempty"` // why it is in its phase, in words
	History []Edge   `json:"history"`       // of this generation
	Receipt *Receipt `json:"receipt,omitempty"`

	// Revision counts the changes of the store when this one was made. A record with
	// a higher one is newer.
	Revision int64 `json:"-"`
}

// Stamp names the generation on the machine's disk.
func (r *Record) Stamp() string {
	return fmt.Sprintf("g%d-%.6s", r.Generation, r.Salt)
}

// Public returns a copy without what the generation's tokens are made of and known by:
// what those may read who only look.
func (r *Record) Public() *Record {
	out := *r
	out.Salt, out.SeedHash, out.MediumHash, out.ReportHash = "", Hash{}, Hash{}, Hash{}
	return &out
}

// Hash returns what is kept of the generation's token for a purpose.
func (r *Record) Hash(p Purpose) Hash {
	switch p {
	case ForSeed:
		return r.SeedHash
	case ForMedium:
		return r.MediumHash
	}
	return r.ReportHash
}

// Live reports whether the generation may still start an installation at a time: it
// is not over, and where none has begun, not expired.
func (r *Record) Live(now time.Time) bool {
	switch r.Phase {
	case Armed, Booting, Seeded:
		return now.Before(r.Expires)
	case Stalled:
		return r.Writing || now.Before(r.Expires)
	case Installing:
		return true
	}
	return false
}

// Holds reports whether the machine's disk holds an installed system, of this
// generation or of one before that this one has not begun to erase.
func (r *Record) Holds() bool {
	return r.Phase.Done() || r.Receipt != nil || r.Before && !r.Writing
}

// Begun reports whether the machine has what it needs to be installed, so that
// nobody can keep it from that but at the machine.
func (r *Record) Begun() bool {
	return r.Phase.Active() && (r.Writing || !r.At(Seeded).IsZero() || !r.At(Installing).IsZero())
}

// At returns when the generation last came into a phase, and zero if it never did.
func (r *Record) At(p Phase) time.Time {
	for _, e := range slices.Backward(r.History) {
		if e.Phase == p {
			return e.Time
		}
	}
	return time.Time{}
}

// Errors of the store.
var (
	// ErrUnknown: the machine was never armed, or a token opens nothing.
	ErrUnknown = errors.New("there is no such record")
	// ErrConflict: the machine is not where the step begins; somebody else took it,
	// or another generation has begun.
	ErrConflict = errors.New("the machine's state is another one by now")
	// ErrFull: the disk that the state lies on is nearly full. What is there can be
	// read; steps can be taken again when there is room.
	ErrFull = errors.New("the disk of the server's state is full")
	// ErrInUse: another server has the folder of the state.
	ErrInUse = errors.New("another server uses this state")
	// ErrActive: an installation is under way.
	ErrActive = errors.New("an installation is under way")
	// ErrIdle: there is nothing to disarm.
	ErrIdle = errors.New("the machine is not armed")
	// ErrInstalled: the machine is installed, and erasing that was not asked for.
	ErrInstalled = errors.New("the machine is installed already")
)
