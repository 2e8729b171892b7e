package state

import (
	"errors"
	"testing"
	"time"
)

// open returns a store in a folder of the test.
func open(t *testing.T) *Store {
	t.Helper()
	s, err := Embedded(t.Context(), t.TempDir(), func(why string) { panic(why) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func order(machine string) Order {
	return Order{Machine: machine, Via: Network, Now: start, Expires: start.Add(time.Hour), Salt: "0123456789abcdef", Key: Key("key")}
}

func TestAStepIsTakenOnce(t *testing.T) {
	s := open(t)
	r, err := s.Arm(t.Context(), order("node01"))
	if err != nil || r.Generation != 1 || r.Phase != Armed {
		t.Fatal(r, err)
	}
	step := func() (*Record, error) {
		return s.Advance(t.Context(), "node01", 1, []Phase{Armed}, Edge{Phase: Booting, Time: start, Why: "x"})
	}
	if r, err = step(); err != nil || r.Phase != Booting || len(r.History) != 2 || r.Why != "x" {
		t.Fatal(r, err)
	}
	if _, err = step(); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
}
