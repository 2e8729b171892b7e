package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FormatError reports a table that does not hold together.
type FormatError struct {
	File    string // such as devices.tsv
	Line    int    // from 1; 0: the file as a whole
	Message string
}

// Error returns file:line: message.
func (e *FormatError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// sheet is a table as text: a head of comments with source and date, a line of
// column names, and rows of as many cells, separated by tabs.
type sheet struct {
	file    string
	source  string
	date    string // year-month-day
	columns []string
	rows    []row
}

type row struct {
	file    string
	line    int
	columns []string
	cells   []string
}

// parseSheet reads a table and checks its shape: head, columns, and no cell
// empty or padded.
func parseSheet(file string, text []byte) (*sheet, error) {
	s := &sheet{file: file}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		fail := func(format string, a ...any) error {
			return &FormatError{File: file, Line: i + 1, Message: fmt.Sprintf(format, a...)}
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if s.columns != nil {
				return nil, fail("a comment after the head")
			}
			s.readHead(comment)
			continue
		}
		cells := strings.Split(line, "\t")
		for _, c := range cells {
			if c == "" || c != strings.TrimSpace(c) {
				return nil, fail("cell %q is empty or padded; write - for nothing", c)
			}
		}
		switch {
		case s.columns == nil:
			s.columns = cells
		case len(cells) != len(s.columns):
			return nil, fail("%d cells, want %d (%s)", len(cells), len(s.columns), strings.Join(s.columns, ", "))
		default:
			s.rows = append(s.rows, row{file, i + 1, s.columns, cells})
		}
	}
	if s.source == "" {
		return nil, &FormatError{File: file, Message: "the head names no source"}
	}
	if _, err := time.Parse(time.DateOnly, s.date); err != nil {
		return nil, &FormatError{File: file, Message: fmt.Sprintf("the head has no date of the form year-month-day: %q", s.date)}
	}
	return s, nil
}

func (s *sheet) readHead(comment string) {
	if v, ok := strings.CutPrefix(comment, " source: "); ok {
		s.source = strings.TrimSpace(v)
	}
	if v, ok := strings.CutPrefix(comment, " date: "); ok {
		s.date = strings.TrimSpace(v)
	}
}

// want checks that the table has exactly these columns.
func (s *sheet) want(columns ...string) error {
	if !slices.Equal(s.columns, columns) {
		return &FormatError{File: s.file, Message: fmt.Sprintf("columns are %v, want %v", s.columns, columns)}
	}
	return nil
}

func (r row) fail(format string, a ...any) error {
	return &FormatError{File: r.file, Line: r.line, Message: fmt.Sprintf(format, a...)}
}

// get returns the cell, "" where it holds "-".
func (r row) get(column string) string {
	c := r.cells[slices.Index(r.columns, column)]
	if c == "-" {
		return ""
	}
	return c
}

// list returns the cell's comma-separated values, none for "-".
func (r row) list(column string) []string {
	if r.get(column) == "" {
		return nil
	}
	return strings.Split(r.get(column), ",")
}

// number returns the cell as a number from 1 to 9999, 0 for "-".
func (r row) number(column string) (int, error) {
	c := r.get(column)
	if c == "" {
		return 0, nil
	}
	if !smallNumber.MatchString(c) {
		return 0, r.fail("%s %q is not a number from 1 to 9999", column, c)
	}
	n := 0
	for _, d := range c {
		n = n*10 + int(d-'0')
	}
	return n, nil
}

// oneOf returns the cell if it is one of the values, or "-" where "" is allowed.
func (r row) oneOf(column string, values ...string) (string, error) {
	c := r.get(column)
	if !slices.Contains(values, c) {
		return "", r.fail("%s %q is none of %s", column, c, strings.Join(values, ", "))
	}
	return c, nil
}

var smallNumber = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

// version is a driver version, such as 580.173.02. The second and third part may
// be missing.
type version [3]int

var versionForm = regexp.MustCompile(`^([0-9]{3})(?:\.([0-9]{1,3}))?(?:\.([0-9]{1,2}))?$`)

func parseVersion(s string) (version, bool) {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return version{}, false
	}
	var v version
	for i, part := range m[1:] {
		for _, d := range part {
			v[i] = v[i]*10 + int(d-'0')
		}
	}
	return v, true
}

func (v version) less(w version) bool { return slices.Compare(v[:], w[:]) < 0 }

// listing says from which driver on a GPU is listed, branch by branch.
type listing struct {
	text  string // as in the table; "" if no driver lists it
	first []version
	later bool // every branch after the last of first lists it too
}

func (r row) listing(column string) (listing, error) {
	l := listing{text: r.get(column)}
	text, later := strings.CutSuffix(l.text, "+")
	l.later = later
	if text == "" {
		if later {
			return l, r.fail("%s is a + without a version", column)
		}
		return l, nil
	}
	for s := range strings.SplitSeq(text, ",") {
		v, ok := parseVersion(s)
		if !ok {
			return l, r.fail("%s: %q is not a driver version", column, s)
		}
		if n := len(l.first); n > 0 && v[0] <= l.first[n-1][0] {
			return l, r.fail("%s: branch %d is not after %d", column, v[0], l.first[n-1][0])
		}
		l.first = append(l.first, v)
	}
	return l, nil
}

// in returns the first driver of the branch that lists the GPU, the zero version
// if all do. It is false if the branch does not list it.
func (l listing) in(branch int) (version, bool) {
	for _, v := range l.first {
		if v[0] == branch {
			return v, true
		}
	}
	n := len(l.first)
	return version{}, l.later && branch > l.first[n-1][0]
}

// oldest returns the first driver that lists the GPU, "" if none does.
func (l listing) oldest() string {
	first, _, _ := strings.Cut(strings.TrimSuffix(l.text, "+"), ",")
	return first
}
