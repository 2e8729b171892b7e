package apt

import (
	"cmp"
	"slices"
)

// repairRounds is how often all broken packages are looked at.
const repairRounds = 20

// kill is a package that may have to give way, and the clause that says so.
type kill struct {
	victim *node
	clause clause
}

// repair mends what marking left broken, from the package that most depends on
// down to the least: by upgrading, keeping or dropping one of those that collide.
// Afterwards nothing is broken, or what was asked for cannot be had.
func (s *solver) repair() {
	for again := true; again; {
		again = false
		for _, n := range s.byName() {
			n.wasMarked, n.upgradable = n.mode == install, true
			if n.mode != install && n.install != nil && s.isBroken(n) {
				s.mark(n, false, 0, false)
				again = again || n.mode == install
			}
		}
	}
	s.rate()
	for round, changed := 0, true; changed && round < repairRounds; round++ {
		changed = false
		list := s.byName()
		slices.SortStableFunc(list, func(a, b *node) int { return cmp.Compare(s.scores[b.name], s.scores[a.name]) })
		for _, n := range list {
			if n.install != nil && s.isBroken(n) && s.mend(n, round) {
				changed = true
			}
		}
	}
}

// rate gives each package a score: its own weight, and that of what depends on it.
// The weights are apt's (apt.conf, pkgProblemResolver::Scores).
func (s *solver) rate() {
	weight := map[clauseKind]int{preDepends: 1, depends: 1, recommends: 1, conflicts: -1, breaks: -1}
	byPriority := map[priority]int{required: 3, important: 2, standard: 1, optional: -1, extra: -2}
	s.scores = map[string]int{}
	list := s.byName()
	for _, n := range list {
		if n.install == nil {
			continue
		}
		if n.install.essential {
			s.scores[n.name] += 100
		}
		p := n.install.priority
		if n.install.Source == nil {
			p = extra
		}
		s.scores[n.name] += byPriority[p]
		if n.current != nil && n.candidate != nil && n.candidate.Source != nil {
			s.scores[n.name]++
		}
		for _, c := range s.clauses(n.install) {
			if weight[c.kind] == 0 {
				continue
			}
			for _, r := range c.alternatives {
				s.rateTargets(n, r, c.kind.negative(), weight[c.kind])
			}
		}
	}
	base := make(map[string]int, len(s.scores))
	for name, score := range s.scores {
		base[name] = score
	}
	for _, n := range list {
		if n.install == nil || base[n.name] <= 0 {
			continue
		}
		for _, c := range s.clauses(n.install) {
			if c.kind.negative() || c.kind == suggests {
				continue
			}
			for _, r := range c.alternatives {
				if m, ok := s.nodes[r.Name]; ok && m.install != nil {
					s.scores[m.name] += base[n.name]
				}
			}
		}
	}
	for _, n := range list {
		if n.protected {
			s.scores[n.name] += 10000
		}
		if n.install != nil && n.install.essential {
			s.scores[n.name] += 5000
		}
	}
}

func (s *solver) rateTargets(n *node, r Relation, negative bool, weight int) {
	if r.Op == "" && (!negative || r.Name != n.name) {
		s.scores[r.Name] += weight
	}
	for _, m := range s.found(n.name, r, negative, installVersion) {
		if m.name != r.Name || r.Op != "" {
			s.scores[m.name] += weight
		}
	}
}

// mend works on a package's broken clauses, one after the other, until something
// changes. It reports whether something did.
func (s *solver) mend(n *node, round int) bool {
	var kills []kill
	changed := false
	for _, c := range s.clauses(n.install) {
		if !c.kind.critical() || s.satisfied(n.install, c, installVersion) {
			continue
		}
		m := mending{solver: s, n: n, clause: c, round: round, kills: &kills}
		stop := m.run()
		changed = changed || m.changed
		if stop || n.install == nil {
			break
		}
	}
	if n.install != nil && s.applyKills(n, kills, round) {
		changed = true
	}
	return changed
}

// mending is the work on one clause.
type mending struct {
	*solver
	n       *node
	clause  clause
	round   int
	kills   *[]kill
	keeping bool // keeping the package as it is would do
	changed bool
}

func (m *mending) inOr() bool { return len(m.clause.alternatives) > 1 }

// run reports whether the package's other clauses can wait.
func (m *mending) run() (stop bool) {
	before := len(*m.kills)
	done := false
	for _, r := range m.clause.alternatives {
		if m.n.install == nil || m.satisfied(m.n.install, m.clause, installVersion) {
			return done
		}
		targets := m.allTargets(r)
		if len(targets) > 0 || m.clause.kind.negative() || m.n.protected {
			done = m.tryTargets(r, targets) || done
			continue
		}
		if m.works(m.n.current, false, nowVersion) {
			if !m.inOr() {
				m.changed = true
				m.keep(m.n, 0, false)
				return true
			}
			continue
		}
		m.changed, done = true, true
		m.keepOrRestore(!m.inOr())
	}
	if m.inOr() && len(*m.kills) == before && m.n.install != nil && !m.satisfied(m.n.install, m.clause, installVersion) {
		switch {
		case m.keeping:
			m.changed = m.keep(m.n, 0, false) || m.changed
		case !m.n.protected:
			m.changed = m.drop(m.n, 0) || m.changed
		}
	}
	return done && !m.inOr()
}

// allTargets returns every version that a relation speaks of, those of the machine
// among them.
func (m *mending) allTargets(r Relation) []*Package {
	all := m.archive.targets(r)
	for _, n := range m.found(m.n.name, r, m.clause.kind.negative(), nowVersion) {
		if !slices.Contains(all, n.current) {
			all = append(all, n.current)
		}
	}
	if m.clause.kind.negative() {
		all = slices.DeleteFunc(all, func(p *Package) bool { return p.Name == m.n.name })
	}
	return all
}

// keepOrRestore tries whether keeping the package as it is helps. Among
// alternatives it is only noted that it would. Where it does not help, the package
// is dropped if that is asked for.
func (m *mending) keepOrRestore(dropElse bool) {
	wasMarked := m.n.mode == install
	m.keep(m.n, 0, false)
	if !m.isBroken(m.n) {
		m.keeping = true
		if m.inOr() && wasMarked {
			m.mark(m.n, false, 0, false)
		}
		return
	}
	if dropElse {
		m.drop(m.n, 0)
	}
}

// tryTargets looks at the versions that one relation speaks of. It reports whether
// the clause is dealt with for now.
func (m *mending) tryTargets(r Relation, targets []*Package) (done bool) {
	n, negative := m.n, m.clause.kind.negative()
	one := clause{m.clause.kind, []Relation{r}}
	for _, v := range targets {
		t := m.node(v.Name)
		if negative && t.install != v {
			continue
		}
		if m.scores[n.name] <= m.scores[t.name] || !negative && !m.satisfied(n.install, one, nowVersion) {
			if n.protected {
				if m.reinstate(t) {
					m.scores[t.name] = min(m.scores[t.name], m.scores[n.name])
					m.changed = true
					return false
				}
				continue
			}
			m.yield(r, t)
			m.changed = true
			return true
		}
		if m.clause.kind == breaks && m.satisfied(n.install, m.clause, candidateVersion) {
			m.mark(t, false, 0, false)
			m.changed = true
			continue
		}
		if t.protected && t.mode != remove {
			continue
		}
		*m.kills = append(*m.kills, kill{t, m.clause})
		if !negative {
			break
		}
	}
	return false
}

// yield changes the package itself rather than another one.
func (m *mending) yield(r Relation, other *node) {
	n := m.n
	m.keepOrRestore(false)
	if n.install == nil || !m.isBroken(n) || m.keeping || m.reinstate(n) {
		return
	}
	target := m.node(r.Name)
	switch {
	case !m.inOr():
		m.drop(n, 0)
		if m.round > 1 {
			m.scores[n.name] = max(m.scores[n.name], m.scores[other.name])
		}
	case target.current == nil && target.mode != remove && target.candidate != nil:
		before := len(m.broken())
		m.mark(target, true, 1, false)
		if m.isBroken(target) || len(m.broken()) > before {
			m.drop(target, 1)
		}
	}
}

// applyKills removes, or keeps at their old version, those that collide with a
// package that weighs more.
func (s *solver) applyKills(n *node, kills []kill, round int) bool {
	changed := false
	for _, k := range kills {
		did := false
		if !s.satisfied(n.install, k.clause, nowVersion) {
			did = k.clause.kind.negative() && s.drop(k.victim, 0)
		} else {
			did = s.keep(k.victim, 0, false)
		}
		if (!did || round > 1) && s.scores[n.name] > s.scores[k.victim.name] {
			s.scores[k.victim.name] = s.scores[n.name]
			changed = true
		}
		changed = changed || did
	}
	return changed
}

// reinstate tries to install the candidate of a package together with what it
// needs, one level after the other. Each package is tried once.
func (s *solver) reinstate(n *node) bool {
	if !n.upgradable || n.protected || n.candidate == nil || n.candidate == n.current {
		return false
	}
	n.upgradable = false
	wasKept := n.mode == keep
	if !s.mark(n, false, 0, false) || n.install == nil {
		return false
	}
	for _, c := range s.clauses(n.install) {
		if !c.kind.critical() || s.satisfied(n.install, c, installVersion) || s.reinstateOne(n, c) {
			continue
		}
		if wasKept {
			s.keep(n, 0, false)
		} else {
			s.drop(n, 0)
		}
		return false
	}
	return true
}

func (s *solver) reinstateOne(n *node, c clause) bool {
	ok := true
	for _, r := range c.alternatives {
		if s.satisfied(n.install, c, installVersion) {
			return true
		}
		one := clause{c.kind, []Relation{r}}
		switch targets := s.found(n.name, r, false, candidateVersion); {
		case c.kind.negative():
			if !s.satisfied(n.install, one, candidateVersion) {
				return true // a collision is dealt with in its own turn
			}
			ok = false
			for _, t := range s.found(n.name, r, true, installVersion) {
				ok = s.reinstate(t) || ok
			}
		case len(targets) == 0 || targets[0].protected:
			ok = false
		default:
			if s.reinstate(targets[0]) {
				return true
			}
			ok = false
		}
	}
	return ok
}
