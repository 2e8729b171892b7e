package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/config"
)

// documents are the texts for people that somebody wrote, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "e2e/*.md", "examples/*.yaml"} {
		names, err := filepath.Glob(filepath.Join("../..", filepath.FromSlash(pattern)))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(text)
		}
	}
	return out
}

var (
	fenced   = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	inline   = regexp.MustCompile("`([^`]+)`")
	comment  = regexp.MustCompile(`(^|\s)#.*`)
	shellEnd = regexp.MustCompile(`\s(>|&&|\|)\s.*`)
	link     = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
)

// shownCommands returns the command lines of gpustrap in a document, without the
// name, and which of them are whole lines of an example.
func shownCommands(text string) map[string]bool {
	out := map[string]bool{}
	add := func(line string, whole bool) {
		line = strings.TrimLeft(line, "$# ")
		if rest, ok := strings.CutPrefix(line, "gpustrap "); ok {
			rest = comment.ReplaceAllString(shellEnd.ReplaceAllString(rest, ""), "")
			out[strings.Join(strings.Fields(rest), " ")] = whole
		}
	}
	for _, m := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		add(m[1], false)
	}
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(m[2], "\\\n", " ")) {
			add(line, true)
		}
	}
	return out
}

// checkCommand parses a command line as the program would.
func checkCommand(line string, whole bool) error {
	root := newRoot(newWorld(strings.NewReader(""), &strings.Builder{}, &strings.Builder{}, func(string) string { return "" }))
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(strings.Fields(strings.ReplaceAll(line, "'", "")))
	if err != nil || cmd == root && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return fmt.Errorf("there is no such command: %w", err)
	}
	if err := cmd.ParseFlags(rest); err != nil || !whole {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestShownCommands: each command line in the documents, and in the commands' own
// examples, is one that the program takes.
func TestShownCommands(t *testing.T) {
	seen := 0
	check := func(where, line string, whole bool) {
		seen++
		if err := checkCommand(line, whole); err != nil {
			t.Errorf("%s: gpustrap %s: %v", where, line, err)
		}
	}
	for name, text := range documents(t) {
		for line, whole := range shownCommands(text) {
			check(name, line, whole)
		}
	}
	root := newRoot(newWorld(strings.NewReader(""), &strings.Builder{}, &strings.Builder{}, func(string) string { return "" }))
	for _, cmd := range documented(root) {
		for line, whole := range shownCommands("```\n" + cmd.Example + "\n```\n") {
			check(cmd.Name(), line, whole)
		}
	}
	if seen < 60 {
		t.Errorf("%d command lines were found", seen)
	}
}

// topKey is the first key of a piece of YAML.
var topKey = regexp.MustCompile(`^([a-z_]+): `)

// TestShownConfigurations: each piece of YAML in the documents, and each value in a
// line of text that begins with a key of the file's top, has keys and values that a
// configuration may have.
func TestShownConfigurations(t *testing.T) {
	read := func(string) ([]byte, error) { return nil, os.ErrNotExist }
	_, settings, _ := strings.Cut(string(config.Reference(nil)), "\n## Settings\n")
	settings, _, _ = strings.Cut(settings, "\n### ")
	seen := 0
	check := func(name, piece string) {
		seen++
		if !strings.Contains(piece, "version:") {
			piece = "version: 1\n" + piece
		}
		lines := strings.Split(piece, "\n")
		_, rep := config.Decode(name, []byte(piece), read)
		for _, d := range rep.Diagnostics {
			// Files that it names are not here, and what a piece leaves out is elsewhere.
			if strings.HasPrefix(d.Summary, "cannot read ") || strings.Contains(d.Summary, " has no ") ||
				d.Pos.Line > 0 && strings.Contains(lines[d.Pos.Line-1], "…") {
				continue
			}
			t.Errorf("%s: %s\n%s", name, d.Summary, piece)
		}
	}
	for name, text := range documents(t) {
		if filepath.Ext(name) == ".yaml" {
			continue
		}
		for _, m := range fenced.FindAllStringSubmatch(text, -1) {
			if m[1] == "yaml" {
				check(name, m[2])
			}
		}
		for _, m := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if key := topKey.FindStringSubmatch(m[1]); key != nil && strings.Contains(settings, "\n| `"+key[1]+"` |") {
				check(name, m[1])
			}
		}
	}
	if seen < 25 {
		t.Errorf("%d pieces were found", seen)
	}
}

// TestLinks: what a document leads to is there.
func TestLinks(t *testing.T) {
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s leads to %s: %v", name, m[1], err)
			}
		}
	}
}
