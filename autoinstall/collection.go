package autoinstall

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing/fstest"

	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/report"
)

// Files of a collection besides the seed that its machines share.
const (
	collectionTable  = "machines.tsv"
	collectionFolder = "machines"
)

// nowhere is a disk that no machine has. The shared autoinstall names it, so that
// an installer which were not told its machine would stop.
const nowhere = "gpustrap: no machine was chosen"

// RenderCollection returns one NoCloud seed for several machines: user-data,
// meta-data and vendor-data that all share, a table of what identifies each
// machine, and each machine's own user-data in the folder machines. The shared
// early-command picks the machine and puts its autoinstall in its place, which
// the installer then reads again. Folder is where the files lie in the live
// system, such as /cdrom/nocloud. Every machine needs a Match.
func (r *Renderer) RenderCollection(inputs []Input, folder string) (fs.FS, report.Report) {
	seeds, rep := r.renderEach(inputs)
	if rep.HasErrors() {
		return nil, rep
	}
	files := fstest.MapFS{}
	put := func(name string, data []byte) {
		files[name] = &fstest.MapFile{Data: data, Mode: seedFile}
	}
	sum := sha256.New()
	var table bytes.Buffer
	for i := range inputs {
		m := &inputs[i].Machine
		ids := hardware(m.Match)
		if len(ids) == 0 {
			rep.Add(report.Diagnostic{
				Severity: report.Error, Path: "match", Pos: m.Origin("match"),
				Summary: fmt.Sprintf("%s has no match, so nothing tells it from the other machines of the medium", m.Name),
				Detail:  "add match: {serial: …}, or leave the machine out",
			})
			continue
		}
		for ; len(ids) > 0; ids = ids[2:] {
			fmt.Fprintf(&table, "%s\t%s\t%s\n", m.Name, ids[0], ids[1])
		}
		put(path.Join(collectionFolder, m.Name), seeds[i].UserData)
		_, _ = sum.Write(seeds[i].MetaData) // a hash takes everything
	}
	if rep.HasErrors() {
		return nil, rep
	}
	put(collectionTable, table.Bytes())
	doc, found := r.sharedDocument(inputs, folder)
	rep.Merge(found)
	data, err := marshal(userData{doc})
	if err != nil {
		rep.Add(internal(&inputs[0], err))
	}
	if rep.HasErrors() {
		return nil, rep
	}
	data = append([]byte(header), data...)
	_, _ = sum.Write(append(table.Bytes(), data...))
	put(userDataName, data)
	put(metaDataName, fmt.Appendf(nil, "instance-id: collection-%x\n", sum.Sum(nil)[:8]))
	put(vendorDataName, nil)
	return files, rep
}

// renderEach renders the machines side by side.
func (r *Renderer) renderEach(inputs []Input) ([]Seed, report.Report) {
	seeds := make([]Seed, len(inputs))
	found := make([]report.Report, len(inputs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range inputs {
		group.Go(func() error {
			seeds[i], found[i] = r.Render(inputs[i])
			return nil
		})
	}
	_ = group.Wait() // the functions return no error
	var rep report.Report
	for _, one := range found {
		rep.Merge(one)
	}
	return seeds, rep
}

// sharedDocument returns the autoinstall that every machine starts with. Whoever
// may become root on every one of them may have a look at an installer that does
// not know its machine.
func (r *Renderer) sharedDocument(inputs []Input, folder string) (*Document, report.Report) {
	b := &builder{in: &inputs[0], scripts: r.scripts}
	doc := &Document{Version: 1, Storage: &Storage{Layout: &Layout{Name: "direct", Match: Matches{{Serial: nowhere}}}}}
	b.carry(&doc.EarlyCommands, guard)
	b.carry(&doc.EarlyCommands, pick)
	b.run(&doc.EarlyCommands, "bash", liveFolder+"/"+pick, strings.TrimSuffix(folder, "/"))
	keys, address := rootKeys(&inputs[0].Machine), inputs[0].Report
	for i := range inputs[1:] {
		own := rootKeys(&inputs[i+1].Machine)
		keys = slices.DeleteFunc(keys, func(key string) bool { return !slices.Contains(own, key) })
		if inputs[i+1].Report != address {
			address = ""
		}
	}
	b.carry(&doc.ErrorCommands, failed)
	doc.ErrorCommands = append(doc.ErrorCommands, b.failedCommand("a machine", address, keys))
	return doc, b.rep
}
