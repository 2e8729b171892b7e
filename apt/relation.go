package apt

import (
	"fmt"
	"strings"
)

// Relation names packages that a dependency speaks of: a package, real or virtual,
// and which versions of it (deb-control(5), "Depends").
type Relation struct {
	Name    string // without the qualifier, but with ":any"
	Arch    string // qualifier other than ":any"; mostly empty
	Op      string // "", "<<", "<=", "=", ">=" or ">>"
	Version string
}

// String returns the relation as a control file has it.
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	return s
}

// Matches reports whether a version is among those that the relation names.
func (r Relation) Matches(version string) bool {
	if r.Op == "" {
		return true
	}
	c := CompareVersions(version, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// ParseRelations reads the value of Depends, Conflicts, Provides and their like: a
// list with commas, of alternatives with bars. An entry that is for other
// architectures ("[arm64]"), which binary packages have not but command lines may,
// is not known here and is an error.
func ParseRelations(value string) ([][]Relation, error) {
	var all [][]Relation
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue // a comma at the end, as apt accepts it
		}
		var group []Relation
		for text := range strings.SplitSeq(entry, "|") {
			r, err := ParseRelation(text)
			if err != nil {
				return nil, err
			}
			group = append(group, r)
		}
		all = append(all, group)
	}
	return all, nil
}

// ParseRelation reads one relation: name, perhaps ":any" or an architecture,
// perhaps a version in brackets.
func ParseRelation(text string) (Relation, error) {
	text = strings.TrimSpace(text)
	name, rest := text, ""
	if i := strings.IndexAny(text, " \t\n("); i >= 0 {
		name, rest = text[:i], strings.TrimSpace(text[i:])
	}
	r := Relation{Name: name}
	if base, arch, ok := strings.Cut(name, ":"); ok && arch != "any" {
		r.Name, r.Arch = base, arch
	}
	base := strings.TrimSuffix(r.Name, ":any")
	if base == "" || strings.ContainsAny(base, ":()<>=[]|,") {
		return Relation{}, fmt.Errorf("%q is no dependency: no name of a package", text)
	}
	if rest == "" {
		return r, nil
	}
	inner, ok := strings.CutPrefix(rest, "(")
	inner, closed := strings.CutSuffix(inner, ")")
	if !ok || !closed {
		return Relation{}, fmt.Errorf("%q is no dependency: behind the name must stand nothing, or a version in brackets", text)
	}
	inner = strings.TrimSpace(inner)
	n := 0
	for n < len(inner) && strings.IndexByte("<>=", inner[n]) >= 0 {
		n++
	}
	r.Op, r.Version = inner[:n], strings.TrimSpace(inner[n:])
	switch r.Op {
	case "<<", "<=", "=", ">=", ">>":
	case "<", ">": // deb-control(5): obsolete, and they include the version
		r.Op += "="
	case "":
		r.Op = "="
	default:
		return Relation{}, fmt.Errorf("%q is no dependency: %q compares nothing", text, r.Op)
	}
	if r.Version == "" || strings.ContainsAny(r.Version, " \t\n()") {
		return Relation{}, fmt.Errorf("%q is no dependency: no version in the brackets", text)
	}
	return r, nil
}
