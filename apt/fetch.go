package apt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/download"
	"github.com/gpustrap/gpustrap/keys"
)

// Options say how archives and packages are fetched.
type Options struct {
	Client *http.Client // nil: http.DefaultClient
	Cache  string       // folder for indexes and packages, named by their SHA-256; made when it is not there
	Arch   string       // such as amd64
	Now    time.Time    // when keys and Release files must be valid; zero: at any time

	// SnapshotURL returns the address that a source's archive had at a snapshot.
	// nil: snapshots cannot be used.
	SnapshotURL func(s Source) string

	Backoff  []time.Duration // waits before further tries; nil: download.DefaultBackoff
	Stall    time.Duration   // how long a connection may bring nothing; 0: download.DefaultStall
	Parallel int             // connections at a time; 0: 4

	Progress func(done, total int64) // bytes of all files; called by one goroutine at a time; may be nil
	Notify   func(message string)    // what is waited for, in a line for a person; may be nil
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Backoff == nil {
		o.Backoff = download.DefaultBackoff()
	}
	if o.Stall == 0 {
		o.Stall = download.DefaultStall
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	return o
}

// Fetch reads the indexes of the sources into an archive. Release files are asked
// from the servers each time; indexes come from the cache when they have not
// changed. Everything is checked before it is used. The errors are an *Error, or
// the context's and the file system's.
func Fetch(ctx context.Context, sources []Source, o Options) (*Archive, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(filepath.Join(o.Cache, "indexes"), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the folder for package indexes: %w", err)
	}
	f := &fetcher{Options: o, total: &progress{report: o.Progress, done: map[string]int64{}, size: map[string]int64{}}}
	jobs, err := f.jobs(ctx, sources)
	if err != nil {
		return nil, err
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(o.Parallel)
	for _, j := range jobs {
		work.Go(func() error { return f.release(workCtx, j) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	archive := NewArchive(o.Arch)
	for _, j := range jobs {
		archive.addSuite(j.suite)
		for _, text := range j.texts {
			if err := archive.add(j.suite, text); err != nil {
				return nil, &Error{Kind: ErrIndex, Summary: "cannot use the package index", Err: err}
			}
		}
	}
	return archive, nil
}

// fetcher holds what all downloads of a run share.
type fetcher struct {
	Options
	total *progress
	turns sync.Map // name in the cache -> *sync.Mutex
}

// turn makes those who bring the same file wait for each other: suites share
// indexes, empty ones if no others. It returns what ends the turn.
func (f *fetcher) turn(name string) (done func()) {
	mu, _ := f.turns.LoadOrStore(name, &sync.Mutex{})
	mu.(*sync.Mutex).Lock()
	return mu.(*sync.Mutex).Unlock
}

// progress adds up the progress of downloads that run at the same time.
type progress struct {
	mu         sync.Mutex
	report     func(done, total int64)
	done, size map[string]int64
}

// of returns the progress function of one file, whose size is known.
func (p *progress) of(name string, size int64) func(done, total int64) {
	if p.report == nil {
		return nil
	}
	p.mu.Lock()
	p.size[name] = size
	p.mu.Unlock()
	return func(done, _ int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done[name] = done
		var d, t int64
		for name, size := range p.size {
			d, t = d+p.done[name], t+size
		}
		p.report(d, t)
	}
}

// job is one suite to fetch.
type job struct {
	suite *Suite
	ring  *keys.Keyring
	base  string // address of the folder with the Release file
	texts []string
}

// jobs brings the keys and lists the suites.
func (f *fetcher) jobs(ctx context.Context, sources []Source) ([]*job, error) {
	var all []*job
	for _, s := range sources {
		if err := s.check(); err != nil {
			return nil, err
		}
		if s.Snapshot != "" {
			if f.SnapshotURL == nil {
				return nil, &Error{Summary: fmt.Sprintf("cannot use a snapshot of the %s repository: it has no snapshot service", s.Name)}
			}
			s.URL = f.SnapshotURL(s)
		}
		ring, err := f.ring(ctx, &s)
		if err != nil {
			return nil, err
		}
		for _, suite := range s.Suites {
			all = append(all, &job{suite: &Suite{Source: &s, Name: suite}, ring: ring, base: s.folder(suite)})
		}
	}
	return all, nil
}

// ring returns the source's keys, from where they are.
func (f *fetcher) ring(ctx context.Context, s *Source) (*keys.Keyring, error) {
	if s.Keyring != nil {
		return s.Keyring, nil
	}
	block := s.Key
	if block == nil {
		var err error
		if block, err = f.keyBlock(ctx, s); err != nil {
			return nil, err
		}
	}
	return s.ring(block)
}

// FetchKey returns the source's public keys as its owner publishes them, checked
// against the pinned fingerprints; nil for a source whose keys every machine has,
// as Ubuntu's. The errors are those of Fetch.
func FetchKey(ctx context.Context, s Source, o Options) ([]byte, error) {
	if s.Keyring != nil || s.Key != nil {
		return s.Key, nil
	}
	f := &fetcher{Options: o.withDefaults()}
	block, err := f.keyBlock(ctx, &s)
	if err != nil {
		return nil, err
	}
	_, err = s.ring(block)
	return block, err
}

// keyBlock brings the keys from where their owner publishes them.
func (f *fetcher) keyBlock(ctx context.Context, s *Source) ([]byte, error) {
	block, err := f.document(ctx, s.KeyURL, maxKey)
	if err != nil {
		return nil, &Error{
			Summary: fmt.Sprintf("cannot get the key of the %s repository", s.Name), Err: err,
			Advice: "check the network and the proxy, or give the key in gpustrap.yaml: sources." + s.Name + ".key",
		}
	}
	return block, nil
}

// Sizes that are taken at most, in bytes. Debian's largest Release file has 170 KB,
// its largest index 57 MB once it is unpacked.
const (
	maxKey     = 1 << 20
	maxRelease = 8 << 20
	maxIndex   = 1 << 30
)

// release fetches and checks a suite: its Release file, then its indexes.
func (f *fetcher) release(ctx context.Context, j *job) error {
	text, err := f.signed(ctx, j)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	j.suite.SHA256 = hex.EncodeToString(sum[:])
	if j.suite.Release, err = ParseRelease(text); err != nil {
		return &Error{Kind: ErrIndex, Summary: fmt.Sprintf("cannot use the Release file of %s", j.suite), Err: err}
	}
	if err := f.timely(j.suite); err != nil {
		return err
	}
	paths, err := j.suite.indexes(f.Arch)
	if err != nil {
		return err
	}
	for _, p := range paths {
		text, err := f.index(ctx, j, p)
		if err != nil {
			return err
		}
		j.texts = append(j.texts, text)
	}
	return nil
}

// signed returns the text of the Release file: of InRelease, or, where there is
// none, of Release with Release.gpg.
func (f *fetcher) signed(ctx context.Context, j *job) ([]byte, error) {
	refuse := func(err error) error {
		advice := "nothing of this repository is used: try another mirror, or later"
		if errors.Is(err, keys.ErrExpired) {
			advice = "the key that signs this repository has expired: get the new one from its owner, and pin its fingerprint"
		}
		return &Error{Kind: ErrSignature, Summary: fmt.Sprintf("the signature of %s is not accepted", j.suite), Err: err, Advice: advice}
	}
	file, err := f.document(ctx, j.base+"/InRelease", maxRelease)
	if err == nil {
		text, err := OpenInRelease(file, j.ring, f.Now)
		if err != nil {
			return nil, refuse(err)
		}
		return text, nil
	}
	if !isMissing(err) {
		return nil, err
	}
	file, err = f.document(ctx, j.base+"/Release", maxRelease)
	if err != nil {
		if isMissing(err) {
			err = &Error{Kind: ErrIndex, Summary: fmt.Sprintf("there is no repository for %s at %s", j.suite, j.base), Err: err}
		}
		return nil, err
	}
	signature, err := f.document(ctx, j.base+"/Release.gpg", maxRelease)
	if isMissing(err) {
		return nil, refuse(fmt.Errorf("%w: there is neither InRelease nor Release.gpg", ErrNotSigned))
	}
	if err != nil {
		return nil, err
	}
	text, err := OpenRelease(file, signature, j.ring, f.Now)
	if err != nil {
		return nil, refuse(err)
	}
	return text, nil
}

// timely refuses a Release file that is older than it may be, or of another suite:
// both are signed by the right key, and neither is what was asked for.
func (f *fetcher) timely(s *Suite) error {
	r := s.Release
	if !r.ValidUntil.IsZero() && !f.Now.IsZero() && f.Now.After(r.ValidUntil) && s.Source.Snapshot == "" {
		return &Error{
			Kind:    ErrOutdated,
			Summary: fmt.Sprintf("the Release file of %s was good until %s", s, r.ValidUntil.Format(time.RFC1123)),
			Advice:  "the mirror is no longer kept up, or somebody replays an old state: try another mirror; check this computer's date",
		}
	}
	if flat(s.Name) || r.Suite == "" && r.Codename == "" || s.Name == r.Suite || s.Name == r.Codename {
		return nil
	}
	return &Error{
		Kind:    ErrIndex,
		Summary: fmt.Sprintf("the Release file of %s is that of %s (%s)", s, r.Suite, r.Codename),
		Advice:  "the mirror serves one suite under the name of another: try another mirror",
	}
}

// indexes lists the suite's package indexes, without the ends of compressed forms.
func (s *Suite) indexes(arch string) ([]string, error) {
	if flat(s.Name) {
		return []string{"Packages"}, nil
	}
	if len(s.Release.Architectures) > 0 && !slices.Contains(s.Release.Architectures, arch) {
		return nil, &Error{
			Kind:    ErrIndex,
			Summary: fmt.Sprintf("%s has nothing for %s; it has %s", s, arch, strings.Join(s.Release.Architectures, ", ")),
		}
	}
	var all []string
	for _, c := range s.Source.Components {
		path := c + "/binary-" + arch + "/Packages"
		if _, _, ok := s.Release.index(path); !ok {
			return nil, &Error{
				Kind:    ErrIndex,
				Summary: fmt.Sprintf("%s has no component %s; it has %s", s, c, strings.Join(s.Release.Components, ", ")),
			}
		}
		all = append(all, path)
	}
	return all, nil
}

// isMissing: the server has no such file.
func isMissing(err error) bool {
	var status *StatusError
	var refused *download.Error
	code := 0
	switch {
	case errors.As(err, &status):
		code = status.Code
	case errors.As(err, &refused):
		code = refused.Status
	}
	return code == http.StatusNotFound || code == http.StatusGone
}
