package events

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Step is a part of an installation that a person would name.
type Step string

// The steps, in the order in which an installation takes them.
const (
	StepRead      Step = "read the autoinstall"
	StepEarly     Step = "early-commands"
	StepApply     Step = "check the configuration"
	StepAPT       Step = "configure apt"
	StepPartition Step = "partition the disk"
	StepExtract   Step = "unpack the system"
	StepKernel    Step = "kernel and boot loader"
	StepPackages  Step = "packages"
	StepUpdates   Step = "security updates"
	StepLate      Step = "late-commands"
	StepShutdown  Step = "shut down"
)

// Steps returns the steps in their order.
func Steps() []Step {
	return []Step{
		StepRead, StepEarly, StepApply, StepAPT, StepPartition, StepExtract,
		StepKernel, StepPackages, StepUpdates, StepLate, StepShutdown,
	}
}

// Span is a step that was begun.
type Span struct {
	Step  Step      `json:"step"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"` // of the latest event in it
	// Doing is what it did last, such as "installing openssh-server".
	Doing string `json:"doing,omitempty"`
}

// Failure is what ended an installation.
type Failure struct {
	Step Step `json:"step,omitempty"`
	// What failed: the installer's message, or the command.
	What string    `json:"what"`
	Time time.Time `json:"time"`
	// Log is the end of the log that came along.
	Log string `json:"log,omitempty"`
}

// Timeline is an installation as its events tell it. Adding an event twice changes
// nothing, so that a client may send again what it is not sure of.
type Timeline struct {
	Spans   []Span   `json:"spans"` // in the order of Steps
	Failure *Failure `json:"failure,omitempty"`
	// Over is set once the installer shuts the machine down.
	Over bool      `json:"over"`
	Last time.Time `json:"last"` // of the latest event
}

// Add takes an event into the timeline and reports whether that changed what a
// person sees: a step, what it does, a failure, the end.
func (t *Timeline) Add(e Event) bool {
	if e.Time.After(t.Last) {
		t.Last = e.Time
	}
	name := strings.TrimPrefix(e.Name, "subiquity/")
	step, known := stepOf(name, e.Description)
	changed := false
	if known {
		changed = t.extend(step, e, doing(name, e.Description))
	}
	if e.Type == Finish && e.Result == Fail && t.fail(step, e) {
		changed = true
	}
	if name == "Shutdown/shutdown" && !t.Over {
		t.Over, changed = true, true
	}
	return changed
}

func (t *Timeline) extend(step Step, e Event, doing string) bool {
	order := Steps()
	at, found := slices.BinarySearchFunc(t.Spans, step, func(s Span, want Step) int {
		return slices.Index(order, s.Step) - slices.Index(order, want)
	})
	if !found {
		t.Spans = slices.Insert(t.Spans, at, Span{Step: step, Start: e.Time, End: e.Time, Doing: doing})
		return true
	}
	s := &t.Spans[at]
	if e.Time.Before(s.Start) {
		s.Start = e.Time
	}
	if e.Time.Before(s.End) {
		return false
	}
	s.End = e.Time
	if e.Type != Start || doing == "" || doing == s.Doing {
		return false
	}
	s.Doing = doing
	return true
}

// maxLog is how many bytes of a log's end are kept.
const maxLog = 4 << 10

// fail takes the first failure. Of one and the same the innermost step tells first,
// and those around it repeat it; what error-commands do comes later.
func (t *Timeline) fail(step Step, e Event) bool {
	if t.Failure != nil && !e.Time.Before(t.Failure.Time) {
		return false
	}
	f := &Failure{Step: step, What: firstLine(e.Description), Time: e.Time}
	if f.What == "" {
		f.What = strings.TrimPrefix(e.Name, "subiquity/")
	}
	for _, file := range e.Files {
		f.Log = string(file.Content[max(0, len(file.Content)-maxLog):])
	}
	t.Failure = f
	return true
}

// Current returns the step that is under way, and false before the first event.
func (t *Timeline) Current() (Span, bool) {
	var last Span
	for _, s := range t.Spans {
		if !s.End.Before(last.End) {
			last = s
		}
	}
	return last, len(t.Spans) > 0
}

// stepNames are the events of the steps, by the beginning of their names.
var stepNames = []struct {
	prefix string
	step   Step
}{
	{"Shutdown/copy_logs_to_target", StepShutdown},
	{"Shutdown/shutdown", StepShutdown},
	{"Late/run", StepLate},
	{"Install/install/postinstall/run_unattended_upgrades", StepUpdates},
	{"Install/install/postinstall", StepPackages},
	{"Install/install/configure_apt", StepAPT},
	{"apply_autoinstall_config", StepApply},
	{"Early/run", StepEarly},
	{"load_autoinstall_config", StepRead},
	{"core_validation", StepRead},
}

// stepOf returns the step that an event belongs to.
func stepOf(name, description string) (Step, bool) {
	if strings.HasPrefix(name, "Install/install/curtin_install/run_curtin_step") {
		switch { // the events differ in their descriptions alone
		case strings.Contains(description, "extract"):
			return StepExtract, true
		case strings.Contains(description, "curthooks"):
			return StepKernel, true
		}
		return StepPartition, true
	}
	for _, s := range stepNames {
		if name == s.prefix || strings.HasPrefix(name, s.prefix+"/") {
			return s.step, true
		}
	}
	if section, rest, _ := strings.Cut(name, "/"); section != "Error" && strings.HasPrefix(rest, "apply_autoinstall_config") {
		return StepApply, true
	}
	return "", false
}

var commandNumber = regexp.MustCompile(`^(?:Early|Late)/run/command_\d+$`)

// doing says in a few words what an event's step is at.
func doing(name, description string) string {
	switch {
	case commandNumber.MatchString(name), strings.HasPrefix(name, "Install/"):
		return firstLine(description)
	case strings.HasSuffix(name, "/apply_autoinstall_config"):
		section, _, _ := strings.Cut(name, "/")
		return section
	}
	return ""
}

// firstLine returns the first line of a text, at most 200 bytes of it: the text of a
// command may be a whole script.
func firstLine(text string) string {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > 200 {
		line, more = strings.ToValidUTF8(line[:200], ""), true
	}
	if more {
		line += " …"
	}
	return line
}
