package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// recorded returns the events of a real Subiquity, as they were posted.
func recorded(t *testing.T, name string) []Event {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", name))
	if err != nil {
		t.Skip("the recorded events are not here")
	}
	defer func() { _ = f.Close() }()
	var events []Event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		e, err := Decode(bytes.NewReader(lines.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func steps(t *Timeline) (names []string) {
	for _, s := range t.Spans {
		name := string(s.Step)
		if s.Doing != "" {
			name += ": " + s.Doing
		}
		names = append(names, name)
	}
	return names
}

func TestRecordedInstallation(t *testing.T) {
	var tl Timeline
	events := recorded(t, "subiquity-events-ok.jsonl")
	for _, e := range events {
		tl.Add(e)
	}
	want := []string{
		"read the autoinstall", "check the configuration: Shutdown",
		"configure apt: configuring apt", "partition the disk: executing curtin install partitioning step",
		"unpack the system: executing curtin install extract step", "kernel and boot loader: executing curtin install curthooks step",
		"packages: restoring apt configuration", "security updates: downloading and installing security updates",
		"late-commands: echo hi", "shut down",
	}
	if diff := cmp.Diff(want, steps(&tl)); diff != "" {
		t.Error(diff)
	}
	if tl.Failure != nil || !tl.Over || !tl.Last.Equal(events[len(events)-1].Time) {
		t.Errorf("%+v", tl)
	}
	if now, ok := tl.Current(); !ok || now.Step != StepShutdown {
		t.Errorf("the current step is %v", now)
	}
}

func TestRecordedFailure(t *testing.T) {
	var tl Timeline
	for _, e := range recorded(t, "subiquity-events-fail.jsonl") {
		tl.Add(e)
	}
	if tl.Failure == nil || tl.Failure.Step != StepApply || tl.Failure.What != "Failed to find matching device for {'serial': 'NOPE'}" || tl.Over {
		t.Errorf("%+v %+v", tl, tl.Failure)
	}
}

// TestAnyOrder: events that come twice, or in another order, make the same timeline,
// but for what a step did last.
func TestAnyOrder(t *testing.T) {
	for _, name := range []string{"subiquity-events-ok.jsonl", "subiquity-events-fail.jsonl"} {
		events := recorded(t, name)
		var want Timeline
		for _, e := range events {
			want.Add(e)
		}
		rapid.Check(t, func(t *rapid.T) {
			again := rapid.SliceOfN(rapid.SampledFrom(events), 0, 50).Draw(t, "again")
			var got Timeline
			for _, e := range rapid.Permutation(append(again, events...)).Draw(t, "order") {
				got.Add(e)
			}
			for i := range got.Spans {
				got.Spans[i].Doing = want.Spans[i].Doing
			}
			if want.Failure != nil && got.Failure != nil { // the innermost of one moment tells it
				got.Failure.Step, got.Failure.What = want.Failure.Step, want.Failure.What
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func post(kind Type, name, description string, result Result, second int) Event {
	return Event{Type: kind, Name: "subiquity/" + name, Description: description, Result: result, Time: time.Unix(int64(second), 0).UTC()}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []Event
		want   string
	}{
		{"a late-command", []Event{
			post(Start, "Late/run/command_3", "curtin in-target -- install.sh\nsecond line", "", 1),
			post(Finish, "Late/run/command_3", "curtin in-target -- install.sh\nsecond line", Fail, 2),
			post(Finish, "Late/run", "", Fail, 3),
		}, "late-commands: curtin in-target -- install.sh …"},
		{"an early-command", []Event{post(Finish, "Early/run/command_1", "choose-disk.sh only", Fail, 1)}, "early-commands: choose-disk.sh only"},
		{"an error-command after it", []Event{
			post(Finish, "Early/run/command_1", "guard", Fail, 1), post(Finish, "Error/run/run/command_0", "report", Fail, 2),
		}, "early-commands: guard"},
		{"without a description", []Event{post(Finish, "Filesystem/_probe", "", Fail, 1)}, ": Filesystem/_probe"},
		{"a long command", []Event{post(Finish, "Late/run/command_0", strings.Repeat("ä", 150), Fail, 1)}, "late-commands: " + strings.Repeat("ä", 100) + " …"},
		{"a warning", []Event{post(Finish, "Late/run", "x", Warn, 1)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tl Timeline
			for _, e := range tt.events {
				tl.Add(e)
			}
			got := ""
			if tl.Failure != nil {
				got = fmt.Sprintf("%s: %s", tl.Failure.Step, tl.Failure.What)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLog keeps the end of curtin's log.
func TestLog(t *testing.T) {
	log := strings.Repeat("x", maxLog) + "the end"
	body, err := json.Marshal(map[string]any{
		"name": "cmd-install", "event_type": "finish", "result": "FAIL", "description": "curtin command install", "timestamp": 1.5,
		"files": []map[string]string{{"path": "/var/log/installer/curtin-install.log", "content": "eA==", "encoding": "base64"}, {"path": "log", "content": log}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Decode(bytes.NewReader(body))
	if err != nil || string(e.Files[0].Content) != "x" || !e.Time.Equal(time.Unix(1, 5e8)) {
		t.Fatal(e, err)
	}
	var tl Timeline
	if !tl.Add(e) || len(tl.Failure.Log) != maxLog || !strings.HasSuffix(tl.Failure.Log, "the end") {
		t.Errorf("%+v", tl.Failure)
	}
	if tl.Add(e) {
		t.Error("the same event changes something the second time")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for body, want := range map[string]string{
		"":                       "unexpected end",
		"{":                      "unexpected end",
		"[]":                     "cannot unmarshal",
		`{"name":"x"}`:           "no type",
		`{"event_type":"start"}`: "no name",
		`{"name":"x","event_type":"start","timestamp":-1}`:                                           "the time -1",
		`{"name":"x","event_type":"start","timestamp":1e300}`:                                        "the time 1e+300",
		`{"name":"x","event_type":"start","files":[{"path":"p","content":"?","encoding":"base64"}]}`: "not base64",
		`{"name":"` + strings.Repeat("x", MaxEvent) + `"}`:                                           "longer than",
	} {
		if _, err := Decode(strings.NewReader(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %s", body, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"subiquity/Late/run/command_0","description":"echo hi","event_type":"finish","origin":"curtin","timestamp":1795430827.69,"level":"DEBUG","result":"FAIL"}`))
	f.Add([]byte(`{"name":"cmd-install","event_type":"start","files":[{"path":"p","content":"eA==","encoding":"base64"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := Decode(bytes.NewReader(body))
		if err != nil {
			return
		}
		var tl Timeline
		tl.Add(e)
		if tl.Add(e) {
			t.Error("the same event changes something the second time")
		}
	})
}
