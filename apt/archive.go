package apt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Archive is what the sources offer, for one architecture.
type Archive struct {
	Arch   string // such as amd64
	Suites []*Suite

	all       []*Package            // in the order of their appearance
	packages  map[string][]*Package // by name, the newest version first
	providers map[string][]provider // by virtual name, what came last first
	ranks     map[string]int        // see rank
}

// provider is a package that stands in for another name, perhaps with a version.
type provider struct {
	by      *Package
	version string // "" matches relations without a version only
}

// NewArchive returns an archive without packages.
func NewArchive(arch string) *Archive {
	return &Archive{Arch: arch, packages: map[string][]*Package{}, providers: map[string][]provider{}}
}

// AddIndex reads an index, the text of a Packages file, as that of a suite which
// nothing vouches for: for archives that were checked by other means. Packages of
// other architectures are left out. The errors are a *SyntaxError or name the
// package.
func (a *Archive) AddIndex(source Source, suite, text string) error {
	s := &Suite{Source: &source, Name: suite}
	a.addSuite(s)
	return a.add(s, text)
}

// add reads an index of a suite.
func (a *Archive) add(suite *Suite, text string) error {
	for stanza, err := range Stanzas(text) {
		if err != nil {
			return inSuite(err, suite)
		}
		p, err := newPackage(stanza)
		if err != nil {
			return inSuite(err, suite)
		}
		if p.Arch != a.Arch && p.Arch != "all" {
			continue
		}
		p.Source = suite
		if err := a.insert(p); err != nil {
			return inSuite(err, suite)
		}
	}
	return nil
}

// addSuite makes a suite part of the archive and gives its versions their
// priority: the source's, or what the Release file asks for (apt_preferences(5),
// "APT's Default Priority Assignments").
func (a *Archive) addSuite(s *Suite) {
	s.priority = s.Source.Priority
	if s.priority == 0 {
		s.priority = 500
		if s.Release != nil && s.Release.NotAutomatic {
			s.priority = 1
			if s.Release.AutoUpgrades {
				s.priority = 100
			}
		}
	}
	a.Suites = append(a.Suites, s)
}

func inSuite(err error, suite *Suite) error {
	var syntax *SyntaxError
	if errors.As(err, &syntax) && suite != nil {
		syntax.File = "the index of " + suite.String()
	}
	return err
}

// insert puts a package among the versions of its name. A version that is there
// already, of the same file, gets a further place.
func (a *Archive) insert(p *Package) error {
	versions := a.packages[p.Name]
	for _, have := range versions {
		if have.Version == p.Version && sameFile(have, p) {
			if p.Source != nil {
				have.others = append(have.others, p.Source)
			}
			return nil
		}
	}
	if err := a.provide(p); err != nil {
		return err
	}
	p.order = len(a.all)
	a.all = append(a.all, p)
	at, _ := slices.BinarySearchFunc(versions, p, func(x, y *Package) int {
		return cmp.Or(CompareVersions(y.Version, x.Version), -1) // behind its equals
	})
	a.packages[p.Name] = slices.Insert(versions, at, p)
	return nil
}

// sameFile reports whether two stanzas of one version are of one file, as far as
// they tell.
func sameFile(a, b *Package) bool {
	for _, field := range []string{"SHA256", "SHA512"} {
		if x, y := a.Field(field), b.Field(field); x != "" && y != "" {
			return x == y
		}
	}
	return true
}

// provide records what a package stands in for. "NAME:any" is provided by packages
// that are Multi-Arch: allowed (the multiarch specification's third kind).
func (a *Archive) provide(p *Package) error {
	allowed := p.multiArch == "allowed"
	if allowed {
		a.addProvider(p.Name+":any", provider{p, p.Version})
	}
	if p.provides == "" {
		return nil
	}
	groups, err := ParseRelations(p.provides)
	if err != nil {
		return fmt.Errorf("cannot read Provides of %s: %w", p, err)
	}
	for _, group := range groups {
		r := group[0]
		if len(group) > 1 || r.Op != "" && r.Op != "=" {
			continue // apt and dpkg ignore what provides a range or one of several
		}
		a.addProvider(r.Name, provider{p, r.Version})
		if allowed && !strings.HasSuffix(r.Name, ":any") {
			a.addProvider(r.Name+":any", provider{p, r.Version})
		}
	}
	return nil
}

func (a *Archive) addProvider(name string, p provider) {
	a.providers[name] = append(a.providers[name], p)
}

// Versions returns the versions of a package, the newest first.
func (a *Archive) Versions(name string) []*Package { return a.packages[name] }

// Names returns the names of all packages, sorted.
func (a *Archive) Names() []string { return slices.Sorted(maps.Keys(a.packages)) }

// Len is the number of package versions in the archive.
func (a *Archive) Len() int { return len(a.all) }

// satisfies reports whether a version of a package, under its own name, is what a
// relation asks for.
func (a *Archive) satisfies(p *Package, r Relation) bool {
	return p.Name == r.Name && a.speaks(r) && r.Matches(p.Version)
}

// provides reports whether what a package provides is what a relation asks for.
func (a *Archive) provides(p provider, r Relation) bool {
	return a.speaks(r) && (r.Op == "" || p.version != "" && r.Matches(p.version))
}

// speaks reports whether a relation is about this architecture.
func (a *Archive) speaks(r Relation) bool {
	return r.Arch == "" || r.Arch == a.Arch || r.Arch == "native"
}

// targets returns the versions that are what a relation asks for, in the order:
// the package of that name, newest version first, then those that provide it.
func (a *Archive) targets(r Relation) []*Package {
	var all []*Package
	for _, p := range a.packages[r.Name] {
		if a.satisfies(p, r) {
			all = append(all, p)
		}
	}
	for _, p := range slices.Backward(a.providers[r.Name]) {
		if a.provides(p, r) && !slices.Contains(all, p.by) {
			all = append(all, p.by)
		}
	}
	return all
}

// rank orders names by their first appearance: as a package, or in what a package
// asks for or provides. Where apt's rules leave open which of several packages is
// taken, it takes the one that appeared last.
func (a *Archive) rank(name string) int {
	if a.ranks == nil {
		a.ranks = map[string]int{}
		fields := append(clauseFields(), "Replaces", "Enhances", "Provides")
		for _, p := range a.all {
			a.addRanks(p, fields)
		}
	}
	return a.ranks[name]
}

// addRanks notes the names that appear in a package's fields, in the order in
// which apt reads the fields.
func (a *Archive) addRanks(p *Package, fields []string) {
	appear := func(name string) {
		if _, ok := a.ranks[name]; !ok {
			a.ranks[name] = len(a.ranks) + 1
		}
	}
	appear(p.Name)
	values := make([]string, len(fields))
	for text := p.stanza.Text; text != ""; {
		var field string
		field, text = cutField(text)
		name, value, _ := strings.Cut(field, ":")
		if i := slices.Index(fields, name); i >= 0 {
			values[i] = value
		}
	}
	for _, value := range values {
		for entry := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == '|' }) {
			entry = strings.TrimSpace(entry)
			if i := strings.IndexAny(entry, " \t\n("); i >= 0 {
				entry = entry[:i]
			}
			if entry != "" {
				appear(entry)
			}
		}
	}
}
