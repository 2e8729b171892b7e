package apt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// KeyName is the path of the public key in an offline repository, beside dists and
// pool.
const KeyName = "gpustrap.asc"

// Attachment is a file that an offline repository carries beside packages, such as
// the archive of a container image. Every Release file has its size and SHA-256 in
// the field Attachments, which apt does not know: whoever uses the file compares.
type Attachment struct {
	Name   string // path in the repository
	File   string // path on disk
	Size   int64  // bytes
	SHA256 string
}

// NewRepository returns an offline repository with the packages of a lock: each
// class a suite, dists/CLASS, with the component main, and the packages in pool. A
// machine's source for it is
//
//	Types: deb
//	URIs: file:/where/it/is
//	Suites: CLASS
//	Components: main
//	Signed-By: /where/its/key/is
//
// paths says where the package of each key lies, as FetchPackages returns it. The
// date is that of all files and of the signatures; zero means that of the newest
// suite in the lock. Same lock, attachments, key and date: same bytes. Packages are read
// when the repository is; the digests in its indexes are the lock's.
func NewRepository(l *Lock, paths map[string]string, attached []Attachment, key *SigningKey, date time.Time) (fs.FS, error) {
	if date.IsZero() {
		date = l.date()
	}
	tree := newTree(date)
	stanzas := map[string]string{}
	for i := range l.Packages {
		p := &l.Packages[i]
		name, ok := paths[p.Key]
		if !ok || p.SHA256 == "" {
			return nil, fmt.Errorf("cannot write the repository: %s has not been downloaded", p.Key)
		}
		place := tree.place(p)
		if err := tree.addFile(place, name, p.Size); err != nil {
			return nil, fmt.Errorf("cannot write the repository: %w", err)
		}
		control, err := readControlFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot write the repository: %s: %w", p.Key, err)
		}
		if got := control.Field("Package") + "=" + control.Field("Version") + ":" + control.Field("Architecture"); got != p.Key {
			return nil, &Error{Kind: ErrIndex, Summary: fmt.Sprintf("the archive calls a package %s, and the package calls itself %s", p.Key, got)}
		}
		stanzas[p.Key] = fmt.Sprintf("%s\nFilename: %s\nSize: %d\nSHA256: %s\n", strings.TrimRight(control.Text, "\n"), place, p.Size, p.SHA256)
	}
	list := ""
	for i, a := range attached {
		if i == 0 {
			list = "Attachments:\n"
		}
		if err := tree.addFile(a.Name, a.File, a.Size); err != nil {
			return nil, fmt.Errorf("cannot write the repository: %w", err)
		}
		list += fmt.Sprintf(" %s %d %s\n", a.SHA256, a.Size, a.Name)
	}
	for i := range l.Classes {
		if err := tree.addSuite(&l.Classes[i], stanzas, list, key, date); err != nil {
			return nil, err
		}
	}
	public, err := key.Public()
	if err != nil {
		return nil, err
	}
	tree.addText(KeyName, public)
	tree.sort()
	return tree, nil
}

// date is that of the newest suite.
func (l *Lock) date() time.Time {
	var newest time.Time
	for _, s := range l.Suites {
		if s.Date.After(newest) {
			newest = s.Date
		}
	}
	if newest.IsZero() {
		newest = keyEpoch
	}
	return newest.UTC()
}

// place is where a package lies in the repository: pool, the name of its source,
// the name that it has there. A second file of the same name gets a folder of its
// own.
func (t *tree) place(p *LockedPackage) string {
	source, _, _ := strings.Cut(p.Suite, " ")
	base := p.File()
	if !strings.HasSuffix(base, ".deb") {
		_, version, _ := strings.Cut(p.Version(), ":")
		base = p.Name() + "_" + cmp.Or(version, p.Version()) + "_" + p.Arch() + ".deb"
	}
	name := path.Join("pool", source, base)
	if _, taken := t.nodes[name]; taken {
		name = path.Join("pool", source, p.SHA256[:16], base)
	}
	return name
}

func (t *tree) addSuite(c *LockedClass, stanzas map[string]string, attached string, key *SigningKey, date time.Time) error {
	var packages bytes.Buffer
	for i, k := range c.Packages {
		if i > 0 {
			packages.WriteByte('\n')
		}
		packages.WriteString(stanzas[k])
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(packages.Bytes())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("cannot write the repository's index: %w", err)
	}
	folder := path.Join("dists", c.Name)
	index := "main/binary-" + c.Arch + "/Packages"
	files := []struct {
		name string
		text []byte
	}{{index, packages.Bytes()}, {index + ".gz", zipped.Bytes()}}
	var release bytes.Buffer
	fmt.Fprintf(&release, "Origin: gpustrap\nLabel: gpustrap offline repository\nSuite: %s\nCodename: %s\nDate: %s\nArchitectures: %s\nComponents: main\nDescription: %d packages, as gpustrap.lock has them\nSHA256:\n",
		c.Name, c.Name, date.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"), c.Arch, len(c.Packages))
	for _, f := range files {
		t.addText(path.Join(folder, f.name), f.text)
		fmt.Fprintf(&release, " %s %d %s\n", sum256(f.text), len(f.text), f.name)
	}
	release.WriteString(attached)
	t.addText(path.Join(folder, "Release"), release.Bytes())
	clear, err := key.clearSigned(release.Bytes(), date)
	if err != nil {
		return err
	}
	detached, err := key.detached(release.Bytes(), date)
	if err != nil {
		return err
	}
	t.addText(path.Join(folder, "InRelease"), clear)
	t.addText(path.Join(folder, "Release.gpg"), detached)
	return nil
}

// errIsFolder is what reading a folder as a file gives.
var errIsFolder = errors.New("is a directory")

func sortEntries(list []fs.DirEntry) {
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
}
