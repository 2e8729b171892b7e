package state

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAnyRace: of clients that want the same step of a generation, one takes it; a
// generation that is over takes none; a token opens its own generation's record.
func TestAnyRace(t *testing.T) {
	s := open(t)
	machine := 0
	rapid.Check(t, func(t *rapid.T) {
		machine++
		name := fmt.Sprintf("node%d", machine)
		clients := rapid.IntRange(2, 6).Draw(t, "clients")
		steps := rapid.SliceOfN(rapid.SampledFrom([]Phase{Armed, Booting, Seeded, Installing, Installed, Ready, Failed, Stalled, Expired}), 4, 14).Draw(t, "steps")
		if _, err := s.Arm(t.Context(), order(name)); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		winners := map[string]int{} // by generation and number of the step
		var dead []Token
		var group sync.WaitGroup
		for range clients {
			group.Go(func() {
				for _, to := range steps {
					r, err := s.Get(t.Context(), name)
					if err != nil {
						t.Error(err)
						return
					}
					if to == Armed {
						o := order(name)
						o.Reinstall = true
						if _, err := s.Arm(t.Context(), o); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						dead = append(dead, o.Key.Token(name, r.Generation, r.Salt, ForSeed))
						mu.Unlock()
						continue
					}
					next, err := s.Advance(t.Context(), name, r.Generation, []Phase{r.Phase}, Edge{Phase: to, Time: start})
					switch {
					case errors.Is(err, ErrConflict):
					case err != nil:
						t.Error(err)
					case next.Generation != r.Generation || !slices.Contains(edges(r.Phase), to):
						t.Errorf("%s took the step from %s to %s of another generation, or one that there is not", name, r.Phase, to)
					default:
						mu.Lock()
						winners[fmt.Sprintf("%d/%d", next.Generation, len(next.History))]++
						mu.Unlock()
					}
				}
			})
		}
		group.Wait()
		for step, n := range winners {
			if n != 1 {
				t.Fatalf("the step %s was taken %d times", step, n)
			}
		}
		r, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range r.History {
			if i > 0 && !slices.Contains(edges(r.History[i-1].Phase), e.Phase) {
				t.Fatalf("the history has a step that there is not: %+v", r.History)
			}
		}
		for _, token := range dead {
			if found, err := s.ByToken(t.Context(), token, ForSeed); !errors.Is(err, ErrUnknown) {
				t.Fatalf("the token of a generation that is over opens %+v, %v", found, err)
			}
		}
		for _, p := range Purposes() {
			if found, err := s.ByToken(t.Context(), order(name).Key.Token(name, r.Generation, r.Salt, p), p); err != nil || found.Revision != r.Revision {
				t.Fatal(found, err)
			}
		}
		if found, err := s.ByToken(t.Context(), order(name).Key.Token(name, r.Generation, r.Salt, ForMedium), ForSeed); !errors.Is(err, ErrUnknown) {
			t.Fatalf("the medium's token opens the seed: %+v", found)
		}
	})
}

func TestArm(t *testing.T) {
	for _, tt := range []struct {
		path      []Phase
		receipt   bool
		later     time.Duration
		reinstall bool
		want      error
	}{
		{nil, false, 0, false, nil},
		{[]Phase{Booting}, false, 0, false, ErrActive},
		{[]Phase{Booting}, false, 2 * time.Hour, false, nil}, // it expired, and nobody said so yet
		{[]Phase{Booting}, false, 0, true, nil},
		{[]Phase{Booting, Seeded, Installing}, false, 2 * time.Hour, false, ErrActive},
		{[]Phase{Booting, Seeded, Installing, Stalled}, false, 0, false, ErrActive},
		{[]Phase{Booting, Seeded, Installing, Installed}, false, 0, false, ErrInstalled},
		{[]Phase{Booting, Seeded, Installing, Installed, Ready}, true, 0, false, ErrInstalled},
		{[]Phase{Booting, Seeded, Installing, Installed, Failed}, true, 0, false, ErrInstalled}, // by its receipt
		{[]Phase{Booting, Seeded, Installing, Installed, Ready}, true, 0, true, nil},
		{[]Phase{Booting, Seeded, Failed}, false, 0, false, nil},
		{[]Phase{Expired}, false, 0, false, nil},
	} {
		t.Run(fmt.Sprintf("%v %v %v", tt.path, tt.reinstall, tt.later), func(t *testing.T) {
			s := open(t)
			if _, err := s.Arm(t.Context(), order("n")); err != nil {
				t.Fatal(err)
			}
			for _, p := range tt.path {
				_, err := s.Advance(t.Context(), "n", 1, Phases(), Edge{Phase: p, Time: start}, func(r *Record) {
					if tt.receipt {
						r.Receipt = &Receipt{}
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			o := order("n")
			o.Reinstall, o.Now = tt.reinstall, start.Add(tt.later)
			r, err := s.Arm(t.Context(), o)
			if !errors.Is(err, tt.want) || err == nil && (r.Generation != 2 || r.Phase != Armed || r.Receipt != nil) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestDisarm: what is armed is disarmed in one step, and what has its seed only when
// that is forced; the disk holds afterwards what it held before.
func TestDisarm(t *testing.T) {
	for _, tt := range []struct {
		path  []Phase
		force bool
		want  error
	}{
		{nil, false, nil},
		{[]Phase{Booting}, false, nil},
		{[]Phase{Booting, Stalled}, false, nil},
		{[]Phase{Booting, Seeded}, false, ErrActive},
		{[]Phase{Booting, Seeded, Booting}, false, ErrActive},
		{[]Phase{Booting, Seeded, Installing}, false, ErrActive},
		{[]Phase{Booting, Seeded, Installing, Stalled}, false, ErrActive},
		{[]Phase{Booting, Seeded, Installing, Stalled}, true, nil},
		{[]Phase{Expired}, true, ErrIdle},
		{[]Phase{Booting, Seeded, Failed}, true, ErrIdle},
		{[]Phase{Booting, Seeded, Installing, Installed}, true, ErrIdle},
	} {
		t.Run(fmt.Sprintf("%v %v", tt.path, tt.force), func(t *testing.T) {
			s := open(t)
			if _, err := s.Disarm(t.Context(), "n", true, start, ""); !errors.Is(err, ErrIdle) {
				t.Errorf("what was never armed: %v", err)
			}
			if _, err := s.Arm(t.Context(), order("n")); err != nil {
				t.Fatal(err)
			}
			for _, p := range tt.path {
				if _, err := s.Advance(t.Context(), "n", 1, Phases(), Edge{Phase: p, Time: start}); err != nil {
					t.Fatal(err)
				}
			}
			var group sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				group.Go(func() { _, errs[i] = s.Disarm(t.Context(), "n", tt.force, start, "why") })
			}
			group.Wait()
			done := 0
			for _, err := range errs {
				switch {
				case err == nil:
					done++
				case tt.want == nil && !errors.Is(err, ErrIdle), tt.want != nil && !errors.Is(err, tt.want):
					t.Errorf("%v, want %v", err, tt.want)
				}
			}
			if want := map[bool]int{true: 1}[tt.want == nil]; done != want {
				t.Errorf("disarmed %d times, want %d", done, want)
			}
			r, err := s.Get(t.Context(), "n")
			if err != nil || (r.Phase == Disarmed) != (tt.want == nil) || tt.want == nil && r.Live(start) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestHolds: an installed system is kept in mind while nobody begins to erase it.
func TestHolds(t *testing.T) {
	s := open(t)
	step := func(generation uint64, writing bool, path ...Phase) {
		t.Helper()
		o := order("n")
		o.Reinstall = true
		if _, err := s.Arm(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		for _, p := range path {
			if _, err := s.Advance(t.Context(), "n", generation, Phases(), Edge{Phase: p, Time: start}, func(r *Record) { r.Writing = writing }); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(1, true, Booting, Seeded, Installing, Installed, Ready)
	step(2, false, Expired)
	if _, err := s.Arm(t.Context(), order("n")); !errors.Is(err, ErrInstalled) {
		t.Errorf("nobody came to erase it, and it is armed: %v", err)
	}
	step(3, false)
	if _, err := s.Disarm(t.Context(), "n", false, start, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Arm(t.Context(), order("n")); !errors.Is(err, ErrInstalled) {
		t.Errorf("it was disarmed, and it is armed: %v", err)
	}
	step(4, true, Booting, Seeded, Installing, Failed)
	if _, err := s.Arm(t.Context(), order("n")); err != nil {
		t.Errorf("what was there is erased: %v", err)
	}
}

// TestManyRecords reads more than a page, and what changes from then on.
func TestManyRecords(t *testing.T) {
	s := open(t)
	const n = listPage + 7
	var group sync.WaitGroup
	for client := range 8 {
		group.Go(func() {
			for i := client; i < n; i += 8 {
				if _, err := s.Arm(t.Context(), order(fmt.Sprintf("n%04d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	records, revision, err := s.List(t.Context())
	if err != nil || len(records) != n || records[n-1].Machine != fmt.Sprintf("n%04d", n-1) {
		t.Fatal(len(records), err)
	}
	changes := s.Watch(t.Context(), revision)
	if _, err := s.Amend(t.Context(), "n0003", 1, func(r *Record) { r.Why = "x" }); err != nil {
		t.Fatal(err)
	}
	if r := <-changes; r.Machine != "n0003" || r.Why != "x" || r.Revision <= revision {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"", "a/b", "a\x00"} {
		if _, err := s.Arm(t.Context(), order(name)); err == nil {
			t.Errorf("%q is a machine's name", name)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := open(t)
	if _, err := s.Arm(t.Context(), order("n")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxHistory {
		to := Booting
		if i%2 == 1 {
			to = Seeded
		}
		if _, err := s.Advance(t.Context(), "n", 1, Phases(), Edge{Phase: to, Time: start.Add(time.Duration(i))}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Get(t.Context(), "n")
	if err != nil || len(r.History) != maxHistory || r.History[0].Phase != Armed || r.At(Seeded) != start.Add(3*maxHistory-1) {
		t.Errorf("%d %v", len(r.History), err)
	}
}
