package apt

import (
	"fmt"
	"slices"
	"strings"
)

// Installed is what a machine has already.
type Installed struct {
	entries []*Package
	auto    map[string]bool // installed because something needed it
	held    map[string]bool // left alone by dpkg's selection "hold"
	known   bool            // the entries are whole stanzas, not names and versions alone
}

// ParseStatus reads dpkg's status file (dpkg(1), /var/lib/dpkg/status), and, where
// it is given, apt's list of packages that were installed on behalf of others
// (/var/lib/apt/extended_states).
func ParseStatus(status, extendedStates string) (*Installed, error) {
	in := &Installed{auto: map[string]bool{}, held: map[string]bool{}, known: true}
	for stanza, err := range Stanzas(status) {
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(stanza.Field("Status"))
		if len(fields) != 3 {
			return nil, &SyntaxError{Line: stanza.Line, Reason: "no Status of three words, such as install ok installed"}
		}
		if fields[2] != "installed" {
			continue
		}
		p, err := newPackage(stanza)
		if err != nil {
			return nil, err
		}
		in.held[p.Name] = fields[0] == "hold"
		in.entries = append(in.entries, p)
	}
	for stanza, err := range Stanzas(extendedStates) {
		if err != nil {
			return nil, err
		}
		if stanza.Field("Auto-Installed") == "1" {
			in.auto[stanza.Field("Package")] = true
		}
	}
	return in, nil
}

// ParseManifest reads the list of packages that an installation medium brings,
// casper/*.manifest: a name, perhaps with an architecture, a tab, a version.
func ParseManifest(text string) (*Installed, error) {
	in := &Installed{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, &SyntaxError{Line: n, Reason: fmt.Sprintf("%.60q is not a name and a version", line)}
		}
		if strings.HasPrefix(fields[0], "snap:") {
			continue
		}
		name, arch, _ := strings.Cut(fields[0], ":")
		if err := CheckVersion(fields[1]); err != nil {
			return nil, &SyntaxError{Line: n, Reason: err.Error()}
		}
		in.entries = append(in.entries, &Package{Name: name, Version: fields[1], Arch: arch, priority: extra, phased: 100})
	}
	return in, nil
}

// packages returns what is installed, as versions of the archive where it has
// them; others have a negative order.
func (in *Installed) packages(a *Archive) []*Package {
	var all []*Package
	for _, e := range in.entries {
		if e.Arch != "" && e.Arch != "all" && e.Arch != a.Arch {
			continue
		}
		versions := a.packages[e.Name]
		if i := slices.IndexFunc(versions, func(p *Package) bool { return p.Version == e.Version }); i >= 0 {
			all = append(all, versions[i])
			continue
		}
		p := *e
		if !in.known && len(versions) > 0 {
			p = standIn(e, versions[0])
		}
		p.order = -1
		all = append(all, &p)
	}
	return all
}

// standIn guesses what an installed version is of which name and version alone
// are known: what the archive's newest version is, but for what it depends on,
// which works on the medium, and for names that it provides with a version.
func standIn(known, newest *Package) Package {
	p := Package{
		Name: known.Name, Version: known.Version, Arch: newest.Arch,
		multiArch: newest.multiArch, priority: newest.priority, essential: newest.essential, phased: 100,
	}
	var names []string
	groups, err := ParseRelations(newest.provides)
	if err != nil {
		return p
	}
	for _, g := range groups {
		if len(g) == 1 && g[0].Op == "" {
			names = append(names, g[0].String())
		}
	}
	p.provides = strings.Join(names, ", ")
	return p
}
