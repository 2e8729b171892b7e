package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/report"
)

// Resolve merges what each machine inherits, fills in the defaults, and checks
// what only a whole machine, or the fleet, can show: values that contradict
// each other, machines that could match the same hardware, a machine that
// nobody could use. It is a pure function of the Config. The Fleet has every
// machine, and is fit for use only where neither this report nor Decode's has
// errors. A Config whose YAML did not parse as a whole resolves to nothing.
func (c *Config) Resolve() (*Fleet, report.Report) {
	if c.keys == nil || !c.whole {
		return &Fleet{}, report.Report{}
	}
	keys := *c.keys
	keys.settings.gaps = keys.gaps
	r := &resolver{file: c.file, keys: &keys, seen: map[report.Position]map[string]bool{}, read: map[string]apps.App{}}
	r.resolveProfiles()
	fleet := &Fleet{SigningKey: c.keys.key.v}
	if !c.keys.machines.set() {
		if len(c.keys.profiles.items) > 0 {
			r.warn(c.keys.profiles.at, "profiles", "no machine inherits from these profiles", "add machines: that name them, or write the settings at the top of the file")
		}
		fleet.Machines = []Machine{r.machine(&machineKeys{section: keys.section, settings: keys.settings}, "")}
	}
	for i, m := range c.keys.machines.items {
		if m.bad {
			continue
		}
		whole := *m
		whole.settings.gaps = m.gaps
		whole.settings = mergeSettings(r.inherited(m, i), whole.settings)
		fleet.Machines = append(fleet.Machines, r.machine(&whole, fmt.Sprintf("machines[%d]", i)))
	}
	r.checkFleet(fleet)
	r.reportLacks()
	r.report.Sort()
	return fleet, r.report
}

// resolver collects what is wrong while machines are put together.
type resolver struct {
	file     string
	keys     *fileKeys
	profiles map[string]*resolvedProfile
	report   report.Report
	seen     map[report.Position]map[string]bool // what was said where
	lacks    []*lack
	read     map[string]apps.App // by name
}

type resolvedProfile struct {
	named
	settings settings // with all that it inherits, the top level included
	state    int      // 0 untouched, 1 being resolved, 2 done
	unknown  bool     // it extends a profile that is not there
}

func (r *resolver) position(at mark) report.Position {
	return report.Position{File: r.file, Line: int(at.line), Column: int(at.column)}
}

func (r *resolver) error(at mark, path, summary, detail string, related ...report.Related) {
	r.add(report.Error, at, path, summary, detail, related)
}

func (r *resolver) warn(at mark, path, summary, detail string, related ...report.Related) {
	r.add(report.Warning, at, path, summary, detail, related)
}

// add reports a problem once: a thousand machines may inherit it.
func (r *resolver) add(severity report.Severity, at mark, path, summary, detail string, related []report.Related) {
	pos := r.position(at)
	said := r.seen[pos]
	if said == nil {
		said = map[string]bool{}
		r.seen[pos] = said
	}
	if said[summary] {
		return
	}
	said[summary] = true
	r.report.Add(report.Diagnostic{Severity: severity, Path: path, Pos: pos, Summary: summary, Detail: detail, Related: related})
}

func (r *resolver) related(at mark, message string) report.Related {
	return report.Related{Pos: r.position(at), Message: message}
}

// lack is something that machines do not have and need; it is reported once,
// for the first of them.
type lack struct {
	key, machine, path, detail string
	at                         mark
	related                    []report.Related
	machines                   int
}

// lack notes that a machine has no value for a key.
func (r *resolver) lack(m *machineKeys, path, key, detail string, related ...report.Related) {
	for _, l := range r.lacks {
		if l.key == key {
			l.machines++
			return
		}
	}
	name := cmp.Or(m.name.v, path, "the machine")
	r.lacks = append(r.lacks, &lack{key: key, machine: name, path: under(path, key), detail: detail, at: m.at, related: related, machines: 1})
}

func (r *resolver) reportLacks() {
	for _, l := range r.lacks {
		summary := l.machine + " has no " + l.key
		switch others := l.machines - 1; others {
		case 0:
		case 1:
			summary += ", nor has 1 other machine"
		default:
			summary += fmt.Sprintf(", nor have %d other machines", others)
		}
		r.error(l.at, l.path, summary, l.detail, l.related...)
	}
}

func (r *resolver) resolveProfiles() {
	r.profiles = make(map[string]*resolvedProfile, len(r.keys.profiles.items))
	for _, p := range r.keys.profiles.items {
		r.profiles[p.name.v] = &resolvedProfile{named: p}
	}
	for _, p := range r.keys.profiles.items {
		r.resolveProfile(p.name.v)
	}
}

// resolveProfile resolves a profile and what it extends, from the far end of
// the chain on.
func (r *resolver) resolveProfile(name string) {
	var chain []*resolvedProfile
	base := r.keys.settings
	for p := r.profiles[name]; ; {
		if p.state == 2 {
			base = p.settings
			break
		}
		if p.state == 1 {
			r.refuseCycle(chain, p)
			break
		}
		p.state = 1
		chain = append(chain, p)
		extends := p.profile.extends
		if !extends.ok() {
			break
		}
		next := r.profiles[extends.v]
		if next == nil {
			p.unknown = true
			r.error(extends.at, "profiles."+p.name.v+".extends", fmt.Sprintf("there is no profile %q", extends.v), r.profileNames(extends.v))
			break
		}
		p = next
	}
	for _, p := range slices.Backward(chain) {
		own := p.profile.settings
		own.gaps = p.profile.gaps || p.profile.bad || p.unknown
		base = mergeSettings(base, own)
		p.settings, p.state = base, 2
	}
}

func (r *resolver) refuseCycle(chain []*resolvedProfile, again *resolvedProfile) {
	cycle := chain[slices.Index(chain, again):]
	names := make([]string, 0, len(cycle)+1)
	var related []report.Related
	for i, p := range cycle {
		names = append(names, p.name.v)
		if i > 0 {
			related = append(related, r.related(p.profile.extends.at, fmt.Sprintf("%q extends %q here", p.name.v, p.profile.extends.v)))
		}
	}
	names = append(names, again.name.v)
	r.error(again.profile.extends.at, "profiles."+again.name.v+".extends",
		"profiles extend each other in a circle: "+strings.Join(names, ", "), "remove one of these extends", related...)
}

func (r *resolver) profileNames(wanted string) string {
	names := make([]string, len(r.keys.profiles.items))
	for i, p := range r.keys.profiles.items {
		names[i] = p.name.v
	}
	if len(names) == 0 {
		return "the file has no profiles: write them under profiles:"
	}
	detail := "the file has " + shortenList(names)
	if len(names) > 1000 { // ten thousand machines may each ask
		return detail
	}
	if near := nearest(wanted, names); near != "" {
		detail = "did you mean " + near + "? " + detail
	}
	return detail
}

func shortenList(names []string) string {
	const limit = 12
	if len(names) > limit {
		return strings.Join(names[:limit], ", ") + fmt.Sprintf(" and %d more", len(names)-limit)
	}
	return strings.Join(names, ", ")
}

// inherited returns what a machine inherits.
func (r *resolver) inherited(m *machineKeys, i int) settings {
	inherited := r.keys.settings
	if !m.profile.set() {
		return inherited
	}
	if p := r.profiles[m.profile.v]; p != nil {
		return p.settings
	}
	if m.profile.ok() {
		r.error(m.profile.at, fmt.Sprintf("machines[%d].profile", i), fmt.Sprintf("there is no profile %q", m.profile.v), r.profileNames(m.profile.v))
	}
	inherited.gaps = true
	return inherited
}
