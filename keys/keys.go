// Package keys holds the OpenPGP keys that gpustrap trusts, and checks signatures
// with them.
//
// A key is trusted because its fingerprint is written here (or in the person's
// file), never because of what it says of itself. The policy, in full:
//
//   - A signature counts when the signing key or one of its signing subkeys is in
//     the keyring. Signatures by other keys beside it are ignored.
//   - The text must have been hashed with SHA-2 or SHA-3; MD5, RIPEMD-160 and SHA-1
//     are refused, and so are DSA and ElGamal keys and RSA keys under 2048 bits.
//   - A key's own certification may use SHA-1: NVIDIA's CUDA key has such a one. The
//     certification gives the key its name, dates and uses; which key it is says the
//     pinned fingerprint. MD5 and RIPEMD-160 are refused there too.
//   - The key must have been valid when it signed, and still be valid at the time
//     that the caller gives; a revoked key is refused.
package keys

import (
	"bytes"
	"crypto"
	_ "embed" // the keys of Ubuntu
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Fingerprints of the keys that sign what gpustrap installs: 40 hexadecimal
// digits, of the primary keys.
const (
	// UbuntuCDImageFingerprint: Ubuntu CD Image Automatic Signing Key (2012), signs
	// SHA256SUMS of installation media. From Ubuntu's package ubuntu-keyring,
	// /usr/share/keyrings/ubuntu-keyring-2012-cdimage.gpg.
	UbuntuCDImageFingerprint = "843938DF228D22F7B3742BC0D94AA3F0EFE21092"
	// UbuntuArchiveFingerprint: Ubuntu Archive Automatic Signing Key (2018), signs
	// the archive's releases. From Ubuntu's package ubuntu-keyring,
	// /usr/share/keyrings/ubuntu-keyring-2018-archive.gpg.
	UbuntuArchiveFingerprint = "F6ECB3762474EDA9D21B7022871920D1991BC93C"
	// DockerFingerprint: Docker Release (CE deb). From
	// https://download.docker.com/linux/ubuntu/gpg.
	DockerFingerprint = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
	// NVIDIAToolkitFingerprint: NVIDIA CORPORATION (Open Source Projects), signs
	// the NVIDIA Container Toolkit's repository. From
	// https://nvidia.github.io/libnvidia-container/gpgkey.
	NVIDIAToolkitFingerprint = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
	// CUDAFingerprint: cudatools, signs NVIDIA's CUDA repositories of ubuntu2204
	// and ubuntu2404. From https://developer.download.nvidia.com/compute/cuda/repos/
	// in each repository's 3bf863cc.pub.
	CUDAFingerprint = "EB693B3035CD5710E231E123A4B469963BF863CC"
)

//go:embed ubuntu-keyring-2012-cdimage.gpg
var ubuntuCDImage []byte

//go:embed ubuntu-keyring-2018-archive.gpg
var ubuntuArchive []byte

// What can be wrong with a signature or a key. Errors of this package wrap one of
// them.
var (
	ErrMalformed    = errors.New("not OpenPGP data")
	ErrPrivateKey   = errors.New("a private key")
	ErrWrongKey     = errors.New("signed by another key")
	ErrBadSignature = errors.New("the signature does not belong to this text")
	ErrExpired      = errors.New("the key has expired")
	ErrRevoked      = errors.New("the key was revoked")
	ErrWeak         = errors.New("the signature is too weak")
)

// maxBlock is the largest key block or signature that is read, in bytes.
const maxBlock = 1 << 20

// Keyring is a set of public keys. Its methods may be called by several goroutines
// at a time.
type Keyring struct {
	verifying sync.Mutex // the library notes in a key which of its signatures it has checked
	entities  openpgp.EntityList
}

// UbuntuCDImage returns the keyring with the key that signs Ubuntu's installation
// media.
func UbuntuCDImage() *Keyring { return mustParse(ubuntuCDImage, UbuntuCDImageFingerprint) }

// UbuntuArchive returns the keyring with the key that signs Ubuntu's package
// archive.
func UbuntuArchive() *Keyring { return mustParse(ubuntuArchive, UbuntuArchiveFingerprint) }

// mustParse parses an embedded key. It panics for a damaged program only.
func mustParse(block []byte, fingerprint string) *Keyring {
	k, err := Parse(block)
	if err != nil || len(k.entities) != 1 || !k.Has(fingerprint) {
		panic(fmt.Sprintf("the embedded key %s is damaged: %v", fingerprint, err))
	}
	return k
}

// Parse reads a block of one public key or more, armored or binary. The errors
// wrap ErrMalformed, or ErrPrivateKey for a block that holds a secret.
func Parse(block []byte) (*Keyring, error) {
	binary, kind, err := dearmor(block)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key: %w", err)
	}
	switch kind {
	case "", "PGP PUBLIC KEY BLOCK":
	case "PGP PRIVATE KEY BLOCK":
		return nil, fmt.Errorf("cannot read the key: %w: give the public key, and keep this one to yourself", ErrPrivateKey)
	default:
		return nil, fmt.Errorf("cannot read the key: %w: a %s, where a PGP PUBLIC KEY BLOCK must stand", ErrMalformed, kind)
	}
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("cannot read the key: %w: %w", ErrMalformed, err)
	}
	if len(entities) == 0 {
		return nil, fmt.Errorf("cannot read the key: %w: there is no key in it", ErrMalformed)
	}
	for _, e := range entities {
		if e.PrivateKey != nil || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil }) {
			return nil, fmt.Errorf("cannot read the key: %w: give the public key, and keep this one to yourself", ErrPrivateKey)
		}
	}
	return &Keyring{entities: entities}, nil
}

// Fingerprints returns the fingerprints of the primary keys: hexadecimal digits,
// upper case, 40 of them for keys of version 4.
func (k *Keyring) Fingerprints() []string {
	var all []string
	for _, e := range k.entities {
		all = append(all, fingerprint(e))
	}
	return all
}

// Has reports whether a primary key has the fingerprint. Blanks and the case of
// letters do not count.
func (k *Keyring) Has(want string) bool {
	want = strings.ToUpper(strings.ReplaceAll(want, " ", ""))
	return slices.Contains(k.Fingerprints(), want)
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

// Verify checks a detached signature, armored or binary, of a text. The key must
// be valid at the given time too; with the zero time it is enough that it was
// valid when it signed. The errors wrap ErrMalformed, ErrWrongKey,
// ErrBadSignature, ErrExpired, ErrRevoked or ErrWeak.
func (k *Keyring) Verify(signed, signature []byte, now time.Time) error {
	binary, kind, err := dearmor(signature)
	if err == nil && kind != "" && kind != "PGP SIGNATURE" {
		err = fmt.Errorf("%w: a %s, where a PGP SIGNATURE must stand", ErrMalformed, kind)
	}
	if err != nil {
		return fmt.Errorf("cannot read the signature: %w", err)
	}
	signatures, err := readSignatures(binary)
	if err != nil {
		return fmt.Errorf("cannot read the signature: %w", err)
	}
	k.verifying.Lock()
	defer k.verifying.Unlock()
	var failure error
	for _, e := range k.entities {
		own := slices.DeleteFunc(slices.Clone(signatures), func(s *packet.Signature) bool { return !names(s, e) })
		if len(own) == 0 {
			continue
		}
		if err = verify(e, own, signed, binary, now); err == nil {
			return nil
		}
		failure = fmt.Errorf("the signature by key %s is not accepted: %w", fingerprint(e), err)
	}
	if failure != nil {
		return failure
	}
	return fmt.Errorf("%w: by %s, and only %s is accepted", ErrWrongKey, issuers(signatures), strings.Join(k.Fingerprints(), " or "))
}

// readSignatures reads the signature packets of a detached signature.
func readSignatures(binary []byte) ([]*packet.Signature, error) {
	var signatures []*packet.Signature
	packets := packet.NewReader(bytes.NewReader(binary))
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if s, ok := p.(*packet.Signature); ok && s.IssuerKeyId != nil {
			signatures = append(signatures, s)
		}
	}
	if len(signatures) == 0 {
		return nil, fmt.Errorf("%w: there is no signature in it", ErrMalformed)
	}
	return signatures, nil
}

// names reports whether a signature says that the key, or a subkey of it, made it.
func names(s *packet.Signature, e *openpgp.Entity) bool {
	return len(openpgp.EntityList{e}.EntitiesById(*s.IssuerKeyId)) > 0
}

func issuers(signatures []*packet.Signature) string {
	var ids []string
	for _, s := range signatures {
		ids = append(ids, fmt.Sprintf("%016X", *s.IssuerKeyId))
	}
	return strings.Join(ids, " and ")
}

// verify checks a detached signature with one key. own are the signatures in it
// that name the key.
func verify(e *openpgp.Entity, own []*packet.Signature, signed, signature []byte, now time.Time) error {
	// The library judges the key at the time of the signature; its clock is
	// asked for the signature's own expiry alone.
	config := &packet.Config{Time: func() time.Time { return now }, MinRSABits: 2048}
	good, _, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{e}, bytes.NewReader(signed), bytes.NewReader(signature), config)
	if err != nil {
		if i := slices.IndexFunc(own, func(s *packet.Signature) bool { return weakHash(s.Hash) }); i >= 0 {
			return fmt.Errorf("%w: it uses %v", ErrWeak, own[i].Hash)
		}
		return classify(err)
	}
	if now.IsZero() {
		return nil
	}
	if _, err := e.VerifyPrimaryKey(now, config); err != nil {
		return classify(err)
	}
	for _, sub := range e.Subkeys {
		if sub.PublicKey.KeyId != *good.IssuerKeyId {
			continue
		}
		if _, err := sub.Verify(now, config); err != nil {
			return classify(err)
		}
	}
	return nil
}

// weakHash reports whether a text hashed so is not accepted.
func weakHash(h crypto.Hash) bool {
	return h == crypto.MD5 || h == crypto.SHA1 || h == crypto.RIPEMD160
}

// classify wraps an error of the OpenPGP library in one of ours.
func classify(err error) error {
	var weak pgperrors.WeakAlgorithmError
	kind := ErrBadSignature
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired), errors.Is(err, pgperrors.ErrSignatureExpired):
		kind = ErrExpired
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		kind = ErrRevoked
	case errors.As(err, &weak):
		kind = ErrWeak
	}
	return fmt.Errorf("%w (%w)", kind, err)
}

// dearmor returns the binary form of an OpenPGP block and the kind that its armor
// names, "" for a block that is binary already.
func dearmor(block []byte) (binary []byte, kind string, err error) {
	if len(block) > maxBlock {
		return nil, "", fmt.Errorf("%w: %d bytes, and no key or signature has more than %d", ErrMalformed, len(block), maxBlock)
	}
	if len(block) > 0 && block[0]&0x80 != 0 { // RFC 9580 4.2: bit 7 of a packet is set
		return block, "", nil
	}
	decoded, err := armor.Decode(bytes.NewReader(block))
	if err != nil {
		return nil, "", fmt.Errorf("%w: neither binary nor with -----BEGIN PGP", ErrMalformed)
	}
	if binary, err = io.ReadAll(decoded.Body); err != nil {
		return nil, "", fmt.Errorf("%w: the armor is damaged: %w", ErrMalformed, err)
	}
	return binary, decoded.Type, nil
}
