package apt_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/keys"
)

var (
	keyMade = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	today   = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
)

// archiveKey makes a key that a test archive signs with, valid for a time (0:
// ever).
func archiveKey(t testing.TB, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Archive", "", "archive@example.org", &packet.Config{
		Time: func() time.Time { return keyMade }, Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func publicKey(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ringOf(t testing.TB, e *openpgp.Entity) *keys.Keyring {
	t.Helper()
	ring, err := keys.Parse(publicKey(t, e))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func fingerprintOf(t testing.TB, e *openpgp.Entity) string { return ringOf(t, e).Fingerprints()[0] }

func clearSign(t testing.TB, e *openpgp.Entity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, e.PrivateKey, &packet.Config{Time: func() time.Time { return keyMade.Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func detachedSign(t testing.TB, e *openpgp.Entity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := openpgp.DetachSign(&b, []*openpgp.Entity{e}, strings.NewReader(text), &packet.Config{Time: func() time.Time { return keyMade.Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const releaseText = `Origin: Test
Suite: stable
Codename: noble
Date: Fri, 27 Apr 2018 16:59:01 UTC
Components: main
Architectures: amd64
-dashes: are escaped
SHA512:
 ` + hex512 + ` 178415 Packages
`

const hex512 = "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043"

func TestOpenInRelease(t *testing.T) {
	key, other := archiveKey(t, 0), archiveKey(t, 0)
	short := archiveKey(t, 48*time.Hour)
	good := clearSign(t, key, releaseText)
	tests := []struct {
		name string
		file []byte
		ring *keys.Keyring
		want error
	}{
		{"good", good, ringOf(t, key), nil},
		{"with line ends of DOS", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), ringOf(t, key), nil},
		{"another key", good, ringOf(t, other), keys.ErrWrongKey},
		{"changed", bytes.Replace(good, []byte("178415"), []byte("178416"), 1), ringOf(t, key), keys.ErrBadSignature},
		{"a line added", bytes.Replace(good, []byte("Suite:"), []byte("Label: x\nSuite:"), 1), ringOf(t, key), keys.ErrBadSignature},
		{"text before it", append([]byte("Origin: Evil\n"), good...), ringOf(t, key), apt.ErrNotSigned},
		{"text behind it", append(bytes.Clone(good), "Origin: Evil\n"...), ringOf(t, key), apt.ErrNotSigned},
		{"twice", append(bytes.Clone(good), good...), ringOf(t, key), apt.ErrNotSigned},
		{"cut", good[:len(good)-60], ringOf(t, key), apt.ErrNotSigned},
		{"not signed", []byte(releaseText), ringOf(t, key), apt.ErrNotSigned},
		{"empty", nil, ringOf(t, key), apt.ErrNotSigned},
		{"expired key", clearSign(t, short, releaseText), ringOf(t, short), keys.ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := apt.OpenInRelease(tt.file, tt.ring, today)
			if !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err == nil && string(text) != releaseText {
				t.Errorf("the text is %q, want %q", text, releaseText)
			}
		})
	}
}

func TestOpenRelease(t *testing.T) {
	key := archiveKey(t, 0)
	signature := detachedSign(t, key, releaseText)
	if text, err := apt.OpenRelease([]byte(releaseText), signature, ringOf(t, key), today); err != nil || string(text) != releaseText {
		t.Errorf("error %v, text %q", err, text)
	}
	if _, err := apt.OpenRelease([]byte(releaseText+" "), signature, ringOf(t, key), today); !errors.Is(err, apt.ErrNotSigned) || !errors.Is(err, keys.ErrBadSignature) {
		t.Errorf("changed: error %v", err)
	}
}

func TestParseRelease(t *testing.T) {
	r, err := apt.ParseRelease([]byte("Origin: Ubuntu\nSuite: noble-updates\nCodename: noble\nDate: Mon,  3 Aug 2026  5:06:07 UTC\n" +
		"Valid-Until: Tue, 04 Aug 2026 05:06:07 +0000\nAcquire-By-Hash: yes\nArchitectures: amd64 arm64\nComponents: main universe\n" +
		"NotAutomatic: yes\nButAutomaticUpgrades: yes\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 x\nSHA256:\n " + hex512[:64] + " 12 main/binary-amd64/Packages.xz\n" +
		"SHA512:\n " + hex512 + " 12 main/binary-amd64/Packages.xz\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Files["main/binary-amd64/Packages.xz"]; got.Size != 12 || got.SHA256 != hex512[:64] || got.SHA512 != hex512 {
		t.Errorf("the file is %+v", got)
	}
	want := time.Date(2026, 8, 3, 5, 6, 7, 0, time.UTC)
	if !r.Date.Equal(want) || !r.ValidUntil.Equal(want.Add(24*time.Hour)) || !r.ByHash || !r.NotAutomatic || !r.AutoUpgrades {
		t.Errorf("the release is %+v", r)
	}
	// The toolkit's: SHA-512 alone, a date that never changes, no suite.
	r, err = apt.ParseRelease([]byte(strings.Replace(releaseText, "Suite: stable\nCodename: noble\n", "", 1)))
	if err != nil || r.Files["Packages"].SHA512 != hex512 || r.Files["Packages"].SHA256 != "" || r.Suite != "" {
		t.Errorf("the toolkit's release is %+v, %v", r, err)
	}
}

func TestParseReleaseErrors(t *testing.T) {
	sum := hex512[:64]
	for text, want := range map[string]string{
		"Origin: x\n":                                                   "no SHA-256",
		"Origin: x\n\nSHA256:\n a 1 b\n":                                "second",
		"SHA256:\n " + sum + " 1 ../etc/passwd\n":                       "leads out",
		"SHA256:\n " + sum + " 1 /etc/passwd\n":                         "leads out",
		"SHA256:\n " + sum + " -1 a\n":                                  "sum or size",
		"SHA256:\n " + sum + "0 1 a\n":                                  "sum or size",
		"SHA256:\n " + sum + " 1\n":                                     "sum, size and path",
		"SHA256:\n " + sum + " 1 a\nSHA512:\n " + hex512 + " 2 a\n":     "two sizes",
		"Suite: a\nSUITE: b\nSHA256:\n " + sum + " 1 a\n":               "twice",
		"Date: yesterday\nSHA256:\n " + sum + " 1 a\n":                  "no date",
		"SHA256:\n " + sum + " 99999999999999999999999999999999999 a\n": "sum or size",
	} {
		if _, err := apt.ParseRelease([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(releaseText))
	f.Add([]byte("SHA256:\n " + hex512[:64] + " 1 a\n"))
	f.Add([]byte("Date: Mon,  3 Aug 2026  5:06:07 UTC\nSHA256:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := apt.ParseRelease(text)
		if err != nil {
			return
		}
		for path, file := range r.Files {
			if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") || file.Size < 0 || file.SHA256 == "" && file.SHA512 == "" {
				t.Errorf("%q: %+v is accepted", path, file)
			}
		}
	})
}

func FuzzInRelease(f *testing.F) {
	key := archiveKey(f, 0)
	ring := ringOf(f, key)
	good := clearSign(f, key, releaseText)
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		text, err := apt.OpenInRelease(file, ring, today)
		if err == nil && string(text) != releaseText {
			t.Errorf("a text is accepted that nobody signed: %q", text)
		}
	})
}

// TestDebiansRelease opens the InRelease files that this machine's apt has, with
// the keys that it has.
func TestDebiansRelease(t *testing.T) {
	files, err := filepath.Glob("/var/lib/apt/lists/*_dists_*_InRelease")
	if err != nil {
		t.Fatal(err)
	}
	block, err := os.ReadFile("/usr/share/keyrings/debian-archive-keyring.gpg")
	if len(files) == 0 || err != nil {
		t.Skip("no Debian archive is configured here")
	}
	ring, err := keys.Parse(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := apt.OpenInRelease(file, ring, time.Time{})
		if errors.Is(err, keys.ErrWrongKey) {
			continue // another vendor's
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := apt.ParseRelease(text)
		if err != nil || r.Codename == "" || len(r.Files) == 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		for i := range 20 { // any changed byte is noticed
			changed := bytes.Clone(file)
			at := bytes.Index(file, []byte("Origin")) + i*len(text)/21
			changed[at] ^= 1
			if changed[at] == '\n' || file[at] == '\n' || file[at] == ' ' || file[at] == '\r' {
				continue // blanks at line ends are not signed
			}
			if _, err := apt.OpenInRelease(changed, ring, time.Time{}); err == nil {
				t.Errorf("%s: byte %d changed and still accepted", name, at)
			}
		}
	}
}
