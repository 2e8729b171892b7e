package keys_test

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/keys"
)

var (
	made = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) // when test keys are made
	sent = made.Add(24 * time.Hour)                    // when they sign
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// newKey makes a key that is valid from made on, for the given time (0: ever).
func newKey(t testing.TB, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Test", "", "test@example.org", &packet.Config{
		Time: at(made), Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, entities ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entities {
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func armored(t testing.TB, kind string, binary []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sign(t testing.TB, e *openpgp.Entity, text string, hash crypto.Hash) []byte {
	t.Helper()
	config := &packet.Config{Time: at(sent), DefaultHash: hash}
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, []*openpgp.Entity{e}, strings.NewReader(text), config); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parse(t testing.TB, block []byte) *keys.Keyring {
	t.Helper()
	k, err := keys.Parse(block)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPinnedKeys(t *testing.T) {
	for want, k := range map[string]*keys.Keyring{
		keys.UbuntuCDImageFingerprint: keys.UbuntuCDImage(),
		keys.UbuntuArchiveFingerprint: keys.UbuntuArchive(),
	} {
		if got := k.Fingerprints(); len(got) != 1 || got[0] != want {
			t.Errorf("fingerprints are %q, want %s", got, want)
		}
	}
	for _, f := range []string{
		keys.UbuntuCDImageFingerprint, keys.UbuntuArchiveFingerprint, keys.DockerFingerprint,
		keys.NVIDIAToolkitFingerprint, keys.CUDAFingerprint,
	} {
		if len(f) != 40 || strings.Trim(f, "0123456789ABCDEF") != "" {
			t.Errorf("%q is no fingerprint", f)
		}
	}
}

// TestGenuineSignature: Ubuntu's key, list and signature.
func TestGenuineSignature(t *testing.T) {
	list, err := os.ReadFile("testdata/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile("testdata/SHA256SUMS.gpg")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if err := keys.UbuntuCDImage().Verify(list, signature, now); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := keys.UbuntuArchive().Verify(list, signature, now); !errors.Is(err, keys.ErrWrongKey) || !strings.Contains(err.Error(), "D94AA3F0EFE21092") {
		t.Errorf("with the archive's key Verify returned %v, want ErrWrongKey that names the signer", err)
	}
	list[0] ^= 1
	if err := keys.UbuntuCDImage().Verify(list, signature, now); !errors.Is(err, keys.ErrBadSignature) {
		t.Errorf("of a changed list Verify returned %v, want ErrBadSignature", err)
	}
}

func TestVerify(t *testing.T) {
	const text = "the text\n"
	forever, short, other, revoked := newKey(t, 0), newKey(t, 48*time.Hour), newKey(t, 0), newKey(t, 0)
	brief := newKey(t, time.Hour) // expires before it signs
	signedBefore := sign(t, revoked, text, crypto.SHA256)
	if err := revoked.Revoke(packet.KeyCompromised, "stolen", &packet.Config{Time: at(sent)}); err != nil {
		t.Fatal(err)
	}
	signature := sign(t, forever, text, crypto.SHA512)
	tests := []struct {
		name      string
		keyring   []byte
		signed    string
		signature []byte
		now       time.Time
		want      error
	}{
		{"binary", public(t, forever), text, signature, sent, nil},
		{"armored", armored(t, "PGP PUBLIC KEY BLOCK", public(t, forever)), text, armored(t, "PGP SIGNATURE", signature), sent, nil},
		{"one of two keys", public(t, other, forever), text, signature, sent, nil},
		{"one of two signatures", public(t, forever), text, append(sign(t, other, text, crypto.SHA256), signature...), sent, nil},
		{"no time given", public(t, short), text, sign(t, short, text, crypto.SHA256), time.Time{}, nil},
		{"before it expires", public(t, short), text, sign(t, short, text, crypto.SHA256), made.Add(47 * time.Hour), nil},
		{"after it expired", public(t, short), text, sign(t, short, text, crypto.SHA256), made.Add(49 * time.Hour), keys.ErrExpired},
		{"signed after it expired", public(t, brief), text, signAnyway(t, brief, text), time.Time{}, keys.ErrExpired},
		{"revoked", public(t, revoked), text, signedBefore, sent, keys.ErrRevoked},
		{"another key", public(t, other), text, signature, sent, keys.ErrWrongKey},
		{"another text", public(t, forever), "the Text\n", signature, sent, keys.ErrBadSignature},
		{"no signature", public(t, forever), text, nil, sent, keys.ErrMalformed},
		{"a page", public(t, forever), text, []byte("<html>404 Not Found</html>"), sent, keys.ErrMalformed},
		{"a key as signature", public(t, forever), text, armored(t, "PGP PUBLIC KEY BLOCK", public(t, forever)), sent, keys.ErrMalformed},
		{"a binary key as signature", public(t, forever), text, public(t, forever), sent, nil},
		{"cut short", public(t, forever), text, signature[:len(signature)-5], sent, keys.ErrMalformed},
		{"too large", public(t, forever), text, make([]byte, 1<<20+1), sent, keys.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := parse(t, tt.keyring).Verify([]byte(tt.signed), tt.signature, tt.now)
			if tt.name == "a binary key as signature" {
				if err == nil {
					t.Error("Verify took the key's own certification for a signature of the text")
				}
				return
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Verify returned %v, want %v", err, tt.want)
			}
		})
	}
}

// signAnyway signs although the library would not, with an expired key.
func signAnyway(t *testing.T, e *openpgp.Entity, text string) []byte {
	t.Helper()
	signature := &packet.Signature{
		Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256,
		CreationTime: sent, IssuerKeyId: &e.PrimaryKey.KeyId, IssuerFingerprint: e.PrimaryKey.Fingerprint,
	}
	h := crypto.SHA256.New()
	h.Write([]byte(text))
	if err := signature.Sign(h, e.PrivateKey, &packet.Config{Time: at(sent)}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := signature.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestVerifyAtOnce: one keyring judges several texts at a time, as the suites of an
// archive come. It is the race detector that can see this fail.
func TestVerifyAtOnce(t *testing.T) {
	const text = "the text\n"
	key := newKey(t, 0)
	signature := sign(t, key, text, crypto.SHA256)
	for range 10 {
		k, err := keys.Parse(public(t, key))
		if err != nil {
			t.Fatal(err)
		}
		begin := make(chan struct{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				<-begin
				if err := k.Verify([]byte(text), signature, sent); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		group.Wait()
	}
}

func TestParse(t *testing.T) {
	e := newKey(t, 0)
	var private bytes.Buffer
	if err := e.SerializePrivate(&private, &packet.Config{Time: at(sent)}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		block []byte
		want  error
	}{
		{"empty", nil, keys.ErrMalformed},
		{"text", []byte("9DC8 5822 9FC7"), keys.ErrMalformed},
		{"a page", []byte("<!DOCTYPE html><html>"), keys.ErrMalformed},
		{"an SSH key", []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"), keys.ErrMalformed},
		{"a signature", armored(t, "PGP SIGNATURE", sign(t, e, "x", crypto.SHA256)), keys.ErrMalformed},
		{"a damaged armor", bytes.Replace(armored(t, "PGP PUBLIC KEY BLOCK", public(t, e)), []byte("\n"), []byte("\n!"), 4), keys.ErrMalformed},
		{"cut short", public(t, e)[:40], keys.ErrMalformed},
		{"a private key", private.Bytes(), keys.ErrPrivateKey},
		{"an armored private key", armored(t, "PGP PRIVATE KEY BLOCK", private.Bytes()), keys.ErrPrivateKey},
		{"too large", bytes.Repeat(public(t, e), 10000), keys.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if k, err := keys.Parse(tt.block); !errors.Is(err, tt.want) || k != nil {
				t.Errorf("Parse returned %v, %v, want %v", k, err, tt.want)
			}
		})
	}
	k := parse(t, public(t, e, newKey(t, 0)))
	if n := len(k.Fingerprints()); n != 2 {
		t.Errorf("%d fingerprints for two keys", n)
	}
	f := k.Fingerprints()[0]
	if !k.Has(strings.ToLower(f[:4]+" "+f[4:])) || k.Has(keys.DockerFingerprint) {
		t.Errorf("Has does not know %s", f)
	}
}

// TestGnuPG: a key and a signature by GnuPG, which is what Ubuntu's servers use.
func TestGnuPG(t *testing.T) {
	gpg := oracle.Need(t, "gpg")
	home := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(gpg, append([]string{"--homedir", home, "--batch", "--no-tty", "--quiet"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %q: %v\n%s", args, err, stderr.String())
		}
		return out
	}
	text := filepath.Join(home, "text")
	if err := os.WriteFile(text, []byte("signed by GnuPG\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("--passphrase", "", "--quick-gen-key", "GnuPG <gnupg@example.org>", "rsa2048", "sign", "never")
	for _, armor := range []string{"--armor", "--no-armor"} {
		k := parse(t, run(armor, "--export"))
		signed := []byte("signed by GnuPG\n")
		if err := k.Verify(signed, run(armor, "--output", "-", "--detach-sign", text), time.Time{}); err != nil {
			t.Errorf("%s: %v", armor, err)
		}
		weak := run(armor, "--digest-algo", "SHA1", "--output", "-", "--detach-sign", text)
		if err := k.Verify(signed, weak, time.Time{}); !errors.Is(err, keys.ErrWeak) {
			t.Errorf("%s: of a signature with SHA-1 Verify returned %v, want ErrWeak", armor, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	e := newKey(f, 0)
	f.Add(public(f, e))
	f.Add(armored(f, "PGP PUBLIC KEY BLOCK", public(f, e)))
	f.Fuzz(func(t *testing.T, block []byte) {
		k, err := keys.Parse(block)
		if (k == nil) == (err == nil) {
			t.Fatalf("Parse returned %v, %v", k, err)
		}
		if err == nil && len(k.Fingerprints()) == 0 {
			t.Fatal("a keyring without keys")
		}
	})
}

func FuzzVerify(f *testing.F) {
	e, text := newKey(f, 0), []byte("the text\n")
	k := parse(f, public(f, e))
	good := sign(f, e, string(text), crypto.SHA256)
	f.Add(text, good)
	f.Add(text, armored(f, "PGP SIGNATURE", good))
	f.Fuzz(func(t *testing.T, signed, signature []byte) {
		if err := k.Verify(signed, signature, time.Time{}); err == nil && !bytes.Equal(signed, text) {
			t.Fatalf("Verify takes %q for signed", signed)
		}
	})
}
