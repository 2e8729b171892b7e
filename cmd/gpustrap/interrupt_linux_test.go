package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpustrap/gpustrap/config"
)

// patience is how long an interrupted command may take to end.
const patience = 10 * time.Second

// Nobody answers, and somebody presses Ctrl-C.
func TestQuestionsCanBeInterrupted(t *testing.T) {
	silence, open := io.Pipe()
	defer func() { _ = open.Close() }()
	questions := map[string]func(context.Context, *world) error{
		"password": func(ctx context.Context, w *world) error {
			_, err := readPassword(ctx, w)
			return err
		},
		"interview": func(ctx context.Context, w *world) error {
			_, err := newInterview(ctx, w, probe{os.DirFS(t.TempDir())}).fill(&config.StarterValues{})
			return err
		},
	}
	for name, question := range questions {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			ended := make(chan error, 1)
			go func() {
				ended <- question(ctx, newWorld(silence, io.Discard, io.Discard, func(string) string { return "" }))
			}()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(interruptedError{err}.Error(), "interrupted") {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(patience):
				t.Fatal("it waits on")
			}
		})
	}
}

// A program that waits where it does not look at its context, here to open a
// pipe, is ended by the second signal.
func TestSecondSignalEnds(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.yaml")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("gpustrap") // the test itself, put there by testscript
	if err != nil {
		t.Skip("not run by way of TestMain")
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "check", "-c", pipe)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.After(patience)
	reads := false // once it does, there is somebody to open the pipe for
	for {
		select {
		case err := <-ended:
			if !reads {
				t.Fatalf("it ended by itself: %v: %s", err, said.String())
			}
			return
		case <-limit:
			_ = cmd.Process.Kill() // it is ours, and hangs
			t.Fatalf("it waits on: %s", said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if !reads {
			writer, err := os.OpenFile(pipe, os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				continue
			}
			defer func() { _ = writer.Close() }() // nothing is written
			reads = true
		}
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
	}
}
