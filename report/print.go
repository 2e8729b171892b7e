package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// PrintOptions say how Print writes.
type PrintOptions struct {
	Color   bool              // ANSI colours
	Sources map[string][]byte // text of the files that positions name, for excerpts
}

const (
	ansiReset  = "\x1b[0m"
	ansiBold   = "\x1b[1m"
	ansiRed    = "\x1b[1;31m"
	ansiYellow = "\x1b[1;33m"
	ansiBlue   = "\x1b[1;34m"
)

// foldAfter is how many warnings or notes that say the same are printed in full:
// a profile's fault shows in every machine that has it.
const foldAfter = 3

// Print writes the diagnostics for a person: severity and summary, the position,
// an excerpt of the line with a caret, related places, and what to do. Errors are
// all printed; of warnings and notes that say the same, the first few are, and
// how many more there are.
func (r Report) Print(w io.Writer, o PrintOptions) error {
	type saying struct {
		severity        Severity
		summary, detail string
	}
	p := printer{o, map[string][]string{}}
	seen := map[saying]int{}
	var folded []saying
	first := true
	write := func(text string) error {
		if !first {
			text = "\n" + text
		}
		first = false
		_, err := io.WriteString(w, text)
		return err
	}
	for _, d := range r.Diagnostics {
		says := saying{d.Severity, d.Summary, d.Detail}
		seen[says]++
		if d.Severity != Error && seen[says] > foldAfter {
			if seen[says] == foldAfter+1 {
				folded = append(folded, says)
			}
			continue
		}
		if err := write(p.format(d)); err != nil {
			return err
		}
	}
	for _, says := range folded {
		line := fmt.Sprintf("%s: %s: at %d more places\n",
			p.paint(says.severity.color(), says.severity.String()), says.summary, seen[says]-foldAfter)
		if err := write(line); err != nil {
			return err
		}
	}
	return nil
}

// printer holds the lines of each source, split once for all excerpts.
type printer struct {
	PrintOptions
	lines map[string][]string
}

func (pr *printer) format(d Diagnostic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", pr.paint(d.Severity.color(), d.Severity.String()), pr.paint(ansiBold, d.Summary))
	b.WriteString(pr.place(d.Pos))
	for _, rel := range d.Related {
		fmt.Fprintf(&b, "  note: %s\n", rel.Message)
		b.WriteString(pr.place(rel.Pos))
	}
	if d.Detail != "" {
		fmt.Fprintf(&b, "  %s %s\n", pr.paint(ansiBlue, "="), strings.ReplaceAll(d.Detail, "\n", "\n    "))
	}
	return b.String()
}

// place returns the arrow line and, when the source is known, the excerpt.
func (pr *printer) place(p Position) string {
	if p.String() == "" {
		return ""
	}
	arrow := fmt.Sprintf(" %s %s\n", pr.paint(ansiBlue, "-->"), p)
	line, ok := pr.sourceLine(p)
	if !ok {
		return arrow
	}
	line, column := excerpt(line, p.Column)
	number := fmt.Sprintf("%4d", p.Line)
	bar := pr.paint(ansiBlue, "|")
	return arrow + fmt.Sprintf("%s %s %s\n%s %s %s%s\n",
		pr.paint(ansiBlue, number), bar, line,
		strings.Repeat(" ", len(number)), bar, padding(line, column), pr.paint(ansiRed, "^"))
}

func (pr *printer) paint(color, s string) string {
	if !pr.Color {
		return s
	}
	return color + s + ansiReset
}

func (s Severity) color() string {
	switch s {
	case Error:
		return ansiRed
	case Warning:
		return ansiYellow
	}
	return ansiBlue
}

// sourceLine returns the line of a position, control characters other than tab
// replaced, so that a terminal shows it as it stands.
func (pr *printer) sourceLine(p Position) (string, bool) {
	lines, ok := pr.lines[p.File]
	if !ok {
		if src := pr.Sources[p.File]; len(src) > 0 {
			lines = strings.Split(string(src), "\n")
		}
		pr.lines[p.File] = lines
	}
	if p.Line < 1 || p.Line > len(lines) {
		return "", false
	}
	clean := func(c rune) rune {
		if c == '\t' || c >= ' ' && c != 0x7f && c != utf8.RuneError {
			return c
		}
		return '\uFFFD'
	}
	return strings.Map(clean, strings.TrimSuffix(lines[p.Line-1], "\r")), true
}

// Of a line that is longer than maxExcerpt characters the excerpt shows those around
// the column; beforeColumn of them are in front of it.
const (
	maxExcerpt   = 200
	beforeColumn = 60
	cutMark      = "…"
)

// excerpt returns the part of a line to show and the column's place in it.
func excerpt(line string, column int) (string, int) {
	text := []rune(line)
	if len(text) <= maxExcerpt {
		return line, column
	}
	from := min(max(0, column-1-beforeColumn), len(text))
	to := min(from+maxExcerpt, len(text))
	shown := string(text[from:to])
	if to < len(text) {
		shown += cutMark
	}
	if from > 0 {
		shown, column = cutMark+shown, column-from+1
	}
	return shown, column
}

// padding returns the white space that puts a caret under the column, keeping
// tabs so that it stands right in any tab width.
func padding(line string, column int) string {
	var b strings.Builder
	for i, c := range []rune(line) {
		if i >= column-1 {
			break
		}
		if c != '\t' {
			c = ' '
		}
		b.WriteRune(c)
	}
	return b.String()
}
