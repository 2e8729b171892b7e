package lab

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// event is one event of an installation's report, as Subiquity posts it.
type event struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Type        string `json:"event_type"`
	Result      string `json:"result"`
	Level       string `json:"level"`
	Origin      string `json:"origin"`
	Timestamp   float64
}

// EventLog receives events over HTTP.
type EventLog struct {
	mu     sync.Mutex
	events []event
}

func (l *EventLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	w.WriteHeader(http.StatusNoContent)
}

// Names returns "type name" of each event so far.
func (l *EventLog) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, e := range l.events {
		names = append(names, e.Type+" "+e.Name+" "+e.Result)
	}
	return names
}

// ServeEvents starts a server for events and returns its address as a machine
// on QEMU's user-mode network sees it.
func ServeEvents(t *testing.T) (*EventLog, string) {
	t.Helper()
	log := &EventLog{}
	server := httptest.NewServer(log)
	t.Cleanup(server.Close)
	return log, strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
}

// Failure returns what failed.sh told the report address.
func (l *EventLog) Failure() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Name == "gpustrap/failed" && e.Result == "FAIL" {
			return e.Description
		}
	}
	return ""
}

// CheckEvents holds the stand-in's events against those of a real Subiquity, if
// they are at hand: none that it does not post, and the milestones in its order.
func CheckEvents(t *testing.T, got *EventLog) {
	t.Helper()
	recorded := filepath.Join(Root(t), "..", "shared", "data", "subiquity-events-ok.jsonl")
	file, err := os.Open(recorded)
	if os.IsNotExist(err) {
		t.Logf("no recorded events in %s to compare with", recorded)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	known := map[string]bool{}
	var milestones []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		name := generalName(e)
		known[name] = true
		// The network is no section of the stand-in's live system, and these
		// machines power off where the recorded one restarted.
		ours := !strings.Contains(e.Name, "Network/") && !strings.Contains(e.Name, "Shutdown/shutdown")
		if ours && (e.Level == "INFO" || strings.Contains(e.Description, "executing curtin")) {
			milestones = append(milestones, name+" "+e.Description)
		}
	}
	for _, e := range got.events {
		name := generalName(e)
		if !known[name] && !strings.Contains(name, "subiquity/Early/run") {
			t.Errorf("the stand-in posted an event that Subiquity does not know: %s", name)
		}
		if len(milestones) > 0 && name+" "+e.Description == milestones[0] {
			milestones = milestones[1:]
		}
	}
	if len(milestones) > 0 {
		t.Errorf("of Subiquity's milestones the stand-in missed, or posted out of order: %s", milestones[0])
	}
}

var packageOrCommand = regexp.MustCompile(`postinstall/install_[^/]+|command_\d+`)

// generalName is an event's type and name without the names of packages and the
// numbers of commands.
func generalName(e event) string {
	return e.Type + " " + packageOrCommand.ReplaceAllString(e.Name, "N")
}
