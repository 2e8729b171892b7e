package templates_test

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/templates"
)

func TestQuoteShell(t *testing.T) {
	for in, want := range map[string]string{
		"":               `''`,
		"plain":          `'plain'`,
		"it's":           `'it'\''s'`,
		"$HOME `id` \\":  "'$HOME `id` \\'",
		"two\nlines; rm": "'two\nlines; rm'",
	} {
		if got := templates.QuoteShell(in); got != want {
			t.Errorf("QuoteShell(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestShellReadsWordsBack asks a real shell.
func TestShellReadsWordsBack(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[^\x00]*`), 1, 4).Draw(t, "words")
		out, err := exec.Command(sh, "-c", "printf '%s\\0' "+templates.ShellCommand(words...)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); strings.Join(got, "\x00") != strings.Join(words, "\x00") {
			t.Fatalf("the shell reads %q, want %q", got, words)
		}
	})
}
