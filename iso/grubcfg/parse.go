package grubcfg

import (
	"slices"
	"strings"
)

// maxDepth is how deep blocks may be nested. Ubuntu's menus need two levels.
const maxDepth = 50

// script is a parsed menu.
type script struct {
	source *source
	body   *list
}

// list is a sequence of statements.
type list struct {
	stmts []statement
}

// statement is a command with an optional block, or a compound one: if, for,
// while, until, function.
type statement struct {
	start, end int // offsets in the file, without the delimiter after it
	line       int // from 1

	keyword string // of a compound statement; empty for a command
	words   []word // of a command; of for: its name and its values

	block                *list // of a command or a function
	blockStart, blockEnd int   // offsets of the block, braces included

	branches []branch // of if, elif, else, while, until, for
}

// branch is a condition, empty for else and for, and what it guards.
type branch struct {
	cond, body list
}

// is reports whether the statement is the command.
func (st *statement) is(command string) bool {
	return st.keyword == "" && len(st.words) > 0 && st.words[0].text == command
}

// isMenu reports whether the statement adds an entry to the menu.
func (st *statement) isMenu() bool { return st.is("menuentry") || st.is("submenu") }

// assignment returns what set NAME=VALUE or NAME=VALUE sets.
func (st *statement) assignment() (name, value string, ok bool) {
	if st.keyword != "" || len(st.words) == 0 {
		return "", "", false
	}
	w := st.words[0]
	if st.is("set") && len(st.words) > 1 {
		w = st.words[1]
	}
	return strings.Cut(w.text, "=")
}

// walk calls visit for every statement of the list and, where visit returns
// true, for those inside it.
func walk(l *list, visit func(*statement) bool) {
	for i := range l.stmts {
		st := &l.stmts[i]
		if !visit(st) {
			continue
		}
		if st.block != nil {
			walk(st.block, visit)
		}
		for j := range st.branches {
			walk(&st.branches[j].cond, visit)
			walk(&st.branches[j].body, visit)
		}
	}
}

// reserved are GRUB's reserved words. They are words like any other after a
// command's name.
var reserved = []string{
	"case", "do", "done", "elif", "else", "esac", "fi", "for", "function",
	"if", "in", "select", "then", "until", "while",
}

// parse reads a menu by the grammar of grub-core/script/parser.y.
func parse(cfg []byte) (*script, error) {
	src, err := newSource(cfg)
	if err != nil {
		return nil, err
	}
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{source: src, tokens: tokens}
	body := &list{}
	for {
		p.skipNewlines()
		if p.peek().kind == tokenEOF {
			return &script{source: src, body: body}, nil
		}
		st, err := p.statement(0)
		if err != nil {
			return nil, err
		}
		body.stmts = append(body.stmts, st)
		if !p.acceptDelimiter() && p.peek().kind != tokenEOF {
			return nil, p.unexpected("the end of the command")
		}
	}
}

type parser struct {
	*source
	tokens []token
	next   int
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != tokenEOF {
		p.next++
	}
	return t
}

// unexpected says what stands where something else must stand.
func (p *parser) unexpected(wanted string) error {
	t := p.peek()
	return p.errorAt(t.start, "%s where %s must stand", t.describe(), wanted)
}

func (p *parser) skipNewlines() {
	for p.peek().kind == tokenNewline {
		p.next++
	}
}

// acceptDelimiter takes one ";" or line end.
func (p *parser) acceptDelimiter() bool {
	switch p.peek().kind {
	case tokenNewline, tokenSemicolon:
		p.next++
		return true
	}
	return false
}

// atKeyword reports whether the next token is one of the reserved words.
func (p *parser) atKeyword(words ...string) bool {
	t := p.peek()
	return t.kind == tokenWord && t.word.bare && slices.Contains(words, t.word.text)
}

func (p *parser) expectKeyword(word string) error {
	if !p.atKeyword(word) {
		return p.unexpected(word)
	}
	p.next++
	return nil
}

// commands reads one command or more up to, and without, the reserved word, or
// up to the closing brace when there is no such word.
func (p *parser) commands(depth int, until ...string) (list, error) {
	var l list
	if depth > maxDepth {
		return l, p.errorAt(p.peek().start, "blocks are nested more than %d deep", maxDepth)
	}
	atEnd := func() bool {
		if len(until) == 0 {
			return p.peek().kind == tokenClose
		}
		return p.atKeyword(until...)
	}
	p.skipNewlines()
	for {
		if p.atKeyword("function") {
			return l, p.errorAt(p.peek().start, "a function inside a block")
		}
		st, err := p.statement(depth)
		if err != nil {
			return l, err
		}
		l.stmts = append(l.stmts, st)
		delimited := p.acceptDelimiter()
		p.skipNewlines()
		switch {
		case atEnd() && (delimited || len(until) == 0):
			return l, nil
		case !delimited:
			return l, p.unexpected("the end of the command")
		}
	}
}

func (p *parser) statement(depth int) (statement, error) {
	t := p.peek()
	st := statement{start: t.start, line: p.line(t.start)}
	var err error
	switch {
	case p.atKeyword("if"):
		err = p.ifStatement(&st, depth)
	case p.atKeyword("for"):
		err = p.forStatement(&st, depth)
	case p.atKeyword("while", "until"):
		err = p.whileStatement(&st, depth)
	case p.atKeyword("function"):
		err = p.function(&st, depth)
	default:
		err = p.command(&st, depth)
	}
	if err == nil {
		st.end = p.tokens[p.next-1].end
	}
	return st, err
}

func (p *parser) command(st *statement, depth int) error {
	if p.atKeyword(reserved...) || p.peek().kind != tokenWord {
		return p.unexpected("a command")
	}
	for p.peek().kind == tokenWord {
		t := p.take()
		if t.word.bare && (t.word.text == "[[" || t.word.text == "]]") {
			return p.errorAt(t.start, "%q: GRUB has no such command", t.word.text)
		}
		st.words = append(st.words, t.word)
	}
	if p.peek().kind != tokenOpen {
		return nil
	}
	return p.block(st, depth)
}

// block reads { … }.
func (p *parser) block(st *statement, depth int) error {
	st.blockStart = p.take().start
	body, err := p.commands(depth + 1)
	if err != nil {
		return err
	}
	st.block = &body
	st.blockEnd = p.take().end
	return nil
}

func (p *parser) ifStatement(st *statement, depth int) error {
	st.keyword = p.take().word.text
	for {
		var b branch
		var err error
		if b.cond, err = p.commands(depth+1, "then"); err != nil {
			return err
		}
		p.next++
		if b.body, err = p.commands(depth+1, "elif", "else", "fi"); err != nil {
			return err
		}
		st.branches = append(st.branches, b)
		switch p.take().word.text {
		case "fi":
			return nil
		case "else":
			if b, err = p.lastBranch(depth, "fi"); err != nil {
				return err
			}
			st.branches = append(st.branches, b)
			return nil
		}
	}
}

// lastBranch reads commands up to a reserved word and takes it too.
func (p *parser) lastBranch(depth int, until string) (branch, error) {
	body, err := p.commands(depth+1, until)
	if err == nil {
		p.next++
	}
	return branch{body: body}, err
}

func (p *parser) forStatement(st *statement, depth int) error {
	st.keyword = p.take().word.text
	if err := p.name(st); err != nil {
		return err
	}
	if err := p.expectKeyword("in"); err != nil {
		return err
	}
	for p.peek().kind == tokenWord {
		st.words = append(st.words, p.take().word)
	}
	if !p.acceptDelimiter() {
		return p.unexpected("the end of the list")
	}
	p.skipNewlines()
	if err := p.expectKeyword("do"); err != nil {
		return err
	}
	b, err := p.lastBranch(depth, "done")
	st.branches = append(st.branches, b)
	return err
}

func (p *parser) whileStatement(st *statement, depth int) error {
	st.keyword = p.take().word.text
	cond, err := p.commands(depth+1, "do")
	if err != nil {
		return err
	}
	p.next++
	b, err := p.lastBranch(depth, "done")
	b.cond = cond
	st.branches = append(st.branches, b)
	return err
}

func (p *parser) function(st *statement, depth int) error {
	st.keyword = p.take().word.text
	if err := p.name(st); err != nil {
		return err
	}
	p.acceptDelimiter()
	p.skipNewlines()
	if p.peek().kind != tokenOpen {
		return p.unexpected(`"{"`)
	}
	if err := p.block(st, depth); err != nil {
		return err
	}
	// Unlike a command's block, a function's must end with a delimiter.
	if before := p.tokens[p.next-2].kind; before != tokenNewline && before != tokenSemicolon {
		return p.errorAt(st.blockEnd-1, `"}" where the end of the command must stand`)
	}
	return nil
}

// name reads a variable's or a function's name.
func (p *parser) name(st *statement) error {
	t := p.peek()
	if t.kind != tokenWord || !t.word.bare || slices.Contains(reserved, t.word.text) || variableName([]byte(t.word.text)) != len(t.word.text) || t.word.text[0] <= '9' {
		return p.unexpected("a name")
	}
	st.words = append(st.words, p.take().word)
	return nil
}
