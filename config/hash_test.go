package config

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// libxcrypt, which logs people in, must make the same hash of the same password
// and salt: asked through mkpasswd, which takes a salt for sha512-crypt alone,
// and through perl's crypt.
func TestHashEqualsLibxcrypt(t *testing.T) {
	mkpasswd, perl := oracle.Need(t, "mkpasswd"), oracle.Need(t, "perl")
	for _, scheme := range []Scheme{SHA512Crypt, Yescrypt} {
		for _, password := range []string{"correct horse", "x", "päßwörd ☃", strings.Repeat("long", 127) + "est"} {
			got, err := Hash(password, scheme, strings.NewReader("0123456789abcdef"))
			if err != nil {
				t.Fatal(err)
			}
			if p := refuseHash(got); p.summary != "" {
				t.Errorf("%s: our own hash %q is refused: %s", scheme, got, p.summary)
			}
			setting := got[:strings.LastIndexByte(got, '$')]
			want := ask(t, password, perl, "-e", "chomp(my $p = <STDIN>); print crypt($p, $ARGV[0])", setting)
			if got != want {
				t.Errorf("%s of %q:\n got %s\nperl %s", scheme, password, got, want)
			}
			if scheme == Yescrypt {
				continue
			}
			if want := ask(t, password, mkpasswd, "-m", "sha512crypt", "-s", "-S", strings.TrimPrefix(setting, "$6$")); got != want {
				t.Errorf("%s of %q:\n got     %s\nmkpasswd %s", scheme, password, got, want)
			}
		}
	}
}

func ask(t *testing.T, password, tool string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", tool, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestHashRefuses(t *testing.T) {
	cause := errors.New("no entropy")
	if _, err := Hash("x", SHA512Crypt, iotest.ErrReader(cause)); !errors.Is(err, cause) {
		t.Errorf("an error of the random source was lost: %v", err)
	}
	for name, password := range map[string]string{"empty": "", "with a NUL byte": "a\x00b", "of 512 bytes": strings.Repeat("a", 512)} {
		if _, err := Hash(password, SHA512Crypt, bytes.NewReader(make([]byte, 16))); err == nil {
			t.Errorf("a password %s was hashed", name)
		}
	}
	if _, err := Hash("x", "md5", bytes.NewReader(make([]byte, 16))); err == nil {
		t.Error("an unknown scheme was taken")
	}
}
