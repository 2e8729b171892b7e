package iso

import (
	"cmp"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// view is one way in which a machine sees the medium's files.
type view struct {
	name string
	fsys fs.FS
}

func (im *Image) views() []view {
	return []view{{"the whole image", im.FS()}, {"partition 1", im.PartitionFS()}}
}

// checksums checks every line of md5sum.txt from both views.
func (v *verifier) checksums() error {
	views := v.im.views()
	text, err := readText(views[0].fsys, md5sumPath)
	if errors.Is(err, fs.ErrNotExist) {
		if v.baseHas(md5sumPath) {
			v.fault(CheckFiles, md5sumPath, -1, "the medium has none, though its base had")
		}
		return nil
	}
	if err != nil {
		return v.unreadable(CheckFiles, md5sumPath, err)
	}
	lines := v.wellFormed(parseMD5(text))
	v.notListed(lines)
	jobs := make([]*hashJob, 0, len(lines))
	for _, l := range lines {
		jobs = append(jobs, v.hashJobs(l, views)...)
	}
	if err := v.hash(jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		if err := v.judge(j); err != nil {
			return err
		}
	}
	return nil
}

// wellFormed returns the lines that are checksums, and faults the others.
func (v *verifier) wellFormed(lines []md5Line) []md5Line {
	var good []md5Line
	for i, l := range lines {
		if l.path != "" {
			good = append(good, l)
			continue
		}
		v.fault(CheckFiles, md5sumPath, -1, "line %d is not a checksum and a path: %.80q", i+1, l.text)
		v.faults[len(v.faults)-1].Base = v.baseLines()[string(l.text)]
	}
	return good
}

// hashJob is the content of one file to hash, in one view or, when both lead to
// the same bytes, for both.
type hashJob struct {
	line md5Line
	view string
	fsys fs.FS
	size int64
	err  error // why it cannot be hashed
	sum  [md5.Size]byte
}

// hashJobs looks a line's file up in each view.
func (v *verifier) hashJobs(l md5Line, views []view) []*hashJob {
	var jobs []*hashJob
	var first *iso9660.Entry
	for i, w := range views {
		info, err := fs.Stat(w.fsys, l.path)
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err != nil {
			jobs = append(jobs, &hashJob{line: l, view: w.name, err: err})
			continue
		}
		e, _ := info.Sys().(*iso9660.Entry)
		if i == 0 {
			first = e
		} else if first != nil && v.sameBytes(first, e) {
			jobs[0].view = "" // both
			continue
		}
		jobs = append(jobs, &hashJob{line: l, view: w.name, fsys: w.fsys, size: info.Size()})
	}
	return jobs
}

// sameBytes reports whether an entry of set A and one of set B lead to the same
// bytes of the image, inside the first partition.
func (v *verifier) sameBytes(a, b *iso9660.Entry) bool {
	shift := v.im.sets[setB].rockRidge.Start
	end := int64(v.im.parts.insertion())
	return slices.EqualFunc(a.Extents(), b.Extents(), func(x, y iso9660.Extent) bool {
		return x.Length == y.Length && (x.Length == 0 || x.Sector == y.Sector+shift &&
			x.Sector >= shift && int64(x.Sector)+iso9660.Sectors(int64(x.Length)) <= end)
	})
}

// hash computes the checksums of all jobs, two or more at a time: one reader
// leaves the disk waiting while it computes.
func (v *verifier) hash(jobs []*hashJob) error {
	var total, done int64
	for _, j := range jobs {
		total += j.size
	}
	var mu sync.Mutex
	advance := func(n int64) {
		if v.progress != nil {
			mu.Lock()
			defer mu.Unlock()
			done += n
			v.progress(done, total)
		}
	}
	buffers := sync.Pool{New: func() any { return new([copyBuffer]byte) }}
	g, ctx := errgroup.WithContext(v.ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), 8))
	for _, j := range jobs {
		if j.err != nil {
			continue
		}
		g.Go(func() error {
			buffer := buffers.Get().(*[copyBuffer]byte)
			defer buffers.Put(buffer)
			return j.run(ctx, buffer[:], advance)
		})
	}
	return g.Wait()
}

// run hashes one file. A file that cannot be read is a fault and not an error,
// unless the image itself cannot be.
func (j *hashJob) run(ctx context.Context, buffer []byte, advance func(int64)) error {
	f, err := j.fsys.Open(j.line.path)
	if err != nil {
		j.err = err
		return nil
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing is lost
	h := md5.New()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		advance(int64(n))
		if err == io.EOF {
			h.Sum(j.sum[:0])
			return nil
		}
		if isReadError(err) {
			return err
		}
		if err != nil {
			j.err = err
			return nil
		}
	}
}

// judge says what a job found.
func (v *verifier) judge(j *hashJob) error {
	p := j.line.path
	from := ""
	if j.view != "" {
		from = " in " + j.view
	}
	switch {
	case j.err != nil && errors.Is(j.err, fs.ErrNotExist):
		v.fault(CheckFiles, p, -1, "listed in md5sum.txt and not there%s", from)
		v.faults[len(v.faults)-1].Base = v.baseLines()[p] && !v.baseHas(p)
	case j.err != nil:
		v.fault(CheckFiles, p, v.offset(p), "cannot be read%s: %s", from, pathReason(j.err))
	case j.sum == j.line.sum:
	case v.patchedByDesign(p):
		v.fault(CheckFiles, p, v.offset(p), "md5sum.txt has its checksum from before its boot information table was filled in%s", from)
		v.faults[len(v.faults)-1].Base = true
	default:
		return v.mismatch(j, from)
	}
	return nil
}

// mismatch faults a file that has not the checksum listed. If the image's base is at
// hand and has the same bytes there, the base had the fault already.
func (v *verifier) mismatch(j *hashJob, from string) error {
	p := j.line.path
	hint := ""
	own := false
	if v.isUntouched(p) {
		hint = "; remastering left the file and its line alone, so either the image was damaged since or its base had the fault already: verify the base, or compare the SHA-256 of what restore gives"
	}
	if v.given != nil {
		base := &hashJob{line: j.line, fsys: v.given.FS()}
		if err := base.run(v.ctx, make([]byte, copyBuffer), func(int64) {}); err != nil {
			return err
		}
		if own = base.err == nil && base.sum == j.sum; own {
			hint = ""
		}
	}
	v.fault(CheckFiles, p, v.offset(p), "its MD5 is %x and md5sum.txt says %x%s%s", j.sum, j.line.sum, from, hint)
	v.faults[len(v.faults)-1].Base = own
	return nil
}

// isUntouched reports whether a file is one that remastering left alone.
func (v *verifier) isUntouched(p string) bool {
	if v.base == nil {
		return false
	}
	now, then := v.im.lookup(p), v.base.lookup(p)
	return now != nil && then != nil && slices.Equal(now.Extents(), then.Extents())
}

// patchedByDesign reports whether a file is a boot image in which the medium's
// maker filled in the boot information table after md5sum.txt was made, with
// nothing else wrong in it, and which remastering left alone.
func (v *verifier) patchedByDesign(p string) bool {
	now := v.im.lookup(p)
	if now == nil || len(now.Extents()) != 1 || v.base != nil && v.base.lookup(p) == nil {
		return false
	}
	for _, e := range v.im.catalog.Entries {
		if iso9660.Sector(e.Start) != now.Extents()[0].Sector {
			continue
		}
		image, err := readText(v.im.FS(), p)
		if err != nil {
			return false
		}
		info, has := eltorito.DecodeBootInfo(image, e.Start)
		return has && info.Checksum == eltorito.ImageChecksum(image)
	}
	return false
}

// notListed faults files that were put on the medium and are not in md5sum.txt.
func (v *verifier) notListed(lines []md5Line) {
	if v.base == nil {
		return
	}
	listed := make(map[string]bool, len(lines))
	for _, l := range lines {
		listed[l.path] = true
	}
	added, replaced, _ := v.im.fileChanges(v.base)
	for _, p := range slices.Concat(added, replaced) {
		if e := v.im.lookup(p); e.Mode.IsRegular() && !listed[p] && p != md5sumPath {
			v.fault(CheckFiles, p, v.offset(p), "was added and is not listed in md5sum.txt")
		}
	}
}

func (v *verifier) baseHas(p string) bool {
	return v.base != nil && v.base.lookup(p) != nil
}

// baseLines returns the paths that the base's md5sum.txt lists, and its lines that
// are no checksums.
func (v *verifier) baseLines() map[string]bool {
	if v.listed == nil {
		v.listed = map[string]bool{}
		if v.base != nil {
			// A list that cannot be read lists nothing.
			text, _ := readText(v.base.FS(), md5sumPath)
			for _, l := range parseMD5(text) {
				v.listed[cmp.Or(l.path, string(l.text))] = true
			}
		}
	}
	return v.listed
}

// offset returns where a file's content begins, or -1.
func (v *verifier) offset(p string) int64 {
	e := v.im.lookup(p)
	if e == nil || e.Size() == 0 {
		return -1
	}
	return int64(e.Extents()[0].Sector.Offset())
}
