package netboot

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// recordings are the events of a real installer: those that lie here, and all of them
// where they are.
func recordings(t *testing.T, kind string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, name := range []string{
		filepath.Join("testdata", "subiquity-24.04-"+kind+".jsonl"),
		filepath.Join("..", "..", "shared", "data", "subiquity-events-"+kind+".jsonl"),
	} {
		f, err := os.Open(name)
		if err != nil && strings.HasPrefix(name, "testdata") {
			t.Fatal(err)
		} else if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			out[name] = append(out[name], lines.Text())
		}
		_ = f.Close()
	}
	return out
}

// replay posts what a real installer did, and returns the phases and the words that
// it led to.
func replay(t *testing.T, lines []string) (*bench, []string) {
	t.Helper()
	b := newBench(t, fleet(1))
	r := b.arm(0, ArmOrder{})
	get(t, b.boot(0).Seed+"user-data")
	var said []string
	for _, line := range lines {
		if status := post(t, b.reportURL(r)+"/event", line); status != 204 {
			t.Fatalf("%d: %s", status, line)
		}
		v, _ := b.View("node00000")
		if text := string(v.Phase()) + ": " + v.Waits; len(said) == 0 || said[len(said)-1] != text {
			said = append(said, text)
		}
	}
	return b, said
}

func TestReplayedInstallation(t *testing.T) {
	for name, lines := range recordings(t, "ok") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, said := replay(t, lines)
			b.want(0, state.Installed)
			if r, err := b.store.Get(t.Context(), "node00000"); err != nil || !r.Writing || len(r.History) != 5 {
				t.Errorf("%+v %v", r, err)
			}
			text := strings.Join(said, "\n")
			for _, want := range []string{
				"seeded: it has its seed; the installer comes up",
				"installing: configure apt: configuring apt",
				"installing: partition the disk: executing curtin install partitioning step",
				"installing: unpack the system: executing curtin install extract step",
				"installing: kernel and boot loader: executing curtin install curthooks step",
				"installing: packages: installing openssh-server",
				"installing: security updates: downloading and installing security updates",
				"installing: late-commands: echo hi",
				"installed: it is installed and starts from its disk; its receipt comes next",
			} {
				before, after, found := strings.Cut(text, want)
				if !found {
					t.Errorf("%q was not said, or too early, in\n%s", want, before)
				}
				text = after
			}
			v, _ := b.View("node00000")
			var steps []string
			for _, s := range v.Timeline.Spans {
				steps = append(steps, string(s.Step))
			}
			want := []string{"read the autoinstall", "check the configuration", "configure apt", "partition the disk", "unpack the system",
				"kernel and boot loader", "packages", "security updates", "late-commands", "shut down"}
			if diff := cmp.Diff(want, steps); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplayedFailure(t *testing.T) {
	for name, lines := range recordings(t, "fail") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, said := replay(t, lines)
			b.want(0, state.Failed)
			if last := said[len(said)-1]; last != "failed: check the configuration failed: Failed to find matching device for {'serial': 'NOPE'}" {
				t.Error(last)
			}
		})
	}
}
