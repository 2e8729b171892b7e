package apt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Class is a set of machines that get the same packages.
type Class struct {
	Name    string   // in the lock file and as the suite of the offline repository, such as node01
	Archive *Archive // what its sources offer; not looked at by Check
	Sources []Source
	Arch    string
	Request Request
	Base    string // what Request.Installed is of, such as the name of an installation medium; not looked at by Check
	// Also are further requests of which the machine makes one instead, once it
	// has seen its GPUs. The lock has what any of them takes.
	Also []Request
}

// Lock is what gpustrap.lock holds: for each class of machines the exact packages,
// and of each package what it takes to get it again and to know it.
type Lock struct {
	Format   int             `yaml:"lock"`
	Classes  []LockedClass   `yaml:"classes"`
	Suites   []LockedSuite   `yaml:"suites"`
	Packages []LockedPackage `yaml:"packages"`
}

// LockedClass is a class of machines with what it asked for and what it gets.
type LockedClass struct {
	Name       string   `yaml:"class"`
	Arch       string   `yaml:"arch"`
	Sources    []string `yaml:"sources"` // as Source.describe has them
	Asked      []string `yaml:"asked"`
	OrAsked    []string `yaml:"or_asked,omitempty"` // each a list with blanks
	Recommends bool     `yaml:"recommends"`
	Base       string   `yaml:"base,omitempty"` // what the machine has before
	Pins       []string `yaml:"pins,omitempty"`
	Packages   []string `yaml:"packages"` // keys of LockedPackage, by name
	Removed    []string `yaml:"removed,omitempty"`
}

// LockedSuite is a suite as it was when the lock was made.
type LockedSuite struct {
	Name     string    `yaml:"suite"` // of the source, and the suite: "ubuntu noble-updates"
	URL      string    `yaml:"url"`
	Date     time.Time `yaml:"date"`
	SHA256   string    `yaml:"release_sha256"`
	Snapshot string    `yaml:"snapshot,omitempty"`
}

// LockedPackage is the file of a package.
type LockedPackage struct {
	Key           string   `yaml:"package"` // NAME=VERSION:ARCH
	Suite         string   `yaml:"suite"`
	URL           string   `yaml:"url"`
	Size          int64    `yaml:"size"`           // bytes
	InstalledSize int64    `yaml:"installed_size"` // bytes
	SHA256        string   `yaml:"sha256"`
	SHA512        string   `yaml:"sha512,omitempty"` // where the archive gives no SHA-256
	Built         string   `yaml:"built_from"`       // NAME=VERSION of the source package
	Needs         []string `yaml:"needs,omitempty"`  // names of packages in the lock
}

// lockFormat is the form of lock files that this program writes.
const lockFormat = 1

// Name, Version and Arch are the parts of the key.
func (p *LockedPackage) Name() string    { n, _, _ := splitKey(p.Key); return n }
func (p *LockedPackage) Version() string { _, v, _ := splitKey(p.Key); return v }
func (p *LockedPackage) Arch() string    { _, _, a := splitKey(p.Key); return a }

// File is the name that the package has where it comes from.
func (p *LockedPackage) File() string {
	name, err := url.PathUnescape(path.Base(p.URL))
	if err != nil || strings.ContainsRune(name, '/') {
		return path.Base(p.URL)
	}
	return name
}

// escapePath writes a path as part of an address. Epochs stand in the names of
// files as %3a, whose percent sign is part of the name.
func escapePath(name string) string { return (&url.URL{Path: name}).EscapedPath() }

func splitKey(key string) (name, version, arch string) {
	name, rest, _ := strings.Cut(key, "=")
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		return name, rest[:i], rest[i+1:]
	}
	return name, rest, ""
}

func keyOf(p *Package) string { return p.Name + "=" + p.Version + ":" + p.Arch }

// describe is a source in one line: what a lock depends on.
func (s *Source) describe() string {
	text := fmt.Sprintf("%s %s %s", s.Name, s.URL, strings.Join(s.Suites, ","))
	if len(s.Components) > 0 {
		text += " " + strings.Join(s.Components, ",")
	}
	if s.Snapshot != "" {
		text += " @" + s.Snapshot
	}
	return text
}

func (p Pin) describe() string {
	return fmt.Sprintf("%s source=%s version=%s priority=%d", strings.Join(p.Packages, ","), p.Source, p.Version, p.Priority)
}

// head is what a class asks for, without what it gets.
func (c *Class) head() LockedClass {
	l := LockedClass{Name: c.Name, Arch: c.Arch, Asked: slices.Clone(c.Request.Packages), Recommends: c.Request.Recommends, Base: c.Base}
	for _, r := range c.Also {
		l.OrAsked = append(l.OrAsked, strings.Join(r.Packages, " "))
	}
	for _, s := range c.Sources {
		l.Sources = append(l.Sources, s.describe())
	}
	for _, p := range c.Request.Pins {
		l.Pins = append(l.Pins, p.describe())
	}
	return l
}

// NewLock resolves each class and writes down what it gets. The errors are those of
// Resolve, with the class's name. A package whose index gives SHA-512 alone has no
// SHA-256 yet: FetchPackages fills it in.
func NewLock(classes []Class) (*Lock, error) {
	l := &Lock{Format: lockFormat}
	w := locking{suites: map[string]LockedSuite{}, packages: map[string]*LockedPackage{}}
	for _, c := range classes {
		locked := c.head()
		for _, r := range append([]Request{c.Request}, c.Also...) {
			solution, err := c.Archive.Resolve(r)
			if err == nil {
				err = w.add(&locked, solution)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		l.Classes = append(l.Classes, locked)
	}
	slices.SortFunc(l.Classes, func(a, b LockedClass) int { return cmp.Compare(a.Name, b.Name) })
	for _, key := range slices.Sorted(maps.Keys(w.suites)) {
		l.Suites = append(l.Suites, w.suites[key])
	}
	for _, key := range slices.Sorted(maps.Keys(w.packages)) {
		l.Packages = append(l.Packages, *w.packages[key])
	}
	return l, nil
}

// locking collects what the classes of a lock share.
type locking struct {
	suites   map[string]LockedSuite
	packages map[string]*LockedPackage
}

// add takes a solution into a class.
func (w *locking) add(c *LockedClass, solution *Solution) error {
	for _, p := range solution.Install {
		key := keyOf(p)
		entry, err := lockPackage(p, solution.Needs(p))
		if err != nil {
			return err
		}
		if have := w.packages[key]; have != nil {
			if have.SHA256 != entry.SHA256 {
				return &Error{Kind: ErrIndex, Summary: fmt.Sprintf("%s has two different files: %s and %s", key, have.URL, entry.URL)}
			}
			entry.Needs = union(have.Needs, entry.Needs)
		}
		w.packages[key] = entry
		c.Packages = union(c.Packages, []string{key})
		w.suites[p.Source.String()+" "+p.Source.Source.URL] = lockSuite(p.Source)
	}
	for _, p := range solution.Remove {
		c.Removed = union(c.Removed, []string{p.Name})
	}
	return nil
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

func lockSuite(s *Suite) LockedSuite {
	l := LockedSuite{Name: s.String(), URL: s.Source.URL, SHA256: s.SHA256, Snapshot: s.Source.Snapshot}
	if s.Release != nil {
		l.Date = s.Release.Date
	}
	return l
}

func lockPackage(p *Package, needs []string) (*LockedPackage, error) {
	name, version := p.SourcePackage()
	l := &LockedPackage{
		Key: keyOf(p), Suite: p.Source.String(), URL: p.Source.Source.base() + "/" + escapePath(p.Filename()),
		Size: p.Size(), InstalledSize: p.InstalledSize(), Built: name + "=" + version, Needs: needs,
		SHA256: strings.ToLower(p.Field("SHA256")),
	}
	if l.SHA256 == "" {
		l.SHA512 = strings.ToLower(p.Field("SHA512"))
	}
	if !isLocalPath(p.Filename()) || l.Size <= 0 || l.SHA256 == "" && l.SHA512 == "" {
		return nil, &Error{
			Kind:    ErrIndex,
			Summary: fmt.Sprintf("the index of %s does not say where %s is, how large, and with which SHA-256", p.Source, p),
		}
	}
	return l, nil
}

const lockHeader = `# Written by gpustrap lock. Which packages the machines get, to the byte.
# Keep it beside gpustrap.yaml; "gpustrap lock --update" brings newer versions.
`

// Encode returns the lock as a file's text, the same for the same lock.
func (l *Lock) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(lockHeader)
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(l); err != nil {
		return nil, fmt.Errorf("cannot write the lock: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("cannot write the lock: %w", err)
	}
	return b.Bytes(), nil
}

var (
	keyForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*=[0-9A-Za-z.+~:-]+:[a-z0-9-]+$`)
	sumForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	sum2Form  = regexp.MustCompile(`^[0-9a-f]{128}$`)
	classForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// DecodeLock reads a lock file. A file that was changed by hand so that it no
// longer fits together is refused.
func DecodeLock(text []byte) (*Lock, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	l := &Lock{}
	refuse := func(err error) (*Lock, error) {
		return nil, &Error{Summary: "cannot read the lock", Err: err, Advice: `make it again: "gpustrap lock"`}
	}
	if err := d.Decode(l); err != nil {
		var types *yaml.TypeError
		if l.Format == 0 && (errors.As(err, &types) || errors.Is(err, io.EOF)) {
			err = errors.New("it is no lock that gpustrap wrote")
		}
		return refuse(err)
	}
	if err := d.Decode(&Lock{}); !errors.Is(err, io.EOF) {
		return refuse(errors.New("something follows its end"))
	}
	if l.Format != lockFormat {
		return refuse(fmt.Errorf("it is of format %d, and this gpustrap reads format %d", l.Format, lockFormat))
	}
	known := map[string]bool{}
	for i := range l.Packages {
		p := &l.Packages[i]
		bad := !keyForm.MatchString(p.Key) || known[p.Key] || p.Size <= 0 ||
			p.SHA256 != "" && !sumForm.MatchString(p.SHA256) || p.SHA512 != "" && !sum2Form.MatchString(p.SHA512) ||
			p.SHA256 == "" && p.SHA512 == "" || CheckVersion(p.Version()) != nil
		if bad {
			return refuse(fmt.Errorf("the entry of %q is damaged or there twice", p.Key))
		}
		known[p.Key] = true
	}
	slices.SortFunc(l.Packages, func(a, b LockedPackage) int { return cmp.Compare(a.Key, b.Key) })
	seen := map[string]bool{}
	for _, c := range l.Classes {
		if !classForm.MatchString(c.Name) || seen[c.Name] {
			return refuse(fmt.Errorf("%q is no name of a class, or there twice", c.Name))
		}
		seen[c.Name] = true
		for _, key := range c.Packages {
			if !known[key] {
				return refuse(fmt.Errorf("%s has %s, of which nothing more is said", c.Name, key))
			}
		}
	}
	return l, nil
}

// Snapshot returns the id of the state of the archive that the lock was made from,
// or nothing.
func (l *Lock) Snapshot() string {
	for _, s := range l.Suites {
		if s.Snapshot != "" {
			return s.Snapshot
		}
	}
	return ""
}

// Kept reports whether someone keeps the versions that a class has: whether
// packages of its come from a snapshot. Archives that have no snapshots do not
// count; Docker's and NVIDIA's go on offering old versions.
func (l *Lock) Kept(class string) bool {
	for _, p := range l.Part(class).Packages {
		for _, s := range l.Suites {
			if s.Snapshot != "" && s.Name == p.Suite && strings.HasPrefix(p.URL, strings.TrimSuffix(s.URL, "/")+"/") {
				return true
			}
		}
	}
	return false
}

// Part returns the lock of some of its classes alone.
func (l *Lock) Part(classes ...string) *Lock {
	out := &Lock{Format: l.Format, Suites: l.Suites}
	wanted := map[string]bool{}
	for _, c := range l.Classes {
		if slices.Contains(classes, c.Name) {
			out.Classes = append(out.Classes, c)
			for _, key := range c.Packages {
				wanted[key] = true
			}
		}
	}
	for _, p := range l.Packages {
		if wanted[p.Key] {
			out.Packages = append(out.Packages, p)
		}
	}
	return out
}

// Class returns a class of the lock, or nil.
func (l *Lock) Class(name string) *LockedClass {
	for i := range l.Classes {
		if l.Classes[i].Name == name {
			return &l.Classes[i]
		}
	}
	return nil
}

// Package returns the entry of a key, or nil.
func (l *Lock) Package(key string) *LockedPackage {
	i, ok := slices.BinarySearchFunc(l.Packages, key, func(p LockedPackage, k string) int { return cmp.Compare(p.Key, k) })
	if !ok {
		return nil
	}
	return &l.Packages[i]
}

// Versions returns the locked version of each package of a class, by name.
func (l *Lock) Versions(class string) map[string]string {
	all := map[string]string{}
	if c := l.Class(class); c != nil {
		for _, key := range c.Packages {
			name, version, _ := splitKey(key)
			all[name] = version
		}
	}
	return all
}

// Check returns in sentences how the lock differs from what the classes ask for;
// none when it fits. It needs no archive.
func (l *Lock) Check(classes []Class) []string {
	var all []string
	wanted := map[string]bool{}
	for _, c := range classes {
		wanted[c.Name] = true
		have := l.Class(c.Name)
		if have == nil {
			all = append(all, c.Name+" is not in the lock")
			continue
		}
		want := c.head()
		all = append(all, changes(c.Name, "asks for", have.Asked, want.Asked)...)
		all = append(all, changes(c.Name, "may ask for", have.OrAsked, want.OrAsked)...)
		all = append(all, changes(c.Name, "uses the repository", have.Sources, want.Sources)...)
		all = append(all, changes(c.Name, "pins", have.Pins, want.Pins)...)
		if have.Recommends != want.Recommends {
			all = append(all, fmt.Sprintf("%s was locked with recommends: %t", c.Name, have.Recommends))
		}
		if have.Arch != want.Arch {
			all = append(all, fmt.Sprintf("%s is %s now, and was locked for %s", c.Name, want.Arch, have.Arch))
		}
	}
	for _, c := range l.Classes {
		if !wanted[c.Name] {
			all = append(all, c.Name+" is in the lock and no longer in the configuration")
		}
	}
	return all
}

func changes(class, verb string, have, want []string) []string {
	var all []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			all = append(all, fmt.Sprintf("%s %s %s, which the lock does not have", class, verb, w))
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			all = append(all, fmt.Sprintf("%s no longer %s %s, which the lock has", class, verb, h))
		}
	}
	return all
}
