package iso9660

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of new file identifiers. ECMA-119 7.5.1 and 7.6.3 give 30 characters to
// a file's name and extension together and 31 to a directory's; Joliet gives 64,
// and media in the field have up to 103 (mkisofs -joliet-long).
const (
	maxFileIdentifier   = 30
	maxDirIdentifier    = 31
	maxExtension        = 8
	maxJolietIdentifier = 103
)

// isoIdentifier derives a file identifier of d-characters (ECMA-119 7.4.1) from
// a name, other than those already taken in the directory.
func (t *Tree) isoIdentifier(name string, dir bool, taken map[string]struct{}) []byte {
	stem, ext := splitExtension(name)
	limit, dot := maxFileIdentifier, "."
	if dir {
		stem, ext, limit, dot = name, "", maxDirIdentifier, ""
	}
	ext = dCharacters(ext, maxExtension)
	stem = dCharacters(stem, limit-len(ext))
	if stem == "" {
		stem = "_"
	}
	version := ""
	if t.versions && !dir {
		version = ";1"
	}
	return unique(stem, limit-len(ext), taken, func(stem string) []byte {
		return []byte(stem + dot + ext + version)
	})
}

// jolietIdentifier derives a Joliet identifier from a name, other than those
// already taken in the directory.
func (t *Tree) jolietIdentifier(name string, dir bool, taken map[string]struct{}) []byte {
	stem, ext := jolietName(name, dir)
	version := ""
	if t.versions && !dir {
		version = ";1"
	}
	return unique(stem, maxJolietIdentifier-len([]rune(ext)), taken, func(stem string) []byte {
		return encodeUCS2(stem + ext + version)
	})
}

// jolietName turns a name into one that Joliet allows. A name that is too long
// loses the end of its stem and keeps its extension.
func jolietName(name string, dir bool) (stem, ext string) {
	whole := jolietCharacters(name, maxJolietIdentifier+1)
	if len([]rune(whole)) <= maxJolietIdentifier {
		return whole, ""
	}
	stem = name
	if !dir {
		stem, ext = splitExtension(name)
	}
	if ext != "" {
		ext = "." + jolietCharacters(ext, maxExtension)
	}
	return jolietCharacters(stem, maxJolietIdentifier-len([]rune(ext))), ext
}

// unique makes an identifier of a stem of at most limit characters; when it is
// taken, the end of the stem gives way to a number.
func unique(stem string, limit int, taken map[string]struct{}, identifier func(stem string) []byte) []byte {
	runes := []rune(stem)
	for i := -1; ; i++ {
		candidate := stem
		if i >= 0 {
			digits := fmt.Sprintf("%03d", i)
			candidate = string(runes[:min(len(runes), limit-len(digits))]) + digits
		}
		id := identifier(candidate)
		if _, is := taken[string(id)]; !is {
			return id
		}
	}
}

// splitExtension splits a name at its last dot; a name that begins with its only
// dot has no extension.
func splitExtension(name string) (stem, ext string) {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// dCharacters turns s into at most limit d-characters.
func dCharacters(s string, limit int) string {
	var b strings.Builder
	for _, c := range strings.ToUpper(s) {
		if b.Len() == limit {
			break
		}
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		} else {
			b.WriteByte('_')
		}
	}
	return b.String()
}

// jolietCharacters turns s into at most limit characters that Joliet allows
// (Joliet, "Allowed characters"): no control characters, none of */:;?\ and none
// outside the Basic Multilingual Plane.
func jolietCharacters(s string, limit int) string {
	runes := make([]rune, 0, min(len(s), limit))
	for _, c := range s {
		if len(runes) == limit {
			break
		}
		if c < 0x20 || c > 0xFFFF || c == utf8.RuneError || strings.ContainsRune(`*/:;?\`, c) {
			c = '_'
		}
		runes = append(runes, c)
	}
	return string(runes)
}

func encodeUCS2(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for _, c := range s {
		b = binary.BigEndian.AppendUint16(b, uint16(c))
	}
	return b
}

// compareIdentifiers orders the records of a directory as ECMA-119 9.3 and
// xorriso do: by identifier, the version number aside.
func (t *Tree) compareIdentifiers(a, b []byte) int {
	version := []byte(";1")
	if t.Kind == Joliet {
		version = []byte{0, ';', 0, '1'}
	}
	return bytes.Compare(bytes.TrimSuffix(a, version), bytes.TrimSuffix(b, version))
}
