package plan

import (
	"bytes"
	"crypto/sha256"
	"regexp"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/diff"
)

// Line is a line of a difference: its kind ('-', '+', or ' ' for one around them),
// and its text without the end of line. A line of the kind '.' stands for lines
// that are left out.
type Line struct {
	Kind byte
	Text string
}

// DiffMemo keeps differences by the texts that they are between, without what is
// the same before and behind: machines that change alike are compared once. The
// zero value is empty, and it may be used by several goroutines at a time.
type DiffMemo struct {
	known   sync.Map  // [sha256.Size]byte -> []Line
	buffers sync.Pool // *bytes.Buffer
}

// buffer returns a buffer, which goes back into buffers.
func (d *DiffMemo) buffer() *bytes.Buffer {
	if b, ok := d.buffers.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

// around is how many lines are shown around a change.
const around = 3

// diff returns the difference of two texts, password hashes hidden.
func (d *DiffMemo) diff(before, after []byte) []Line {
	start := commonStart(before, after)
	end := commonEnd(before[start:], after[start:])
	before, after = before[start:len(before)-end], after[start:len(after)-end]
	key := sha256.Sum256(append(append(bytes.Clone(before), 0), after...))
	if lines, ok := d.known.Load(key); ok {
		return lines.([]Line)
	}
	lines := diffLines(before, after)
	d.known.Store(key, lines)
	return lines
}

// commonStart returns the length of the lines that both texts begin with, but for
// those that are shown around a change.
func commonStart(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for range around + 1 {
		if n = bytes.LastIndexByte(a[:n], '\n'); n < 0 {
			return 0
		}
	}
	return n + 1
}

// commonEnd returns the same of the lines that both texts end with.
func commonEnd(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	rest := a[len(a)-n:]
	for range around + 1 {
		_, behind, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return 0
		}
		rest = behind
	}
	return len(rest)
}

// cryptHash is a crypt(3) hash, whose settings may be shown.
var cryptHash = regexp.MustCompile(`(\$[0-9a-z]+\$)[./A-Za-z0-9,=$]{8,}`)

func diffLines(before, after []byte) []Line {
	var lines []Line
	_, text, _ := strings.Cut(string(diff.Diff("a", before, "b", after)), "\n+++ b\n")
	for line := range strings.Lines(text) {
		line = cryptHash.ReplaceAllString(strings.TrimSuffix(line, "\n"), "$1…")
		switch {
		case strings.HasPrefix(line, "@@"):
			if len(lines) > 0 {
				lines = append(lines, Line{Kind: '.'})
			}
		case line == "":
			lines = append(lines, Line{Kind: ' '})
		default:
			lines = append(lines, Line{line[0], line[1:]})
		}
	}
	return lines
}

// DiffGroup is machines whose differences are alike: the same lines go and come,
// but for the machine's own name in them.
type DiffGroup struct {
	Machines []Difference // in order; the lines of the first stand for all
}

// GroupDifferences puts machines that change alike together, in the order of the
// first of each group. Those that do not change are left out.
func GroupDifferences(differences []Difference) []DiffGroup {
	var groups []DiffGroup
	index := map[string]int{}
	for _, d := range differences {
		if !d.Any() {
			continue
		}
		key := d.key()
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, DiffGroup{})
		}
		groups[i].Machines = append(groups[i].Machines, d)
	}
	return groups
}

// key is the same for differences that are alike.
func (d Difference) key() string {
	if d.New {
		return "new"
	}
	var b strings.Builder
	for _, line := range d.Lines {
		if line.Kind == '-' || line.Kind == '+' {
			b.WriteByte(line.Kind)
			b.WriteString(line.Text)
			b.WriteByte('\n')
		}
	}
	return strings.ReplaceAll(b.String(), d.Machine, "\x00")
}
