package state

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childFolder tells the test's own program to be the child, and where the state is.
const childFolder = "GPUSTRAP_STATE_CHILD"

// childHeedless has the child take steps whether there is room for them or not.
const childHeedless = "GPUSTRAP_STATE_HEEDLESS"

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
	s, err := Embedded(ctx, folder, func(why string) { fmt.Fprintln(os.Stderr, "ends:", why) })
	if err != nil {
		return err
	}
	if os.Getenv(childHeedless) != "" {
		s.room = nil
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

// ledger is what a child said to be acknowledged.
type ledger struct {
	at    map[string][2]int // machine: generation and length of the history
	total int
}

// start starts a child and hands each line that it says to heard, until it ends. It
// returns what the child wrote to standard error.
func (l *ledger) start(t *testing.T, folder string, heard func(cmd *exec.Cmd, line string), environment ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childFolder+"="+folder), environment...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		var name string
		var at [2]int
		if n, _ := fmt.Sscanf(line, "step %s %d %d", &name, &at[0], &at[1]); n == 3 { // else it was cut off by the kill
			if was := l.at[name]; at[0] < was[0] || at[0] == was[0] && at[1] <= was[1] {
				t.Fatalf("%s goes back from %v to %v", name, was, at)
			}
			l.at[name] = at
			l.total++
		}
		heard(cmd, line)
	}
	_ = cmd.Wait() // it was killed, or the disk was full
	return said.String()
}

// check opens the store: all is there that was acknowledged.
func (l *ledger) check(t *testing.T, folder string) {
	t.Helper()
	s, err := Embedded(t.Context(), folder, func(why string) { panic(why) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for name, want := range l.at {
		r, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int{int(r.Generation), len(r.History)}; got[0] < want[0] || got[0] == want[0] && got[1] < want[1] {
			t.Errorf("%s is at %v, and %v was acknowledged", name, got, want)
		}
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
	l := ledger{at: map[string][2]int{}}
	for range kills {
		l.start(t, folder, func(cmd *exec.Cmd, line string) {
			switch {
			case line == "started":
				time.AfterFunc(time.Duration(10+rand.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			case !strings.HasPrefix(line, "step "):
				t.Error(line)
			}
		})
	}
	l.check(t, folder)
	t.Logf("%d steps were acknowledged over %d kills", l.total, kills)
}

// TestNoByteFree takes the last byte of the disk from under the store, which goes on
// nevertheless: etcd ends the program. When there is room again, all is there that was
// acknowledged, and the store opens and takes steps.
func TestNoByteFree(t *testing.T) {
	folder := t.TempDir()
	if err := unix.Mount("none", folder, "tmpfs", 0, "size=400m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	l := ledger{at: map[string][2]int{}}
	state, file := filepath.Join(folder, "state"), filepath.Join(folder, "file")
	full := 0
	died := l.start(t, state, func(*exec.Cmd, string) {
		if l.total == 200 {
			fill(t, file)
			full = l.total
		}
	}, childHeedless+"=1")
	if !strings.HasPrefix(died, "ends: ") || !strings.Contains(died, "no space left on device") {
		t.Errorf("after %d steps, %d of them on the full disk, it ends with %q", l.total, l.total-full, died)
	}
	l.start(t, state, func(_ *exec.Cmd, line string) {
		if line != "started" && !strings.Contains(line, ErrFull.Error()) {
			t.Errorf("on the full disk: %s", line)
		}
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.check(t, state)
	before := l.total
	l.start(t, state, func(cmd *exec.Cmd, _ string) {
		if l.total == before+20 {
			_ = cmd.Process.Kill()
		}
	})
	if l.total < before+20 {
		t.Errorf("with room again it took %d steps", l.total-before)
	}
}

// fill writes a file until its disk has no byte left.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is full of zeros
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, unix.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
