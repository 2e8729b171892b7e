//go:build !linux

package usb

import (
	"context"
	"io/fs"
	"os"
)

// Handle is a device opened for this process alone. There is none on this
// platform.
type Handle struct{ device Device }

// Open returns ErrPlatform.
func Open(context.Context, System, Device, Request) (*Handle, error) { return nil, ErrPlatform }

// Close does nothing.
func (h *Handle) Close() error { return nil }

// ReadAt returns ErrPlatform.
func (h *Handle) ReadAt([]byte, int64) (int, error) { return 0, ErrPlatform }

// WriteAt returns ErrPlatform.
func (h *Handle) WriteAt([]byte, int64) (int, error) { return 0, ErrPlatform }

// Sync returns ErrPlatform.
func (h *Handle) Sync() error { return ErrPlatform }

func (h *Handle) zero(Range) (bool, error) { return false, ErrPlatform }
func (h *Handle) gone() bool               { return true }
func (h *Handle) reread() error            { return ErrPlatform }

// Number returns ErrPlatform.
func Number(string) (string, error) { return "", ErrPlatform }

// SourceNumbers returns ErrPlatform.
func SourceNumbers(*os.File) ([]string, error) { return nil, ErrPlatform }

// Access returns ErrPlatform.
func Access(string) error { return ErrPlatform }

func nodeNumber(fs.FileInfo) string { return "" }
