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
// a name, other than those already taken in the directory, and takes it.
func (t *Tree) isoIdentifier(name string, dir bool, taken *identifiers) []byte {
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
	return taken.unique(stem, limit-len(ext), func(stem string) []byte {
		return []byte(stem + dot + ext + version)
	})
}

// jolietIdentifier derives a Joliet identifier from a name, other than those
// already taken in the directory, and takes it.
func (t *Tree) jolietIdentifier(name string, dir bool, taken *identifiers) []byte {
	stem, ext := jolietName(name, dir)
	version := ""
	if t.versions && !dir {
		version = ";1"
	}
	return taken.unique(stem, maxJolietIdentifier-len([]rune(ext)), func(stem string) []byte {
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

// identifiers are those in use in a directory.
type identifiers struct {
	taken map[string]struct{}
	// next is the first number that was not tried yet, by the identifier that it
	// makes unique: thousands of names may begin alike.
	next map[string]int
}

func newIdentifiers(entries []*Entry) *identifiers {
	ids := &identifiers{taken: make(map[string]struct{}, len(entries)), next: map[string]int{}}
	for _, e := range entries {
		ids.taken[string(e.Identifier())] = struct{}{}
	}
	return ids
}

// unique takes an identifier made of a stem of at most limit characters; when it is
// taken already, the end of the stem gives way to a number.
func (ids *identifiers) unique(stem string, limit int, identifier func(stem string) []byte) []byte {
	wanted := identifier(stem)
	if ids.take(wanted) {
		return wanted
	}
	runes := []rune(stem)
	for i := ids.next[string(wanted)]; ; i++ {
		digits := fmt.Sprintf("%03d", i)
		id := identifier(string(runes[:min(len(runes), limit-len(digits))]) + digits)
		if ids.take(id) {
			ids.next[string(wanted)] = i + 1
			return id
		}
	}
}

// take reports whether an identifier was free, which it no longer is.
func (ids *identifiers) take(id []byte) bool {
	if _, taken := ids.taken[string(id)]; taken {
		return false
	}
	ids.taken[string(id)] = struct{}{}
	return true
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
