package apt

import (
	"path"
	"strings"
)

// Pin is a record of apt_preferences(5): the priority of some versions.
type Pin struct {
	Packages []string // names or globs
	Source   string   // versions from this source; empty: from any
	Version  string   // glob, such as 580.*; empty: any
	Priority int      // negative: never; from 1000 on even to an older version
}

func (p Pin) covers(v *Package) bool {
	named := false
	for _, glob := range p.Packages {
		named = named || matchGlob(glob, v.Name)
	}
	if !named || p.Version != "" && !matchGlob(p.Version, v.Version) {
		return false
	}
	if p.Source == "" {
		return true
	}
	for _, s := range v.suites() {
		if s.Source.Name == p.Source {
			return true
		}
	}
	return false
}

// matchGlob compares with a glob; one that is not well formed matches itself.
func matchGlob(glob, s string) bool {
	if ok, err := path.Match(glob, s); err == nil && ok {
		return true
	}
	return glob == s
}

// suites returns all suites that have the version.
func (p *Package) suites() []*Suite {
	if p.Source == nil {
		return p.others
	}
	return append([]*Suite{p.Source}, p.others...)
}

// priorityOf returns a version's priority. Of several pins that cover it the first
// counts. A version that is installed and in no source has 100, as apt gives what
// dpkg knows alone. An update that Ubuntu has not given to all machines yet is
// left to those who ask for it: which machines get it depends on the machine.
func priorityOf(v *Package, current *Package, pins []Pin) int {
	best := -1
	if v == current {
		best = 100
	}
	for _, s := range v.suites() {
		best = max(best, s.priority)
	}
	for _, pin := range pins {
		if pin.covers(v) {
			best = pin.Priority
			break
		}
	}
	if v.phased < 100 && v != current {
		best = min(best, 1)
	}
	return best
}

// choose returns the candidate of a package: the version with the highest
// priority, of several the newest; never an older one than is installed, unless
// its priority is 1000 or more. versions are in their order, the newest first.
func choose(versions []*Package, current *Package, pins []Pin) *Package {
	var best *Package
	bestPriority := -1
	for _, v := range versions {
		p := priorityOf(v, current, pins)
		if p <= 0 || p <= bestPriority {
			continue
		}
		if current != nil && p < 1000 && CompareVersions(v.Version, current.Version) < 0 {
			continue
		}
		best, bestPriority = v, p
	}
	return best
}

// splitAsked cuts NAME=VERSION; version may be a glob.
func splitAsked(asked string) (name, version string) {
	name, version, _ = strings.Cut(asked, "=")
	return name, version
}
