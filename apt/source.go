package apt

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/keys"
)

// Source is a signed package repository, as sources.list(5) has it.
type Source struct {
	Name       string // in messages and in the lock file, such as ubuntu
	URL        string // of the repository: http or https
	Suites     []string
	Components []string // none: a flat repository, whose suites end with "/"

	Keyring      *keys.Keyring // keys that were checked already; nil: those of Key or KeyURL
	Key          []byte        // public key, armored or binary; nil: fetched from KeyURL
	KeyURL       string        // where the owner publishes the key
	Fingerprints []string      // of the primary keys that Key and KeyURL may hold, and no others

	// Priority is that of the source's versions, as in apt_preferences(5); 0 is
	// 500, or what the Release file asks for.
	Priority int
	// Snapshot is the id of a state of the archive at SnapshotURL, such as
	// 20261123T000000Z; empty: the archive as it is.
	Snapshot string
}

// Suite is a suite of a source with its Release file.
type Suite struct {
	Source  *Source
	Name    string // as the source names it
	Release *Release
	SHA256  string // of the Release file's signed text

	priority int
}

// flat reports whether a suite is a folder with packages and nothing else.
func flat(suite string) bool { return strings.HasSuffix(suite, "/") }

// String names the suite for a person.
func (s *Suite) String() string {
	if flat(s.Name) {
		return s.Source.Name
	}
	return s.Source.Name + " " + s.Name
}

// check says what is wrong with the source as it is written down.
func (s *Source) check() error {
	complain := func(format string, args ...any) error {
		return &Error{Summary: fmt.Sprintf("cannot use the %s repository: ", s.Name) + fmt.Sprintf(format, args...)}
	}
	switch {
	case !strings.HasPrefix(s.URL, "http://") && !strings.HasPrefix(s.URL, "https://"):
		return complain("%q is no web address", s.URL)
	case len(s.Suites) == 0:
		return complain("it names no suite")
	case s.Keyring == nil && len(s.Fingerprints) == 0:
		return complain("it has no fingerprint that its key is checked against")
	case s.Keyring == nil && s.Key == nil && s.KeyURL == "":
		return complain("it has no key")
	}
	for _, suite := range s.Suites {
		switch {
		case flat(suite) && len(s.Components) > 0:
			return complain("the suite %q ends with a slash, and such a repository has no components", suite)
		case !flat(suite) && len(s.Components) == 0:
			return complain("the suite %q needs a component, such as main", suite)
		case !isLocalPath(strings.TrimPrefix(suite, "/") + "."):
			return complain("the suite %q leads out of the repository", suite)
		}
	}
	return nil
}

// base is the address of the repository, without a slash at its end.
func (s *Source) base() string { return strings.TrimRight(s.URL, "/") }

// folder is the address of the folder that holds a suite's Release file.
func (s *Source) folder(suite string) string {
	if flat(suite) {
		return strings.TrimRight(s.base()+"/"+strings.Trim(strings.TrimPrefix(suite, "."), "/"), "/")
	}
	return s.base() + "/dists/" + suite
}

// ring reads a key block and holds it against the pinned fingerprints. Every key
// in it must be pinned: a signature by any of them would be believed.
func (s *Source) ring(block []byte) (*keys.Keyring, error) {
	ring, err := keys.Parse(block)
	if err != nil {
		return nil, &Error{Summary: fmt.Sprintf("cannot use the key of the %s repository", s.Name), Err: err}
	}
	for _, have := range ring.Fingerprints() {
		if !slices.ContainsFunc(s.Fingerprints, func(f string) bool {
			return strings.EqualFold(strings.ReplaceAll(f, " ", ""), have)
		}) {
			return nil, &Error{
				Kind:    ErrKey,
				Summary: fmt.Sprintf("the key of the %s repository has the fingerprint %s, not %s", s.Name, have, strings.Join(s.Fingerprints, " or ")),
				Advice:  "nothing of this repository is used; compare both with what its owner publishes",
			}
		}
	}
	return ring, nil
}

// Kinds of errors, for errors.Is.
var (
	ErrKey        = errors.New("not the pinned key")
	ErrSignature  = errors.New("the signature is not accepted")
	ErrOutdated   = errors.New("out of date")
	ErrIndex      = errors.New("the repository is not as it says")
	ErrNoPackage  = errors.New("no such package")
	ErrNoSolution = errors.New("these packages do not go together")
	ErrVanished   = errors.New("gone from the archive")
)

// Error is a failure in words for a person.
type Error struct {
	Kind    error  // one of the errors above; may be nil
	Summary string // what failed
	Advice  string // what to do; may be empty
	Err     error  // cause; may be nil
}

// Error returns the summary and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Summary
	}
	return e.Summary + ": " + e.Err.Error()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Kind != nil {
		all = append(all, e.Kind)
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}

// Hint returns what to do about the error.
func (e *Error) Hint() string {
	if e.Advice != "" {
		return e.Advice
	}
	var inner interface{ Hint() string }
	if errors.As(e.Err, &inner) {
		return inner.Hint()
	}
	return ""
}
