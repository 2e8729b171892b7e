package plan

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// RepositoryFolder is the folder on the medium that holds the offline repository.
const RepositoryFolder = "gpustrap"

// UseSigningKey tells the machines that install offline which key signs the
// repository on their medium: the public half, armored.
func (p *Project) UseSigningKey(public []byte) {
	for i := range p.Machines {
		m := &p.Machines[i]
		if m.Offline != config.OfflineOff && m.Class != "" {
			m.offline = &autoinstall.Offline{Suite: m.Class, Key: public}
		}
	}
}

// InstallOffline has every machine install offline that says nothing else.
func (p *Project) InstallOffline() {
	for i := range p.Machines {
		if m := &p.Machines[i]; m.Offline == config.OfflineOff {
			m.Offline = config.OfflineOnly
		}
	}
}

// online is the input of a form that has no installation medium.
func (m *Machine) online(form string) (autoinstall.Input, report.Report) {
	in := m.input()
	in.Offline = nil
	var rep report.Report
	if m.Offline != config.OfflineOff {
		rep.Add(report.Diagnostic{
			Severity: report.Warning, Path: "offline", Pos: m.Origin("offline"),
			Summary: fmt.Sprintf("offline has no part in the %s form, whose packages come from the network", form),
			Detail:  "the repository is on the installation medium, which such a machine does not see",
		})
	}
	return in, rep
}

// lacksOffline reports what a machine that is to install offline lacks for it.
func (p *Project) lacksOffline(m *Machine, severity report.Severity) report.Report {
	var rep report.Report
	if m.Offline == config.OfflineOff || m.offline != nil {
		return rep
	}
	d := report.Diagnostic{Severity: severity, Path: "offline", Pos: m.Origin("offline")}
	switch want, found := p.renderer.Requirements(m.input()); {
	case found.HasErrors() || len(want.Packages) == 0:
		return rep
	case m.Class == "":
		d.Summary, d.Detail = m.Name+" is to install offline, and there is no lock of its packages", `write it: "gpustrap lock"`
	default:
		d.Summary, d.Detail = m.Name+" is to install offline, and there is no key that signs its packages", `"gpustrap remaster" and "gpustrap bundle" make the key`
	}
	rep.Add(d)
	return rep
}

// Bundle says what an offline repository is made of.
type Bundle struct {
	Machines []*Machine
	Key      *apt.SigningKey
	Date     time.Time // of all files; zero: that of the lock
	Folder   string    // that the configuration lies in, whose file names are relative to it
}

// Repository returns the offline repository of some machines' classes: apt's own
// tree, signed; under keys/CLASS the public keys of the repositories that the
// machines use from then on; and under images the archives of their apps' images.
// Packages and keys are downloaded, unless they are in the cache.
func (p *Project) Repository(ctx context.Context, b Bundle, o apt.Options) (fs.FS, error) {
	var names []string
	for _, m := range b.Machines {
		if m.Class != "" && !slices.Contains(names, m.Class) {
			names = append(names, m.Class)
		}
	}
	images, err := appImages(ctx, b.Machines, b.Folder)
	if err != nil {
		return nil, err
	}
	part := p.lock.Part(names...)
	paths, err := apt.FetchPackages(ctx, part, o)
	if err != nil {
		return nil, err
	}
	repository, err := apt.NewRepository(part, paths, images, b.Key, b.Date)
	if err != nil {
		return nil, err
	}
	keys, err := p.sourceKeys(ctx, names, repository, o)
	if err != nil {
		return nil, err
	}
	return within{repository, "keys", keys}, nil
}

// sourceKeys returns the keys of the classes' sources, a folder for each class, with
// the date of the repository that they go into.
func (p *Project) sourceKeys(ctx context.Context, names []string, repository fs.FS, o apt.Options) (fs.FS, error) {
	info, err := fs.Stat(repository, apt.KeyName)
	if err != nil {
		return nil, err
	}
	classes, err := p.Classes(nil, p.lock.Snapshot())
	if err != nil {
		return nil, err
	}
	keys := fstest.MapFS{}
	for _, c := range classes {
		if !slices.Contains(names, c.Name) {
			continue
		}
		for _, s := range c.Sources {
			block, err := apt.FetchKey(ctx, s, o)
			if err != nil {
				return nil, err
			}
			if block != nil {
				keys[path.Join(c.Name, s.Name+".asc")] = &fstest.MapFile{Data: block, Mode: mediumFile, ModTime: info.ModTime()}
			}
		}
	}
	return keys, nil
}

// CheckBase refuses a medium that brings other packages than the machine was
// locked on top of.
func (p *Project) CheckBase(m *Machine, medium string) error {
	c := p.lock.Class(m.Class)
	if c == nil || c.Base == "" || c.Base == medium {
		return nil
	}
	return fmt.Errorf("%s was locked on top of %s, and the medium is %s", m.Name, c.Base, medium)
}

// within is a file system with another one in a folder of its root.
type within struct {
	fs.FS
	name  string
	inner fs.FS
}

// Open opens a file of either.
func (w within) Open(name string) (fs.File, error) {
	if rest, inside := cutFolder(name, w.name); inside && fs.ValidPath(name) {
		return w.inner.Open(rest)
	}
	return w.FS.Open(name)
}

// ReadDir lists a folder, and in the root the folder of the other file system too.
func (w within) ReadDir(name string) ([]fs.DirEntry, error) {
	if rest, inside := cutFolder(name, w.name); inside {
		return fs.ReadDir(w.inner, rest)
	}
	list, err := fs.ReadDir(w.FS, name)
	if err != nil || name != "." {
		return list, err
	}
	info, err := fs.Stat(w.inner, ".")
	if err != nil {
		return nil, err
	}
	list = append(slices.Clone(list), folderEntry{fs.FileInfoToDirEntry(info), w.name})
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return list, nil
}

// cutFolder returns the part of a path below a folder.
func cutFolder(name, folder string) (rest string, inside bool) {
	if name == folder {
		return ".", true
	}
	return strings.CutPrefix(name, folder+"/")
}

// folderEntry is a root under the name that it has in another file system.
type folderEntry struct {
	fs.DirEntry
	name string
}

func (e folderEntry) Name() string { return e.name }
func (e folderEntry) IsDir() bool  { return true }
