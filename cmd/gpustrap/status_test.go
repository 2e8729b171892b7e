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
