package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gpustrap": mainForScripts})
}

// mainForScripts is main, run by the scripts as a process of its own.
func mainForScripts() {
	w := newWorld(os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	fixtureMachine(w)
	os.Exit(runInterruptible(w, os.Args[1:]))
}

func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	media := map[string]string{
		"MEDIUM":           isotest.Medium{}.Make(t),
		"MEDIUM_ARM64":     isotest.Medium{Layout: isotest.ARM64}.Make(t),
		"MEDIUM_ISOHYBRID": isotest.Medium{Layout: isotest.Isohybrid}.Make(t),
		"MEDIUM_OTHER": isotest.Medium{Files: map[string]string{
			"casper/filesystem.manifest": manifest,
			".disk/info":                 "Ubuntu-Server 24.04.3 LTS \"Noble Numbat\" - Release amd64 (20250805.1)\n",
		}}.Make(t),
		"MEDIUM_MANIFEST": isotest.Medium{Files: map[string]string{"casper/filesystem.manifest": manifest}}.Make(t),
	}
	archive := apttest.New(t, "24.04")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"mode": checkMode, "machine": unpackMachine},
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("MACHINES", filepath.Join(filepath.Dir(examples), "usb", "testdata", "machines"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("ARCHIVE", archive.URL)
			if err := writeSources(env.WorkDir, archive); err != nil {
				return err
			}
			for name, path := range media {
				env.Setenv(name, path)
			}
			return nil
		},
	})
}

// manifest is what the medium with a list of packages brings.
const manifest = "ca-certificates\t20240203\ncurl\t8.5.0\ngpg\t2.4.4\nlibc6:amd64\t2.39-0ubuntu8\n"

// writeSources writes sources.yaml, a piece of configuration with the repositories
// of an archive, and the archive's key.
func writeSources(dir string, a *apttest.Archive) error {
	text := "sources:\n"
	for _, name := range []string{"ubuntu", "docker", "toolkit"} {
		text += "  " + name + ": {url: " + a.URL + "/" + name + ", key: {file: archive.asc}, fingerprint: " + a.Fingerprint + "}\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "archive.asc"), a.Key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "sources.yaml"), []byte(text), 0o600)
}

// checkMode is the script command "mode 600 FILE": the file has these permissions.
func checkMode(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strings.TrimLeft(octal(info.Mode().Perm()), "0"); (got == args[0]) == neg {
		ts.Fatalf("%s has the mode %s", args[1], got)
	}
}

func octal(m os.FileMode) string {
	const digits = "01234567"
	return string([]byte{digits[m>>6&7], digits[m>>3&7], digits[m&7]})
}

// TestHelp holds the help of every command: a line fits a terminal of 80
// columns, and each visible command has an example or needs no argument.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "/"), func(t *testing.T) {
			var out strings.Builder
			cmd.SetOut(&out)
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "completion" && c.Name() != "help" {
				walk(c)
			}
		}
	}
	walk(newRoot(newWorld(strings.NewReader(""), &strings.Builder{}, &strings.Builder{}, func(string) string { return "" })))
}

// TestDocs holds the generated documents against the program.
func TestDocs(t *testing.T) {
	const docs = "../../docs"
	fresh := t.TempDir()
	w := newWorld(strings.NewReader(""), io.Discard, io.Discard, func(string) string { return "" })
	if err := writeDocs(newRoot(w), fresh); err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile(filepath.Join(docs, "graph.svg"))
	if made, madeErr := os.ReadFile(filepath.Join(fresh, "graph.svg")); err != nil || madeErr != nil || !bytes.Equal(picture, made) {
		t.Error("docs/graph.svg is out of date: run make docs")
	}
	for _, dir := range []string{"man", "reference"} {
		kept, err := os.ReadDir(filepath.Join(docs, dir))
		if err != nil {
			t.Fatal(err)
		}
		made, err := os.ReadDir(filepath.Join(fresh, dir))
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) != len(made) {
			t.Errorf("docs/%s has %d files, and the program makes %d: run make docs", dir, len(kept), len(made))
		}
		for _, file := range made {
			want, err := os.ReadFile(filepath.Join(fresh, dir, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(docs, dir, file.Name()))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("docs/%s/%s is out of date: run make docs", dir, file.Name())
			}
		}
	}
}
