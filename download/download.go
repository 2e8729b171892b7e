// Package download fetches installation media: over HTTP, with resume and a
// cache, and never without a check.
//
// Get brings one file whose SHA-256 is known. Fetch finds the newest medium of an
// Ubuntu release first, through the signed list SHA256SUMS. A file has its name
// only once its size and its SHA-256 are right; until then it is NAME.part, which a
// later run continues. Beside a file lie NAME.verified (what was checked, so that
// the next run need not hash again) and, hidden, the lock of running downloads.
package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// What can go wrong. Errors of this package that are not the file system's or
// the context's wrap one of them.
var (
	ErrUnreachable = errors.New("the server cannot be reached")
	ErrInterrupted = errors.New("the connection was cut")
	ErrStatus      = errors.New("the server refused")
	ErrPage        = errors.New("a web page in the place of the file")
	ErrSize        = errors.New("wrong size")
	ErrHash        = errors.New("wrong SHA-256")
	ErrSignature   = errors.New("the list of media is not signed as it must be")
	ErrList        = errors.New("not a list of SHA-256 sums")
	ErrNoRelease   = errors.New("no such medium")
)

// Error is a failed download: what failed, where, and what to do.
type Error struct {
	Kind   error // one of the errors above
	URL    string
	Detail string
	Advice string // what to do; may be empty
	Status int    // HTTP status, of ErrStatus; 0 when it is none of the server's
	Err    error  // cause; may be nil
}

// Error returns the kind, the address, and the detail.
func (e *Error) Error() string {
	s := fmt.Sprintf("cannot download %s: %v", e.URL, e.Kind)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Hint returns what to do about the error.
func (e *Error) Hint() string { return e.Advice }

const (
	// DefaultStall is how long a connection may bring nothing.
	DefaultStall = time.Minute
	// maxFile is the largest file that is taken when its size is not known, in
	// bytes. The largest Ubuntu medium has 7 GB.
	maxFile = 64 << 30
)

// DefaultBackoff returns the waits before further tries after a cut connection or
// a passing error of the server.
func DefaultBackoff() []time.Duration {
	return []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}
}

// Request is a file to have.
type Request struct {
	Client *http.Client // proxies, certificates and redirects are its matter; nil: http.DefaultClient
	URL    string
	SHA256 string      // 64 hexadecimal digits, lower case
	Size   int64       // bytes; 0: not known
	Path   string      // where the file is to lie; its folder must exist
	Perm   fs.FileMode // of the file; 0: 0644

	// Rehash says that a file that lies there already is hashed again, though its
	// size and date are those that were recorded when it was verified.
	Rehash bool

	Backoff []time.Duration // waits before further tries; none: one try
	Stall   time.Duration   // how long a connection may bring nothing; 0: for ever

	Progress func(done, total int64) // bytes; total is 0 while it is not known; may be nil
	Notify   func(message string)    // what is waited for, in a line for a person; may be nil
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Get makes sure that the file lies at Request.Path: verified, whole, with its
// permissions. What is there already and is right stays; a wrong file is replaced.
// Another process that works on the same path is waited for.
//
// Nothing wrong is left under the file's name, whatever happens. NAME.part stays
// when a later run can continue it: after a cut connection or a cancelled
// context, not after a wrong SHA-256. The errors are an *Error, the context's, or
// the file system's.
func Get(ctx context.Context, r Request) error {
	if !sha256Form.MatchString(r.SHA256) {
		return fmt.Errorf("cannot download %s: %q is no SHA-256 sum", r.URL, r.SHA256)
	}
	if r.Perm == 0 {
		r.Perm = 0o644
	}
	if r.Client == nil {
		r.Client = http.DefaultClient
	}
	unlock, err := lock(ctx, r)
	if err != nil {
		return err
	}
	err = getLocked(ctx, r)
	return errors.Join(err, unlock())
}

func getLocked(ctx context.Context, r Request) error {
	if ok, err := r.isVerified(ctx); ok || err != nil {
		return err
	}
	if err := r.removeAll(r.Path, r.recordPath()); err != nil {
		return err
	}
	t, err := openTransfer(r)
	if err != nil {
		return fmt.Errorf("cannot download %s: %w", r.URL, err)
	}
	err = t.run(ctx)
	if err != nil {
		return errors.Join(err, t.abandon(err))
	}
	return t.finish()
}

// removeAll removes files that may be there.
func (r *Request) removeAll(paths ...string) error {
	var all error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("cannot clear the place for %s: %w", r.URL, err))
		}
	}
	return all
}

func (r *Request) partPath() string   { return r.Path + ".part" }
func (r *Request) statePath() string  { return r.Path + ".part.json" }
func (r *Request) recordPath() string { return r.Path + ".verified" }
func (r *Request) lockPath() string {
	return filepath.Join(filepath.Dir(r.Path), "."+filepath.Base(r.Path)+".lock")
}

func (r *Request) progress(done, total int64) {
	if r.Progress != nil {
		r.Progress(done, total)
	}
}

func (r *Request) notify(format string, args ...any) {
	if r.Notify != nil {
		r.Notify(fmt.Sprintf(format, args...))
	}
}

// Wait waits, or returns the context's error when that ends first.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
