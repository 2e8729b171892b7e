package netboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// Source reads a configuration and all that belongs to it, by readFile alone: so the
// server knows which files it is made of. It fails where there is none; the Project
// is nil when the report has errors.
type Source func(readFile func(name string) ([]byte, error)) (*plan.Project, report.Report, error)

// configuration is a good state of gpustrap.yaml.
type configuration struct {
	id      string // of its files' content
	project *plan.Project
	index   *index
}

// Trouble is a change of the configuration that was refused.
type Trouble struct {
	Time   time.Time
	Text   string        // the report's, or the error's
	Report report.Report // empty when the files could not be read
}

// file is what a configuration was read from.
type file struct {
	modified time.Time
	size     int64
	sum      [sha256.Size]byte
	missing  bool
}

// loader follows the files of a configuration.
type loader struct {
	source Source
	now    func() time.Time

	mu      sync.Mutex
	files   map[string]file
	good    *configuration
	trouble *Trouble
}

// racy is how long after a file's time of change its content may still be another
// one: file systems count in steps.
const racy = 3 * time.Second

// current returns the last good configuration, and what was refused since.
func (l *loader) current() (*configuration, *Trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good, l.trouble
}

// changed reports whether a file differs from when it was read.
func (l *loader) changed() bool {
	now := l.now()
	for name, was := range l.files {
		info, err := os.Stat(name)
		if err != nil || was.missing {
			if (err != nil) != was.missing {
				return true
			}
			continue
		}
		if !info.ModTime().Equal(was.modified) || info.Size() != was.size {
			return true
		}
		if now.Sub(was.modified).Abs() < racy {
			if data, err := os.ReadFile(name); err != nil || sha256.Sum256(data) != was.sum {
				return true
			}
		}
	}
	return false
}

// look reads the configuration where its files have changed, and reports whether
// there is news: another configuration, or another trouble.
func (l *loader) look(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil || l.files != nil && !l.changed() {
		return false
	}
	l.files = map[string]file{}
	project, rep, err := l.source(l.read)
	switch {
	case err != nil:
		l.refuse(err.Error(), rep)
	case project == nil:
		var text bytes.Buffer
		if err := rep.Print(&text, report.PrintOptions{}); err != nil {
			text.WriteString(err.Error())
		}
		l.refuse(text.String(), rep)
	default:
		l.trouble = nil
		id := l.id()
		if l.good != nil && l.good.id == id {
			return true
		}
		l.good = &configuration{id: id, project: project, index: newIndex(project.Machines)}
	}
	return true
}

func (l *loader) refuse(text string, rep report.Report) {
	l.trouble = &Trouble{Time: l.now(), Text: text, Report: rep}
}

// read reads a file and takes note of it, also where there is none: it may appear.
func (l *loader) read(name string) ([]byte, error) {
	info, statErr := os.Stat(name)
	data, err := os.ReadFile(name)
	if err = errors.Join(statErr, err); err != nil {
		l.files[name] = file{missing: true}
		return nil, pathError(err)
	}
	l.files[name] = file{modified: info.ModTime(), size: info.Size(), sum: sha256.Sum256(data)}
	return data, nil
}

// pathError returns the first of joined errors: the second says the same.
func pathError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path
	}
	return err
}

// id names the content of the files.
func (l *loader) id() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		_, _ = fmt.Fprintf(sum, "%q %x\n", name, l.files[name].sum)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
