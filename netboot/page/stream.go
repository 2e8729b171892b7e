package page

import (
	"fmt"
	"net/http"
	"time"
)

// The pace of a stream.
const (
	settle    = 500 * time.Millisecond // changes within are told at once
	heartbeat = 15 * time.Second       // keeps proxies from cutting a quiet stream
	patience  = 30 * time.Second       // for a browser that does not read
)

// stream tells a browser that what it shows has changed (server-sent events). It
// says that there is something new, not what: the page is asked for again, and so
// is right whatever was missed.
func (p *Pages) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		http.Error(w, "too many pages are open; this one stays as it is", http.StatusServiceUnavailable)
		return
	}
	changed, stop := p.options.Source.Watch()
	defer stop()
	only := r.URL.Query().Get("machine")
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text string) bool {
		// Without a deadline of its own the stream would have the server's, which is
		// that of a short answer. Where it cannot be set, there is none.
		_ = out.SetWriteDeadline(p.options.Now().Add(patience))
		_, err := fmt.Fprint(w, text)
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 3000\n\n") {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var due <-chan time.Time
	for {
		text := ""
		select {
		case <-r.Context().Done():
			return
		case machine, open := <-changed:
			if !open {
				return
			}
			if due == nil && (only == "" || machine == only || machine == "") {
				due = time.After(settle)
			}
			continue
		case <-due:
			due, text = nil, "event: changed\ndata: 1\n\n"
		case <-beat.C:
			text = ": still here\n\n"
		}
		if !send(text) {
			return
		}
	}
}
