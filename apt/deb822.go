package apt

import (
	"fmt"
	"iter"
	"strings"
)

// Stanza is a paragraph of a control file (deb822(5)): lines "Name: value", and
// lines that begin with a blank and continue the value above.
type Stanza struct {
	Text string // without the empty line behind it
	Line int    // of the file, from 1, where the stanza begins
}

// SyntaxError is a line that is not as its format wants it.
type SyntaxError struct {
	File   string // what was read; may be empty
	Line   int    // from 1
	Reason string
}

// Error names the place and the reason.
func (e *SyntaxError) Error() string {
	name := e.File
	if name == "" {
		name = "the file"
	}
	return fmt.Sprintf("cannot read %s: line %d: %s", name, e.Line, e.Reason)
}

// Stanzas returns the paragraphs of a control file in their order. A line that is
// neither a field, a continuation nor a comment is an error, a *SyntaxError, which
// ends the sequence.
func Stanzas(text string) iter.Seq2[Stanza, error] {
	return func(yield func(Stanza, error) bool) {
		line := 1
		for len(text) > 0 {
			n, lines, bad := stanzaEnd(text)
			if bad != nil {
				bad.Line += line
				yield(Stanza{}, bad)
				return
			}
			if n > 0 && !yield(Stanza{strings.TrimSuffix(text[:n], "\n"), line}, nil) {
				return
			}
			text, line = text[n:], line+lines
			end := strings.IndexByte(text, '\n') // the empty line
			if end < 0 {
				return
			}
			text, line = text[end+1:], line+1
		}
	}
}

// stanzaEnd returns how many bytes and lines the first stanza has. The line of an
// error counts from 0.
func stanzaEnd(text string) (n, lines int, bad *SyntaxError) {
	started := false
	for n < len(text) {
		end := strings.IndexByte(text[n:], '\n')
		if end < 0 {
			end = len(text) - n
		}
		line := text[n : n+end]
		if strings.TrimRight(line, " \t\r") == "" {
			return n, lines, nil
		}
		switch line[0] {
		case '#':
		case ' ', '\t':
			if !started {
				return 0, 0, &SyntaxError{Line: lines, Reason: "it continues a field, and there is none above it"}
			}
		default:
			if colon := strings.IndexByte(line, ':'); colon <= 0 || strings.ContainsAny(line[:colon], " \t") {
				return 0, 0, &SyntaxError{Line: lines, Reason: fmt.Sprintf("%.60q is no field: there is no name and colon", line)}
			}
			started = true
		}
		n, lines = min(n+end+1, len(text)), lines+1
	}
	return n, lines, nil
}

// Fields returns the names and values of a stanza's fields in their order. A value
// that spans lines keeps the line ends, and loses the first blank of each line.
func (s Stanza) Fields() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for text := s.Text; text != ""; {
			var field string
			field, text = cutField(text)
			if field[0] == '#' || field[0] == ' ' || field[0] == '\t' {
				continue
			}
			name, value, _ := strings.Cut(field, ":")
			if !yield(name, joinLines(value)) {
				return
			}
		}
	}
}

// cutField returns the first line with its continuations, and what follows.
func cutField(text string) (field, rest string) {
	for n := 0; ; {
		end := strings.IndexByte(text[n:], '\n')
		if end < 0 {
			return text, ""
		}
		n += end + 1
		if n == len(text) || text[n] != ' ' && text[n] != '\t' && text[n] != '#' {
			return text[:n-1], text[n:]
		}
	}
}

func joinLines(value string) string {
	if strings.IndexByte(value, '\n') < 0 {
		return strings.TrimSpace(value)
	}
	lines := strings.Split(value, "\n")
	out := lines[:0]
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(line, "#") {
			continue
		}
		if i > 0 {
			line = line[1:]
		} else {
			line = strings.TrimLeft(line, " \t")
		}
		out = append(out, strings.TrimRight(line, " \t\r"))
	}
	return strings.Join(out, "\n")
}

// Field returns the value of a field, "" where the stanza has none. The case of
// letters in names does not count.
func (s Stanza) Field(name string) string {
	for text := s.Text; text != ""; {
		var field string
		field, text = cutField(text)
		if len(field) > len(name) && field[len(name)] == ':' && strings.EqualFold(field[:len(name)], name) {
			return joinLines(field[len(name)+1:])
		}
	}
	return ""
}
