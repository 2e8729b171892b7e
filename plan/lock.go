package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/report"
)

// Medium is what a lock needs to know of an installation medium: which packages a
// machine that is installed from it has already.
type Medium struct {
	Name         string // as the medium calls itself: .disk/info
	Ubuntu, Arch string
	Installed    *apt.Installed
}

// Classes groups the machines by the packages that they need: those that ask for
// the same from the same repositories are one class, named after the first of
// them. The archives are not read; FetchArchives does. Machines that install
// nothing are in no class.
//
// media say what machines have already; where there is none for a machine's
// release and architecture, the class has all that apt would bring to an empty
// system. snapshot is the id of a state of Ubuntu's own archive, or empty.
func (p *Project) Classes(media []Medium, snapshot string) ([]apt.Class, error) {
	classes, _, err := p.classes(media, snapshot)
	return classes, err
}

// classes returns the classes, and of each machine its class's name.
func (p *Project) classes(media []Medium, snapshot string) ([]apt.Class, []string, error) {
	var out []apt.Class
	first := map[string]string{} // name of the class that wants this
	names := make([]string, len(p.Machines))
	for i := range p.Machines {
		m := &p.Machines[i]
		want, rep := p.renderer.Requirements(m.input())
		if err := rep.Err(); err != nil {
			return nil, nil, err
		}
		if len(want.Packages) == 0 {
			continue
		}
		key := fmt.Sprintf("%s %s %+v %v", m.Ubuntu, m.Arch, want, m.choices)
		name, known := first[key]
		if !known {
			name = m.Name
			first[key] = name
			c, err := newClass(m, want, media, snapshot)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, c)
		}
		names[i] = name
	}
	return out, names, nil
}

func newClass(m *Machine, want autoinstall.Requirements, media []Medium, snapshot string) (apt.Class, error) {
	c := apt.Class{Name: m.Name, Arch: m.Arch}
	for _, r := range want.Repositories {
		s, err := aptSource(r, &m.Machine, snapshot)
		if err != nil {
			return c, err
		}
		c.Sources = append(c.Sources, s)
	}
	request := apt.Request{Packages: want.Packages}
	for _, medium := range media {
		if medium.Ubuntu == m.Ubuntu && medium.Arch == m.Arch {
			request.Installed, c.Base = medium.Installed, medium.Name
		}
	}
	for _, pin := range want.Pins {
		request.Pins = append(request.Pins, apt.Pin{
			Packages: pin.Packages, Source: pin.Repository, Version: pin.Version, Priority: pin.Priority,
		})
	}
	c.Request = request
	for i, choice := range m.choices {
		r := request
		r.Packages = append(append([]string{}, want.Packages...), choice...)
		if i == 0 {
			c.Request = r
		} else {
			c.Also = append(c.Also, r)
		}
	}
	return c, nil
}

// aptSource turns a repository into apt's terms.
func aptSource(r autoinstall.Repository, m *config.Machine, snapshot string) (apt.Source, error) {
	s := apt.Source{Name: r.Name}
	if r.Name == "ubuntu" {
		var err error
		if s, err = apt.Ubuntu(m.Ubuntu, m.Arch); err != nil {
			return s, err
		}
		if r.URL == "" {
			s.Snapshot = snapshot
		}
	}
	if r.URL != "" {
		s.URL, s.Suites, s.Components = r.URL, r.Suites, r.Components
	}
	if len(r.Key) > 0 || r.KeyURL != "" {
		s.Keyring, s.Key, s.KeyURL, s.Fingerprints = nil, r.Key, r.KeyURL, []string{r.Fingerprint}
	}
	return s, nil
}

// FetchArchives reads the archives of the classes, each set of sources once.
func FetchArchives(ctx context.Context, classes []apt.Class, o apt.Options) error {
	known := map[string]*apt.Archive{}
	for i := range classes {
		c := &classes[i]
		key := c.Arch
		for _, s := range c.Sources {
			key += fmt.Sprintf(" %s %s %s %s %s", s.URL, s.Snapshot, strings.Join(s.Suites, ","), strings.Join(s.Components, ","), strings.Join(s.Fingerprints, ","))
		}
		if known[key] == nil {
			o.Arch = c.Arch
			archive, err := apt.Fetch(ctx, c.Sources, o)
			if err != nil {
				return err
			}
			known[key] = archive
		}
		c.Archive = known[key]
	}
	return nil
}

// UseLock holds every machine to the versions of the lock, from then on. The
// report says where the lock no longer fits the configuration; then it is not
// used. name is the lock file's.
func (p *Project) UseLock(l *apt.Lock, name string) report.Report {
	var rep report.Report
	refuse := func(summary string) {
		rep.Add(report.Diagnostic{
			Severity: report.Error, Pos: report.Position{File: name}, Summary: summary,
			Detail: `"gpustrap lock" makes it fit and keeps what still can be kept`,
		})
	}
	classes, names, err := p.classes(nil, l.Snapshot())
	if err != nil {
		return rep // a render says it with its place
	}
	for _, line := range l.Check(classes) {
		refuse(name + " does not fit the configuration: " + line)
	}
	if rep.HasErrors() {
		return rep
	}
	locked := map[string]*autoinstall.Locked{}
	for _, c := range classes {
		at := ""
		for _, s := range c.Sources {
			if s.Snapshot != "" {
				at = apt.UbuntuSnapshot(s)
			}
		}
		locked[c.Name] = &autoinstall.Locked{Versions: lockedVersions(l, c.Name), Snapshot: at}
	}
	for i := range p.Machines {
		p.Machines[i].Class, p.Machines[i].locked = names[i], locked[names[i]]
	}
	p.lock = l
	return rep
}

// Lock returns the lock in use, or nil.
func (p *Project) Lock() *apt.Lock { return p.lock }

// lockedVersions returns the class's packages as NAME=VERSION. One that the lock
// has in two versions, for two choices of a machine, is left to apt.
func lockedVersions(l *apt.Lock, class string) []string {
	var out []string
	times := map[string]int{}
	for _, key := range l.Class(class).Packages {
		times[l.Package(key).Name()]++
	}
	for _, key := range l.Class(class).Packages {
		if p := l.Package(key); times[p.Name()] == 1 {
			out = append(out, p.Name()+"="+p.Version())
		}
	}
	return out
}

// ReadMedium reads which packages an installation medium brings to a machine.
func ReadMedium(image *iso.Image) (Medium, error) {
	d := image.Description()
	found := mediumInfo.FindStringSubmatch(d.Info)
	if found == nil {
		return Medium{}, fmt.Errorf("the medium is no Ubuntu Server: .disk/info says %q", d.Info)
	}
	name, err := manifestName(image.FS())
	if err != nil {
		return Medium{}, err
	}
	text, err := fs.ReadFile(image.FS(), name)
	if err != nil {
		return Medium{}, fmt.Errorf("cannot read which packages the medium brings: %w", err)
	}
	installed, err := apt.ParseManifest(string(text))
	if err != nil {
		return Medium{}, fmt.Errorf("cannot read which packages the medium brings: %s: %w", name, err)
	}
	return Medium{Name: d.Info, Ubuntu: found[1], Arch: d.Architecture, Installed: installed}, nil
}

// manifestName returns the list of packages of what the installer installs unless
// it is told otherwise: of the default in casper/install-sources.yaml.
func manifestName(files fs.FS) (string, error) {
	text, err := fs.ReadFile(files, "casper/install-sources.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		return "casper/filesystem.manifest", nil
	}
	type source struct {
		Path    string `yaml:"path"`
		Default bool   `yaml:"default"`
	}
	var sources []source // a list; from 24.10 on in a mapping
	if err == nil && yaml.Unmarshal(text, &sources) != nil {
		var file struct{ Sources []source }
		err = yaml.Unmarshal(text, &file)
		sources = file.Sources
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the medium's casper/install-sources.yaml: %w", err)
	}
	for _, s := range sources {
		if s.Default {
			return "casper/" + strings.TrimSuffix(s.Path, path.Ext(s.Path)) + ".manifest", nil
		}
	}
	return "", errors.New("the medium's casper/install-sources.yaml names no default")
}
