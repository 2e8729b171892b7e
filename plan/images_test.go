package plan

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/config"
)

// archiveOf is a tar archive of files: names and texts in turn.
func archiveOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644})
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func machineWith(name, file string) *Machine {
	return &Machine{Machine: config.Machine{Name: name, Apps: []config.App{{Name: "fastbook", ImageFile: file}, {Name: "cuda-dev"}}}}
}

func TestAppImages(t *testing.T) {
	folder := t.TempDir()
	good := archiveOf(t, "layer", strings.Repeat("x", 3000), "manifest.json", `[{"RepoTags":["other:2"]},{"RepoTags":["localhost/fastbook:1"]}]`)
	if err := os.WriteFile(filepath.Join(folder, "fastbook.tar"), good, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := appImages(t.Context(), []*Machine{machineWith("a", "fastbook.tar"), machineWith("b", "fastbook.tar"), machineWith("c", "")}, folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Name != "images/fastbook.tar" || got[0].Size != int64(len(good)) || got[0].SHA256 != fmt.Sprintf("%x", sha256.Sum256(good)) {
		t.Errorf("the images are %+v", got)
	}
	if _, err := appImages(t.Context(), []*Machine{machineWith("a", "fastbook.tar"), machineWith("b", "other.tar")}, folder); err == nil ||
		!strings.Contains(err.Error(), "one medium has one image of fastbook, and the machines have two: fastbook.tar and other.tar") {
		t.Errorf("error %v", err)
	}
}

func TestAppImagesRefused(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(archiveOf(t, "manifest.json", `[{"RepoTags":["localhost/fastbook:1"]}]`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"another image": {archiveOf(t, "manifest.json", `[{"RepoTags":["localhost/fastbook:2"]}]`), "it holds localhost/fastbook:2, and the app runs localhost/fastbook:1"},
		"no names":      {archiveOf(t, "manifest.json", `[{"RepoTags":null}]`), "its images have no names"},
		"no manifest":   {archiveOf(t, "layer", "x"), "it has no manifest.json"},
		"a bad one":     {archiveOf(t, "manifest.json", "{"), "its manifest.json cannot be read"},
		"compressed":    {zipped.Bytes(), "it is no tar archive, or a compressed or damaged one"},
		"cut":           {archiveOf(t, "layer", strings.Repeat("x", 3000))[:2000], "it is no tar archive, or a compressed or damaged one"},
		"cut later":     {archiveOf(t, "manifest.json", `[{"RepoTags":["localhost/fastbook:1"]}]`, "layer", strings.Repeat("x", 3000))[:2000], "or damaged one"},
		"missing":       {nil, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if tt.content != nil {
				if err := os.WriteFile(filepath.Join(folder, "fastbook.tar"), tt.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := appImages(t.Context(), []*Machine{machineWith("a", "fastbook.tar")}, folder)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "cannot take the image of fastbook from "+folder) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckImages(t *testing.T) {
	for _, tt := range []struct {
		offline config.Offline
		file    string
		want    string
	}{
		{config.OfflineOff, "", ""},
		{config.OfflineOff, "f.tar", "image_file is for machines that install offline"},
		{config.OfflineOnly, "f.tar", "the image of cuda-dev needs the network"},
		{config.OfflineFallback, "", ""},
	} {
		m := machineWith("a", tt.file)
		m.Offline = tt.offline
		rep := checkImages(m)
		if tt.want == "" && len(rep.Diagnostics) > 0 || tt.want != "" && (len(rep.Diagnostics) != 1 || !strings.HasPrefix(rep.Diagnostics[0].Summary, tt.want)) {
			t.Errorf("%s, %q: %+v, want %q", tt.offline, tt.file, rep.Diagnostics, tt.want)
		}
	}
}
