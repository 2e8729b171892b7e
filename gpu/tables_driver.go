package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// This file decodes the tables about drivers and devices; tables.go has the rest.

var eolForm = regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])$`)

func (t *Tables) readBranches(s *sheet) error {
	if err := s.want("branch", "designation", "eol", "cuda", "modules", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		b := &branch{eol: r.get("eol")}
		var err error
		if b.source, err = t.cited(r); err != nil {
			return err
		}
		if b.number, err = r.number("branch"); err != nil {
			return err
		}
		if b.number < 100 || t.branches[b.number] != nil {
			return r.fail("branch %q is wrong or there twice", r.get("branch"))
		}
		if b.designation, err = r.oneOf("designation", "", "LTSB", "PB", "NFB"); err != nil {
			return err
		}
		if b.cuda, err = r.number("cuda"); err != nil {
			return err
		}
		if b.modules, err = r.flavours("modules"); err != nil {
			return err
		}
		if b.eol != "" && b.eol != "past" && !eolForm.MatchString(b.eol) {
			return r.fail("eol %q is neither year-month nor past", b.eol)
		}
		// A month counts to its last day.
		b.ended = b.eol == "past" || b.eol != "" && b.eol < s.date[:len("2006-01")]
		t.branches[b.number] = b
	}
	return nil
}

var (
	branchForm    = regexp.MustCompile(`^([1-9][0-9]{2})(-server)?$`)
	componentForm = []string{"main", "restricted", "universe", "multiverse"}
)

func (t *Tables) readOffers(s *sheet) error {
	if err := s.want("repository", "release", "branch", "component", "version", "into", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		o := offer{release: r.get("release"), name: r.get("branch"), component: r.get("component"), seen: r.get("version"), into: r.get("into")}
		var err error
		if o.source, err = t.cited(r); err != nil {
			return err
		}
		if o.repository, err = r.oneOf("repository", "ubuntu", "cuda"); err != nil {
			return err
		}
		if _, ok := t.release(o.release); !ok && o.release != "*" {
			return r.fail("release %s is not in releases.tsv", o.release)
		}
		if (o.repository == "ubuntu") != slices.Contains(componentForm, o.component) {
			return r.fail("component %q is wrong", o.component)
		}
		if o.branch = t.branchOf(o.name); o.branch == nil {
			return r.fail("branch %s is not in branches.tsv", o.name)
		}
		if o.seen != "" {
			v, ok := parseVersion(o.seen)
			if !ok || v[0] != o.branch.number {
				return r.fail("version %q is none of branch %d", o.seen, o.branch.number)
			}
			o.version = v
		}
		if o.into != "" && t.branchOf(o.into) == nil {
			return r.fail("branch %s is not in branches.tsv", o.into)
		}
		t.offers = append(t.offers, o)
	}
	return nil
}

// branchOf returns the branch that a name such as 580-server belongs to, nil if
// there is none.
func (t *Tables) branchOf(name string) *branch {
	m := branchForm.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	v, _ := parseVersion(m[1])
	return t.branches[v[0]]
}

// offersFor returns what a repository has for a release, as in the table.
func (t *Tables) offersFor(repository, release string) []offer {
	var out []offer
	for _, o := range t.offers {
		if o.repository == repository && (o.release == release || o.release == "*") {
			out = append(out, o)
		}
	}
	return out
}

var (
	rangeForm    = regexp.MustCompile(`^([1-9][0-9]{2})?-([1-9][0-9]{2})?$`)
	templateForm = regexp.MustCompile(`^([a-z0-9.+-]|\{(branch|number|open|kernel|cuda)\})+$`)
)

func (t *Tables) readPackages(s *sheet) error {
	if err := s.want("repository", "set", "branches", "flavour", "arch", "package", "from", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		p := pkg{set: r.get("set"), template: r.get("package")}
		var err error
		if p.source, err = t.cited(r); err != nil {
			return err
		}
		if p.repository, err = r.oneOf("repository", "ubuntu", "cuda"); err != nil {
			return err
		}
		if p.flavour, err = r.oneOf("flavour", "*", string(Open), string(Proprietary)); err != nil {
			return err
		}
		if p.arch, err = r.oneOf("arch", "*", "amd64", "arm64"); err != nil {
			return err
		}
		if p.from, err = r.oneOf("from", append(componentForm, "branch", "cuda")...); err != nil {
			return err
		}
		if t.sets[p.set] == nil && p.set != "family" {
			return r.fail("set %s is not in sets.tsv", p.set)
		}
		if !templateForm.MatchString(p.template) {
			return r.fail("package %q is no template of a package name", p.template)
		}
		if b := r.get("branches"); b != "*" {
			m := rangeForm.FindStringSubmatch(b)
			if m == nil {
				return r.fail("branches %q is no range", b)
			}
			lo, _ := parseVersion(m[1])
			hi, _ := parseVersion(m[2])
			p.min, p.max = lo[0], hi[0]
		}
		t.packages = append(t.packages, p)
	}
	return nil
}

// names returns the set's package names in the order of the table, and for each
// where it comes from.
func (t *Tables) names(set string, o offer, f Flavour, arch, kernel string) (names []string, from []string) {
	open := ""
	if f == Open {
		open = "-open"
	}
	fill := strings.NewReplacer(
		"{branch}", o.name,
		"{number}", fmt.Sprint(o.branch.number),
		"{open}", open,
		"{kernel}", kernel,
		"{cuda}", fmt.Sprint(o.branch.cuda),
	)
	for _, p := range t.packages {
		if p.repository != o.repository || p.set != set ||
			o.branch.number < p.min || p.max != 0 && o.branch.number > p.max ||
			p.flavour != "*" && p.flavour != string(f) || p.arch != "*" && p.arch != arch {
			continue
		}
		names = append(names, fill.Replace(p.template))
		if p.from == "branch" {
			from = append(from, o.component)
		} else {
			from = append(from, p.from)
		}
	}
	return names, from
}

var modelForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (t *Tables) readDevices(s *sheet) error {
	if err := s.want("pci", "model", "product", "class", "board", "architecture", "first"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, r := range s.rows {
		d := &device{
			pci: r.get("pci"), models: r.list("model"), product: r.get("product"),
			board: t.boards[r.get("board")], architecture: t.architectures[r.get("architecture")],
		}
		var err error
		if d.class, err = r.oneOf("class", "datacenter", "workstation", "geforce", "mobile", "embedded", "mining"); err != nil {
			return err
		}
		if d.listed, err = r.listing("first"); err != nil {
			return err
		}
		_, isSwitch := t.nvswitch(d.pci)
		switch {
		case !pciForm.MatchString(d.pci):
			return r.fail("pci %q is not of the form 10de:2335", d.pci)
		case seen[d.pci] || isSwitch:
			return r.fail("pci %s is there twice", d.pci)
		case d.board == nil:
			return r.fail("board %s is not in boards.tsv", r.get("board"))
		case d.architecture == nil:
			return r.fail("architecture %s is not in architectures.tsv", r.get("architecture"))
		case len(d.models) == 0:
			return r.fail("no model")
		case d.listed.text != "" && !slices.Contains(d.architecture.modules, Open):
			return r.fail("listed in the open modules, which do not drive %s", d.architecture.name)
		}
		for _, m := range d.models {
			if !modelForm.MatchString(m) {
				return r.fail("model %q is not lower case with hyphens", m)
			}
			if o := t.byModel(m); len(o) > 0 && o[0].architecture != d.architecture {
				return r.fail("model %s has another architecture at %s", m, o[0].pci)
			}
		}
		seen[d.pci] = true
		t.devices = append(t.devices, d)
	}
	return nil
}

// byModel returns the devices of a model, the usual one first.
func (t *Tables) byModel(model string) []*device {
	var out []*device
	for _, d := range t.devices {
		if slices.Contains(d.models, model) {
			out = append(out, d)
		}
	}
	// A model whose name comes second on a shared line is the usual one only if
	// no other line puts it first.
	slices.SortStableFunc(out, func(a, b *device) int {
		return slices.Index(a.models, model) - slices.Index(b.models, model)
	})
	return out
}

func (t *Tables) byPCI(id string) *device {
	i := slices.IndexFunc(t.devices, func(d *device) bool { return d.pci == id })
	if i < 0 {
		return nil
	}
	return t.devices[i]
}
