package apt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// Keyring checks a detached signature of a text. With the zero time it is enough
// that the key was valid when it signed. *keys.Keyring is one.
type Keyring interface {
	Verify(signed, signature []byte, now time.Time) error
}

// IndexFile is a file that a Release file vouches for.
type IndexFile struct {
	Size   int64  // bytes
	SHA256 string // hexadecimal, lower case; empty when the release gives SHA-512 alone
	SHA512 string // the same, empty when it is not given
}

// Release is what a Release file says of a suite.
type Release struct {
	Origin, Label, Suite, Codename, Version string

	Date       time.Time // zero: not given. A frozen date is taken as it is.
	ValidUntil time.Time // zero: for ever

	Components    []string
	Architectures []string
	ByHash        bool // indexes can be fetched by their hash (Acquire-By-Hash)
	NotAutomatic  bool // its versions are installed only when asked for by version
	AutoUpgrades  bool // ButAutomaticUpgrades: and then kept new

	Files map[string]IndexFile // by path below the Release file
}

// Form errors of signed files.
var (
	ErrNotSigned = errors.New("not signed as it must be")
	ErrNoHashes  = errors.New("no SHA-256 or SHA-512 sums")
)

// OpenInRelease checks a clear-signed Release file (RFC 9580 7) and returns the
// text that the signature covers, and nothing of what may stand around it. The
// errors wrap ErrNotSigned, and the keyring's.
func OpenInRelease(file []byte, ring Keyring, now time.Time) ([]byte, error) {
	const begin = "-----BEGIN PGP SIGNED MESSAGE-----"
	if !bytes.HasPrefix(file, []byte(begin)) {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrNotSigned, begin)
	}
	block, rest := clearsign.Decode(file)
	if block == nil {
		return nil, fmt.Errorf("%w: the signature is cut or damaged", ErrNotSigned)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: something follows the signature, which it does not cover", ErrNotSigned)
	}
	signature, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: the signature's armor is damaged: %w", ErrNotSigned, err)
	}
	if err := ring.Verify(block.Bytes, signature, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	return block.Plaintext, nil
}

// OpenRelease checks a Release file by its detached signature, Release.gpg.
func OpenRelease(file, signature []byte, ring Keyring, now time.Time) ([]byte, error) {
	if err := ring.Verify(file, signature, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	return file, nil
}

// ParseRelease reads the text of a Release file whose signature is good. A file
// with neither SHA-256 nor SHA-512 sums is refused, as is one whose lists of the
// two disagree about a size.
func ParseRelease(text []byte) (*Release, error) {
	var stanza Stanza
	for s, err := range Stanzas(string(text)) {
		if err != nil {
			return nil, err
		}
		if stanza.Text != "" {
			return nil, &SyntaxError{Line: s.Line, Reason: "a Release file is one paragraph, and this is a second"}
		}
		stanza = s
	}
	r := &Release{Files: map[string]IndexFile{}}
	seen := map[string]bool{}
	for name, value := range stanza.Fields() {
		if seen[strings.ToLower(name)] {
			return nil, &SyntaxError{Line: stanza.Line, Reason: "the field " + name + " stands there twice"}
		}
		seen[strings.ToLower(name)] = true
		if err := r.set(name, value); err != nil {
			return nil, err
		}
	}
	if len(r.Files) == 0 {
		return nil, fmt.Errorf("the Release file vouches for nothing: %w", ErrNoHashes)
	}
	return r, nil
}

func (r *Release) set(name, value string) (err error) {
	switch strings.ToLower(name) {
	case "origin":
		r.Origin = value
	case "label":
		r.Label = value
	case "suite":
		r.Suite = value
	case "codename":
		r.Codename = value
	case "version":
		r.Version = value
	case "components":
		r.Components = strings.Fields(value)
	case "architectures":
		r.Architectures = strings.Fields(value)
	case "acquire-by-hash":
		r.ByHash = isYes(value)
	case "notautomatic":
		r.NotAutomatic = isYes(value)
	case "butautomaticupgrades":
		r.AutoUpgrades = isYes(value)
	case "date":
		r.Date, err = parseDate(name, value)
	case "valid-until":
		r.ValidUntil, err = parseDate(name, value)
	case "sha256":
		err = r.addFiles(value, 64, func(f *IndexFile, sum string) { f.SHA256 = sum })
	case "sha512":
		err = r.addFiles(value, 128, func(f *IndexFile, sum string) { f.SHA512 = sum })
	}
	return err
}

func isYes(value string) bool { return strings.EqualFold(value, "yes") }

// parseDate reads a date as Release files have it: RFC 1123, in UTC by any of its
// names, with one digit or two for the day.
func parseDate(name, value string) (time.Time, error) {
	text := value
	for _, zone := range []string{" GMT", " UTC", " Z"} {
		text = strings.TrimSuffix(text, zone)
	}
	text = strings.TrimSuffix(text, " +0000")
	for _, form := range []string{"Mon, _2 Jan 2006 15:04:05", "Mon, 02 Jan 2006 15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("the Release file's %s, %q, is no date", name, value)
}

// addFiles reads lines of a sum, a size and a path.
func (r *Release) addFiles(value string, digits int, set func(f *IndexFile, sum string)) error {
	for line := range strings.Lines(value) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return fmt.Errorf("the Release file has %.80q where sum, size and path must stand", strings.TrimSpace(line))
		}
		sum, path := strings.ToLower(fields[0]), fields[2]
		size, err := strconv.ParseInt(fields[1], 10, 64)
		if _, bad := hex.DecodeString(sum); bad != nil || len(sum) != digits || err != nil || size < 0 {
			return fmt.Errorf("the Release file has a sum or size for %q that is none: %s %s", path, fields[0], fields[1])
		}
		if !isLocalPath(path) {
			return fmt.Errorf("the Release file names %q, which leads out of the repository", path)
		}
		f, known := r.Files[path]
		if known && f.Size != size {
			return fmt.Errorf("the Release file gives two sizes for %s: %d and %d bytes", path, f.Size, size)
		}
		f.Size = size
		set(&f, sum)
		r.Files[path] = f
	}
	return nil
}

// isLocalPath reports whether a path stays below the folder that it is relative
// to.
func isLocalPath(p string) bool {
	return p != "" && p[0] != '/' && !slices.Contains(strings.Split(p, "/"), "..") && !strings.ContainsAny(p, "\\\x00")
}

// indexForms are the forms of an index, by the end of its name, in the order in
// which they are taken: what is quick to read first.
func indexForms() []string { return []string{".gz", ".zst", ".xz", ""} }

// index returns the path and the sums of an index, such as
// main/binary-amd64/Packages, in the best form that the release has of it.
func (r *Release) index(path string) (string, IndexFile, bool) {
	for _, end := range indexForms() {
		if f, ok := r.Files[path+end]; ok {
			return path + end, f, true
		}
	}
	return "", IndexFile{}, false
}
