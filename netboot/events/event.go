// Package events reads what Ubuntu's installer reports of itself (the reporting
// section of its autoinstall, type webhook) and makes a timeline of it that a person
// can read.
package events

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Event is one event, as Subiquity, curtin and cloud-init post them.
type Event struct {
	Name        string // such as subiquity/Late/run/command_0
	Description string // for a command its text
	Type        Type
	Result      Result // of a finish
	Level       string // DEBUG, INFO, ERROR; empty for cloud-init's
	Origin      string // curtin or cloudinit
	Time        time.Time
	Files       []File // logs, of curtin's own events
}

// Type is the kind of an event.
type Type string

// The kinds of event that a timeline looks at; there are info, warning and error, too.
const (
	Start  Type = "start"
	Finish Type = "finish"
)

// Result is how a step ended.
type Result string

// The results of steps.
const (
	Success Result = "SUCCESS"
	Warn    Result = "WARN"
	Fail    Result = "FAIL"
)

// File is a file that came with an event.
type File struct {
	Path    string
	Content []byte
}

// MaxEvent is the length, in bytes, of the longest event that is taken. curtin sends
// its log with one.
const MaxEvent = 8 << 20

// Decode reads one event.
func Decode(r io.Reader) (Event, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxEvent+1))
	if err != nil {
		return Event{}, fmt.Errorf("cannot read the event: %w", err)
	}
	if len(b) > MaxEvent {
		return Event{}, fmt.Errorf("the event is longer than %d bytes", MaxEvent)
	}
	var wire struct {
		Name        string  `json:"name"`
		Description string  `json:"description"`
		Type        string  `json:"event_type"`
		Origin      string  `json:"origin"`
		Timestamp   float64 `json:"timestamp"` // seconds since 1970
		Level       string  `json:"level"`
		Result      string  `json:"result"`
		Files       []struct {
			Path     string `json:"path"`
			Content  string `json:"content"`
			Encoding string `json:"encoding"`
		} `json:"files"`
	}
	if err := json.Unmarshal(b, &wire); err != nil {
		return Event{}, fmt.Errorf("cannot read the event: %w", err)
	}
	if wire.Name == "" || wire.Type == "" {
		return Event{}, errors.New("the event has no name or no type")
	}
	seconds, fraction := math.Modf(wire.Timestamp)
	if seconds < 0 || seconds > 1<<40 || math.IsNaN(seconds) {
		return Event{}, fmt.Errorf("the event has the time %v", wire.Timestamp)
	}
	e := Event{
		Name: wire.Name, Description: wire.Description, Type: Type(wire.Type), Result: Result(wire.Result),
		Level: wire.Level, Origin: wire.Origin, Time: time.Unix(int64(seconds), int64(fraction*1e9)).UTC(),
	}
	for _, f := range wire.Files {
		content := []byte(f.Content)
		if strings.EqualFold(f.Encoding, "base64") {
			if content, err = base64.StdEncoding.DecodeString(f.Content); err != nil {
				return Event{}, fmt.Errorf("the event's file %q is not base64: %w", f.Path, err)
			}
		}
		e.Files = append(e.Files, File{f.Path, content})
	}
	return e, nil
}
