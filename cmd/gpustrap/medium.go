package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/download"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/keys"
)

// medium is an installation medium opened from a file.
type medium struct {
	*iso.Image
	file *os.File
	name string
}

func (m *medium) Close() error { return m.file.Close() }

// openMedium opens an image file as an installation medium.
func openMedium(name string) (*medium, error) {
	f, size, err := openImageFile(name)
	if err != nil {
		return nil, err
	}
	image, err := iso.Open(f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return &medium{Image: image, file: f, name: name}, nil
}

// openImageFile opens a file or a device and returns its size in bytes.
func openImageFile(name string) (*os.File, int64, error) {
	info, err := os.Stat(name) // opening a pipe would wait for who writes to it
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open the image %s: %w", name, pathReason(err))
	}
	switch kind := info.Mode().Type(); {
	case kind.IsDir():
		return nil, 0, fmt.Errorf("cannot open the image %s: it is a folder", name)
	case kind != 0 && kind&fs.ModeDevice == 0:
		return nil, 0, fmt.Errorf("cannot open the image %s: it is neither a file nor a device", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open the image %s: %w", name, pathReason(err))
	}
	size, err := f.Seek(0, io.SeekEnd) // a device has no size in its FileInfo
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("cannot open the image %s: %w", name, err), f.Close())
	}
	return f, size, nil
}

var releaseForm = regexp.MustCompile(`^\d\d\.\d\d$`)

// openISO opens what --iso names: a file, or a release that is fetched.
func openISO(ctx context.Context, w *world, arg, arch string) (*medium, error) {
	name := arg
	if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) && releaseForm.MatchString(arg) {
		if name, err = fetchRelease(ctx, w, fetchOptions{release: arg, arch: arch}); err != nil {
			return nil, err
		}
	}
	m, err := openMedium(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = withHint(err, "--iso takes the file of a live-server ISO, or a release such as %s, which is fetched", config.Releases()[1])
	}
	return m, err
}

// fetchOptions say what to fetch and from where.
type fetchOptions struct {
	release string
	arch    string
	mirror  string // base URL; empty: Ubuntu's own
	cache   string // folder; empty: the user's cache folder
	rehash  bool   // hash a medium that is there, though it was verified before
}

// cacheFolder is where fetched media are kept.
func cacheFolder(w *world) (string, error) {
	if dir := w.getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "gpustrap"), nil
	}
	home := w.getenv("HOME")
	if home == "" {
		return "", withHint(errors.New("there is no home folder to keep media in"), "set HOME or XDG_CACHE_HOME, or name a folder: gpustrap fetch --cache DIR")
	}
	return filepath.Join(home, ".cache", "gpustrap"), nil
}

// fetchRelease returns the file of the newest verified medium of a release.
func fetchRelease(ctx context.Context, w *world, o fetchOptions) (string, error) {
	if o.cache == "" {
		var err error
		if o.cache, err = cacheFolder(w); err != nil {
			return "", err
		}
	}
	update, finish := w.progress("fetch " + o.release)
	defer finish()
	return download.Fetch(ctx, download.Options{
		Client: http.DefaultClient, BaseURL: o.mirror, Release: o.release, Arch: o.arch,
		Keyring: keys.UbuntuCDImage(), Now: w.now(), Folder: o.cache, Rehash: o.rehash, Progress: update,
		Notify: func(message string) { w.say("%s", message) },
	})
}
