package grubcfg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// variableX finds the variables of a word's text.
var variableX = regexp.MustCompile(`\$\{?\w+\}?`)

// expected returns what GRUB prints for show TEXT with x=v, and whether our
// reader says enough to know: one command, no variable but x, and no literal
// dollar that would look like one.
func expected(text string) (string, bool) {
	script, err := parse([]byte("show " + text + "\n"))
	if err != nil || len(script.body.stmts) != 1 || script.body.stmts[0].block != nil {
		return "", false
	}
	var b strings.Builder
	for _, w := range script.body.stmts[0].words[1:] {
		printed := w.text
		for _, v := range variableX.FindAllString(printed, -1) {
			if w.static || v != "$x" && v != "${x}" {
				return "", false
			}
			printed = strings.Replace(printed, v, "v", 1)
		}
		if !w.static && strings.Contains(printed, "$") {
			return "", false
		}
		fmt.Fprintf(&b, "<%s>\n", printed)
	}
	return b.String() + ".\n", true
}

// TestLexerIsGRUBs holds our reader against GRUB's: grub-emu, GRUB as a program
// with the same lexer and interpreter, prints the arguments of random commands.
// Left out are * and ? outside quotes, which GRUB replaces by file names, and a
// translated text within a word, where GRUB keeps the word's other backslashes.
func TestLexerIsGRUBs(t *testing.T) {
	emu := oracle.Need(t, "grub-emu")
	pieces := []string{
		"a", "bc", "1", " ", " ", " ", "'", "'", `"`, `"`, `\`, `\`, "$x", "${x}", "$", "#", ";", "{", "}", "=", "'*?'", `\*`, "[", "]", ",",
		"fi", "do", "/", "-", "---", "é", "\\\n", "\n", "\n#c\n", "'x y'", `"x \" y"`, ` $"t" `, "&", "|", "<", ">", "!", "~", "(", ")", `\x41`, "\r",
	}
	texts := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 12).Draw(t, "pieces"), "")
	})
	var script, want strings.Builder
	script.WriteString("set x='v'\nfunction show {\n for a in \"$@\"; do echo \"<$a>\"; done\n echo .\n}\n")
	n := 0
	for seed := range 3000 {
		text := texts.Example(seed)
		if printed, ok := expected(text); ok {
			// The number says which command differs, and is there because "$@"
			// without any argument is one empty word.
			fmt.Fprintf(&script, "show %d %s\n", n, text)
			fmt.Fprintf(&want, "<%d>\n%s", n, printed)
			n++
		}
	}
	script.WriteString("halt\n")
	if n < 300 {
		t.Fatalf("only %d comparable commands", n)
	}

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "grub.cfg"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, emu, "-d", dir, "-r", "host").Output()
	if err != nil {
		t.Fatalf("grub-emu: %v\n%s", err, out)
	}
	// GRUB begins with the terminal's colours and a greeting.
	text := strings.ReplaceAll(string(out), "\r", "")
	_, text, _ = strings.Cut(text, "Welcome to GRUB!\n\n")
	text = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, "")
	if diff := cmp.Diff(strings.Split(want.String(), "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("GRUB reads the words otherwise (-ours +GRUB):\n%.3000s", diff)
	}
	t.Logf("%d commands compared", n)
}
