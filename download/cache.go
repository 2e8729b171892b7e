package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2/maybe"
)

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 200 * time.Millisecond

// lock takes the lock of a path, and returns what gives it back. The empty file
// stays, as removing it would let two processes hold one each.
func lock(ctx context.Context, r Request) (unlock func() error, err error) {
	f, err := os.OpenFile(r.lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", r.Path, err)
	}
	for waited := false; ; waited = true {
		var locked bool
		if locked, err = tryLock(f); locked || err != nil {
			break
		}
		if !waited {
			r.notify("waiting for another gpustrap that downloads %s", r.Path)
		}
		if err = Wait(ctx, lockPoll); err != nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", r.Path, err), f.Close())
	}
	return f.Close, nil
}

// record is what NAME.verified holds: the file as it was when its SHA-256 was
// checked.
type record struct {
	SHA256   string    `json:"sha256"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// isVerified reports whether the file is there and is the wanted one: by the
// record when its size and date still are what was recorded, else by its SHA-256.
func (r *Request) isVerified(ctx context.Context) (bool, error) {
	info, err := os.Lstat(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", r.Path)
	}
	if err != nil {
		return false, fmt.Errorf("cannot use the downloaded file: %w", err)
	}
	if r.Size > 0 && info.Size() != r.Size {
		return false, nil
	}
	if !r.Rehash && r.isRecorded(info) {
		return true, r.chmod(info)
	}
	r.notify("checking %s", r.Path)
	sum, err := r.hashFile(ctx, info.Size())
	if err != nil || sum != r.SHA256 {
		return false, err
	}
	if err := r.writeRecord(info); err != nil {
		return false, err
	}
	return true, r.chmod(info)
}

func (r *Request) chmod(info fs.FileInfo) error {
	if info.Mode().Perm() == r.Perm {
		return nil
	}
	return os.Chmod(r.Path, r.Perm)
}

func (r *Request) isRecorded(info fs.FileInfo) bool {
	text, err := os.ReadFile(r.recordPath())
	if err != nil {
		return false
	}
	var got record
	return json.Unmarshal(text, &got) == nil && got.SHA256 == r.SHA256 &&
		got.Size == info.Size() && got.Modified.Equal(info.ModTime())
}

func (r *Request) writeRecord(info fs.FileInfo) error {
	text, err := json.Marshal(record{r.SHA256, info.Size(), info.ModTime()})
	if err != nil {
		return err
	}
	if err := maybe.WriteFile(r.recordPath(), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot record that %s was verified: %w", r.Path, err)
	}
	return nil
}

func (r *Request) hashFile(ctx context.Context, size int64) (string, error) {
	f, err := os.Open(r.Path)
	if err != nil {
		return "", fmt.Errorf("cannot check the downloaded file: %w", err)
	}
	h := sha256.New()
	_, err = io.Copy(h, &meter{ctx: ctx, r: f, report: func(n int64) { r.progress(n, size) }})
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("cannot check the downloaded file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// meter reports how much was read, and ends with the context.
type meter struct {
	ctx    context.Context
	r      io.Reader
	n      int64
	report func(n int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.report(m.n)
	return n, err
}
