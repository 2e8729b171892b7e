package iso_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

var update = flag.Bool("update", false, "write the fuzz target's seeds anew")

// TestSeeds makes the seeds of the fuzz target: small media, untouched and
// remastered.
func TestSeeds(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	amd64 := isotest.Medium{Small: true}.Make(t)
	remastered, _ := remaster(t, amd64, iso.Overlay{Files: files(seed()), Menu: menu})
	for name, image := range map[string]string{
		"amd64":      amd64,
		"arm64":      isotest.Medium{Small: true, Layout: isotest.ARM64, NoJoliet: true}.Make(t),
		"remastered": remastered,
	} {
		_, f := open(t, image)
		b, err := isotest.PackSparse(f, size(t, image))
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
		if err := os.WriteFile(filepath.Join("testdata/fuzz/FuzzOpen", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzOpen: whatever opens as a medium can be verified and described, and
// remastered so that the original comes back; or the overlay is refused.
func FuzzOpen(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size := isotest.Sparse(b)
		if _, err := iso.Verify(t.Context(), r, size, iso.VerifyOptions{}); err != nil {
			t.Fatal(err)
		}
		im, err := iso.Open(r, size)
		if checked := iso.Check(r, size); (checked == nil) != (err == nil) {
			t.Fatalf("Open says %v, and the check of what Remaster makes %v", err, checked)
		}
		if err != nil {
			return
		}
		im.Description()
		if _, err := im.Changes(); err != nil {
			t.Fatal(err)
		}
		base := im
		if im.Remastered() {
			l, err := iso.Restore(im)
			if err != nil {
				t.Fatal(err)
			}
			if base, err = iso.Open(l, l.Size()); err != nil {
				return // a record that leads nowhere
			}
		}
		l, err := iso.Remaster(im, iso.Overlay{Files: files(map[string]string{
			"nocloud/user-data": "#cloud-config\n", "casper/vmlinuz": "other",
		})})
		var overlay *iso.OverlayError
		var refused *iso.RefusedError
		if errors.As(err, &overlay) || errors.As(err, &refused) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := iso.Open(l, l.Size())
		if err != nil {
			t.Fatal(err)
		}
		back, err := iso.Restore(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(all(t, back, back.Size()), all(t, base, base.Size())) {
			t.Fatal("the restored image is not the original")
		}
	})
}

func all(t *testing.T, r io.ReaderAt, size int64) []byte {
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), b); err != nil {
		t.Fatal(err)
	}
	return b
}
