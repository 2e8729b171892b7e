package apt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Update returns a new lock in which the named packages, and whatever was built
// from the same sources, have the versions that the archives offer now, and
// everything else stays as it was. With no names everything is new. A locked
// package that is not to change and that no archive has any more is an error, an
// *Error of kind ErrVanished.
func (l *Lock) Update(classes []Class, names []string) (*Lock, error) {
	if len(names) == 0 {
		return NewLock(classes)
	}
	if err := l.sameBase(classes); err != nil {
		return nil, err
	}
	free := map[string]bool{}
	for _, name := range names {
		built := ""
		for i := range l.Packages {
			if l.Packages[i].Name() == name {
				built = l.Packages[i].Built
			}
		}
		if built == "" {
			return nil, &Error{Kind: ErrNoPackage, Summary: fmt.Sprintf("cannot update %s: the lock has no such package", name)}
		}
		for i := range l.Packages {
			if l.Packages[i].Built == built {
				free[l.Packages[i].Name()] = true
			}
		}
	}
	out, err := l.keeping(classes, free)
	if err != nil {
		return nil, fmt.Errorf("cannot update %s and nothing else: %w", strings.Join(names, ", "), err)
	}
	return out, nil
}

// Refit returns a lock for classes that are no longer those of the lock: what is
// locked already keeps its version, and what is new gets that which the archives
// offer now. The errors are those of Update.
func (l *Lock) Refit(classes []Class) (*Lock, error) {
	if err := l.sameBase(classes); err != nil {
		return nil, err
	}
	out, err := l.keeping(classes, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the versions that are locked: %w", err)
	}
	return out, nil
}

// sameBase refuses to keep versions that were worked out for machines which have
// something else before.
func (l *Lock) sameBase(classes []Class) error {
	for _, c := range classes {
		if old := l.Class(c.Name); old != nil && old.Base != c.Base {
			advice := "name the same medium again with --iso; or make the lock anew, with newer versions: gpustrap lock --update"
			if old.Base == "" {
				advice = "make the lock anew, on that medium and with newer versions: gpustrap lock --update --iso"
			}
			return &Error{
				Summary: fmt.Sprintf("%s was locked on top of %s, not of %s", c.Name, cmp.Or(old.Base, "nothing"), cmp.Or(c.Base, "nothing")),
				Advice:  advice,
			}
		}
	}
	return nil
}

// keeping locks the classes; packages that are locked and not free keep their
// versions.
func (l *Lock) keeping(classes []Class, free map[string]bool) (*Lock, error) {
	pinned := slices.Clone(classes)
	for i := range pinned {
		c := &pinned[i]
		old := l.Class(c.Name)
		if old == nil {
			continue
		}
		if err := l.vanished(c, old, free); err != nil {
			return nil, err
		}
		var pins []Pin
		for _, key := range old.Packages {
			if name, version, _ := splitKey(key); !free[name] {
				pins = append(pins, Pin{Packages: []string{name}, Version: version, Priority: 1001})
			}
		}
		c.Request.Pins = append(slices.Clone(pins), c.Request.Pins...)
		c.Also = slices.Clone(c.Also)
		for j := range c.Also {
			c.Also[j].Pins = append(slices.Clone(pins), c.Also[j].Pins...)
		}
	}
	out, err := NewLock(pinned)
	if err != nil {
		return nil, err
	}
	for i := range out.Classes { // the pins of this update are not the configuration's
		for _, c := range classes {
			if c.Name == out.Classes[i].Name {
				out.Classes[i].Pins = c.head().Pins
			}
		}
	}
	return out, nil
}

// vanished refuses a class whose locked packages are gone from its archive.
func (l *Lock) vanished(c *Class, old *LockedClass, free map[string]bool) error {
	var gone []string
	for _, key := range old.Packages {
		name, version, _ := splitKey(key)
		if !free[name] && !slices.ContainsFunc(c.Archive.Versions(name), func(p *Package) bool { return p.Version == version }) {
			gone = append(gone, name+" "+version)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return &Error{
		Kind:    ErrVanished,
		Summary: fmt.Sprintf("the archive no longer has what %s is locked to: %s", c.Name, strings.Join(gone, ", ")),
		Advice:  `update these too ("gpustrap lock --update" without names updates all), or keep them from the bundle or a snapshot`,
	}
}

// Diff tells in lines, like a changelog, what changed from one lock to another: for
// each class what is new, gone, or of another version. "" when nothing changed.
func Diff(before, after *Lock) string {
	var b strings.Builder
	names := map[string]bool{}
	for _, l := range []*Lock{before, after} {
		for _, c := range l.Classes {
			names[c.Name] = true
		}
	}
	type group struct {
		lines   string
		classes []string
	}
	var groups []group // classes with the same changes are told together
	for _, name := range sortedKeys(names) {
		lines := diffClass(before, after, name)
		if lines == "" {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.lines == lines })
		if i < 0 {
			groups = append(groups, group{lines: lines})
			i = len(groups) - 1
		}
		groups[i].classes = append(groups[i].classes, name)
	}
	for i, g := range groups {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n%s", strings.Join(g.classes, ", "), g.lines)
	}
	return b.String()
}

func sortedKeys(m map[string]bool) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

func diffClass(before, after *Lock, class string) string {
	if before.Class(class) == nil {
		return fmt.Sprintf("  is new, with %d packages\n", len(after.Class(class).Packages))
	}
	if after.Class(class) == nil {
		return "  is gone\n"
	}
	was, is := before.Versions(class), after.Versions(class)
	names := map[string]bool{}
	for name := range was {
		names[name] = true
	}
	for name := range is {
		names[name] = true
	}
	sums := func(l *Lock) map[string]string {
		all := map[string]string{}
		for _, key := range l.Class(class).Packages {
			name, _, _ := splitKey(key)
			if p := l.Package(key); p != nil {
				all[name] = p.SHA256 + p.SHA512
			}
		}
		return all
	}
	wasSum, isSum := sums(before), sums(after)
	var lines []string
	for _, name := range sortedKeys(names) {
		a, b := was[name], is[name]
		switch {
		case a == "":
			lines = append(lines, fmt.Sprintf("  added    %s %s", name, b))
		case b == "":
			lines = append(lines, fmt.Sprintf("  removed  %s %s", name, a))
		case a != b:
			word := "upgraded"
			if CompareVersions(b, a) < 0 {
				word = "DOWNGRADED"
			}
			lines = append(lines, fmt.Sprintf("  %s %s %s -> %s", word, name, a, b))
		case wasSum[name] != isSum[name]:
			lines = append(lines, fmt.Sprintf("  CHANGED  %s %s: the same version, and another file", name, a))
		}
	}
	// Versions first: they are what a reader looks for.
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(rankLine(a), rankLine(b)) })
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func rankLine(line string) int {
	switch {
	case strings.HasPrefix(line, "  CHANGED"), strings.HasPrefix(line, "  DOWN"):
		return 0
	case strings.HasPrefix(line, "  upgraded"):
		return 1
	}
	return 2
}
