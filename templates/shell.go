// Package templates quotes values for the languages that gpustrap writes leaf
// text in.
package templates

import "strings"

// QuoteShell returns s as one word of a POSIX shell, in single quotes, whatever
// it holds. A NUL byte cannot be part of a word; callers refuse it earlier.
func QuoteShell(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ShellCommand returns a simple command of a POSIX shell; words are quoted where
// they need it.
func ShellCommand(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.IndexFunc(w, needsQuotes) >= 0 {
			quoted[i] = QuoteShell(w)
		}
	}
	return strings.Join(quoted, " ")
}

func needsQuotes(c rune) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:+@,", c)
}
