package apt

import (
	"fmt"
	"strconv"
	"strings"
)

// Package is one version of a package: a stanza of an index or of dpkg's status.
type Package struct {
	Name, Version string
	Arch          string // such as amd64 or all
	Source        *Suite // where it comes from; nil: from the machine alone

	stanza    Stanza
	multiArch string
	provides  string
	priority  priority
	essential bool // Essential or Important: never removed on the way
	order     int  // of appearance over all sources
	phased    int  // percentage of machines that get it; 100: all

	// others are further suites that have the same file.
	others []*Suite
}

// priority is the Priority field, the most important first (Debian Policy 2.5).
type priority int8

const (
	required priority = iota + 1
	important
	standard
	optional
	extra
)

func parsePriority(s string) priority {
	switch strings.TrimSpace(s) {
	case "required":
		return required
	case "important":
		return important
	case "standard":
		return standard
	case "optional":
		return optional
	}
	return extra
}

// String returns name and version as apt takes them.
func (p *Package) String() string { return p.Name + "=" + p.Version }

// Field returns a field of the package's stanza, "" where there is none.
func (p *Package) Field(name string) string { return p.stanza.Field(name) }

// Filename is the path of the package's file below its source's address.
func (p *Package) Filename() string { return strings.TrimPrefix(p.Field("Filename"), "./") }

// Size is the size of the package's file in bytes, 0 when the index does not say.
func (p *Package) Size() int64 {
	n, err := strconv.ParseInt(p.Field("Size"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// InstalledSize is what the package takes up once it is unpacked, in bytes.
func (p *Package) InstalledSize() int64 {
	n, err := strconv.ParseInt(p.Field("Installed-Size"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10 // the field counts KiB
}

// SourcePackage returns the name and version of the source that the package was
// built from.
func (p *Package) SourcePackage() (name, version string) {
	name, version = p.Name, p.Version
	if field := p.Field("Source"); field != "" {
		var rest string
		name, rest, _ = strings.Cut(field, " ")
		if v := strings.Trim(rest, "() "); v != "" {
			version = v
		}
	}
	return name, version
}

// newPackage reads the fields that every use needs. The others stay in the text
// until they are asked for: a whole Debian has 68 000 packages, an installation a
// few hundred.
func newPackage(s Stanza) (*Package, error) {
	p := &Package{stanza: s, priority: extra, phased: 100}
	for text := s.Text; text != ""; {
		var field string
		field, text = cutField(text)
		name, value, _ := strings.Cut(field, ":")
		switch name {
		case "Package":
			p.Name = strings.TrimSpace(value)
		case "Version":
			p.Version = strings.TrimSpace(value)
		case "Architecture":
			p.Arch = strings.TrimSpace(value)
		case "Multi-Arch":
			p.multiArch = strings.TrimSpace(value)
		case "Provides":
			p.provides = joinLines(value)
		case "Priority":
			p.priority = parsePriority(value)
		case "Essential", "Important", "Protected":
			p.essential = p.essential || isYes(strings.TrimSpace(value))
		case "Phased-Update-Percentage":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil {
				p.phased = n
			}
		}
	}
	if p.Name == "" || p.Version == "" {
		return nil, &SyntaxError{Line: s.Line, Reason: "a package without a name or a version"}
	}
	return p, nil
}

// clauseKind says what a clause of a package asks for.
type clauseKind int8

const (
	preDepends clauseKind = iota
	depends
	conflicts
	breaks
	recommends
	suggests
)

// clauseFields are the fields in the order in which apt heeds them.
func clauseFields() []string {
	return []string{"Pre-Depends", "Depends", "Conflicts", "Breaks", "Recommends", "Suggests"}
}

func (k clauseKind) negative() bool { return k == conflicts || k == breaks }

// critical reports whether a package does not work without it.
func (k clauseKind) critical() bool { return k <= breaks }

// verb says in a sentence what the clause is.
func (k clauseKind) verb() string {
	return [...]string{"needs", "needs", "conflicts with", "breaks", "recommends", "suggests"}[k]
}

// clause is one demand of a package: one of the alternatives, or, of a negative
// kind, not what its only relation names.
type clause struct {
	kind         clauseKind
	alternatives []Relation
}

func (c clause) String() string {
	var all []string
	for _, r := range c.alternatives {
		all = append(all, r.String())
	}
	return strings.Join(all, " | ")
}

// clauses reads the package's demands. Its errors name the package.
func (p *Package) clauses() ([]clause, error) {
	var all []clause
	for kind, field := range clauseFields() {
		value := p.Field(field)
		if value == "" {
			continue
		}
		groups, err := ParseRelations(value)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s of %s: %w", field, p, err)
		}
		for _, g := range groups {
			if !clauseKind(kind).negative() {
				all = append(all, clause{clauseKind(kind), g})
				continue
			}
			for _, r := range g { // "a | b" is no negative relation: both are meant
				all = append(all, clause{clauseKind(kind), []Relation{r}})
			}
		}
	}
	return all, nil
}
