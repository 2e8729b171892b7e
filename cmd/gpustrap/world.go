package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/usb"
)

// world is everything outside the program that a command may touch besides the
// file system.
type world struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	now    func() time.Time
	// executable is the program's own file, as an absolute path; empty: not known.
	executable string
	waits      []time.Duration // before a download is tried again; nil: the usual ones
	// machine is the machine's records of its block devices, and access reports
	// whether this process may write to a path in /dev.
	machine usb.System
	access  func(path string) error
}

func newWorld(stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) *world {
	return &world{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv, now: time.Now,
		machine: usb.System{FS: os.DirFS("/")}, access: usb.Access}
}

// say tells what happened, in one line. It goes to standard error, so that
// standard output is free for what a script reads.
func (w *world) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.stderr, format+"\n", args...)
}

// print writes a result to standard output.
func (w *world) print(format string, args ...any) error {
	_, err := fmt.Fprintf(w.stdout, format, args...)
	return err
}

// complain prints an error and its hint, if it has one.
func (w *world) complain(err error) {
	_, _ = fmt.Fprintf(w.stderr, "gpustrap: %s\n", err)
	if hint := hintOf(err); hint != "" {
		_, _ = fmt.Fprintf(w.stderr, "hint: %s\n", strings.ReplaceAll(hint, "\n", "\n      "))
	}
}

// hintOf returns what to do about an error, where somebody knows.
func hintOf(err error) string {
	var refused *iso.RefusedError
	var hinter interface{ Hint() string }
	switch {
	case errors.As(err, &hinter):
		return hinter.Hint()
	case errors.As(err, &refused):
		return refused.Hint
	}
	return ""
}

// await returns what a person answers, or the context's error when that ends first:
// a read from a terminal cannot be interrupted.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	answered := make(chan result, 1)
	go func() {
		value, err := read()
		answered <- result{value, err}
	}()
	select {
	case r := <-answered:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// color reports whether standard error takes colours.
func (w *world) color() bool {
	return isTerminal(w.stderr) && w.getenv("NO_COLOR") == "" && w.getenv("TERM") != "dumb"
}

// progress shows how far long work has come: a bar with rate and time left on a
// terminal, one line at the end elsewhere. The first function takes the bytes
// done and the bytes in all, the second ends the display. What ended early has no
// line: the error says how.
func (w *world) progress(what string) (update func(done, total int64), finish func()) {
	if !isTerminal(w.stderr) {
		var last, all int64
		start := w.now()
		return func(done, total int64) { last, all = done, total }, func() {
			if last > 0 && last == all {
				w.say("%s: %s in %s", what, byteCount(last), w.now().Sub(start).Round(10*time.Millisecond))
			}
		}
	}
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		progressbar.OptionUseANSICodes(true))
	known := int64(-1)
	return func(done, total int64) {
			if total != known && total > 0 {
				bar.ChangeMax64(total)
				known = total
			}
			_ = bar.Set64(done)
		}, func() {
			_ = bar.Finish()
		}
}

// byteCount writes a number of bytes with a binary unit, as people read it.
func byteCount(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n), "KMGTP"
	i := -1
	for value >= unit && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}

// lastYear is the last one that a directory record can hold (ECMA-119 9.1.5).
const lastYear = 1900 + 255

// sourceDate returns the time that SOURCE_DATE_EPOCH gives, in UTC, and zero
// when it is not set (reproducible-builds.org/specs/source-date-epoch).
func sourceDate(w *world) (time.Time, error) {
	text := w.getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is %q, and must be a number of seconds since 1970", text)
	}
	if end := time.Date(lastYear+1, 1, 1, 0, 0, 0, 0, time.UTC); seconds < 0 || seconds >= end.Unix() {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is %q, and ISO 9660 ends with the year %d", text, lastYear)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
