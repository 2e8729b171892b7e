package apt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// SigningKey is the key that a fleet's offline repository is signed with.
type SigningKey struct {
	entity *openpgp.Entity
}

// keyEpoch is when signing keys say that they were made: machines without a
// working clock refuse keys from their future.
var keyEpoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// NewSigningKey makes a key (Ed25519, which gpgv knows since 2.1 and sqv) for the
// fleet of that name. Its bytes come from random.
func NewSigningKey(fleet string, random io.Reader) (*SigningKey, error) {
	config := signConfig(keyEpoch)
	config.Rand = random
	e, err := openpgp.NewEntity("gpustrap offline repository of "+fleet, "", "", config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a signing key: %w", err)
	}
	e.Subkeys = nil // for encryption, which nobody does with it
	return &SigningKey{e}, nil
}

// signConfig makes signatures of the given time that are the same for the same
// text: Ed25519 needs no random numbers, and the library's salt is left out.
func signConfig(at time.Time) *packet.Config {
	deterministic := false
	return &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at },
		NonDeterministicSignaturesViaNotation: &deterministic,
	}
}

// ParseSigningKey reads a key that Encode wrote.
func ParseSigningKey(text []byte) (*SigningKey, error) {
	refuse := func(err error) (*SigningKey, error) {
		return nil, &Error{Summary: "cannot read the signing key", Err: err, Advice: "it is a private key as gpustrap made it, without a passphrase"}
	}
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
	switch {
	case err != nil:
		return refuse(err)
	case len(list) != 1 || list[0].PrivateKey == nil:
		return refuse(errors.New("it holds no private key, or more than one"))
	case list[0].PrivateKey.Encrypted:
		return refuse(errors.New("it wants a passphrase"))
	}
	return &SigningKey{list[0]}, nil
}

// Encode returns the private key, armored. It belongs in a file of mode 0600.
func (k *SigningKey) Encode() ([]byte, error) {
	return armored("PGP PRIVATE KEY BLOCK", func(w io.Writer) error {
		return k.entity.SerializePrivateWithoutSigning(w, nil)
	})
}

// Public returns the public key, armored, as Signed-By takes it.
func (k *SigningKey) Public() ([]byte, error) {
	return armored("PGP PUBLIC KEY BLOCK", func(w io.Writer) error { return k.entity.Serialize(w) })
}

// Fingerprint is 40 hexadecimal digits.
func (k *SigningKey) Fingerprint() string {
	return strings.ToUpper(fmt.Sprintf("%x", k.entity.PrimaryKey.Fingerprint))
}

func armored(kind string, write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err == nil {
		err = write(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the key: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// clearSigned returns the text with a signature around it: InRelease.
func (k *SigningKey) clearSigned(text []byte, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, k.entity.PrivateKey, signConfig(k.time(at)))
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot sign the repository: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// detached returns a signature of the text, armored: Release.gpg.
func (k *SigningKey) detached(text []byte, at time.Time) ([]byte, error) {
	return armored("PGP SIGNATURE", func(w io.Writer) error {
		return openpgp.DetachSign(w, []*openpgp.Entity{k.entity}, bytes.NewReader(text), signConfig(k.time(at)))
	})
}

// time is when a signature says that it was made: never before the key.
func (k *SigningKey) time(at time.Time) time.Time {
	if made := k.entity.PrimaryKey.CreationTime; at.Before(made) {
		return made
	}
	return at
}
