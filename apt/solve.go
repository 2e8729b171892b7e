package apt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Request is what is to be installed on a machine.
type Request struct {
	Packages   []string   // names, or NAME=VERSION, where VERSION may be a glob
	Recommends bool       // install what packages recommend, as apt does by default
	Installed  *Installed // what the machine has already; nil: nothing
	Pins       []Pin      // of several that cover a version the first counts
}

// Solution is what an installation changes.
type Solution struct {
	Install []*Package // new packages and new versions, by name
	Remove  []*Package // what had to give way, by name

	needs map[*Package][]string
}

// Needs returns the names of those packages of the solution that a package depends
// on or recommends, sorted.
func (s *Solution) Needs(p *Package) []string { return s.needs[p] }

// Get returns the version of a package that the solution installs, or nil.
func (s *Solution) Get(name string) *Package {
	i, ok := slices.BinarySearchFunc(s.Install, name, func(p *Package, n string) int { return cmp.Compare(p.Name, n) })
	if !ok {
		return nil
	}
	return s.Install[i]
}

// Resolve returns what "apt-get install" would install: its rules, in its order,
// and not the best of all solutions. The error is an *Error of kind ErrNoPackage or
// ErrNoSolution that says which requirements collide.
func (a *Archive) Resolve(r Request) (*Solution, error) {
	s := newSolver(a, r)
	asked, err := s.asked()
	if err != nil {
		return nil, err
	}
	if s.run(asked) {
		solution := s.solution()
		return solution, s.err
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, explain(a, r, s)
}

// mode is what becomes of a package.
type mode int8

const (
	keep mode = iota
	install
	remove
)

// node is a package, real or virtual, and what becomes of it.
type node struct {
	name                        string
	current, candidate, install *Package // nil: none
	mode                        mode
	auto                        bool // not asked for, but needed by something
	held                        bool // to be left as it is
	protected                   bool // asked for, or without alternative for what is

	// Marks of the repair.
	upgradable, wasMarked bool
}

// solver decides what becomes of each package.
type solver struct {
	archive   *Archive
	request   Request
	nodes     map[string]*node
	installed []*node               // with a current version
	extra     map[string][]provider // installed packages that are in no source
	demands   map[*Package][]clause
	scores    map[string]int // see repair
	err       error          // of a field that cannot be read
}

func newSolver(a *Archive, r Request) *solver {
	s := &solver{
		archive: a, request: r, nodes: map[string]*node{}, extra: map[string][]provider{},
		demands: map[*Package][]clause{},
	}
	if r.Installed == nil {
		return s
	}
	for _, p := range r.Installed.packages(a) {
		n := &node{name: p.Name, current: p, install: p, auto: r.Installed.auto[p.Name], held: r.Installed.held[p.Name]}
		s.nodes[p.Name] = n
		s.installed = append(s.installed, n)
		if p.order < 0 { // not in the archive: what it provides is known here alone
			s.err = errors.Join(s.err, s.provide(p))
		}
	}
	for _, n := range s.installed {
		n.candidate = choose(s.versions(n), n.current, r.Pins)
	}
	return s
}

// provide records what an installed package of no source provides.
func (s *solver) provide(p *Package) error {
	own := NewArchive(s.archive.Arch)
	if err := own.provide(p); err != nil {
		return err
	}
	for name, list := range own.providers {
		s.extra[name] = append(s.extra[name], list...)
	}
	return nil
}

// versions returns the versions of a package, the newest first, that of the
// machine among them.
func (s *solver) versions(n *node) []*Package {
	all := s.archive.packages[n.name]
	if n.current == nil || slices.Contains(all, n.current) {
		return all
	}
	all = slices.Clone(all)
	at, _ := slices.BinarySearchFunc(all, n.current, func(x, y *Package) int {
		return cmp.Or(CompareVersions(y.Version, x.Version), 1)
	})
	return slices.Insert(all, at, n.current)
}

func (s *solver) node(name string) *node {
	n, ok := s.nodes[name]
	if !ok {
		n = &node{name: name}
		n.candidate = choose(s.archive.packages[name], nil, s.request.Pins)
		s.nodes[name] = n
	}
	return n
}

// asked returns the nodes of the requested packages, their candidates set. A name
// that one package alone provides stands for that package.
func (s *solver) asked() ([]*node, error) {
	var all []*node
	for _, text := range s.request.Packages {
		name, version := splitAsked(text)
		n := s.node(name)
		if version != "" {
			i := slices.IndexFunc(s.versions(n), func(p *Package) bool { return matchGlob(version, p.Version) })
			if i < 0 {
				return nil, s.noVersion(name, version)
			}
			n.candidate = s.versions(n)[i]
		}
		if n.candidate == nil {
			var err error
			if n, err = s.onlyProvider(name); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all, nil
}

func (s *solver) onlyProvider(name string) (*node, error) {
	var found []*node
	for _, p := range s.providers(name) {
		n := s.node(p.by.Name)
		if n.candidate == p.by && !slices.Contains(found, n) {
			found = append(found, n)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	e := &Error{Kind: ErrNoPackage, Summary: fmt.Sprintf("cannot install %s: no repository has a package of this name", name)}
	switch {
	case len(found) > 1:
		var names []string
		for _, n := range found {
			names = append(names, n.name)
		}
		slices.Sort(names)
		e.Summary = fmt.Sprintf("cannot install %s: it is a virtual package", name)
		e.Advice = "name one of the packages that provide it: " + strings.Join(names, ", ")
	case len(s.archive.packages[name]) > 0:
		e.Summary = fmt.Sprintf("cannot install %s: a pin forbids every version of it", name)
	default:
		e.Advice = "check the name, and whether the repository and the component that have it are among the sources: " + s.sourceNames()
	}
	return nil, e
}

func (s *solver) sourceNames() string {
	var names []string
	for _, suite := range s.archive.Suites {
		names = append(names, suite.String())
	}
	return strings.Join(names, ", ")
}

func (s *solver) noVersion(name, version string) error {
	var have []string
	for _, p := range s.archive.packages[name] {
		have = append(have, p.Version)
	}
	if len(have) == 0 {
		_, err := s.onlyProvider(name)
		if err != nil {
			return err
		}
	}
	return &Error{
		Kind:    ErrNoPackage,
		Summary: fmt.Sprintf("cannot install %s: no repository has version %s of it", name, version),
		Advice:  "there are " + strings.Join(have, ", "),
	}
}

// run marks what was asked for and what it takes, and repairs what that broke. It
// reports whether everything works then.
func (s *solver) run(asked []*node) bool {
	for _, n := range asked {
		n.protected = true
		s.mark(n, false, 0, true)
	}
	for _, n := range asked {
		s.mark(n, true, 0, true)
	}
	if len(s.broken()) > 0 {
		s.repair()
	}
	if s.err != nil || len(s.broken()) > 0 || slices.ContainsFunc(asked, func(n *node) bool { return n.install == nil }) {
		return false
	}
	s.sweep()
	return true
}

// clauses returns the demands of a version. A field that cannot be read ends the
// whole resolution: s.err.
func (s *solver) clauses(p *Package) []clause {
	all, ok := s.demands[p]
	if !ok {
		var err error
		if all, err = p.clauses(); err != nil && s.err == nil {
			s.err = &Error{Kind: ErrIndex, Summary: "cannot use the package index", Err: err}
		}
		s.demands[p] = all
	}
	return all
}

// matters reports whether a clause is heeded.
func (s *solver) matters(c clause) bool {
	return c.kind.critical() || c.kind == recommends && s.request.Recommends
}

// Pickers of one version of a node.
func nowVersion(n *node) *Package       { return n.current }
func installVersion(n *node) *Package   { return n.install }
func candidateVersion(n *node) *Package { return n.candidate }

func (s *solver) providers(name string) []provider {
	if extra := s.extra[name]; extra != nil {
		return append(slices.Clip(s.archive.providers[name]), extra...)
	}
	return s.archive.providers[name]
}

// found returns the nodes whose picked version is what a relation of a package
// asks for. A package never collides with itself.
func (s *solver) found(owner string, r Relation, negative bool, pick func(*node) *Package) []*node {
	var all []*node
	if n, ok := s.nodes[r.Name]; ok || s.archive.packages[r.Name] != nil {
		if !ok {
			n = s.node(r.Name)
		}
		if p := pick(n); p != nil && s.archive.satisfies(p, r) && (!negative || n.name != owner) {
			all = append(all, n)
		}
	}
	for _, p := range s.providers(r.Name) {
		if negative && p.by.Name == owner || !s.archive.provides(p, r) {
			continue
		}
		if n := s.node(p.by.Name); pick(n) == p.by && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// satisfied reports whether a clause holds in the state that pick chooses.
func (s *solver) satisfied(owner *Package, c clause, pick func(*node) *Package) bool {
	negative := c.kind.negative()
	for _, r := range c.alternatives {
		if len(s.found(owner.Name, r, negative, pick)) > 0 {
			return !negative
		}
	}
	return negative
}

// works reports whether a version's clauses hold; with policy, those that do not
// matter to its function but are wanted as well.
func (s *solver) works(p *Package, policy bool, pick func(*node) *Package) bool {
	if p == nil {
		return true
	}
	for _, c := range s.clauses(p) {
		if (c.kind.critical() || policy && s.matters(c)) && !s.satisfied(p, c, pick) {
			return false
		}
	}
	return true
}

// isBroken reports whether the version to install lacks something.
func (s *solver) isBroken(n *node) bool { return !s.works(n.install, false, installVersion) }

// broken returns the nodes that lack something, in the order of their names.
func (s *solver) broken() []*node {
	var all []*node
	for _, n := range s.byName() {
		if n.install != nil && s.isBroken(n) {
			all = append(all, n)
		}
	}
	return all
}

// byName returns the nodes that are or will be installed, by name: satisfaction
// adds nodes while it looks.
func (s *solver) byName() []*node {
	var all []*node
	for _, n := range s.nodes {
		if n.current != nil || n.install != nil {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return all
}

// solution collects what changes.
func (s *solver) solution() *Solution {
	out := &Solution{needs: map[*Package][]string{}}
	for _, n := range s.byName() {
		switch {
		case n.install != nil && n.install != n.current:
			out.Install = append(out.Install, n.install)
		case n.install == nil && n.current != nil:
			out.Remove = append(out.Remove, n.current)
		}
	}
	for _, p := range out.Install {
		needs := map[string]bool{}
		for _, c := range s.clauses(p) {
			if c.kind.negative() || !s.matters(c) {
				continue
			}
			for _, r := range c.alternatives {
				for _, n := range s.found(p.Name, r, false, installVersion) {
					if n.install != n.current && n.install != p {
						needs[n.name] = true
					}
				}
			}
		}
		out.needs[p] = slices.Sorted(maps.Keys(needs))
	}
	return out
}
