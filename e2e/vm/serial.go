package vm

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"
)

// serialPort collects what a machine writes to its serial port.
type serialPort struct {
	input io.WriteCloser

	mu      sync.Mutex
	output  bytes.Buffer
	closed  bool
	changed chan struct{} // closed and replaced at each change
}

func newSerialPort(input io.WriteCloser) *serialPort {
	return &serialPort{input: input, changed: make(chan struct{})}
}

// Write takes output of the machine.
func (s *serialPort) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify()
	return s.output.Write(p)
}

func (s *serialPort) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.notify()
}

func (s *serialPort) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *serialPort) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

func (s *serialPort) waitFor(ctx context.Context, text string) error {
	for {
		s.mu.Lock()
		found := bytes.Contains(s.output.Bytes(), []byte(text))
		closed, changed := s.closed, s.changed
		s.mu.Unlock()
		switch {
		case found:
			return nil
		case closed:
			return errors.New("the machine has ended")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Report is what the sample medium's live system, or a probe on a genuine
// medium, told on the serial port: the content of each section by its name.
// e2e/medium/live/probe lists the names.
type Report map[string]string

// ParseReport finds the sections in the output of a serial port. The names of
// files are prefixed by where they were: seed/ or cloud-init/. A section that
// was sent twice counts as it was sent last.
func ParseReport(serial string) Report {
	const begin, end = "gpustrap-e2e begin ", "gpustrap-e2e end "
	report := Report{}
	name, content := "", []string(nil)
	for line := range strings.Lines(serial) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, begin):
			name, content = line[len(begin):], nil
		case name != "" && line == end+name:
			report[name] = decode(name, strings.Join(content, "\n"))
			name = ""
		case name != "":
			content = append(content, line)
		}
	}
	return report
}

// decode undoes the base64 in which files travel. What does not decode is
// returned as it came, so that a comparison shows it.
func decode(name, text string) string {
	if !strings.Contains(name, "/") {
		return text
	}
	plain, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		return text
	}
	return string(plain)
}
