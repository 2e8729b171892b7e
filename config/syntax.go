package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// fault is a syntax error that scanSyntax found.
type fault struct {
	at              mark
	summary, detail string
}

// scanSyntax looks for the mistakes that people make in YAML. It is asked only
// about a text that the parser has refused: the parser names a line at best,
// often that of the mapping around the mistake. It knows block mappings and
// lists, flow collections, quotes and block scalars, one line at a time.
func scanSyntax(p part) []fault {
	s := scanner{number: p.line - 1}
	for _, line := range strings.Split(string(p.text), "\n") {
		s.number++
		if len(s.faults) >= maxSyntaxProblems || complexKey.MatchString(line) {
			return s.faults
		}
		s.scanLine(strings.TrimSuffix(line, "\r"))
	}
	s.finish()
	return s.faults
}

// complexKey begins a key that is no word, beyond which the scanner is lost.
var complexKey = regexp.MustCompile(`^ *(- +)*\?\s`)

type scanner struct {
	number int // of the current line
	faults []fault

	levels []level  // open block collections, outermost first
	open   []opener // open brackets and the quote, outermost first
	quote  byte     // inside a quoted text: its quote
	ended  bool     // a quoted text has ended on this line, and nothing has followed it yet
	// suspect is a text after a dash that lacks a space to be a key, which it
	// was meant to be where the next line holds a key.
	suspect *fault
	block   int // inside a block scalar: the indentation of its parent, plus 1
}

// level is a block mapping or list.
type level struct {
	column int  // of its keys or dashes, from 0
	list   bool // a list
	filled bool // the last entry has its value, nothing may lie deeper
}

// opener is where a bracket or quote was opened; column counts bytes from 0.
type opener struct {
	c      byte
	number int
	line   string
	column int
}

func placeOf(number int, line string, column int) mark {
	return mark{int32(number), int32(1 + utf8.RuneCountInString(line[:column]))}
}

func (s *scanner) add(column int, line, summary, detail string) {
	s.faults = append(s.faults, fault{placeOf(s.number, line, column), summary, detail})
}

func (s *scanner) scanLine(line string) {
	content := strings.TrimLeft(line, " ")
	indent := len(line) - len(content)
	blank := strings.TrimSpace(content) == ""
	if s.block > 0 {
		if blank || indent >= s.block {
			return
		}
		s.block = 0
	}
	if s.quote != 0 || len(s.open) > 0 {
		s.scanFlow(line, 0)
		return
	}
	switch {
	case blank || content[0] == '#':
	case content[0] == '\t':
		s.add(indent, line, "a tab is used for indentation", "YAML indents with spaces: replace the tab")
	case strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...") || line[0] == '%':
		s.levels = nil
	default:
		s.scanEntry(line, indent)
	}
}

var (
	gluedKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*:[^\s/]`)
	// plainKey is a key and its colon, plain or in quotes; a # begins a comment
	// only after a space.
	plainKey = regexp.MustCompile(`^(?:(?:[^\s#&*!|>'"%@\x60,\[\]{}?:-]|[-?:]\S)#*(?:[^#\s]#*|\s)*?|"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*:(?:\s|$)`)
)

// scanEntry reads a line of block style from a column on: dashes, a key, a value.
func (s *scanner) scanEntry(line string, column int) {
	rest := line[column:]
	continues := s.enter(line, column, rest)
	dashed := strings.HasPrefix(rest, "- ")
	s.suspect = nil
	for rest == "-" || strings.HasPrefix(rest, "- ") {
		inner := strings.TrimLeft(rest[1:], " ")
		column += len(rest) - len(inner)
		rest = inner
		if rest == "" || rest[0] == '#' {
			return
		}
		if plainKey.MatchString(rest) || rest == "-" || strings.HasPrefix(rest, "- ") {
			s.levels = append(s.levels, level{column: column, list: rest[0] == '-' && !plainKey.MatchString(rest)})
		}
	}
	key := plainKey.FindString(rest)
	if key == "" {
		s.scanKeyless(line, column, rest, continues, dashed)
		return
	}
	column += len(key)
	value := strings.TrimLeft(line[column:], " ")
	column = len(line) - len(value)
	if value == "" || value[0] == '#' {
		return
	}
	if i := strings.IndexByte("&!", value[0]); i >= 0 {
		return // refused later, with its place
	}
	s.fill()
	s.scanValue(line, column)
}

// scanKeyless reads what should have been a key or a list entry.
func (s *scanner) scanKeyless(line string, column int, rest string, continues, dashed bool) {
	switch {
	case gluedKey.MatchString(rest):
		name, _, _ := strings.Cut(rest, ":")
		s.add(column+len(name), line, fmt.Sprintf("a space is missing after %q", name+":"), "write "+name+": and then the value")
		if dashed { // a text, unless keys follow
			suspect := s.faults[len(s.faults)-1]
			s.suspect, s.faults = &suspect, s.faults[:len(s.faults)-1]
			s.fill()
		}
	case len(rest) > 1 && rest[0] == '-' && rest[1] != '-' && !continues && s.inList(column):
		s.add(column, line, "a space is missing after the dash", "write \"- \" and then the entry")
	case len(s.levels) > 0 && !s.levels[len(s.levels)-1].list && s.levels[len(s.levels)-1].column == column && !continues && !strings.ContainsAny(rest[:1], "{[\"'"):
		s.add(column, line, "this line has no colon", "write a key, a colon and a value; a text over several lines is indented deeper than its key")
	default:
		s.fill()
		s.scanValue(line, column)
	}
}

func (s *scanner) inList(column int) bool {
	return len(s.levels) > 0 && s.levels[len(s.levels)-1].list && s.levels[len(s.levels)-1].column == column
}

func (s *scanner) fill() {
	if n := len(s.levels); n > 0 {
		s.levels[n-1].filled = true
	}
}

// enter finds the collection that a line belongs to by its column, and reports
// a column that fits none. It tells whether the line may continue a plain text.
func (s *scanner) enter(line string, column int, rest string) (continues bool) {
	dash := rest == "-" || strings.HasPrefix(rest, "- ")
	entry := dash || plainKey.MatchString(rest)
	popped := false
	for len(s.levels) > 0 && s.levels[len(s.levels)-1].column > column {
		s.levels = s.levels[:len(s.levels)-1]
		popped = true
	}
	n := len(s.levels)
	if n > 0 && s.levels[n-1].column == column {
		top := &s.levels[n-1]
		switch {
		case top.list && !dash && n > 1 && s.levels[n-2].column == column:
			s.levels = s.levels[:n-1] // a list at the column of its key ends
			top = &s.levels[n-2]
		case top.list && !dash && entry:
			s.add(column, line, "a key stands among the entries of a list", "indent it below an entry, or begin it with \"- \"")
		case !top.list && dash && !top.filled:
			s.levels = append(s.levels, level{column: column, list: true})
			return false
		case !top.list && dash:
			s.add(column, line, "a list entry stands among the keys of a mapping", "indent it below the key that it belongs to")
		}
		top.filled = false
		return false
	}
	switch {
	case n == 0 || !s.levels[n-1].filled && !popped:
		if entry {
			s.levels = append(s.levels, level{column: column, list: dash})
		}
		return n > 0
	case popped:
		s.add(column, line, "this line's indentation fits no line above", "indent it like the keys that it belongs with")
		return false
	case entry && s.suspect != nil:
		s.faults = append(s.faults, *s.suspect)
		s.levels = append(s.levels, level{column: column})
		return false
	case entry:
		s.add(column, line, "this line is indented deeper than a key that already has a value", "indent it like the keys above, or remove the value of the key above")
		return false
	}
	return true // the second line of a plain text
}

// scanValue reads a value that begins at a column of a line of block style.
func (s *scanner) scanValue(line string, column int) {
	switch c := line[column]; c {
	case '"', '\'', '[', '{':
		s.scanFlow(line, column)
	case '|', '>':
		s.block = 1
		if n := len(s.levels); n > 0 {
			s.block = s.levels[n-1].column + 1
		}
	case '@', '`', '%':
		s.add(column, line, fmt.Sprintf("a text must not begin with %q", string(c)), "put the text in quotes")
	case ']', '}', ',':
		s.add(column, line, fmt.Sprintf("%q stands where a value is expected", string(c)), "put the text in quotes, or remove it")
	default:
		s.scanPlain(line, column)
	}
}

// scanPlain reads a text without quotes, in which a colon and a space would
// begin a mapping.
func (s *scanner) scanPlain(line string, column int) {
	value := line[column:]
	if i := strings.Index(value, " #"); i >= 0 {
		value = value[:i]
	}
	value = strings.TrimRight(value, " \t")
	i := strings.Index(value, ": ")
	if i < 0 && strings.HasSuffix(value, ":") {
		i = len(value) - 1
	}
	if i >= 0 {
		s.add(column+i, line, "a second colon on one line", "put the value in quotes, or begin the inner key on a line of its own")
	}
}

// scanFlow reads brackets and quotes from a column to the end of the line.
func (s *scanner) scanFlow(line string, column int) {
	s.ended = false
	for i := column; i < len(line); i++ {
		c := line[i]
		if strings.ContainsRune(",:]}", rune(c)) {
			s.ended = false
		}
		switch {
		case s.quote == '"' && c == '\\':
			if i+1 < len(line) && !strings.ContainsRune("0abt\tnvfre \"/\\N_LPxuU", rune(line[i+1])) {
				s.add(i, line, fmt.Sprintf("unknown escape \\%c in double quotes", line[i+1]), "write \\\\ for a backslash, or use single quotes")
			}
			i++
		case s.quote == '\'' && strings.HasPrefix(line[i:], "''"):
			i++
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
				s.open = s.open[:len(s.open)-1]
				s.ended = true
			}
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return
		case s.ended && !strings.ContainsRune(" \t,:]}", rune(c)):
			s.add(i, line, "text follows after the closing quote", "put the whole value in one pair of quotes, or write a comma before the next")
			if s.ended = false; len(s.open) == 0 {
				return
			}
		case (c == '"' || c == '\'') && startsText(line[:i]):
			s.quote = c
			s.push(c, line, i)
		case c == '[' || c == '{':
			s.push(c, line, i)
		case c == ']' || c == '}':
			s.closeBracket(line, i)
		case len(s.open) == 0 && !strings.ContainsRune(" \t:", rune(c)):
			s.add(i, line, "text follows after the value has ended", "put the whole value in quotes, or remove the rest")
			return
		}
	}
}

// startsText reports whether a quote after this text opens a quoted text,
// rather than standing within a plain one.
func startsText(before string) bool {
	before = strings.TrimRight(before, " \t")
	return before == "" || strings.ContainsRune("[{,:-?", rune(before[len(before)-1]))
}

func (s *scanner) push(c byte, line string, column int) {
	s.open = append(s.open, opener{c, s.number, line, column})
}

func (s *scanner) closeBracket(line string, column int) {
	c := line[column]
	if len(s.open) == 0 {
		s.add(column, line, fmt.Sprintf("%q closes nothing", string(c)), "remove it, or write the bracket that it closes")
		return
	}
	last := s.open[len(s.open)-1]
	if want := byte(']'); last.c == '{' && c != '}' || last.c == '[' && c != want {
		s.add(column, line, fmt.Sprintf("%q closes the %q of line %d", string(c), string(last.c), last.number), "close each bracket with its own kind")
	}
	s.open = s.open[:len(s.open)-1]
}

// finish reports what is still open at the end.
func (s *scanner) finish() {
	if len(s.open) == 0 {
		return
	}
	last := s.open[len(s.open)-1]
	what := "bracket"
	if s.quote != 0 {
		what = "quote"
	}
	s.faults = append(s.faults, fault{placeOf(last.number, last.line, last.column), fmt.Sprintf("this %s is never closed", what), "close it"})
}
