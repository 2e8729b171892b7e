// Command gpustrap turns a short YAML file into machines that come up GPU- and
// container-ready on first boot.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes, as the manual states them.
const (
	exitDone   = 0
	exitFailed = 1 // the work failed, or a check found faults
	exitUsage  = 2 // wrong use, or an invalid configuration
)

func main() {
	w := newWorld(os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	w.executable, _ = os.Executable() // without it a hint names the program alone
	os.Exit(runInterruptible(w, os.Args[1:]))
}

// runInterruptible is run with a context that the first signal ends. A second one
// ends the program, wherever it waits.
func runInterruptible(w *world, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, w, args)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, w *world, args []string) int {
	root := newRoot(w)
	root.SetArgs(args)
	err := addCompletions(root)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		w.complain(interruptedError{err})
		return exitFailed
	}
	var silent silentError
	if !errors.As(err, &silent) {
		w.complain(err)
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

// interruptedError says in a person's words that somebody stopped the program.
type interruptedError struct{ error }

func (e interruptedError) Unwrap() error { return e.error }

func (e interruptedError) Error() string {
	return strings.ReplaceAll(e.error.Error(), context.Canceled.Error(), "interrupted")
}

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
