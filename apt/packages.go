package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/renameio/v2/maybe"
	"golang.org/x/sync/errgroup"

	"github.com/gpustrap/gpustrap/download"
)

// sha256Form is a SHA-256 sum as locks and the cache have it.
var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// FetchPackages brings the lock's packages into the cache, where each lies under
// packages/ by its SHA-256, and returns their paths by key. What is there already
// stays. A SHA-256 that the lock lacks is filled in. The errors are an *Error, or
// the context's and the file system's; what was brought whole stays for the next
// run.
func FetchPackages(ctx context.Context, l *Lock, o Options) (map[string]string, error) {
	o = o.withDefaults()
	folder := filepath.Join(o.Cache, "packages")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the folder for packages: %w", err)
	}
	f := &fetcher{Options: o, total: &progress{report: o.Progress, done: map[string]int64{}, size: map[string]int64{}}}
	reports := make([]func(done, total int64), len(l.Packages))
	for i := range l.Packages { // the total is known from the start
		reports[i] = f.total.of(l.Packages[i].Key, l.Packages[i].Size)
	}
	paths := make([]string, len(l.Packages))
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(o.Parallel)
	for i := range l.Packages {
		work.Go(func() (err error) {
			paths[i], err = f.fetchPackage(workCtx, l, &l.Packages[i], folder, reports[i])
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	all := make(map[string]string, len(paths))
	for i, p := range paths {
		all[l.Packages[i].Key] = p
	}
	return all, nil
}

func (f *fetcher) fetchPackage(ctx context.Context, l *Lock, p *LockedPackage, folder string, report func(done, total int64)) (string, error) {
	if p.SHA256 == "" {
		if err := f.complete(ctx, p, folder); err != nil {
			return "", l.explainFetch(p, err)
		}
	}
	name := filepath.Join(folder, p.SHA256+".deb")
	err := download.Get(ctx, download.Request{
		Client: f.Client, URL: p.URL, SHA256: p.SHA256, Size: p.Size, Path: name,
		Backoff: f.Backoff, Stall: f.Stall, Progress: report, Notify: f.Notify,
	})
	if err == nil && report != nil {
		report(p.Size, p.Size)
	}
	return name, l.explainFetch(p, err)
}

// complete brings a package for which SHA-512 alone vouches, and learns its
// SHA-256, which the cache keeps for the next run.
func (f *fetcher) complete(ctx context.Context, p *LockedPackage, folder string) error {
	note := filepath.Join(folder, p.SHA512+".sha256")
	if text, err := os.ReadFile(note); err == nil && sha256Form.Match(text) {
		p.SHA256 = string(text)
		return nil
	}
	name, err := f.bySHA512(ctx, p.URL, IndexFile{Size: p.Size, SHA512: p.SHA512}, filepath.Join(folder, p.SHA512))
	if err != nil {
		return err
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("cannot read the package again: %w", err)
	}
	p.SHA256 = sum256(content)
	if err := os.Rename(name, filepath.Join(folder, p.SHA256+".deb")); err != nil {
		return fmt.Errorf("cannot keep the package: %w", err)
	}
	if err := maybe.WriteFile(note, []byte(p.SHA256), 0o644); err != nil {
		return fmt.Errorf("cannot keep the package's SHA-256: %w", err)
	}
	return nil
}

// explainFetch says of a failed download what it means for the lock.
func (l *Lock) explainFetch(p *LockedPackage, err error) error {
	switch {
	case err == nil:
		return nil
	case isMissing(err):
		return &Error{
			Kind: ErrVanished, Summary: fmt.Sprintf("%s %s is gone from the archive since the lock was made", p.Name(), p.Version()), Err: err,
			Advice: fmt.Sprintf(`take the version that is there now: "gpustrap lock --update %s"; or lock to a snapshot, which keeps old versions`, p.Name()),
		}
	case errors.Is(err, download.ErrHash), errors.Is(err, download.ErrSize):
		return &Error{
			Kind: ErrIndex, Summary: fmt.Sprintf("%s %s is not the file that was locked", p.Name(), p.Version()), Err: err,
			Advice: "nothing of it was kept; the mirror is damaged or in the middle of an update: try again later, or another mirror",
		}
	}
	return err
}
