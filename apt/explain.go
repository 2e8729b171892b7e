package apt

import (
	"fmt"
	"slices"
	"strings"
)

// must is a package that cannot be left out: asked for, or the only one that meets
// what another such package needs.
type must struct {
	n  *node
	by *must // nil: asked for
}

// why says behind a package's name what it is there for.
func (m *must) why() string {
	if m.by == nil {
		return "asked for"
	}
	chain := "needed by " + m.by.n.name
	for up := m.by; up.by != nil; up = up.by {
		chain += ", which " + up.by.n.name + " needs"
	}
	return chain
}

func (m *must) label() string {
	v := m.n.candidate
	if v == nil {
		return m.n.name
	}
	return fmt.Sprintf("%s %s (%s)", v.Name, v.Version, m.why())
}

// explain says which two requirements collide. failed is the solver that found no
// solution for the whole request.
func explain(a *Archive, r Request, failed *solver) error {
	r.Packages = smallest(a, r)
	e := &Error{Kind: ErrNoSolution, Summary: "cannot install " + strings.Join(r.Packages, " and ")}
	if len(r.Packages) > 1 {
		e.Summary += " together"
	}
	s := newSolver(a, r)
	asked, err := s.asked()
	if err != nil {
		return err
	}
	x := &explainer{solver: s, of: map[*node]*must{}}
	for _, n := range asked {
		x.add(&must{n: n})
	}
	if text := x.collision(); text != "" {
		e.Summary += ": " + text
		return e
	}
	// No package without alternatives collides: tell what the attempt ended with.
	s = newSolver(a, r)
	if asked, err = s.asked(); err != nil {
		return err
	}
	s.run(asked)
	if text := x.leftover(s, asked); text != "" {
		e.Summary += ": " + text
	} else if text := x.leftover(failed, asked); text != "" {
		e.Summary += ": " + text
	}
	return e
}

// smallest drops from the request what can be left out without making it work.
func smallest(a *Archive, r Request) []string {
	left := slices.Clone(r.Packages)
	for i := 0; i < len(left) && len(left) > 1; {
		try := r
		try.Packages = slices.Delete(slices.Clone(left), i, i+1)
		s := newSolver(a, try)
		asked, err := s.asked()
		if err == nil && !s.run(asked) {
			left = try.Packages
			continue
		}
		i++
	}
	return left
}

// explainer follows what cannot be avoided.
type explainer struct {
	*solver
	list []*must // in the order of their discovery
	of   map[*node]*must
	lack string // a need that nothing meets
}

// add follows a package's needs as long as they leave no choice.
func (x *explainer) add(m *must) {
	if x.of[m.n] != nil {
		return
	}
	x.of[m.n] = m
	x.list = append(x.list, m)
	if m.n.candidate == nil {
		return
	}
	for _, c := range x.clauses(m.n.candidate) {
		if c.kind.negative() || !c.kind.critical() {
			continue
		}
		all := x.solutions(m.n.candidate, c, candidateVersion)
		switch {
		case len(all) == 0 && x.lack == "":
			x.lack = x.lacking(m, c)
		case len(all) == 1:
			x.add(&must{n: all[0], by: m})
		}
	}
}

// lacking says of a need that nothing meets what there is instead.
func (x *explainer) lacking(m *must, c clause) string {
	text := fmt.Sprintf("%s needs %s", m.label(), c)
	var have []string
	for _, r := range c.alternatives {
		for _, v := range x.versions(x.node(r.Name)) {
			have = append(have, v.Name+" "+v.Version)
		}
		n := x.node(r.Name)
		if n.candidate != nil && slices.ContainsFunc(x.versions(n), func(v *Package) bool { return x.archive.satisfies(v, r) }) {
			return fmt.Sprintf("%s, and %s %s is to be installed (%s)", text, n.name, n.candidate.Version, x.whyCandidate(n))
		}
	}
	if len(have) > 0 {
		return text + ", and there is only " + strings.Join(have, ", ")
	}
	return text + ", which no repository has"
}

// whyCandidate says why this version of a package would be taken.
func (x *explainer) whyCandidate(n *node) string {
	if m := x.of[n]; m != nil && m.by == nil {
		return m.why()
	}
	switch {
	case n.candidate == n.current:
		return "it is installed"
	case slices.ContainsFunc(x.request.Pins, func(p Pin) bool {
		return slices.ContainsFunc(x.versions(n), p.covers)
	}):
		return "as the pins want it"
	}
	return "the newest"
}

// collision says which two of the packages that cannot be avoided exclude each
// other, or which need cannot be met.
func (x *explainer) collision() string {
	if x.lack != "" {
		return x.lack
	}
	for _, m := range x.list {
		if m.n.candidate == nil {
			continue
		}
		for _, c := range x.clauses(m.n.candidate) {
			if !c.kind.negative() {
				continue
			}
			for _, r := range c.alternatives {
				for _, hit := range x.found(m.n.name, r, true, candidateVersion) {
					if other := x.of[hit]; other != nil {
						end := "is there"
						if hit.name != r.Name {
							end = "provides it"
						}
						return fmt.Sprintf("%s %s %s, and %s %s", m.label(), c.kind.verb(), c, other.label(), end)
					}
				}
			}
		}
	}
	return ""
}

// leftover tells of a package that an attempt left broken, or did not install.
func (x *explainer) leftover(s *solver, asked []*node) string {
	for _, n := range s.broken() {
		for _, c := range s.clauses(n.install) {
			if !c.kind.critical() || s.satisfied(n.install, c, installVersion) {
				continue
			}
			if !c.kind.negative() {
				return x.leftoverNeed(s, n, c)
			}
			for _, hit := range s.found(n.name, c.alternatives[0], true, installVersion) {
				return fmt.Sprintf("%s %s %s, and %s %s has to be there", n.install.Name, c.kind.verb(), c, hit.name, hit.install.Version)
			}
		}
	}
	for _, n := range asked {
		if m := s.node(n.name); m.install == nil {
			return n.name + " has to give way to something else that was asked for"
		}
	}
	return ""
}

// leftoverNeed tells what keeps a need from being met.
func (x *explainer) leftoverNeed(s *solver, n *node, c clause) string {
	text := fmt.Sprintf("%s needs %s", n.install.Name, c)
	for _, r := range c.alternatives {
		for _, v := range s.archive.targets(r) {
			for _, d := range s.clauses(v) {
				if d.kind.negative() {
					for _, hit := range s.found(v.Name, d.alternatives[0], true, installVersion) {
						return fmt.Sprintf("%s, and %s %s %s, which has to be there", text, v.Name, d.kind.verb(), hit.name)
					}
				} else if d.kind.critical() && !s.satisfied(v, d, candidateVersion) {
					return fmt.Sprintf("%s, and %s needs %s, which cannot be installed", text, v, d)
				}
			}
			for _, m := range s.byName() {
				if m.install == nil {
					continue
				}
				for _, d := range s.clauses(m.install) {
					if d.kind.negative() && m.name != v.Name && s.archive.satisfies(v, d.alternatives[0]) {
						return fmt.Sprintf("%s, and %s %s it", text, m.name, d.kind.verb())
					}
				}
			}
		}
	}
	return text + ", which cannot be installed"
}
