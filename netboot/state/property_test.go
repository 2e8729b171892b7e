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
