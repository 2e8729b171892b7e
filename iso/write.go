package iso

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// WriteOptions are options of WriteFile.
type WriteOptions struct {
	// Perm are the new file's permissions; 0 means 0600, since an image may hold
	// password hashes and keys.
	Perm fs.FileMode
	// Progress is called now and then with the bytes done and the image's length.
	Progress func(done, total int64)
}

const (
	// copyBuffer is the length in bytes of a buffer for reading and writing: larger
	// ones fall out of the processor's caches and are slower.
	copyBuffer = 128 << 10
	// copyChunk is how many bytes are copied between two looks at the context.
	copyChunk = 32 << 20
	// cloneUnit is the block size in bytes to which file systems that share blocks
	// hold their ranges.
	cloneUnit = 4096
)

// WriteFile writes the image to a file, whole or not at all: it is written under
// no name, or a temporary one, in the same directory, brought to the disk, and
// renamed. A file already there is replaced.
//
// base is the file that the layout's base image was opened from; nil when there is
// none. With it, file systems that can share blocks share them, and others copy
// inside the kernel. The file written to cannot be the base.
func WriteFile(ctx context.Context, l *Layout, base *os.File, path string, o WriteOptions) error {
	if o.Perm == 0 {
		o.Perm = 0o600
	}
	fail := func(err error) error { return fmt.Errorf("cannot write %s: %w", path, writeReason(err, l.size)) }
	if err := checkTarget(path, base); err != nil {
		return fail(err)
	}
	if err := checkBase(l, base); err != nil {
		return fail(err)
	}
	out, err := createUnnamed(path, o.Perm)
	if err != nil {
		return fail(err)
	}
	w := &writer{ctx: ctx, layout: l, base: base, out: out.File, progress: o.Progress}
	if err := w.run(); err != nil {
		out.discard()
		return fail(err)
	}
	if err := out.publish(path); err != nil {
		out.discard()
		return fail(err)
	}
	return nil
}

// checkTarget refuses targets that are not files or are the base itself.
func checkTarget(path string, base *os.File) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory; give the name of a file")
	case !info.Mode().IsRegular():
		return errors.New("it is a device and not a file")
	}
	if base == nil {
		return nil
	}
	baseInfo, err := base.Stat()
	if err == nil && os.SameFile(info, baseInfo) {
		err = errors.New("it is the image that is being read; write to another file")
	}
	return err
}

// checkBase makes sure that the file given is what the layout reads from, by the
// sector that tells media apart: the primary volume descriptor has the date of
// creation.
func checkBase(l *Layout, base *os.File) error {
	if base == nil {
		return nil
	}
	const at = 16 * iso9660.SectorSize
	var have, want [iso9660.SectorSize]byte
	if _, err := l.base.ReadAt(want[:], at); err != nil {
		return err
	}
	if _, err := base.ReadAt(have[:], at); err != nil {
		return err
	}
	if !bytes.Equal(have[:], want[:]) {
		return fmt.Errorf("%s is not the image that was opened", base.Name())
	}
	return nil
}

// writeReason puts the common failures into words.
func writeReason(err error, size int64) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("no space left: the image takes %d MB: %w", (size+999_999)/1_000_000, err)
	case errors.Is(err, context.Canceled):
		return interruptedError{err}
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// interruptedError is the end of the context, in words.
type interruptedError struct{ cause error }

func (e interruptedError) Error() string { return "interrupted, nothing is left behind" }

func (e interruptedError) Unwrap() error { return e.cause }

// writer writes a layout to an empty file.
type writer struct {
	ctx      context.Context
	layout   *Layout
	base     *os.File // nil: read through the layout
	out      *os.File
	progress func(done, total int64)

	done    int64
	buffer  []byte
	noClone bool // the file systems share no blocks
	noCopy  bool // the kernel does not copy between these files
}

func (w *writer) run() error {
	// One call shares the whole base; what differs is then written over it.
	shared := w.base != nil && cloneFile(w.out, w.base) == nil
	w.noClone = !shared
	for _, s := range w.layout.segments {
		var err error
		switch {
		case s.Kind == Base && shared && s.Offset == s.BaseOffset:
			err = w.advance(s.Length)
		case s.Kind == Base && w.base != nil:
			err = w.copyFile(w.base, s.BaseOffset, s.Offset, s.Length)
		case s.Kind == File:
			err = w.copyOverlay(s)
		default:
			err = w.copyRead(s)
		}
		if err != nil {
			return err
		}
	}
	if err := w.out.Truncate(w.layout.size); err != nil {
		return err
	}
	return w.out.Sync()
}

// advance counts bytes as done and looks whether to stop.
func (w *writer) advance(n int64) error {
	w.done += n
	if w.progress != nil {
		w.progress(w.done, w.layout.size)
	}
	return w.ctx.Err()
}

// copyRead copies a segment through memory.
func (w *writer) copyRead(s Segment) error {
	read := func(p []byte, off int64) error { return w.layout.readSegment(s, p, off) }
	return w.copyThrough(read, 0, s.Offset, s.Length)
}

// copyOverlay copies a file of the overlay.
func (w *writer) copyOverlay(s Segment) error {
	f, err := s.file.open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing is lost
	if file, ok := f.(*os.File); ok {
		return w.copyFile(file, s.FileOffset, s.Offset, s.Length)
	}
	read := func(p []byte, off int64) error { return readFileAt(f, p, off) }
	if _, ok := f.(io.ReaderAt); !ok && s.FileOffset == 0 {
		read = func(p []byte, _ int64) error { // front to back, in order
			_, err := io.ReadFull(f, p)
			return err
		}
	}
	return w.copyThrough(read, s.FileOffset, s.Offset, s.Length)
}

// copyFile copies a range of a file by the cheapest means that works.
func (w *writer) copyFile(from *os.File, fromOff, off, n int64) error {
	if !w.noClone && (off-fromOff)%cloneUnit == 0 {
		first := (off + cloneUnit - 1) / cloneUnit * cloneUnit
		last := (off + n) / cloneUnit * cloneUnit
		if first < last && cloneRange(w.out, off+(first-off), from, fromOff+(first-off), last-first) == nil {
			if err := w.copyKernel(from, fromOff, off, first-off); err != nil {
				return err
			}
			if err := w.advance(last - first); err != nil {
				return err
			}
			return w.copyKernel(from, fromOff+last-off, last, off+n-last)
		}
	}
	return w.copyKernel(from, fromOff, off, n)
}

// copyKernel copies a range of a file inside the kernel, or else through memory.
func (w *writer) copyKernel(from *os.File, fromOff, off, n int64) error {
	for n > 0 && !w.noCopy {
		done, err := copyRange(w.out, off, from, fromOff, min(n, copyChunk))
		if err != nil || done == 0 {
			// Not between these file systems, or the file ended early, which
			// reading will say.
			w.noCopy = w.noCopy || !errors.Is(err, syscall.ENOSPC)
			if errors.Is(err, syscall.ENOSPC) {
				return err
			}
			break
		}
		startWriteback(w.out, off, done)
		fromOff, off, n = fromOff+done, off+done, n-done
		if err := w.advance(done); err != nil {
			return err
		}
	}
	read := func(p []byte, off int64) error {
		_, err := io.ReadFull(io.NewSectionReader(from, off, int64(len(p))), p)
		return err
	}
	return w.copyThrough(read, fromOff, off, n)
}

// copyThrough copies n bytes through a small buffer.
func (w *writer) copyThrough(read func(p []byte, off int64) error, fromOff, off, n int64) error {
	if w.buffer == nil {
		w.buffer = make([]byte, copyBuffer)
	}
	pending := int64(0)
	for n > 0 {
		p := w.buffer[:min(n, copyBuffer)]
		if err := read(p, fromOff); err != nil {
			return err
		}
		if _, err := w.out.WriteAt(p, off); err != nil {
			return err
		}
		m := int64(len(p))
		fromOff, off, n = fromOff+m, off+m, n-m
		if pending += m; pending >= copyChunk {
			startWriteback(w.out, off-pending, pending)
			pending = 0
		}
		if err := w.advance(m); err != nil {
			return err
		}
	}
	return nil
}

// WriteTo writes the image to a stream. progress may be nil.
func WriteTo(ctx context.Context, l *Layout, w io.Writer, progress func(done, total int64)) error {
	buffer := make([]byte, copyBuffer)
	for off := int64(0); off < l.size; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot write the image: %w", err)
		}
		p := buffer[:min(copyBuffer, l.size-off)]
		if _, err := l.ReadAt(p, off); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("cannot write the image: %w", err)
		}
		off += int64(len(p))
		if progress != nil {
			progress(off, l.size)
		}
	}
	return nil
}

// newFile is a file being written that has no name yet, or a temporary one.
type newFile struct {
	*os.File
	temporary string // empty: no name
}

// Around what is between them, a temporary name. It holds nothing of the file's own
// name, which may be as long as names can be.
const (
	temporaryPrefix = ".gpustrap-"
	temporarySuffix = ".part"
)

// createTemporary creates a file with a temporary name beside the path.
func createTemporary(path string, perm fs.FileMode) (*newFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix+"*"+temporarySuffix)
	if err != nil {
		return nil, err
	}
	n := &newFile{File: f, temporary: f.Name()}
	if err := f.Chmod(perm); err != nil {
		n.discard()
		return nil, err
	}
	return n, nil
}

// discard gives the file up.
func (n *newFile) discard() {
	_ = n.Close() // what it held is not wanted
	if n.temporary != "" {
		_ = os.Remove(n.temporary) // may be gone already
	}
}

// rename gives a file with a temporary name its own and brings that to the disk.
func (n *newFile) rename(path string) error {
	if err := n.Close(); err != nil {
		return err
	}
	if err := os.Rename(n.temporary, path); err != nil {
		return err
	}
	n.temporary = ""
	return syncDir(filepath.Dir(path))
}

// syncDir brings a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, syscall.EINVAL) {
		return nil // some network file systems cannot sync a directory
	}
	return err
}
