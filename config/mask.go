package config

import (
	"bytes"
	"regexp"
	"unicode/utf8"
)

// Mask returns the text of a configuration with every secret replaced by
// asterisks, character by character, for the excerpts of a report. It works on
// any text, also on one that is no YAML: it hides the values of keys that speak
// of passwords or secrets (password_file's excepted), crypt hashes, private
// keys, and passwords in URLs. It rather hides too much.
func Mask(text []byte) []byte {
	text = bytes.TrimPrefix(text, byteOrderMark)
	hidden := make([]bool, len(text))
	hide := func(from, to int) {
		for i := from; i < to; i++ {
			hidden[i] = true
		}
	}
	for _, pattern := range []*regexp.Regexp{privateKeyText, cryptHash} {
		for _, at := range pattern.FindAllIndex(text, -1) {
			hide(at[0], at[1])
		}
	}
	for _, at := range urlPassword.FindAllSubmatchIndex(text, -1) {
		hide(at[2], at[3])
	}
	done := 0
	for _, at := range secretKey.FindAllSubmatchIndex(text, -1) {
		if at[1] < done {
			continue
		}
		end := endOfValue(text, at[2], at[1])
		if end == at[1] {
			continue
		}
		if line := endOfLine(text, at[1]); line-at[1] > longLine {
			end, done = max(end, line), line // no person reads on there
		}
		hide(at[1], end)
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		_, size := utf8.DecodeRune(text[i:])
		if c := text[i]; hidden[i] && c != '\n' && c != '\r' {
			out = append(out, '*')
		} else {
			out = append(out, text[i:i+size]...)
		}
		i += size
	}
	return bytes.ToValidUTF8(out, []byte("\uFFFD"))
}

var (
	privateKeyText = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z ]*-----|\z)`)
	cryptHash      = regexp.MustCompile(`\$[0-9a-z][0-9a-z-]{0,12}\$[^\s"',}\]]+`)
	urlPassword    = regexp.MustCompile(`://[^/\s:@]*:([^/\s]+)@`)
	// secretKey ends where the value begins; its group is the key.
	secretKey = regexp.MustCompile(`(?i)([\w-]*(?:pass(?:word|wd|phrase|_hash)?|secret|token|pwd)[\w-]*)["']?[ \t]*:[ \t]*`)
	fileKey   = regexp.MustCompile(`(?i)_?file$`)
)

// longLine is the number of bytes beyond which the rest of a line is hidden
// after a secret, rather than looked through key by key.
const longLine = 4096

func endOfLine(text []byte, from int) int {
	if n := bytes.IndexByte(text[from:], '\n'); n >= 0 {
		return from + n
	}
	return len(text)
}

// endOfValue returns where the value ends that begins at start, whose key
// begins at key.
func endOfValue(text []byte, key, start int) int {
	name := secretKey.FindSubmatch(text[key:start])
	if name != nil && fileKey.Match(name[1]) {
		return start
	}
	rest := text[start:]
	if len(rest) > 0 && (rest[0] == '"' || rest[0] == '\'') {
		if end := closingQuote(rest); end > 0 {
			return start + end
		}
		return len(text)
	}
	line := 1 + bytes.LastIndexByte(text[:key], '\n')
	if bytes.IndexByte(text[line:key], '{') >= 0 {
		if end := bytes.IndexAny(rest, ",}\n"); end >= 0 {
			return start + end
		}
		return len(text)
	}
	// Block style: the rest of the line, and the lines that are indented deeper
	// than the key.
	for end := start; ; {
		next := bytes.IndexByte(text[end:], '\n')
		if next < 0 {
			return len(text)
		}
		end += next
		following := text[end+1:]
		content := bytes.TrimLeft(following, " ")
		blank := len(content) == 0 || content[0] == '\n' || content[0] == '\r'
		if len(content) == 0 || !blank && len(following)-len(content) <= key-line {
			return end
		}
		end++
	}
}

func closingQuote(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[0] == '"' && text[i] == '\\':
			i++
		case text[i] == text[0] && i+1 < len(text) && text[i+1] == text[0] && text[0] == '\'':
			i++
		case text[i] == text[0]:
			return i + 1
		}
	}
	return 0
}
