package gpu

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

//go:embed tables/*.tsv
var embedded embed.FS

// Tables is what gpustrap knows of GPUs, drivers and packages.
type Tables struct {
	date          string // of the newest table, year-month-day; what had reached its end of life by then is refused
	references    map[string]reference
	releases      []release
	kernels       []kernel
	architectures map[string]*architecture
	boards        map[string]*board
	switches      []nvswitch
	branches      map[int]*branch
	offers        []offer
	sets          map[string]*set
	packages      []pkg
	devices       []*device // in the order of the table
	mig           []division
}

// reference is a document that a table cites.
type reference struct {
	date     string
	standing string // read, second-hand, tried or judgement
	title    string
}

type release struct {
	name, codename string
	archs, signed  []string // signed: where Canonical signs NVIDIA's modules
	cuda           string   // the release's directory in NVIDIA's CUDA repository
	source         []string
}

type kernel struct {
	release, name, suffix string
	archs                 []string
	source                []string
}

type architecture struct {
	id, name, codename string
	modules            []Flavour // that drive it
	last               int       // last branch that supports it; 0: no end announced
	source             []string
}

type board struct {
	id, name string
	fabric   string // set of packages that the link needs; "" none
	from     int    // GPUs from which on the machine has that link
	max      int    // GPUs in one machine
	arch     string // the machine's only architecture; "" any
	page     string // kernel choice for its page size; "" the usual
	modules  Flavour
	source   []string
}

// nvswitch is an NVSwitch that shows as a PCI device.
type nvswitch struct{ pci, product, fabric string }

type branch struct {
	number      int
	designation string // LTSB, PB, NFB or ""
	eol         string // year-month, past or ""
	ended       bool   // by the tables' date
	cuda        int    // major version
	modules     []Flavour
	source      []string
}

// offer says that a repository has a branch for a release.
type offer struct {
	repository string
	release    string // "*" for every release
	name       string // 580-server, or 580
	branch     *branch
	component  string
	version    version // one that was seen; zero: none was
	seen       string  // the same as text
	into       string  // the branch that it installs instead
	source     []string
}

func (o offer) server() bool { return strings.HasSuffix(o.name, "-server") }

// set is a group of packages, and what it brings besides them.
type set struct {
	services, modules []string
	why               string
	source            []string
}

type pkg struct {
	repository, set string
	min, max        int // branches; max 0: no end
	flavour, arch   string
	template, from  string
	source          []string
}

type device struct {
	pci          string
	models       []string
	product      string
	class        string
	board        *board
	architecture *architecture
	listed       listing
}

// Load reads the tables that gpustrap carries. An error is a mistake in them.
func Load() (*Tables, error) {
	sub, err := fs.Sub(embedded, "tables")
	if err != nil {
		return nil, err
	}
	return decode(sub)
}

// decode reads the tables from a folder and checks that they hold together.
func decode(fsys fs.FS) (*Tables, error) {
	t := &Tables{
		references:    map[string]reference{},
		architectures: map[string]*architecture{},
		boards:        map[string]*board{},
		branches:      map[int]*branch{},
		sets:          map[string]*set{},
	}
	// A table comes after those that it refers to.
	steps := []struct {
		file string
		read func(*sheet) error
	}{
		{"sources.tsv", t.readReferences},
		{"releases.tsv", t.readReleases},
		{"kernels.tsv", t.readKernels},
		{"architectures.tsv", t.readArchitectures},
		{"sets.tsv", t.readSets},
		{"boards.tsv", t.readBoards},
		{"switches.tsv", t.readSwitches},
		{"branches.tsv", t.readBranches},
		{"offers.tsv", t.readOffers},
		{"packages.tsv", t.readPackages},
		{"devices.tsv", t.readDevices},
		{"mig.tsv", t.readMIG},
	}
	sheets := make([]*sheet, len(steps))
	for i, step := range steps {
		text, err := fs.ReadFile(fsys, step.file)
		if err != nil {
			return nil, err
		}
		if sheets[i], err = parseSheet(step.file, text); err != nil {
			return nil, err
		}
		t.date = max(t.date, sheets[i].date)
	}
	for i, step := range steps {
		if err := step.read(sheets[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tables) readReferences(s *sheet) error {
	if err := s.want("id", "date", "standing", "title"); err != nil {
		return err
	}
	for _, r := range s.rows {
		standing, err := r.oneOf("standing", "read", "second-hand", "tried", "judgement")
		if err != nil {
			return err
		}
		if !dateForm.MatchString(r.get("date")) || r.get("date") > t.date {
			return r.fail("date %q is not a day until %s", r.get("date"), t.date)
		}
		if _, double := t.references[r.get("id")]; double {
			return r.fail("source %s is there twice", r.get("id"))
		}
		t.references[r.get("id")] = reference{r.get("date"), standing, r.get("title")}
	}
	return nil
}

var dateForm = regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$`)

// cited returns a row's references after checking that each is known.
func (t *Tables) cited(r row) ([]string, error) {
	ids := r.list("source")
	if len(ids) == 0 {
		return nil, r.fail("no source")
	}
	for _, id := range ids {
		if _, ok := t.references[strings.TrimSuffix(id, "?")]; !ok {
			return nil, r.fail("source %q is not in sources.tsv", id)
		}
	}
	return ids, nil
}

// cite returns the documents that references name, as a person reads them. A
// reference with a question mark is unverified.
func (t *Tables) cite(lists ...[]string) string {
	var out []string
	for _, id := range slices.Concat(lists...) {
		id, unverified := strings.CutSuffix(id, "?")
		ref := t.references[id]
		text := fmt.Sprintf("%s, %s", ref.title, ref.date)
		if ref.standing != "read" {
			text += ", " + ref.standing
		}
		if unverified {
			text += " [UNVERIFIED]"
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, "; ")
}

func (t *Tables) readReleases(s *sheet) error {
	if err := s.want("release", "codename", "archs", "signed", "cuda", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		x := release{r.get("release"), r.get("codename"), r.list("archs"), r.list("signed"), r.get("cuda"), source}
		if _, double := t.release(x.name); double {
			return r.fail("release %s is there twice", x.name)
		}
		for _, a := range x.signed {
			if !slices.Contains(x.archs, a) {
				return r.fail("signed architecture %s is none of the release", a)
			}
		}
		t.releases = append(t.releases, x)
	}
	return nil
}

func (t *Tables) release(name string) (release, bool) {
	i := slices.IndexFunc(t.releases, func(r release) bool { return r.name == name })
	if i < 0 {
		return release{}, false
	}
	return t.releases[i], true
}

func (t *Tables) readKernels(s *sheet) error {
	if err := s.want("release", "kernel", "archs", "suffix", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		name, err := r.oneOf("kernel", "ga", "hwe", "64k")
		if err != nil {
			return err
		}
		rel, ok := t.release(r.get("release"))
		if !ok {
			return r.fail("release %s is not in releases.tsv", r.get("release"))
		}
		k := kernel{rel.name, name, r.get("suffix"), r.list("archs"), source}
		for _, a := range k.archs {
			if !slices.Contains(rel.archs, a) {
				return r.fail("architecture %s is none of the release", a)
			}
			if _, double := t.kernel(k.release, a, k.name); double {
				return r.fail("kernel %s of %s is there twice for %s", k.name, k.release, a)
			}
		}
		t.kernels = append(t.kernels, k)
	}
	return nil
}

func (t *Tables) kernel(release, arch, name string) (kernel, bool) {
	for _, k := range t.kernels {
		if k.release == release && k.name == name && slices.Contains(k.archs, arch) {
			return k, true
		}
	}
	return kernel{}, false
}

func (r row) flavours(column string) ([]Flavour, error) {
	var out []Flavour
	for _, f := range r.list(column) {
		if f != string(Open) && f != string(Proprietary) {
			return nil, r.fail("%s %q is neither open nor proprietary", column, f)
		}
		out = append(out, Flavour(f))
	}
	if len(out) == 0 {
		return nil, r.fail("no %s", column)
	}
	return out, nil
}

func (t *Tables) readArchitectures(s *sheet) error {
	if err := s.want("architecture", "name", "codename", "modules", "last", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		modules, err := r.flavours("modules")
		if err != nil {
			return err
		}
		last, err := r.number("last")
		if err != nil {
			return err
		}
		id := r.get("architecture")
		if t.architectures[id] != nil {
			return r.fail("architecture %s is there twice", id)
		}
		t.architectures[id] = &architecture{id, r.get("name"), r.get("codename"), modules, last, source}
	}
	return nil
}

func (t *Tables) readSets(s *sheet) error {
	if err := s.want("set", "services", "modules", "why", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		id := r.get("set")
		if t.sets[id] != nil {
			return r.fail("set %s is there twice", id)
		}
		t.sets[id] = &set{strings.Fields(r.get("services")), strings.Fields(r.get("modules")), r.get("why"), source}
	}
	for _, id := range []string{"driver", "headless", "desktop", "nvswitch", "nvlink5", "imex", "dcgm"} {
		if t.sets[id] == nil {
			return &FormatError{File: s.file, Message: "no set " + id}
		}
	}
	return nil
}

func (t *Tables) readBoards(s *sheet) error {
	if err := s.want("board", "fabric", "from", "max", "arch", "page", "modules", "name", "source"); err != nil {
		return err
	}
	for _, r := range s.rows {
		source, err := t.cited(r)
		if err != nil {
			return err
		}
		b := &board{id: r.get("board"), name: r.get("name"), fabric: r.get("fabric"), source: source}
		if t.boards[b.id] != nil {
			return r.fail("board %s is there twice", b.id)
		}
		if b.from, err = r.number("from"); err != nil {
			return err
		}
		if b.max, err = r.number("max"); err != nil {
			return err
		}
		if b.arch, err = r.oneOf("arch", "", "amd64", "arm64"); err != nil {
			return err
		}
		if b.page, err = r.oneOf("page", "", "64k"); err != nil {
			return err
		}
		f, err := r.oneOf("modules", "", string(Open), string(Proprietary))
		if err != nil {
			return err
		}
		b.modules = Flavour(f)
		if b.fabric != "" && t.sets[b.fabric] == nil || (b.fabric != "") != (b.from != 0) || b.max < max(b.from, 1) {
			return r.fail("fabric, from and max do not fit together")
		}
		t.boards[b.id] = b
	}
	return nil
}

var pciForm = regexp.MustCompile(`^10de:[0-9a-f]{4}$`)

func (t *Tables) readSwitches(s *sheet) error {
	if err := s.want("pci", "product", "fabric"); err != nil {
		return err
	}
	for _, r := range s.rows {
		x := nvswitch{r.get("pci"), r.get("product"), r.get("fabric")}
		if !pciForm.MatchString(x.pci) || t.sets[x.fabric] == nil {
			return r.fail("pci %q or fabric %q is wrong", x.pci, x.fabric)
		}
		t.switches = append(t.switches, x)
	}
	return nil
}

func (t *Tables) nvswitch(pci string) (nvswitch, bool) {
	i := slices.IndexFunc(t.switches, func(s nvswitch) bool { return s.pci == pci })
	if i < 0 {
		return nvswitch{}, false
	}
	return t.switches[i], true
}
