package plan

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// appImages returns the archives of the machines' apps' images, one an app, each
// checked to hold the image that the app runs.
func appImages(ctx context.Context, machines []*Machine, folder string) ([]apt.Attachment, error) {
	var out []apt.Attachment
	files := map[string]string{} // of an app: its archive, as the configuration has it
	for _, m := range machines {
		for _, a := range m.Apps {
			if a.ImageFile == "" {
				continue
			}
			if other, known := files[a.Name]; known && other != a.ImageFile {
				return nil, fmt.Errorf("one medium has one image of %s, and the machines have two: %s and %s", a.Name, other, a.ImageFile)
			} else if known {
				continue
			}
			files[a.Name] = a.ImageFile
			name := a.ImageFile
			if !filepath.IsAbs(name) {
				name = filepath.Join(folder, name)
			}
			image, err := readImage(ctx, a.Name, name)
			if err != nil {
				return nil, fmt.Errorf("cannot take the image of %s from %s: %w", a.Name, name, err)
			}
			out = append(out, image)
		}
	}
	return out, nil
}

// readImage checks an archive and adds up its SHA-256.
func readImage(ctx context.Context, app, name string) (out apt.Attachment, err error) {
	known, err := apps.Read(app)
	if err != nil {
		return out, err
	}
	f, err := os.Open(name)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the caller names the file
		}
		return out, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	references, err := savedImages(f)
	if err != nil {
		return out, err
	}
	if !slices.Contains(references, familiar(known.Image)) {
		return out, fmt.Errorf("it holds %s, and the app runs %s", strings.Join(references, ", "), known.Image)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return out, err
	}
	sum := sha256.New()
	size, err := io.Copy(sum, &cancelable{ctx, f})
	return apt.Attachment{Name: "images/" + app + ".tar", File: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

// familiar is a reference as docker save writes it: without the registry's name
// where that is Docker Hub.
func familiar(reference string) string {
	return strings.TrimPrefix(strings.TrimPrefix(reference, "docker.io/"), "library/")
}

// maxManifest bounds the list of an archive's images, in bytes.
const maxManifest = 1 << 20

// savedImages returns the references of the images in an archive of docker save
// (github.com/moby/docker-image-spec, "Combined Image JSON + Filesystem Changeset
// Format": manifest.json).
func savedImages(f io.ReadSeeker) ([]string, error) {
	archive := tar.NewReader(f)
	var out []string
	found := false
	for { // to the end, which an archive that was cut does not have
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && !found:
			return nil, errors.New("it has no manifest.json: it is not what docker save writes")
		case errors.Is(err, io.EOF) && len(out) == 0:
			return nil, errors.New("its images have no names: docker save takes the name, not the id")
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, errors.New("it is no tar archive, or a compressed or damaged one: take what docker save writes")
		case header.Name != "manifest.json":
			continue
		}
		var images []struct{ RepoTags []string }
		if err := json.NewDecoder(io.LimitReader(archive, maxManifest)).Decode(&images); err != nil {
			return nil, fmt.Errorf("its manifest.json cannot be read: %w", err)
		}
		found = true
		for _, i := range images {
			out = append(out, i.RepoTags...)
		}
	}
}

// cancelable is a reader that ends with a context.
type cancelable struct {
	ctx context.Context
	io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// checkImages warns of apps whose image a machine without a network could not
// get, and of images that nobody would carry.
func checkImages(m *Machine) report.Report {
	var rep report.Report
	for i, a := range m.Apps {
		d := report.Diagnostic{Severity: report.Warning, Path: fmt.Sprintf("apps[%d]", i)}
		switch {
		case m.Offline == config.OfflineOnly && a.ImageFile == "":
			d.Summary = fmt.Sprintf("the image of %s needs the network, and %s installs without one", a.Name, m.Name)
			d.Detail = "docker save it on another machine and name the archive: image_file; or ignore this, and the machine tries to get it after each boot"
		case m.Offline == config.OfflineOff && a.ImageFile != "":
			d.Path += ".image_file"
			d.Summary = fmt.Sprintf("image_file is for machines that install offline, and %s does not", m.Name)
			d.Detail = "write offline: only or fallback; \"remaster --offline\" takes it along too"
		default:
			continue
		}
		d.Pos = m.Origin(d.Path)
		rep.Add(d)
	}
	return rep
}
