package config

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"
)

// hashPattern is what crypt(5) writes for sha512-crypt and yescrypt.
var hashPattern = regexp.MustCompile(`^(\$6\$(rounds=[1-9][0-9]{3,8}\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}|\$y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43})$`)

const runHash = "run `gpustrap hash` and write what it prints"

// refuseHash says what is wrong with a password hash. It never repeats it.
func refuseHash(s string) problem {
	switch {
	case hashPattern.MatchString(s):
		return problem{}
	case s == "":
		return problem{"the password hash is empty", runHash + ", or leave the key out to lock the password"}
	case s == "!" || s == "*" || s == "!!" || s == "!*":
		return problem{"this locks the password", "leave the key out, which does the same"}
	case strings.HasPrefix(s, "$6$") || strings.HasPrefix(s, "$y$"):
		return problem{"this is not a whole crypt hash", "it was cut or changed; in YAML put it in single quotes; " + runHash}
	case strings.HasPrefix(s, "$"):
		return problem{"this kind of crypt hash is not accepted", "only sha512-crypt ($6$) and yescrypt ($y$) are; " + runHash}
	}
	return problem{"this is a password in plain text, not a crypt hash", runHash + "; whoever has seen this file knows the password"}
}

func isPrivateKey(s string) bool {
	return strings.Contains(s, "PRIVATE KEY-----") || strings.Contains(s, "PRIVATE KEY BLOCK-----") || strings.HasPrefix(s, "PuTTY-User-Key-File")
}

// refusePrivateKey reports a private key in words that do not repeat it.
func (d *decoder) refusePrivateKey(n *yaml.Node, path, public string) {
	d.errorAt(n, path, "THIS IS A PRIVATE KEY", "write "+public+"; a private key stays where it was made, and one that was shared must be replaced")
}

// acceptPublicKeys takes the lines of an authorized_keys text (sshd(8),
// AUTHORIZED_KEYS FILE FORMAT). file is empty for a text of the configuration.
func acceptPublicKeys(d *decoder, n *yaml.Node, path, content, file string) (publicKeys, bool) {
	out := publicKeys{at: markOf(n)}
	where := "this"
	if file != "" {
		where = shorten(file)
	}
	if isPrivateKey(content) {
		d.refusePrivateKey(n, path, "the public key, which is the .pub file beside it")
		return out, false
	}
	ok := true
	for i, line := range strings.Split(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		place := where
		if file != "" {
			place = fmt.Sprintf("%s, line %d,", where, i+1)
		}
		switch {
		case err != nil:
			d.errorAt(n, path, place+" is not an SSH public key", "write one as in ~/.ssh/id_ed25519.pub: its type, then its data, on one line; {file: PATH} names a file")
			ok = false
		case key.Type() == "ssh-dss":
			d.errorAt(n, path, place+" is a DSA key, which OpenSSH no longer takes", "make a new one: ssh-keygen -t ed25519")
			ok = false
		default:
			out.lines = append(out.lines, line)
		}
	}
	if ok && len(out.lines) == 0 {
		d.errorAt(n, path, where+" holds no SSH public key", "write one as in ~/.ssh/id_ed25519.pub, on one line")
		ok = false
	}
	return out, ok
}

// acceptRepositoryKey takes an armored OpenPGP public key, or the bytes of one
// from a file. Whether it can be read is up to those who use it.
func acceptRepositoryKey(d *decoder, n *yaml.Node, path, content, file string) (text, bool) {
	switch {
	case isPrivateKey(content):
		d.refusePrivateKey(n, path, "the public key: gpg --armor --export KEY")
	case strings.Contains(content, "-----BEGIN PGP PUBLIC KEY BLOCK-----"),
		file != "" && content != "" && content[0]&0x80 != 0: // binary: an OpenPGP packet tag (RFC 9580, 4.2)
		return text{v: content, at: markOf(n)}, true
	case file != "":
		d.errorAt(n, path, shorten(file)+" is not an OpenPGP public key", "name the file of the key, armored or binary")
	default:
		d.errorAt(n, path, "this is not an OpenPGP public key", "write the armored text in a block (key: |), or {file: PATH}")
	}
	return text{}, false
}
