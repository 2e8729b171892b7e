package apt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/gpustrap/gpustrap/download"
)

// StatusError is an answer of a server other than 200.
type StatusError struct {
	URL  string
	Code int
}

// Error names the address and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("cannot download %s: HTTP status %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// document fetches a file of which no SHA-256 is known yet, at most max bytes, and
// tries again what may be gone the next time.
func (f *fetcher) document(ctx context.Context, url string, limit int64) ([]byte, error) {
	for n := 0; ; n++ {
		text, err := f.tryDocument(ctx, url, limit)
		var status *StatusError
		switch {
		case err == nil:
			return text, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("cannot download %s: %w", url, ctx.Err())
		case errors.Is(err, download.ErrSize), errors.As(err, &status) && status.Code < 500 && status.Code != http.StatusTooManyRequests:
			return nil, err
		case n >= len(f.Backoff):
			return nil, err
		}
		if f.Notify != nil {
			f.Notify(fmt.Sprintf("%v: trying again in %v (%d of %d)", err, f.Backoff[n], n+1, len(f.Backoff)))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot download %s: %w", url, ctx.Err())
		case <-time.After(f.Backoff[n]):
		}
	}
}

func (f *fetcher) tryDocument(ctx context.Context, url string, limit int64) (text []byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(f.Stall, func() { cancel(fmt.Errorf("nothing came for %v", f.Stall)) })
	defer stall.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &download.Error{Kind: download.ErrUnreachable, URL: url, Err: err}
	}
	request.Header.Set("Cache-Control", "no-cache") // proxies like to keep Release files
	response, err := f.Client.Do(request)
	if err != nil {
		return nil, &download.Error{
			Kind: download.ErrUnreachable, URL: url, Err: causeOf(ctx, err),
			Advice: "check the network and, if there is one, the proxy (https_proxy)",
		}
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{url, response.StatusCode}
	}
	var b bytes.Buffer
	buffer := make([]byte, 64<<10)
	for {
		n, err := response.Body.Read(buffer)
		stall.Reset(f.Stall)
		b.Write(buffer[:n])
		switch {
		case int64(b.Len()) > limit:
			return nil, &download.Error{Kind: download.ErrSize, URL: url, Detail: fmt.Sprintf("it has more than %d bytes", limit)}
		case errors.Is(err, io.EOF):
			return b.Bytes(), nil
		case err != nil:
			return nil, &download.Error{
				Kind: download.ErrInterrupted, URL: url, Detail: fmt.Sprintf("after %d bytes", b.Len()), Err: causeOf(ctx, err),
				Advice: "run the same command again",
			}
		}
	}
}

// causeOf prefers why a request was ended to that it was.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// index returns the text of a package index, fetched or from the cache.
func (f *fetcher) index(ctx context.Context, j *job, name string) (string, error) {
	path, file, ok := j.suite.Release.index(name)
	if !ok {
		return "", &Error{Kind: ErrIndex, Summary: fmt.Sprintf("%s has no package index", j.suite)}
	}
	plain, hasPlain := j.suite.Release.Files[name]
	cached, err := f.indexFile(ctx, j, path, file)
	if err != nil {
		return "", outOfStep(err, j.suite)
	}
	limit := int64(maxIndex)
	if hasPlain {
		limit = plain.Size
	}
	text, err := readIndex(cached, filepath.Ext(path), limit)
	if err != nil || hasPlain && int64(len(text)) != plain.Size {
		return "", &Error{Kind: ErrIndex, Summary: fmt.Sprintf("the package index of %s is damaged", j.suite), Err: err}
	}
	return text, nil
}

// outOfStep explains a file that is not what the Release file says.
func outOfStep(err error, s *Suite) error {
	if !errors.Is(err, download.ErrHash) && !errors.Is(err, download.ErrSize) && !isMissing(err) {
		return err
	}
	return &Error{
		Kind: ErrIndex, Summary: fmt.Sprintf("the indexes of %s are not those that its Release file names", s), Err: err,
		Advice: "the mirror is in the middle of an update, or damaged: try again in some minutes, or another mirror",
	}
}

// indexFile returns the path of an index in the cache, where it is brought first
// when it is missing.
func (f *fetcher) indexFile(ctx context.Context, j *job, path string, file IndexFile) (string, error) {
	folder, url := filepath.Join(f.Cache, "indexes"), j.base+"/"+path
	if file.SHA256 == "" {
		return f.bySHA512(ctx, url, file, filepath.Join(folder, file.SHA512))
	}
	name := filepath.Join(folder, file.SHA256)
	defer f.turn(name)()
	urls := []string{url}
	if j.suite.Release.ByHash {
		urls = []string{url[:strings.LastIndexByte(url, '/')+1] + "by-hash/SHA256/" + file.SHA256, url}
	}
	var err error
	for _, u := range urls {
		err = download.Get(ctx, download.Request{
			Client: f.Client, URL: u, SHA256: file.SHA256, Size: file.Size, Path: name,
			Backoff: f.Backoff, Stall: f.Stall, Progress: f.total.of(name, file.Size), Notify: f.Notify,
		})
		if !errors.Is(err, download.ErrStatus) {
			break
		}
	}
	return name, err
}

// bySHA512 brings a file for which SHA-512 alone vouches.
func (f *fetcher) bySHA512(ctx context.Context, url string, file IndexFile, name string) (string, error) {
	if text, err := os.ReadFile(name); err == nil && sum512(text) == file.SHA512 {
		return name, nil
	}
	text, err := f.document(ctx, url, file.Size)
	if err != nil {
		return "", err
	}
	if got := sum512(text); got != file.SHA512 {
		return "", &download.Error{Kind: download.ErrHash, URL: url, Detail: fmt.Sprintf("SHA-512 %s, expected %s", got, file.SHA512)}
	}
	if err := maybe.WriteFile(name, text, 0o644); err != nil {
		return "", fmt.Errorf("cannot keep %s: %w", url, err)
	}
	return name, nil
}

func sum512(b []byte) string {
	s := sha512.Sum512(b)
	return hex.EncodeToString(s[:])
}

func sum256(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// readIndex unpacks an index, of at most limit bytes.
func readIndex(name, form string, limit int64) (text string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err := unpack(file, form)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if limit < maxIndex {
		b.Grow(int(limit) + 1)
	}
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("it unpacks to more than %d bytes", limit)
	}
	return b.String(), err
}

// unpack returns what reads a compressed file, by the end of its name.
func unpack(r io.Reader, form string) (io.Reader, error) {
	switch form {
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return xz.NewReader(r)
	case ".zst":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return r, nil
}
