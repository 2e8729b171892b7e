package autoinstall

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"testing/fstest"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/report"
)

// Input is what a render is made of. It is only read.
type Input struct {
	Machine config.Machine
	Stack   *gpu.Stack // nil: no driver is installed
	Stacks  []byte     // with an automatic Stack: gpu's table, by which the machine chooses
	Locked  *Locked    // nil: the newest versions that the repositories have
	Offline *Offline   // the repository on the medium; nil: packages come from the network
	Report  string     // URL that the installer posts its events to; empty: none
	Stamp   string     // names this installation on the disks that it writes; empty: none
}

// Locked holds an installation to exact versions.
type Locked struct {
	Versions []string // NAME=VERSION of all packages that it may bring in, sorted
	Snapshot string   // URL of Ubuntu's archive at the time of the lock; empty: as it is
}

// Offline is the signed repository on an installation medium: a suite of it, and the
// key that signs it, armored. It needs Locked.
type Offline struct {
	Suite string
	Key   []byte
}

// Seed is the files of a NoCloud data source. There is no network-config: the
// autoinstall's network section configures the installer and the machine, and a
// second configuration of the live system would only compete with it.
type Seed struct {
	UserData   []byte
	MetaData   []byte
	VendorData []byte // empty: the file is there so that nobody waits for it
}

// seedFile is the mode of a seed's files: they hold password hashes.
const seedFile fs.FileMode = 0o600

// The names of the other files of a seed.
const (
	metaDataName   = "meta-data"
	vendorDataName = "vendor-data"
)

// FS returns the seed as files: user-data, meta-data and vendor-data.
func (s Seed) FS() fs.FS {
	return fstest.MapFS{
		userDataName:   {Data: s.UserData, Mode: seedFile},
		metaDataName:   {Data: s.MetaData, Mode: seedFile},
		vendorDataName: {Data: s.VendorData, Mode: seedFile},
	}
}

// Files returns the same files' content by name.
func (s Seed) Files() map[string][]byte {
	return map[string][]byte{userDataName: s.UserData, metaDataName: s.MetaData, vendorDataName: s.VendorData}
}

// Renderer renders machines. It holds what is the same for all of them, made
// and checked once, and may be used by several goroutines at a time.
type Renderer struct {
	scripts scriptSet
	proven  provenCommands
}

// NewRenderer prepares the scripts. It fails only if they are damaged.
func NewRenderer() (*Renderer, error) {
	set, err := readScripts()
	if err != nil {
		return nil, err
	}
	r := &Renderer{scripts: set}
	for _, s := range set {
		if err := r.proven.add(s.command); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Render returns the machine's NoCloud seed. It is a pure function of the input:
// same input, same bytes. What leaves has been decoded again and compared with
// the document that it was made from; when the report has errors the seed is
// empty.
func (r *Renderer) Render(in Input) (Seed, report.Report) {
	return r.render(&in, r.readBack)
}

// Preview returns what Render does, without reading it back: for comparing it with
// what was rendered before.
func (r *Renderer) Preview(in Input) (Seed, report.Report) {
	return r.render(&in, func(*Input, encoded) report.Report { return report.Report{} })
}

func (r *Renderer) render(in *Input, prove func(*Input, encoded) report.Report) (Seed, report.Report) {
	doc, rep := r.document(in)
	if rep.HasErrors() {
		return Seed{}, rep
	}
	out, err := r.proven.encode(doc)
	if err != nil {
		rep.Add(internal(in, err))
		return Seed{}, rep
	}
	rep.Merge(r.checkCommands(in, doc))
	rep.Merge(prove(in, out))
	if rep.HasErrors() {
		return Seed{}, rep
	}
	meta, err := metaData(in, out.whole)
	if err != nil {
		rep.Add(internal(in, err))
		return Seed{}, rep
	}
	return Seed{UserData: out.whole, MetaData: meta, VendorData: []byte{}}, rep
}

// readBack complains of a rendered document that does not mean what it was made of.
func (r *Renderer) readBack(in *Input, out encoded) report.Report {
	var rep report.Report
	back, found := DecodeDocument(out.varying, in.Machine.Ubuntu)
	for _, d := range found.Diagnostics {
		rep.Add(internal(in, fmt.Errorf("the rendered %s", d)))
	}
	if back != nil && !reflect.DeepEqual(back, out.rest) {
		rep.Add(internal(in, fmt.Errorf("the rendered user-data does not read back as it was made")))
	}
	return rep
}

// document returns the machine's autoinstall, its raw fragment merged in.
func (r *Renderer) document(in *Input) (*Document, report.Report) {
	b := newBuilder(in, r.scripts)
	doc := b.document()
	for _, command := range b.shared {
		if err := r.proven.add(command); err != nil {
			b.rep.Add(internal(in, err))
		}
	}
	if b.rep.HasErrors() || in.Machine.Autoinstall == nil {
		return doc, b.rep
	}
	doc, found := applyFragment(doc, in)
	b.rep.Merge(found)
	return doc, b.rep
}

// metaData returns the meta-data: an instance-id that changes with the seed and
// with nothing else. There is no local-hostname: it would name the live system
// after the machine, in DHCP and DNS too, before there is one.
func metaData(in *Input, userData []byte) ([]byte, error) {
	sum := sha256.Sum256(userData)
	id, err := json.Marshal(in.Machine.Name + "-" + hex.EncodeToString(sum[:8])) // JSON is YAML too
	if err != nil {
		return nil, fmt.Errorf("cannot write the meta-data: %w", err)
	}
	return fmt.Appendf(nil, "instance-id: %s\n", id), nil
}

// maxCommand is the longest command, in bytes: the kernel takes at most 128 KiB
// for one argument, and sh -c makes one of a command.
const maxCommand = 100 << 10

func (r *Renderer) checkCommands(in *Input, doc *Document) report.Report {
	var rep report.Report
	for _, list := range [][]Command{doc.EarlyCommands, doc.LateCommands, doc.ErrorCommands} {
		for _, c := range list {
			if c.size() > maxCommand {
				rep.Add(report.Diagnostic{
					Severity: report.Error, Path: "autoinstall", Pos: in.Machine.Origin("autoinstall"),
					Summary: fmt.Sprintf("a command is %d bytes long, and the installer can start at most %d", c.size(), maxCommand),
					Detail:  "split it, or put its data into files",
				})
			}
		}
	}
	return rep
}

// internal is a complaint that the person's file is not to blame for.
func internal(in *Input, err error) report.Diagnostic {
	return report.Diagnostic{
		Severity: report.Error, Pos: in.Machine.Origin(""),
		Summary: fmt.Sprintf("cannot render %s: %v", in.Machine.Name, err),
		Detail:  "this is a fault of gpustrap; please report it with the configuration",
	}
}
