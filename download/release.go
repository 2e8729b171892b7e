package download

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDocument is the largest list or signature that is read, in bytes.
const maxDocument = 1 << 20

// Keyring checks a detached signature. With the zero time it is enough that the
// key was valid when it signed.
type Keyring interface {
	Verify(signed, signature []byte, now time.Time) error
}

// Sum is a line of a list of SHA-256 sums.
type Sum struct {
	SHA256 string // 64 hexadecimal digits, lower case
	Name   string // of a file in the list's folder
}

var sumLine = regexp.MustCompile(`^([0-9a-fA-F]{64}) [ *]([^/\\[:cntrl:]]+)$`)

// ParseSums reads a list as sha256sum writes it: a sum, a blank, a blank or an
// asterisk, a file's name. Empty lines are skipped. Its errors wrap ErrList and
// name the line.
func ParseSums(list []byte) ([]Sum, error) {
	if len(list) > maxDocument {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrList, len(list))
	}
	var sums []Sum
	seen := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(list))
	lines.Buffer(nil, maxDocument+1)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSuffix(lines.Text(), "\r")
		if text == "" {
			continue
		}
		m := sumLine.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("%w: line %d is %.60q", ErrList, n, text)
		}
		s := Sum{SHA256: strings.ToLower(m[1]), Name: m[2]}
		if other, ok := seen[s.Name]; ok && other != s.SHA256 {
			return nil, fmt.Errorf("%w: line %d has a second sum for %s", ErrList, n, s.Name)
		}
		seen[s.Name] = s.SHA256
		sums = append(sums, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrList, err)
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrList)
	}
	return sums, nil
}

// Options say which medium to fetch, from where, and to which folder.
type Options struct {
	Client  *http.Client // nil: http.DefaultClient
	BaseURL string       // of the folder that holds SHA256SUMS; empty: Ubuntu's own server
	Release string       // such as 24.04
	Arch    string       // amd64 or arm64; empty: amd64
	Keyring Keyring      // signs SHA256SUMS
	Now     time.Time    // when the key must be valid; zero: when it signed
	Folder  string       // for the files; made when it is not there
	Perm    fs.FileMode  // of the file; 0: 0644
	Rehash  bool         // hash a medium again that is there and was verified before

	Backoff []time.Duration // waits before further tries; nil: DefaultBackoff
	Stall   time.Duration   // how long a connection may bring nothing; 0: DefaultStall

	Progress func(done, total int64) // bytes; may be nil
	Notify   func(message string)    // what is waited for, in a line for a person; may be nil
}

// Release is a medium that a signed list names.
type Release struct {
	Version string // such as 24.04.3
	Name    string // of the file
	URL     string
	SHA256  string // 64 hexadecimal digits, lower case
}

// Fetch returns the path of the newest live server medium of a release: verified,
// downloaded when it is not in the folder yet. The list of media is asked from the
// server each time, and its signature checked.
func Fetch(ctx context.Context, o Options) (string, error) {
	o = o.withDefaults()
	found, err := FindRelease(ctx, o)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.Folder, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the folder for media: %w", err)
	}
	path := filepath.Join(o.Folder, found.Name)
	return path, Get(ctx, Request{
		Client: o.Client, URL: found.URL, SHA256: found.SHA256, Path: path, Perm: o.Perm, Rehash: o.Rehash,
		Backoff: o.Backoff, Stall: o.Stall, Progress: o.Progress, Notify: o.Notify,
	})
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.BaseURL == "" {
		o.BaseURL = ubuntuURL(o.Release, o.Arch)
	}
	if !strings.HasSuffix(o.BaseURL, "/") {
		o.BaseURL += "/"
	}
	if o.Backoff == nil {
		o.Backoff = DefaultBackoff()
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	return o
}

// ubuntuURL is where Ubuntu publishes a release's media: amd64 on its main
// server, the others on cdimage.
func ubuntuURL(release, arch string) string {
	if arch == "amd64" {
		return "https://releases.ubuntu.com/" + release + "/"
	}
	return "https://cdimage.ubuntu.com/releases/" + release + "/release/"
}

// FindRelease returns the newest point release that the server's SHA256SUMS names,
// after checking the list's signature, SHA256SUMS.gpg. Its errors are an *Error of
// kind ErrNoRelease, ErrSignature or ErrList, or those of the connection.
func FindRelease(ctx context.Context, o Options) (Release, error) {
	o = o.withDefaults()
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return Release{}, &Error{
			Kind: ErrUnreachable, URL: o.BaseURL, Detail: "no web address", Err: err,
			Advice: "write the address of the folder that holds SHA256SUMS: https://mirror.example/releases/24.04/",
		}
	}
	listURL := base.JoinPath("SHA256SUMS").String()
	list, err := o.document(ctx, listURL)
	if err != nil {
		return Release{}, err
	}
	signature, err := o.document(ctx, listURL+".gpg")
	if err != nil {
		return Release{}, err
	}
	if err := o.Keyring.Verify(list, signature, o.Now); err != nil {
		return Release{}, &Error{
			Kind: ErrSignature, URL: listURL, Err: err,
			Advice: "nothing of this server is used: try another mirror, or Ubuntu's own server",
		}
	}
	sums, err := ParseSums(list)
	if err != nil {
		return Release{}, &Error{Kind: ErrList, URL: listURL, Err: err}
	}
	found, ok := newest(sums, o.Release, o.Arch)
	if !ok {
		var names []string
		for _, s := range sums {
			names = append(names, s.Name)
		}
		return Release{}, &Error{
			Kind: ErrNoRelease, URL: listURL,
			Detail: fmt.Sprintf("no live server medium of %s for %s; it has %s", o.Release, o.Arch, strings.Join(names, ", ")),
			Advice: "check the release and the architecture; media of releases that are no longer supported are on https://old-releases.ubuntu.com/releases/",
		}
	}
	found.URL = base.JoinPath(found.Name).String()
	return found, nil
}

// newest returns the medium with the highest version: 24.04, then 24.04.1 and so
// on.
func newest(sums []Sum, release, arch string) (Release, bool) {
	form := regexp.MustCompile(`^ubuntu-(` + regexp.QuoteMeta(release) + `(?:\.([0-9]{1,4}))?)-live-server-` + regexp.QuoteMeta(arch) + `\.iso$`)
	best, bestPoint := Release{}, -1
	for _, s := range sums {
		m := form.FindStringSubmatch(s.Name)
		if m == nil {
			continue
		}
		point, err := strconv.Atoi(m[2])
		if err != nil {
			point = 0 // the release itself has no number
		}
		if point > bestPoint {
			best, bestPoint = Release{Version: m[1], Name: s.Name, SHA256: s.SHA256}, point
		}
	}
	return best, bestPoint >= 0
}

// document fetches a small file.
func (o Options) document(ctx context.Context, address string) ([]byte, error) {
	for n := 0; ; n++ {
		text, passing, err := o.tryDocument(ctx, address)
		switch {
		case err == nil:
			return text, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("cannot download %s: %w", address, ctx.Err())
		case !passing || n >= len(o.Backoff):
			return nil, err
		}
		if o.Notify != nil {
			o.Notify(fmt.Sprintf("%v: trying again in %v (%d of %d)", err, o.Backoff[n], n+1, len(o.Backoff)))
		}
		if err := Wait(ctx, o.Backoff[n]); err != nil {
			return nil, fmt.Errorf("cannot download %s: %w", address, err)
		}
	}
}

func (o Options) tryDocument(ctx context.Context, address string) (text []byte, passing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := stallWatch(o.Stall, cancel)
	defer watch.stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, &Error{Kind: ErrUnreachable, URL: address, Err: err}
	}
	response, err := o.Client.Do(request)
	if err != nil {
		passing, err = unreachable(ctx, address, err)
		return nil, passing, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, isPassing(response.StatusCode), statusError(address, response)
	}
	text, err = io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	switch {
	case err != nil:
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, true, &Error{Kind: ErrInterrupted, URL: address, Err: err}
	case len(text) > maxDocument:
		return nil, false, &Error{Kind: ErrSize, URL: address, Detail: "it is no small file"}
	case isPage(response.Header) || slices.ContainsFunc([]string{"<!doctype", "<html"}, func(s string) bool {
		return bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(text)), []byte(s))
	}):
		return nil, false, pageError(address)
	}
	return text, false, nil
}
