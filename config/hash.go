package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Scheme is a way to hash a password, by the name that mkpasswd(1) gives it.
type Scheme string

// The schemes that password_hash takes.
const (
	SHA512Crypt Scheme = "sha512crypt" // $6$, 5000 rounds: every release reads it
	Yescrypt    Scheme = "yescrypt"    // $y$, Ubuntu's own default since 22.04
)

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// maxPassword is the length in bytes of the longest password that anybody can log
// in with: libxcrypt and PAM take fewer than 512 (crypt(3), CRYPT_MAX_PASSPHRASE_SIZE).
const maxPassword = 511

// Hash returns the crypt(5) hash of a password, with a salt read from random.
func Hash(password string, scheme Scheme, random io.Reader) (string, error) {
	switch {
	case password == "":
		return "", errors.New("cannot hash an empty password")
	case len(password) > maxPassword:
		return "", fmt.Errorf("cannot hash the password: it is longer than %d bytes, and nobody could log in with it", maxPassword)
	case strings.ContainsRune(password, 0):
		return "", errors.New("cannot hash the password: it holds a NUL byte, and nobody could log in with it")
	}
	salt := make([]byte, 16)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("cannot read random bytes for the salt: %w", err)
	}
	switch scheme {
	case SHA512Crypt:
		for i, b := range salt {
			salt[i] = cryptAlphabet[b&63]
		}
		return hashSHA512(password, salt)
	case Yescrypt:
		return hashYescrypt(password, salt)
	}
	return "", fmt.Errorf("unknown hash scheme %q: write %s or %s", scheme, SHA512Crypt, Yescrypt)
}

func hashSHA512(password string, salt []byte) (string, error) {
	hasher, err := shacrypt.New(shacrypt.WithVariant(shacrypt.VariantSHA512), shacrypt.WithIterations(shacrypt.IterationsDefaultOmitted))
	if err != nil {
		return "", fmt.Errorf("cannot set up sha512-crypt: %w", err)
	}
	digest, err := hasher.HashWithSalt(password, salt)
	if err != nil {
		return "", fmt.Errorf("cannot hash the password: %w", err)
	}
	return digest.Encode(), nil
}

// hashYescrypt uses the parameters of libxcrypt's default, j9T: N = 4096, r = 32.
func hashYescrypt(password string, salt []byte) (string, error) {
	hasher, err := scrypt.New(scrypt.WithVariant(scrypt.VariantYescrypt), scrypt.WithLN(12), scrypt.WithR(32), scrypt.WithP(1), scrypt.WithK(32))
	if err != nil {
		return "", fmt.Errorf("cannot set up yescrypt: %w", err)
	}
	digest, err := hasher.HashWithSalt(password, salt)
	if err != nil {
		return "", fmt.Errorf("cannot hash the password: %w", err)
	}
	return digest.Encode(), nil
}
