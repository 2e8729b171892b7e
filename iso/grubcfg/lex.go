package grubcfg

import (
	"bytes"
	"fmt"
	"strings"
)

// source is a menu as GRUB's configuration reader hands it to the lexer, with
// the place of every byte in the file.
type source struct {
	raw  []byte
	text []byte
	pos  []int // pos[i] is the offset in raw of text[i]; one more for the end
}

// newSource drops what GRUB's reader drops: carriage returns anywhere
// (lib/getline.c) and lines that begin with "#" (normal/main.c), even within a
// quoted text.
func newSource(raw []byte) (*source, error) {
	s := &source{raw: raw}
	if len(raw) > maxSize {
		return nil, &SyntaxError{Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes: a boot menu has at most %d", len(raw), maxSize)}
	}
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return nil, s.errorAt(i, "a NUL byte: this is no text file")
	}
	s.text = make([]byte, 0, len(raw)+1)
	s.pos = make([]int, 0, len(raw)+2)
	for start := 0; start < len(raw); {
		end := len(raw)
		if i := bytes.IndexByte(raw[start:], '\n'); i >= 0 {
			end = start + i + 1
		}
		if trimmed := bytes.TrimLeft(raw[start:end], "\r"); len(trimmed) == 0 || trimmed[0] != '#' {
			for i := start; i < end; i++ {
				if raw[i] != '\r' {
					s.text = append(s.text, raw[i])
					s.pos = append(s.pos, i)
				}
			}
		}
		start = end
	}
	if n := len(s.text); n > 0 && s.text[n-1] != '\n' {
		s.text = append(s.text, '\n')
		s.pos = append(s.pos, len(raw))
	}
	s.pos = append(s.pos, len(raw))
	return s, nil
}

// errorAt returns a *SyntaxError for an offset in the file.
func (s *source) errorAt(offset int, format string, args ...any) error {
	offset = min(offset, len(s.raw))
	before := s.raw[:offset]
	return &SyntaxError{
		Line:    s.line(offset),
		Column:  offset - bytes.LastIndexByte(before, '\n'),
		Message: fmt.Sprintf(format, args...),
	}
}

// end returns the offset in the file after the text before index i.
func (s *source) end(i int) int { return min(s.pos[i-1]+1, len(s.raw)) }

// line returns the line, from 1, of an offset in the file.
func (s *source) line(offset int) int { return 1 + bytes.Count(s.raw[:offset], []byte{'\n'}) }

// word is one argument of a GRUB command.
type word struct {
	start, end int    // offsets in the file
	text       string // without its quotes; variables as they are written
	static     bool   // has no variables
	bare       bool   // has neither quotes, backslashes nor variables
}

type tokenKind int

const (
	tokenEOF tokenKind = iota
	tokenNewline
	tokenSemicolon
	tokenOpen  // {
	tokenClose // }
	tokenWord
)

type token struct {
	kind       tokenKind
	start, end int // offsets in the file
	word       word
}

// describe names the token in an error message.
func (t token) describe() string {
	switch t.kind {
	case tokenEOF:
		return "the end of the file"
	case tokenNewline:
		return "the end of the line"
	case tokenSemicolon:
		return `";"`
	case tokenOpen:
		return `"{"`
	case tokenClose:
		return `"}"`
	}
	return fmt.Sprintf("%q", t.word.text)
}

// lex splits a menu into tokens.
func lex(s *source) ([]token, error) {
	var tokens []token
	add := func(kind tokenKind, i, n int) {
		tokens = append(tokens, token{kind: kind, start: s.pos[i], end: s.end(i + n)})
	}
	for i := 0; i < len(s.text); {
		switch c := s.text[i]; c {
		case ' ', '\t':
			i++
		case '\n':
			add(tokenNewline, i, 1)
			i++
		case ';':
			add(tokenSemicolon, i, 1)
			i++
		case '{':
			add(tokenOpen, i, 1)
			i++
		case '}':
			add(tokenClose, i, 1)
			i++
		case '#':
			for s.text[i] != '\n' {
				i++
			}
		case '|', '&', '<', '>':
			return nil, s.errorAt(s.pos[i], "%q outside quotes: GRUB has no such operator", c)
		default:
			l := wordLexer{source: s, i: i, word: word{start: s.pos[i], static: true, bare: true}}
			if err := l.run(); err != nil {
				return nil, err
			}
			if l.present {
				l.word.end = s.end(l.i)
				l.word.text = l.out.String()
				tokens = append(tokens, token{kind: tokenWord, start: l.word.start, end: l.word.end, word: l.word})
			}
			i = l.i
		}
	}
	return append(tokens, token{kind: tokenEOF, start: len(s.raw), end: len(s.raw)}), nil
}

// wordLexer reads one word.
type wordLexer struct {
	*source
	i       int // index in source.text
	out     strings.Builder
	word    word
	present bool // there is a word, not only a continuation of the line
}

func (l *wordLexer) run() error {
	for l.i < len(l.text) {
		switch c := l.text[l.i]; c {
		case ' ', '\t', '\n', ';', '{', '}', '|', '&', '<', '>':
			return nil
		case '\\':
			l.word.bare = false
			next := l.text[l.i+1] // the text ends with a newline
			if next == '\n' && l.i+2 == len(l.text) {
				return l.errorAt(l.pos[l.i], "a backslash continues the last line, and there is no next one")
			}
			if next != '\n' {
				l.put(next)
			}
			l.i += 2
		case '\'':
			if err := l.singleQuoted(); err != nil {
				return err
			}
		case '"':
			if err := l.doubleQuoted(false); err != nil {
				return err
			}
		case '$':
			if l.i+1 < len(l.text) && l.text[l.i+1] == '"' {
				// $"…" is a text for translation; GRUB shows it as it
				// stands where it has no catalogue.
				l.i++
				if err := l.doubleQuoted(true); err != nil {
					return err
				}
				continue
			}
			if err := l.variable(); err != nil {
				return err
			}
		default:
			l.put(c)
			l.i++
		}
	}
	return nil
}

func (l *wordLexer) put(c byte) {
	l.out.WriteByte(c)
	l.present = true
}

func (l *wordLexer) singleQuoted() error {
	l.word.bare, l.present = false, true
	open := l.i
	n := bytes.IndexByte(l.text[open+1:], '\'')
	if n < 0 {
		return l.errorAt(l.pos[open], "a ' that is never closed")
	}
	l.out.Write(l.text[open+1 : open+1+n])
	l.i = open + n + 2
	return nil
}

// doubleQuoted reads "…". A backslash takes away the meaning of $ \ " and a line
// end, and stands for itself before anything else.
func (l *wordLexer) doubleQuoted(translated bool) error {
	l.word.bare, l.present = false, true
	open := l.i
	for l.i++; l.i < len(l.text); {
		switch c := l.text[l.i]; {
		case c == '"':
			l.i++
			return nil
		case c == '\\' && l.i+1 < len(l.text):
			switch next := l.text[l.i+1]; next {
			case '$', '\\', '"':
				l.put(next)
			case '\n':
			default:
				l.put('\\')
				l.put(next)
			}
			l.i += 2
		case c == '$':
			if err := l.variable(); err != nil {
				if !translated {
					return err
				}
				l.put('$')
				l.i++
			}
		default:
			l.put(c)
			l.i++
		}
	}
	return l.errorAt(l.pos[open], "a \" that is never closed")
}

// variable reads $NAME, ${NAME}, $1, $? and their like, and keeps their text.
func (l *wordLexer) variable() error {
	rest := l.text[l.i+1:]
	braced := len(rest) > 0 && rest[0] == '{'
	if braced {
		rest = rest[1:]
	}
	n := variableName(rest)
	if n == 0 || braced && (n >= len(rest) || rest[n] != '}') {
		return l.errorAt(l.pos[l.i], "a $ that no variable's name follows: write \\$ for the sign itself")
	}
	l.word.bare, l.word.static = false, false
	l.present = true
	size := 1 + n
	if braced {
		size += 2
	}
	l.out.Write(l.text[l.i : l.i+size])
	l.i += size
	return nil
}

// variableName returns the length of the variable's name at the start of b.
func variableName(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if strings.IndexByte("?#*@", b[0]) >= 0 {
		return 1
	}
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	isName := func(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	n := 0
	if isDigit(b[0]) {
		for n < len(b) && isDigit(b[n]) {
			n++
		}
		return n
	}
	for n < len(b) && (isName(b[n]) || n > 0 && isDigit(b[n])) {
		n++
	}
	return n
}
