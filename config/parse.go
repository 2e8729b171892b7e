package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxFileSize bounds what is parsed, in bytes. Ten thousand machines with every
// key take some 10 MiB. Who reads a file for Decode need read no more than a byte
// beyond it.
const MaxFileSize = 32 << 20

// maxSyntaxProblems bounds how many syntax errors one run reports.
const maxSyntaxProblems = 20

var byteOrderMark = []byte("\xef\xbb\xbf")

// parse returns the root mapping of the document, or nil where there is none.
// A file with a syntax error is parsed in parts, one a top-level key, so that
// the sound parts are checked in the same run; d.partial says so.
func (d *decoder) parse(data []byte) *yaml.Node {
	if len(data) > MaxFileSize {
		d.add(mark{}, "", fmt.Sprintf("the file has more than %d MiB", MaxFileSize>>20), "split the machines into several files")
		return nil
	}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if !d.checkText(data) {
		return nil
	}
	root, err := parseYAML(data)
	var second *secondDocument
	switch {
	case errors.As(err, &second):
		d.add(second.at, "", "a second document begins here", "keep one document in the file: remove the --- line and what does not belong")
	case errors.Is(err, io.EOF) || err == nil && isNull(root):
		d.shape++
		d.add(mark{1, 1}, "", "the file is empty", "`gpustrap init` writes one; the shortest begins with version: 1")
		return nil
	case err != nil:
		return d.parseParts(data, err)
	}
	if root.Kind != yaml.MappingNode {
		d.wrongType(root, "", "a mapping", "begin with version: 1 and one key a line")
		return nil
	}
	return root
}

// secondDocument says where another YAML document begins.
type secondDocument struct{ at mark }

func (*secondDocument) Error() string { return "a second document" }

// parseYAML returns the root node of the only document; io.EOF: there is none.
// With a second document it returns the first one's root and *secondDocument.
func parseYAML(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	root := doc.Content[0]
	switch err := dec.Decode(&next); {
	case errors.Is(err, io.EOF):
		return root, nil
	case err != nil:
		return nil, err
	}
	return root, &secondDocument{markOf(next.Content[0])}
}

// checkText refuses bytes that are no text, and characters that YAML does not
// allow or takes for a line break where no editor does.
func (d *decoder) checkText(data []byte) bool {
	if isUTF16(data) {
		d.add(mark{}, "", "the file is UTF-16 text", "save it as UTF-8")
		return false
	}
	found := 0
	at := mark{1, 1}
	for i := 0; i < len(data) && found < maxSyntaxProblems; {
		c, size := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			d.add(at, "", fmt.Sprintf("byte 0x%02x at offset %d is not UTF-8", data[i], i), "save the file as UTF-8 text")
			return false
		case c == '\r' && bytes.HasPrefix(data[i:], []byte("\r\n")):
		case c < ' ' && c != '\t' && c != '\n' || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff:
			remedy := "remove it; in double quotes it can be written as an escape such as \\x1b"
			if c == '\r' {
				remedy = "save the file with the line endings of Unix or Windows"
			}
			d.add(at, "", fmt.Sprintf("control character %U", c), remedy)
			found++
		}
		i += size
		at.column++
		if c == '\n' {
			at = mark{at.line + 1, 1}
		}
	}
	return found == 0
}

// isUTF16 reports whether a file begins as UTF-16 text does: with its byte order
// mark, or with two characters of ASCII, a byte of zero beside each.
func isUTF16(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	marked := data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff
	little := data[0] != 0 && data[1] == 0 && data[2] != 0 && data[3] == 0
	big := data[0] == 0 && data[1] != 0 && data[2] == 0 && data[3] != 0
	return marked || little || big
}

// parseParts parses each top-level key by itself, reports the syntax errors of
// those that fail, and returns a mapping of those that do not.
func (d *decoder) parseParts(data []byte, whole error) *yaml.Node {
	d.partial = true
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}
	before := len(d.report.Diagnostics)
	for _, p := range splitParts(data) {
		node, err := parseYAML(p.text)
		switch {
		case errors.Is(err, io.EOF):
		case err != nil:
			d.syntaxErrors(p, err)
		case node.Kind == yaml.MappingNode:
			shiftLines(node, p.line-1)
			root.Content = append(root.Content, node.Content...)
		}
	}
	if len(d.report.Diagnostics) == before {
		d.syntaxErrors(part{text: data, line: 1}, whole)
	}
	return root
}

// part is a run of whole lines; line is the number of the first.
type part struct {
	text []byte
	line int
}

// splitParts cuts a text before each line that begins a top-level key.
func splitParts(data []byte) []part {
	var parts []part
	start, startLine, line := 0, 1, 1
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if at > start && beginsKey(data[at:end]) {
			parts = append(parts, part{data[start:at], startLine})
			start, startLine = at, line
		}
		at = end
	}
	return append(parts, part{data[start:], startLine})
}

func beginsKey(line []byte) bool {
	c := line[0]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

func shiftLines(n *yaml.Node, by int) {
	n.Line += by
	for _, c := range n.Content {
		shiftLines(c, by)
	}
}

// syntaxErrors reports why a part is no YAML: what our own scanner finds, which
// knows columns and what people mean, or else what the parser says.
func (d *decoder) syntaxErrors(p part, err error) {
	var second *secondDocument
	if errors.As(err, &second) {
		second.at.line += int32(p.line - 1)
		d.add(second.at, "", "a second document begins here", "keep one document in the file: remove the --- line and what does not belong")
		return
	}
	faults := scanSyntax(p)
	for _, f := range faults {
		d.add(f.at, "", f.summary, f.detail)
	}
	if len(faults) > 0 {
		return
	}
	at, message := parserError(err)
	lines := strings.Split(string(p.text), "\n")
	at.line = min(max(at.line, 1), int32(len(lines)))
	content := lines[at.line-1]
	at.column = int32(1 + utf8.RuneCountInString(content[:len(content)-len(strings.TrimLeft(content, " \t"))]))
	at.line += int32(p.line - 1)
	d.add(at, "", "cannot read this as YAML: "+message, "look for a missing quote, bracket or colon here or in the lines above")
}

var parserLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parserError takes the line out of yaml.v3's message, which names none on the
// first line.
func parserError(err error) (at mark, message string) {
	message = err.Error()
	if m := parserLine.FindStringSubmatch(message); m != nil {
		n, _ := strconv.Atoi(m[1]) // no line: 0
		at.line = int32(n)
		message = message[len(m[0]):]
	}
	return at, message
}
