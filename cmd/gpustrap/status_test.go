package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/events"
	"github.com/gpustrap/gpustrap/netboot/state"
)

// TestStatusShowsNoEscapes: what machines report cannot write over a terminal, nor
// look like a line of its own.
func TestStatusShowsNoEscapes(t *testing.T) {
	const evil = "dpkg\x1b[2J\x1b]0;x\a failed\r\nnode99  ready\u009b31m\xff"
	view := netboot.View{
		Machine: "node01", Waits: evil, Record: &state.Record{Phase: state.Failed, History: []state.Edge{{Phase: state.Failed, Why: evil}}},
		Seen:     []netboot.Seen{{Kind: netboot.SawDHCP, Count: 1, Detail: evil}},
		Timeline: events.Timeline{Spans: []events.Span{{Step: "x", Doing: evil}}, Failure: &events.Failure{Log: evil}},
	}
	var out said
	w := newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" })
	w.now = func() time.Time { return time.Time{} }
	if err := printViews(w, []netboot.View{view}, true, false); err != nil {
		t.Fatal(err)
	}
	text, log, found := strings.Cut(out.String()+phaseAndWords(&view), "the end of its log:\n")
	if !found || !utf8.ValidString(text+log) || strings.ContainsAny(text+log, "\x1b\a\r\u009b") || strings.Contains(text, "\nnode99") || !strings.Contains(log, "failed \nnode99") {
		t.Errorf("%q", out.String())
	}
}

// TestTimelineInOrder: what was taken down apart is told in the order of time.
func TestTimelineInOrder(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 11, 24, 12, 0, second, 0, time.Local) }
	view := netboot.View{
		Record:   &state.Record{History: []state.Edge{{Phase: state.Armed, Time: at(0)}, {Phase: state.Failed, Time: at(9), Why: "x"}}},
		Seen:     []netboot.Seen{{Kind: netboot.SawDHCP, First: at(1), Last: at(2), Count: 2}, {Kind: netboot.SawScript, First: at(3), Last: at(3), Count: 1}},
		Timeline: events.Timeline{Spans: []events.Span{{Step: "partition", Start: at(4), End: at(8), Doing: "y"}}},
	}
	var out said
	w := newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" })
	if err := printTimeline(w, &view); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	const want = "11-24 12:00:00 armed 11-24 12:00:01 DHCP 2 times, last at 12:00:02 11-24 12:00:03 boot script 1 time, last at 12:00:03 11-24 12:00:04 partition 4s, y 11-24 12:00:09 failed x"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
