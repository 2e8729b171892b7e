package state

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childFolder tells the test's own program to be the child, and where the state is.
const childFolder = "GPUSTRAP_STATE_CHILD"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		if err := child(folder); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// path is the way of a generation.
var path = []Phase{Booting, Seeded, Installing, Installed, Ready}

// child takes step after step, and says each after it was acknowledged.
func child(folder string) error {
	ctx := context.Background()
	s, err := Embedded(ctx, folder)
	if err != nil {
		return err
	}
	fmt.Println("started")
	for i := 0; ; i++ {
		name := fmt.Sprintf("node%d", i%7)
		r, err := s.read(ctx, name)
		if err != nil {
			return err
		}
		if r == nil || r.Phase == Ready {
			o := order(name)
			o.Reinstall = true
			if r, err = s.Arm(ctx, o); err != nil {
				return err
			}
		} else {
			next := Booting
			for j, p := range path[:len(path)-1] {
				if r.Phase == p {
					next = path[j+1]
				}
			}
			if r, err = s.Advance(ctx, name, r.Generation, []Phase{r.Phase}, Edge{Phase: next, Time: start}); err != nil {
				return err
			}
		}
		fmt.Println("step", name, r.Generation, len(r.History))
	}
}

// TestKilled kills the program that has the store at random moments: what it
// acknowledged is there afterwards, and nothing of it goes back.
func TestKilled(t *testing.T) {
	kills := 10
	if testing.Short() {
		kills = 3
	}
	folder := t.TempDir()
	acknowledged := map[string][2]int{} // machine: generation and length of the history
	total := 0
	for round := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFolder+"="+folder)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line := lines.Text()
			var name string
			var at [2]int
			switch {
			case line == "started":
				time.AfterFunc(time.Duration(10+rand.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			case strings.HasPrefix(line, "step "):
				if _, err := fmt.Sscanf(line, "step %s %d %d", &name, &at[0], &at[1]); err != nil {
					continue // cut off by the kill
				}
				if was := acknowledged[name]; at[0] < was[0] || at[0] == was[0] && at[1] <= was[1] {
					t.Fatalf("round %d: %s goes back from %v to %v", round, name, was, at)
				}
				acknowledged[name] = at
				total++
			default:
				t.Fatal(line)
			}
		}
		_ = cmd.Wait() // it was killed
	}
	s, err := Embedded(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for name, want := range acknowledged {
		r, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int{int(r.Generation), len(r.History)}; got[0] < want[0] || got[0] == want[0] && got[1] < want[1] {
			t.Errorf("%s is at %v, and %v was acknowledged", name, got, want)
		}
	}
	t.Logf("%d steps were acknowledged over %d kills", total, kills)
}
