package iso

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/gpustrap/gpustrap/iso/eltorito"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/iso9660"
)

// FormatError says that an image is broken at a byte of it.
type FormatError = iso9660.FormatError

// RefusedError says that an image is not one that can be worked on, although it
// may well be sound.
type RefusedError struct {
	Reason string // a sentence without a full stop
	Hint   string // what to do instead; may be empty
}

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// OverlayError says what in an Overlay cannot be put on the medium.
type OverlayError struct {
	Path   string // on the medium
	Reason string
}

// Error names the path and the reason.
func (e *OverlayError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Reason) }

// imageError brings the errors of the packages below into this package's types.
// at is where in the image the boot catalogue lies, in bytes.
func imageError(err error, at iso9660.Offset) error {
	var table *gpt.FormatError
	var catalogue *eltorito.FormatError
	switch {
	case errors.As(err, &table):
		return &FormatError{Offset: iso9660.Offset(table.Offset), Message: table.Message}
	case errors.As(err, &catalogue):
		return &FormatError{Offset: at + iso9660.Offset(catalogue.Offset), Message: "boot catalogue: " + catalogue.Message}
	}
	return err
}

// pathReason returns an error's text without the operation and path that file
// systems put before it.
func pathReason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
