package download

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
)

// enough is how many bytes a try must bring to let the count of tries begin
// again: a download that goes on is not given up.
const enough = 1 << 20

const outOfStep = "the mirror may be damaged or out of step: try another one, or later"

// state is what NAME.part.json holds: of which file of which server the part is.
type state struct {
	URL          string `json:"url"`
	SHA256       string `json:"sha256"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// transfer is a download under way.
type transfer struct {
	Request
	state   state
	part    *os.File
	hash    hash.Hash
	done    int64 // bytes in part and in hash
	total   int64 // bytes; 0: not known
	resumed bool  // part has bytes of an earlier run
}

// openTransfer opens the part: an earlier one, when it is of the same file, or an
// empty one.
func openTransfer(r Request) (*transfer, error) {
	t := &transfer{Request: r, hash: sha256.New(), total: r.Size, state: state{URL: r.URL, SHA256: r.SHA256}}
	if text, err := os.ReadFile(r.statePath()); err == nil {
		var s state
		if json.Unmarshal(text, &s) == nil && s.URL == r.URL && s.SHA256 == r.SHA256 {
			t.state, t.resumed = s, true
		}
	}
	var err error
	t.part, err = os.OpenFile(r.partPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if !t.resumed {
		err = t.restart()
	}
	if err != nil {
		return nil, errors.Join(err, t.part.Close())
	}
	return t, nil
}

// restart empties the part.
func (t *transfer) restart() error {
	t.hash.Reset()
	t.done, t.resumed = 0, false
	t.state = state{URL: t.URL, SHA256: t.SHA256}
	if err := t.part.Truncate(0); err != nil {
		return err
	}
	_, err := t.part.Seek(0, io.SeekStart)
	return err
}

// run fills the part and checks it.
func (t *transfer) run(ctx context.Context) error {
	if t.resumed {
		n, err := io.Copy(t.hash, &meter{ctx: ctx, r: t.part, report: func(n int64) { t.progress(n, t.total) }})
		if err != nil {
			return fmt.Errorf("cannot continue %s: %w", t.partPath(), err)
		}
		if t.done = n; n > 0 {
			t.notify("%s: continuing at %d bytes", path.Base(t.URL), n)
		}
	}
	if err := t.tries(ctx); err != nil {
		return err
	}
	err := t.check()
	if errors.Is(err, ErrHash) && t.resumed {
		// The earlier part may be what is wrong: once more from the start.
		t.notify("%s: the part from an earlier run is wrong, starting again", path.Base(t.URL))
		if err = t.restart(); err == nil {
			err = t.tries(ctx)
		}
		if err == nil {
			err = t.check()
		}
	}
	return err
}

// tries fetches what is missing, again and again while that may help.
func (t *transfer) tries(ctx context.Context) error {
	for n := 0; ; n++ {
		before := t.done
		passing, err := t.try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("cannot download %s: %w", t.URL, ctx.Err())
		case !passing:
			return err
		}
		if t.done-before >= enough {
			n = 0
		}
		if n >= len(t.Backoff) {
			return err
		}
		t.notify("%v: trying again in %v (%d of %d)", err, t.Backoff[n], n+1, len(t.Backoff))
		if err := Wait(ctx, t.Backoff[n]); err != nil {
			return fmt.Errorf("cannot download %s: %w", t.URL, err)
		}
	}
}

// try fetches what is missing with one request, or with two where the server's
// answer to the first says that the part must be begun again. passing says that an
// error may be gone the next time.
func (t *transfer) try(ctx context.Context) (passing bool, err error) {
	again, passing, err := t.request(ctx)
	if again {
		_, passing, err = t.request(ctx)
	}
	return passing, err
}

// request makes one request and reads its answer. again says that the part was
// emptied and another request is worth it at once.
func (t *transfer) request(ctx context.Context) (again, passing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := stallWatch(t.Stall, cancel)
	defer watch.stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return false, false, &Error{Kind: ErrUnreachable, URL: t.URL, Err: err}
	}
	// A compressed answer would have another length and no ranges.
	request.Header.Set("Accept-Encoding", "identity")
	if t.done > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
		if v := t.state.validator(); v != "" {
			request.Header.Set("If-Range", v)
		}
	}
	response, err := t.Client.Do(request)
	if err != nil {
		passing, err = unreachable(ctx, t.URL, err)
		return false, passing, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if again, err = t.begin(response); err != nil {
		return again, isPassing(response.StatusCode), err
	}
	passing, err = t.read(ctx, response, watch)
	return false, passing, err
}

// begin takes the head of an answer: where its bytes belong, and how many there
// will be. again says that the part was emptied because the answer did not fit it.
func (t *transfer) begin(response *http.Response) (again bool, err error) {
	switch response.StatusCode {
	case http.StatusOK:
		if isPage(response.Header) {
			return false, pageError(t.URL)
		}
		if t.done > 0 { // no ranges here, or the file changed
			if err := t.restart(); err != nil {
				return false, err
			}
		}
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(response.Header.Get("Content-Range"))
		if !ok || start != t.done {
			detail := fmt.Sprintf("it sent the range %q for byte %d on", response.Header.Get("Content-Range"), t.done)
			return t.beginAgain(detail)
		}
		return false, t.setTotal(total)
	case http.StatusRequestedRangeNotSatisfiable:
		// All bytes are here already, or there are fewer than we have.
		if _, total, _ := parseContentRange(response.Header.Get("Content-Range")); total == t.done && t.done > 0 {
			t.total = t.done
			return false, nil
		}
		return t.beginAgain("it has no bytes behind the part that is here")
	default:
		return false, statusError(t.URL, response)
	}
	return false, t.setTotal(response.ContentLength)
}

// beginAgain empties the part after an answer that does not fit it. It asks for
// another request once only: an empty part fits every answer.
func (t *transfer) beginAgain(detail string) (again bool, err error) {
	again = t.done > 0
	return again, errors.Join(&Error{Kind: ErrStatus, URL: t.URL, Detail: detail}, t.restart())
}

// setTotal takes the whole length that the server told, -1 for none.
func (t *transfer) setTotal(total int64) error {
	e := &Error{Kind: ErrSize, URL: t.URL, Advice: outOfStep}
	switch {
	case total < 0:
		return nil
	case t.Size > 0 && total != t.Size:
		e.Detail = fmt.Sprintf("the server has %d bytes, expected %d", total, t.Size)
		return e
	case total > maxFile:
		e.Detail = fmt.Sprintf("the server has %d bytes, and at most %d are taken", total, int64(maxFile))
		return e
	}
	t.total = total
	return nil
}

// read takes the body of an answer.
func (t *transfer) read(ctx context.Context, response *http.Response, watch *watch) (passing bool, err error) {
	if response.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return false, nil
	}
	t.state.ETag, t.state.LastModified = response.Header.Get("ETag"), response.Header.Get("Last-Modified")
	if err := t.saveState(); err != nil {
		return false, err
	}
	limit := t.total
	if limit == 0 {
		limit = maxFile
	}
	buffer := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return true, t.cut(context.Cause(ctx))
		}
		n, err := response.Body.Read(buffer)
		watch.reset()
		if t.done+int64(n) > limit {
			return false, &Error{
				Kind: ErrSize, URL: t.URL, Detail: fmt.Sprintf("the server sends more than %d bytes", limit),
				Advice: outOfStep,
			}
		}
		if _, err := t.part.Write(buffer[:n]); err != nil {
			return false, writeError(t.partPath(), err)
		}
		t.hash.Write(buffer[:n])
		t.done += int64(n)
		t.progress(t.done, t.total)
		switch {
		case errors.Is(err, io.EOF):
			if t.total > 0 && t.done < t.total {
				return true, t.cut(nil)
			}
			return false, nil
		case err != nil:
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return true, t.cut(err)
		}
	}
}

func (t *transfer) cut(err error) error {
	return &Error{
		Kind: ErrInterrupted, URL: t.URL, Detail: fmt.Sprintf("after %d of %d bytes", t.done, t.total), Err: err,
		Advice: "run the same command again: it continues where this one stopped",
	}
}

// check holds the whole part against what was asked for.
func (t *transfer) check() error {
	if t.Size > 0 && t.done != t.Size {
		return &Error{Kind: ErrSize, URL: t.URL, Detail: fmt.Sprintf("%d bytes, expected %d", t.done, t.Size), Advice: outOfStep}
	}
	if got := hex.EncodeToString(t.hash.Sum(nil)); got != t.SHA256 {
		return &Error{
			Kind: ErrHash, URL: t.URL, Detail: fmt.Sprintf("%s, expected %s", got, t.SHA256),
			Advice: "nothing was kept; " + outOfStep,
		}
	}
	return nil
}

// abandon closes a part that did not become a file. What a later run can
// continue stays.
func (t *transfer) abandon(cause error) error {
	err := t.part.Close()
	if errors.Is(cause, ErrHash) || errors.Is(cause, ErrSize) || t.done == 0 {
		return errors.Join(err, t.removeAll(t.partPath(), t.statePath()))
	}
	return err
}

// finish gives the verified part its name.
func (t *transfer) finish() error {
	err := errors.Join(t.part.Chmod(t.Perm), t.part.Sync(), t.part.Close())
	if err == nil {
		err = os.Rename(t.partPath(), t.Path)
	}
	if err != nil {
		return fmt.Errorf("cannot store %s: %w", t.Path, err)
	}
	info, err := os.Stat(t.Path)
	if err != nil {
		return fmt.Errorf("cannot store %s: %w", t.Path, err)
	}
	return errors.Join(t.writeRecord(info), t.removeAll(t.statePath()), syncFolder(filepath.Dir(t.Path)))
}

// saveState writes what a later run needs to continue.
func (t *transfer) saveState() error {
	text, err := json.Marshal(t.state)
	if err == nil {
		err = maybe.WriteFile(t.statePath(), append(text, '\n'), 0o600)
	}
	if err != nil {
		return writeError(t.statePath(), err)
	}
	return nil
}

// validator returns what If-Range may hold (RFC 9110 13.1.5): a strong entity
// tag, else the date.
func (s state) validator() string {
	if s.ETag != "" && !strings.HasPrefix(s.ETag, "W/") {
		return s.ETag
	}
	return s.LastModified
}

// parseContentRange reads "bytes 5-9/10" and "bytes */10" (RFC 9110 14.4). total
// is -1 when the server does not tell it.
func parseContentRange(s string) (start, total int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	span, length, found2 := strings.Cut(rest, "/")
	if !found || !found2 {
		return 0, -1, false
	}
	total, err := strconv.ParseInt(length, 10, 64)
	if err != nil || total < 0 {
		total = -1
	}
	first, last, found := strings.Cut(span, "-")
	if !found {
		return 0, total, false
	}
	start, err = strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || start < 0 || end < start || total >= 0 && end >= total {
		return 0, total, false
	}
	return start, total, true
}

// isPage reports whether an answer is HTML.
func isPage(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}

func pageError(url string) error {
	return &Error{
		Kind: ErrPage, URL: url, Detail: "the answer is HTML",
		Advice: "a proxy or a captive portal may have answered: open the address in a browser",
	}
}

// isPassing reports whether an HTTP status may be gone the next time.
func isPassing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func statusError(url string, response *http.Response) error {
	e := &Error{Kind: ErrStatus, URL: url, Detail: "HTTP status " + response.Status, Status: response.StatusCode}
	if final := response.Request.URL.String(); final != url {
		e.Detail += " from " + final
	}
	switch response.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		e.Advice = "there is no such file on this server: check the release and the address of the mirror"
	case http.StatusProxyAuthRequired:
		e.Advice = "the proxy wants a name and a password: set them in https_proxy"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Advice = "the server or a proxy does not let this machine in: try another mirror"
	}
	return e
}

// unreachable classifies an error of a request. passing says that it may be gone
// the next time.
func unreachable(ctx context.Context, url string, err error) (passing bool, _ error) {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	e := &Error{Kind: ErrUnreachable, URL: url, Err: err, Advice: "check the network and, if there is one, the proxy (https_proxy)"}
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &certificate):
		e.Advice = "if a proxy of your site looks into TLS, add its certificate to the system's (update-ca-certificates)"
		return false, e
	case errors.As(err, &name) && name.IsNotFound:
		e.Advice = "check the address of the mirror, and the name server"
		return false, e
	}
	return true, e
}

// watch cancels a request that brings nothing for too long.
type watch struct {
	timer *time.Timer
	after time.Duration
}

func stallWatch(after time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{after: after}
	if after > 0 {
		w.timer = time.AfterFunc(after, func() { cancel(fmt.Errorf("nothing came for %v", after)) })
	}
	return w
}

func (w *watch) reset() {
	if w.timer != nil {
		w.timer.Reset(w.after)
	}
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// writeError says that a file cannot be written, and names it once.
func writeError(name string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err
	}
	return fmt.Errorf("cannot write %s: %w", name, err)
}
