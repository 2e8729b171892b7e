// Package boot says what a machine loads when it boots from the network: kernel and
// initrd straight out of an installation medium, the boot loaders before them, and
// the scripts that tell the loaders what to do.
package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

// Medium is an installation medium as a source of boot files.
type Medium struct {
	// ID names the medium in addresses. Media of other content have other IDs: it is
	// made of the medium's length and its first sectors, which hold its partition
	// table, name and date.
	ID string
	// Description is the medium's own.
	Description iso.Description
	// Kernels are those that its boot menu starts the installer with, in its order:
	// the release's own kernel first.
	Kernels []Kernel
}

// Kernel is a kernel of a medium and its initrd.
type Kernel struct {
	Name, InitrdName string // their files' names on the medium, such as vmlinuz and initrd
	Kernel, Initrd   *Extents
	// Before and After are the arguments that the menu gives the kernel, in front of
	// "---" and behind it. Those behind it reach the installed system, too.
	Before, After []string
}

// ownArguments returns the arguments of a menu entry that mean something without the
// menu: not those that it takes from its variables.
func ownArguments(args []string) (before, after []string) {
	to := &before
	for _, a := range args {
		switch {
		case a == argumentsEnd:
			to = &after
		case !strings.Contains(a, "$"):
			*to = append(*to, a)
		}
	}
	return before, after
}

// argumentsEnd separates the arguments of the live system from those of both systems.
const argumentsEnd = "---"

// headSize is how much of a medium its ID is made of, in bytes: the System Area and
// the volume descriptors.
const headSize = 64 << 10

// ReadMedium finds the boot files of a medium, as its own boot menu names them.
func ReadMedium(image *iso.Image) (*Medium, error) {
	m := &Medium{Description: image.Description()}
	h := sha256.New()
	_, _ = h.Write(strconv.AppendInt(nil, image.Size(), 10)) // a hash takes everything
	head := io.NewSectionReader(image, 0, min(headSize, image.Size()))
	if _, err := io.Copy(h, head); err != nil {
		return nil, fmt.Errorf("cannot read the medium: %w", err)
	}
	m.ID = hex.EncodeToString(h.Sum(nil)[:8])
	const menu = "boot/grub/grub.cfg"
	text, err := fs.ReadFile(image.FS(), menu)
	if err != nil {
		return nil, fmt.Errorf("cannot read the medium's boot menu: %w", err)
	}
	entries, err := grubcfg.Entries(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the medium's boot menu %s: %w", menu, err)
	}
	files := image.Files()
	for _, e := range entries {
		name := path.Base(e.Kernel)
		known := slices.ContainsFunc(m.Kernels, func(k Kernel) bool { return k.Name == name })
		if !e.Installer || e.Automated || known || len(e.Initrds) != 1 {
			continue
		}
		k := Kernel{Name: name, InitrdName: path.Base(e.Initrds[0])}
		k.Before, k.After = ownArguments(e.Args)
		if k.Kernel, err = extents(image, files, e.Kernel); err != nil {
			return nil, err
		}
		if k.Initrd, err = extents(image, files, e.Initrds[0]); err != nil {
			return nil, err
		}
		m.Kernels = append(m.Kernels, k)
	}
	if len(m.Kernels) == 0 {
		return nil, errors.New("no entry of the medium's boot menu starts Ubuntu's installer")
	}
	return m, nil
}

// Kernel returns the kernel to start with: the hardware enablement one if it is asked
// for and there.
func (m *Medium) Kernel(hwe bool) Kernel {
	if hwe {
		for _, k := range m.Kernels {
			if strings.HasPrefix(k.Name, "hwe-") {
				return k
			}
		}
	}
	return m.Kernels[0]
}

// File returns a kernel or an initrd by its name on the medium.
func (m *Medium) File(name string) (*Extents, bool) {
	for _, k := range m.Kernels {
		switch name {
		case k.Name:
			return k.Kernel, true
		case k.InitrdName:
			return k.Initrd, true
		}
	}
	return nil, false
}

// Extents are the bytes of a file on a medium: ranges of the medium, one behind the
// other.
type Extents struct {
	medium io.ReaderAt
	ranges []iso.Range
	size   int64
}

// NewExtents returns the bytes that lie in the ranges of a medium.
func NewExtents(medium io.ReaderAt, ranges ...iso.Range) *Extents {
	e := &Extents{medium: medium, ranges: ranges}
	for _, r := range ranges {
		e.size += r.Length
	}
	return e
}

func extents(image *iso.Image, files []iso.FileInfo, name string) (*Extents, error) {
	name = strings.TrimPrefix(name, "/")
	for _, f := range files {
		if f.Path == name {
			return NewExtents(image, f.Ranges...), nil
		}
	}
	return nil, fmt.Errorf("the medium's boot menu starts the installer with %s, which is not on the medium", name)
}

// Size returns the number of bytes.
func (e *Extents) Size() int64 { return e.size }

// Base returns where on the medium the byte at an offset lies, and how many from
// there on lie there together.
func (e *Extents) Base(offset int64) (at, length int64, ok bool) {
	for _, r := range e.ranges {
		if offset < r.Length {
			return r.Offset + offset, r.Length - offset, true
		}
		offset -= r.Length
	}
	return 0, 0, false
}

// ReadAt reads the file.
func (e *Extents) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at, length, ok := e.Base(off + int64(n))
		if !ok {
			return n, io.EOF
		}
		part := p[n:min(int64(len(p)), int64(n)+length)]
		got, err := e.medium.ReadAt(part, at)
		n += got
		if got < len(part) {
			return n, err
		}
	}
	return n, nil
}
