package apt

import (
	"fmt"
	"strings"
)

// CompareVersions returns -1, 0 or 1 as version a is older than b, the same or
// newer, by the rules of deb-version(7): epoch, upstream version, Debian revision;
// "~" sorts before everything, the end included.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	epochA, upA, revA := splitVersion(a)
	epochB, upB, revB := splitVersion(b)
	if c := compareDigits(epochA, epochB); c != 0 {
		return c
	}
	if c := comparePart(upA, upB); c != 0 {
		return c
	}
	return comparePart(revA, revB)
}

// splitVersion cuts [epoch:]upstream[-revision]. What is missing is empty, which
// compares like 0.
func splitVersion(v string) (epoch, upstream, revision string) {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		epoch, v = v[:i], v[i+1:]
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart compares upstream versions or revisions: by turns a part without
// digits, by order, and a part of digits, by number.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			x, y := order(a), order(b)
			if x != y {
				return sign(x - y)
			}
			a, b = a[1:], b[1:] // both begin with the same byte that is no digit
		}
		i, j := digits(a), digits(b)
		if c := compareDigits(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// order weighs the first byte of a part: "~", then the end and digits, then
// letters, then all else.
func order(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// CheckVersion says what is wrong with a version by deb-version(7), or returns nil.
func CheckVersion(v string) error {
	rest := v
	if i := strings.IndexByte(v, ':'); i >= 0 {
		if i == 0 || digits(v[:i]) != i {
			return fmt.Errorf("%q is no version: the epoch before the colon is no number", v)
		}
		rest = v[i+1:]
	}
	if rest == "" || !isDigit(rest[0]) {
		return fmt.Errorf("%q is no version: it does not begin with a digit", v)
	}
	if i := strings.LastIndexByte(rest, '-'); i >= 0 && (i == len(rest)-1 || strings.Contains(rest[i:], ":")) {
		return fmt.Errorf("%q is no version: nothing, or a colon, behind the last hyphen", v)
	}
	for i := range len(rest) {
		c := rest[i]
		if !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune(".+-~:", rune(c)) {
			return fmt.Errorf("%q is no version: it has the character %q", v, c)
		}
	}
	return nil
}
