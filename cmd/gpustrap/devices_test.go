package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gpustrap/gpustrap/usb"
)

// machineVariable names a folder whose records of block devices the scripts see in
// place of this machine's.
const machineVariable = "GPUSTRAP_TEST_MACHINE"

// fixtureMachine puts the fixture of a machine's records in the world's place.
func fixtureMachine(w *world) {
	if dir := os.Getenv(machineVariable); dir != "" {
		w.machine = usb.System{FS: os.DirFS(dir)}
		w.access = nil
	}
}

// unpackMachine is the script command "machine NAME": what follows sees the records
// of usb/testdata/machines/NAME.tree.
func unpackMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: machine NAME")
	}
	trees := ts.Getenv("MACHINES")
	text := ts.ReadFile(filepath.Join(trees, args[0]+".tree"))
	root := ts.MkAbs("machine-" + args[0])
	unescape := strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if link, target, ok := strings.Cut(line, " -> "); ok {
			ts.Check(os.MkdirAll(filepath.Dir(filepath.Join(root, link)), 0o755))
			ts.Check(os.Symlink(target, filepath.Join(root, link)))
		} else if file, content, ok := strings.Cut(line, " ="); ok && !strings.HasPrefix(line, "#") {
			ts.Check(os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755))
			text := unescape.Replace(strings.TrimPrefix(content, " ")) + "\n"
			ts.Check(os.WriteFile(filepath.Join(root, file), []byte(text), 0o644))
		} else if dir, ok := strings.CutSuffix(line, "/"); ok {
			ts.Check(os.MkdirAll(filepath.Join(root, dir), 0o755))
		}
	}
	ts.Setenv(machineVariable, root)
}

func TestCheckPlatform(t *testing.T) {
	for goos, want := range map[string]string{"darwin": "/dev/rdiskN", "windows": "Rufus", "freebsd": "dd"} {
		if hint := hintOf(checkPlatform(goos)); !strings.Contains(hint, want) || !strings.Contains(hint, "gpustrap remaster") {
			t.Errorf("%s: %s", goos, hint)
		}
	}
	if err := checkPlatform("linux"); err != nil {
		t.Error(err)
	}
}

// TestRightsHint holds the command that would do.
func TestRightsHint(t *testing.T) {
	w := newWorld(strings.NewReader(""), &strings.Builder{}, &strings.Builder{}, func(string) string { return "" })
	cmd := newWrite(w)
	if err := cmd.ParseFlags([]string{"--iso", "my; file.iso", "--yes", "--allow-fixed=false", "node01", "/dev/my stick"}); err != nil {
		t.Fatal(err)
	}
	err := withCommandLine(w, cmd, &usb.Refusal{Reason: usb.ReasonRights, Sentence: "no"})
	if got := hintOf(err); got != "sudo write --allow-fixed=false --iso='my; file.iso' --yes node01 '/dev/my stick'" {
		t.Error(got)
	}
	newRoot(w).AddCommand(cmd)
	for executable, want := range map[string]string{
		"/usr/local/bin/gpustrap": "sudo gpustrap write ", "/home/ada/my bin/gpustrap": "sudo '/home/ada/my bin/gpustrap' write ",
	} {
		w.executable = executable
		if got := hintOf(withCommandLine(w, cmd, err)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", executable, got)
		}
	}
	if err := withCommandLine(w, cmd, fs.ErrClosed); err != fs.ErrClosed {
		t.Error(err)
	}
}

// TestConfirmDevice holds that only the device's name is a yes.
func TestConfirmDevice(t *testing.T) {
	d := &usb.Device{Name: "sdb", Path: "/dev/sdb"}
	for answer, want := range map[string]bool{
		"sdb\n": true, " sdb \n": true, "/dev/sdb\n": true, "sdb": true,
		"": false, "\n": false, "y\n": false, "yes\n": false, "sdc\n": false, "sdb1\n": false, "sd\n": false, "SDB\n": false, "n\nsdb\n": false,
	} {
		w := newWorld(strings.NewReader(answer), &strings.Builder{}, &strings.Builder{}, func(string) string { return "" })
		if err := confirmDevice(t.Context(), w, d, "gpu.iso", false); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
	}
	// Whoever interrupts the question has not said yes.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, pipe := io.Pipe()
	defer func() { _ = pipe.Close() }() // nothing was said
	w := newWorld(r, &strings.Builder{}, &strings.Builder{}, func(string) string { return "" })
	if confirmDevice(ctx, w, d, "gpu.iso", false) == nil {
		t.Error("an interrupted question is a yes")
	}
}

// TestSourceFile holds that the file behind a loop device is known by any of its
// names.
func TestSourceFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(at("gpu.iso"), nil, 0o600), os.WriteFile(at("other.iso"), nil, 0o600),
		os.Link(at("gpu.iso"), at("hard.iso")), os.Symlink("gpu.iso", at("link.iso")))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"gpu.iso": "gpu.iso", "hard.iso": "gpu.iso", "link.iso": "gpu.iso", "other.iso": "other.iso"} {
		f, err := os.Open(at(name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := sourceFile(f, &usb.Device{Backing: at("gpu.iso")})
		if err = errors.Join(err, f.Close()); err != nil || got != at(want) {
			t.Errorf("%s is %s: %v", name, got, err)
		}
	}
}
