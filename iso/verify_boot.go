package iso

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

const (
	// seedDir is where gpustrap puts the NoCloud seed on a medium.
	seedDir = "nocloud"
	// mediumMount is where the installer has the medium.
	mediumMount = "/cdrom/"

	// argNoCloud begins the kernel argument that names a seed. Whether the word
	// autoinstall goes with it is the configuration's choice: without it the
	// installer asks first.
	argNoCloud = "ds=nocloud"
)

// menus checks the boot menus from both views, and what they lead to.
func (v *verifier) menus() error {
	seeds := map[string]bool{}
	for i, name := range bootMenus {
		text, err := readText(v.im.FS(), name)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				v.fault(CheckMenu, name, -1, "the medium has no boot menu")
			}
			continue
		}
		if err != nil {
			if err := v.unreadable(CheckMenu, name, err); err != nil {
				return err
			}
			continue
		}
		entries, err := grubcfg.Entries(text)
		if err != nil {
			v.fault(CheckMenu, name, v.offset(name), "GRUB cannot read it: %v", err)
			continue
		}
		for _, e := range entries {
			v.menuEntry(name, e, seeds)
		}
	}
	_, err := fs.Stat(v.im.FS(), seedDir)
	if err == nil && len(seeds) == 0 {
		v.fault(CheckSeed, seedDir, -1, "no boot entry leads the installer to the seed: none has the kernel argument ds=nocloud;s=%s%s/", mediumMount, seedDir)
	}
	for _, dir := range slices.Sorted(maps.Keys(seeds)) {
		v.seed(dir)
	}
	return nil
}

// menuEntry checks one entry's kernel and arguments and notes the seed that they
// name.
func (v *verifier) menuEntry(name string, e grubcfg.Entry, seeds map[string]bool) {
	if e.Kernel == "" || !e.Installer && !e.Automated {
		return
	}
	where := name + ", " + e.Title
	kernel := strings.TrimPrefix(e.Kernel, "/")
	initrd := path.Join(path.Dir(kernel), strings.NewReplacer("vmlinuz", "initrd", "vmlinux", "initrd").Replace(path.Base(kernel)))
	for _, p := range []string{kernel, initrd} {
		var missing []string
		for _, w := range v.im.views() {
			if info, err := fs.Stat(w.fsys, p); err != nil || info.Size() == 0 {
				missing = append(missing, w.name)
			}
		}
		if len(missing) > 0 {
			v.fault(CheckMenu, where, -1, "line %d: /%s is not there in %s", e.Line, p, strings.Join(missing, " and "))
		}
	}
	for _, a := range e.Args {
		if !strings.HasPrefix(a, argNoCloud) {
			continue
		}
		from, ok := seedOf(a)
		if !ok {
			v.fault(CheckMenu, where, -1, "line %d: the kernel sees %q, which names no place; in a GRUB menu the semicolon must be quoted", e.Line, a)
			continue
		}
		if dir, ok := strings.CutPrefix(from, mediumMount); ok {
			seeds[path.Clean(dir)] = true
		}
	}
}

// seedOf returns the place that a NoCloud data source argument names.
func seedOf(arg string) (from string, ok bool) {
	for field := range strings.SplitSeq(arg, ";") {
		for _, key := range []string{"s=", "seedfrom="} {
			if p, ok := strings.CutPrefix(field, key); ok && p != "" {
				return p, true
			}
		}
	}
	return "", false
}

// seed checks a NoCloud seed from both views: cloud-init takes it only when both
// files are there.
func (v *verifier) seed(dir string) {
	for _, w := range v.im.views() {
		p := path.Join(dir, "user-data")
		text, err := readText(w.fsys, p)
		first, _, _ := bytes.Cut(text, []byte("\n"))
		switch {
		case err != nil:
			v.fault(CheckSeed, p, -1, "cannot be read in %s: %s", w.name, pathReason(err))
		case len(bytes.TrimSpace(text)) == 0:
			v.fault(CheckSeed, p, v.offset(p), "empty in %s", w.name)
		case string(bytes.TrimRight(first, " \r")) != "#cloud-config":
			v.fault(CheckSeed, p, v.offset(p), "its first line is %.40q and not #cloud-config in %s", first, w.name)
		}
		p = path.Join(dir, "meta-data")
		if _, err := readText(w.fsys, p); err != nil {
			v.fault(CheckSeed, p, -1, "cannot be read in %s: %s", w.name, pathReason(err))
		}
	}
}
