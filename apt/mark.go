package apt

import (
	"cmp"
	"slices"
)

// maxDepth is how long a chain of dependencies may become.
const maxDepth = 3000

// mayBecome reports whether a package's mode may change: what a person asked for,
// holds and essential packages are left alone.
func (s *solver) mayBecome(n *node, m mode, depth int, asked bool) bool {
	switch {
	case depth > maxDepth, n.current == nil && n.candidate == nil && n.install == nil:
		return false
	case asked, n.mode == m:
		return true
	case n.protected, m != keep && n.held:
		return false
	}
	return m != remove || n.current == nil || !n.current.essential
}

// mark decides to install a package. follow says to install what it needs too, and
// to remove what collides with it; asked, that a person wants it. It reports
// whether that went well; what failed is taken back, unless a person asked for it.
func (s *solver) mark(n *node, follow bool, depth int, asked bool) bool {
	onlyProtect := n.protected && n.mode == keep && n.candidate != nil && n.candidate == n.current
	if !onlyProtect && !s.mayBecome(n, install, depth, asked) || n.candidate == nil {
		return false
	}
	if !n.protected && s.works(n.install, true, installVersion) {
		if n.candidate == n.current {
			return n.install != nil || s.keep(n, depth+1, asked)
		}
		if n.mode == install {
			return true
		}
	}
	if follow && !s.possible(n) {
		return false
	}
	if asked {
		s.change(n, true)
	}
	if !follow {
		if !asked {
			s.change(n, false)
		}
		return true
	}
	return s.markWithNeeds(n, depth, asked)
}

// markWithNeeds marks a package, removes what collides with it, and marks what it
// needs.
func (s *solver) markWithNeeds(n *node, depth int, asked bool) bool {
	wanted, unwanted := s.openClauses(n)
	already := n.protected
	early := !already && !asked // give up at the first failure
	ok := true
	upgrade, drop, done := s.giveWay(n, unwanted, depth, already, asked)
	if !done {
		if early {
			return false
		}
		ok = false
	}
	upgrade = s.dependants(n, upgrade)
	if !asked {
		s.change(n, false)
	}
	n.protected = true
	defer func() { n.protected = already }()

	s.upgradeSiblings(n, depth)
	for _, step := range []func() bool{
		func() bool { return s.upgradeOrRemove(upgrade, depth, already, asked) },
		func() bool { return s.installNeeds(n, wanted, depth, already, asked) },
		func() bool { return s.removeAll(drop, depth, early) },
	} {
		if step() {
			continue
		}
		if early {
			s.takeBack(n)
			return false
		}
		ok = false
	}
	return ok
}

// possible reports whether each need of the candidate can be met by a candidate of
// another package. If not, the package has no candidate any more: nothing that
// comes later can change it.
func (s *solver) possible(n *node) bool {
	if n.candidate == n.current {
		return true
	}
	for _, c := range s.clauses(n.candidate) {
		if !c.kind.critical() || c.kind.negative() ||
			s.satisfied(n.candidate, c, installVersion) || s.satisfied(n.candidate, c, candidateVersion) {
			continue
		}
		if !n.protected {
			n.candidate = n.current
			if n.mode != remove {
				n.mode = keep
			}
		}
		return false
	}
	return true
}

// change makes the candidate the version to install.
func (s *solver) change(n *node, asked bool) {
	if n.protected && n.install == n.candidate && n.install != nil {
		return
	}
	n.mode, n.install = install, n.candidate
	if n.current == nil {
		n.auto = !asked
	} else if asked {
		n.auto = false
	}
	if n.candidate == n.current {
		n.mode = keep
	}
}

// keep leaves a package as it is on the machine.
func (s *solver) keep(n *node, depth int, asked bool) bool {
	if !s.mayBecome(n, keep, depth, asked) {
		return false
	}
	n.mode, n.install = keep, n.current
	return true
}

// drop removes a package, or does not install it.
func (s *solver) drop(n *node, depth int) bool {
	switch {
	case !s.mayBecome(n, remove, depth, false):
		return false
	case n.mode == remove || n.install == nil:
		return true
	case !s.mayDrop(n):
		return false
	}
	n.mode, n.install = remove, nil
	if n.current == nil {
		n.mode = keep
	}
	return true
}

// mayDrop keeps new packages that a person asked for.
func (s *solver) mayDrop(n *node) bool {
	return n.current != nil || n.install == nil || n.auto
}

// takeBack undoes the marking of a package that cannot be installed after all.
func (s *solver) takeBack(n *node) {
	n.install, n.mode, n.candidate = n.current, keep, n.current
}

// openClauses returns the candidate's clauses that something must be done for.
func (s *solver) openClauses(n *node) (wanted, unwanted []clause) {
	for _, c := range s.clauses(n.candidate) {
		if !s.matters(c) || !n.protected && s.satisfied(n.candidate, c, installVersion) {
			continue
		}
		if c.kind.negative() {
			unwanted = append(unwanted, c)
		} else {
			wanted = append(wanted, c)
		}
	}
	return wanted, unwanted
}

// solutions returns the nodes whose picked version meets a clause, the preferred
// first: installed before new, then in the order of the alternatives, then by
// prefer.
func (s *solver) solutions(owner *Package, c clause, pick func(*node) *Package) []*node {
	var have, fresh []*node
	for _, r := range c.alternatives {
		list := s.found(owner.Name, r, c.kind.negative(), pick)
		slices.SortFunc(list, func(a, b *node) int { return s.prefer(r, a, b, pick) })
		for _, n := range list {
			if n.current != nil {
				have = append(have, n)
			} else {
				fresh = append(fresh, n)
			}
		}
	}
	var all []*node
	for _, n := range append(have, fresh...) {
		refused := n.protected && (n.mode == remove || n.mode == keep && n.current == nil)
		if !slices.Contains(all, n) && (c.kind.negative() || !refused) {
			all = append(all, n)
		}
	}
	return all
}

// prefer compares two packages that meet one relation.
func (s *solver) prefer(r Relation, a, b *node, pick func(*node) *Package) int {
	first := func(x, y bool) int {
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	p, q := pick(a), pick(b)
	return cmp.Or(
		first(a.protected, b.protected),
		first(p.multiArch == "same" && a.current != nil, q.multiArch == "same" && b.current != nil),
		first(a.current != nil, b.current != nil),
		first(a.name == r.Name, b.name == r.Name),
		first(p.essential, q.essential),
		cmp.Compare(p.priority, q.priority),
		cmp.Compare(s.archive.rank(b.name), s.archive.rank(a.name)),
		cmp.Compare(a.name, b.name),
	)
}

// giveWay makes what collides with a package give way: a version that would be
// installed is not, an installed one is upgraded or, later, dropped.
func (s *solver) giveWay(n *node, unwanted []clause, depth int, already, asked bool) (upgrade, drop []*node, ok bool) {
	ok = true
	stop := func() bool { return !ok && !already && !asked }
	var badCandidate []*node
	removable := func(m *node) {
		switch {
		case !already && m.mode == remove:
		case !already:
			if s.mayBecome(m, remove, depth, false) && s.mayDrop(m) {
				drop = append(drop, m)
			} else {
				ok = false
			}
		case m.mode != remove && !s.drop(m, depth+1):
			ok = false
		default:
			m.candidate, m.protected = m.install, true
		}
	}
	for _, c := range unwanted {
		for _, m := range s.solutions(n.candidate, c, candidateVersion) {
			switch {
			case m.current == m.candidate:
				removable(m)
			case m.mode == install && !s.keep(m, depth, false):
				ok = false
			case already:
				m.candidate = m.install
				m.protected = m.protected || m.current == nil
			default:
				badCandidate = append(badCandidate, m)
			}
			if stop() {
				return upgrade, drop, ok
			}
		}
		for _, m := range s.solutions(n.candidate, c, nowVersion) {
			switch {
			case m.candidate != m.current && m.candidate != nil && !slices.Contains(badCandidate, m):
				upgrade = append(upgrade, m)
			case m.candidate == m.current: // met above
			default:
				removable(m)
			}
			if stop() {
				return upgrade, drop, ok
			}
		}
	}
	return upgrade, drop, ok
}

// dependants adds the installed packages whose needs a new version would not meet
// any more.
func (s *solver) dependants(n *node, upgrade []*node) []*node {
	if n.current == nil || n.candidate == n.current {
		return upgrade
	}
	for _, m := range s.installed {
		if m.mode == install || slices.Contains(upgrade, m) {
			continue
		}
		for _, c := range s.clauses(m.current) {
			if c.kind.negative() || !s.matters(c) {
				continue
			}
			if slices.ContainsFunc(c.alternatives, func(r Relation) bool {
				return r.Name == n.name && s.archive.satisfies(n.current, r) && !s.archive.satisfies(n.candidate, r)
			}) {
				upgrade = append(upgrade, m)
				break
			}
		}
	}
	return upgrade
}

// upgradeSiblings upgrades installed packages that were built from the same source
// as the version that is installed.
func (s *solver) upgradeSiblings(n *node, depth int) {
	var all []*node
	name, version := n.candidate.SourcePackage()
	for _, m := range s.installed {
		if m == n || m.candidate == nil || m.candidate == m.current || m.mode == install {
			continue
		}
		if src, v := m.candidate.SourcePackage(); src == name && v == version {
			all = append(all, m)
		}
	}
	for _, m := range all {
		s.mark(m, false, depth+1, false)
	}
	for _, m := range all {
		s.mark(m, true, depth+1, false)
	}
}

func (s *solver) upgradeOrRemove(upgrade []*node, depth int, already, asked bool) bool {
	ok := true
	for _, m := range upgrade {
		if m.mode == install || s.mark(m, true, depth+1, false) {
			continue
		}
		switch {
		case !s.drop(m, depth+1):
			ok = false
			if !already && !asked {
				return false
			}
		case already:
			m.protected = true
		}
	}
	return ok
}

// installNeeds marks, for each clause, the first package that meets it and can be
// installed.
func (s *solver) installNeeds(n *node, wanted []clause, depth int, already, asked bool) bool {
	ok := true
	for _, c := range wanted {
		if s.satisfied(n.candidate, c, installVersion) {
			if already && c.kind.critical() && !s.protectOnly(n, c, depth) {
				ok = false
			}
			continue
		}
		if n.current != nil && !c.kind.critical() && s.isOldWish(n, c) {
			continue
		}
		if !s.installOne(n, c, depth, already) && c.kind.critical() {
			ok = false
			if !already && !asked {
				return false
			}
		}
	}
	return ok
}

// protectOnly protects what a protected package's clause leaves no choice about.
func (s *solver) protectOnly(n *node, c clause, depth int) bool {
	all := s.solutions(n.candidate, c, candidateVersion)
	for _, m := range s.solutions(n.candidate, c, nowVersion) {
		if m.candidate != m.current || !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	if len(all) != 1 || all[0].protected {
		return true
	}
	all[0].protected = true
	return s.mark(all[0], true, depth+1, false)
}

func (s *solver) installOne(n *node, c clause, depth int, already bool) bool {
	all := s.solutions(n.candidate, c, candidateVersion)
	versions := make([]*Package, len(all))
	for i, m := range all {
		versions[i] = m.candidate
	}
	for i, m := range all {
		if m.candidate != versions[i] {
			continue // an earlier try took it away
		}
		if already && c.kind.critical() && len(all) == 1 {
			if !s.mark(m, false, depth+1, false) {
				continue
			}
			m.protected = true
		}
		if s.mark(m, true, depth+1, false) {
			return true
		}
	}
	return false
}

// isOldWish reports whether an installed package recommended the same before, and
// was not heard.
func (s *solver) isOldWish(n *node, c clause) bool {
	old := false
	for _, was := range s.clauses(n.current) {
		if was.kind.critical() || !s.matters(was) || !slices.ContainsFunc(was.alternatives, func(r Relation) bool {
			return r.Name == c.alternatives[0].Name
		}) {
			continue
		}
		if s.satisfied(n.current, was, nowVersion) {
			return false
		}
		old = true
	}
	return old
}

func (s *solver) removeAll(drop []*node, depth int, early bool) bool {
	ok := true
	for _, m := range drop {
		if !s.drop(m, depth) {
			ok = false
			if early {
				return false
			}
		}
	}
	return ok
}

// sweep takes back what was marked on the way and nothing needs in the end.
func (s *solver) sweep() {
	needed := map[*node]bool{}
	var follow func(n *node)
	follow = func(n *node) {
		if needed[n] || n.install == nil {
			return
		}
		needed[n] = true
		for _, c := range s.clauses(n.install) {
			if c.kind.negative() {
				continue
			}
			for _, r := range c.alternatives {
				for _, m := range s.found(n.name, r, false, installVersion) {
					follow(m)
				}
			}
		}
	}
	all := s.byName()
	for _, n := range all {
		if !n.auto || n.current != nil {
			follow(n)
		}
	}
	for _, n := range all {
		if !needed[n] && n.current == nil {
			n.mode, n.install = keep, nil
		}
	}
}
