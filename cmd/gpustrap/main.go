// Command gpustrap turns a short YAML file into machines that come up GPU- and
// container-ready on first boot.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, as the manual states them.
const (
	exitDone   = 0
	exitFailed = 1 // the work failed, or a check found faults
	exitUsage  = 2 // wrong use, or an invalid configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	w := newWorld(os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	code := run(ctx, w, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, w *world, args []string) int {
	root := newRoot(w)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var silent silentError
	if !errors.As(err, &silent) {
		w.complain(err)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitFailed
	}
	var usage usageError
	if errors.As(err, &usage) || errors.Is(err, errInvalidConfig) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line that cannot be obeyed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silentError ends a command whose complaint has already been printed.
type silentError struct{ error }

func (e silentError) Unwrap() error { return e.error }

// errInvalidConfig is the reason when the configuration has errors.
var errInvalidConfig = errors.New("the configuration has errors")

// hintError adds a line that says what to do.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// Hint returns what to do about the error.
func (e hintError) Hint() string { return e.hint }

func withHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}
