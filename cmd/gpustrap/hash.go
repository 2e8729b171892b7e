package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gpustrap/gpustrap/config"
)

func newHash(w *world) *cobra.Command {
	var scheme string
	cmd := &cobra.Command{
		Use:   "hash",
		Short: "Make a password hash for the configuration",
		Long: `Asks for a password twice and prints its crypt hash, for password_hash
or for a file named by password_file. Without a terminal the password is the
first line of standard input. The password itself is never written anywhere.`,
		Example: "  gpustrap hash > secrets/ops.hash\n  pass show lab/ops | gpustrap hash",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s := config.Scheme(scheme); s != config.SHA512Crypt && s != config.Yescrypt {
				return usagef("there is no method %q; --method takes %s or %s", scheme, config.SHA512Crypt, config.Yescrypt)
			}
			password, err := readPassword(cmd.Context(), w)
			if err != nil {
				return err
			}
			hash, err := config.Hash(password, config.Scheme(scheme), rand.Reader)
			if err != nil {
				return err
			}
			return w.print("%s\n", hash)
		},
	}
	cmd.Flags().StringVar(&scheme, "method", string(config.SHA512Crypt), "`method`: sha512crypt or yescrypt")
	return cmd
}

// readPassword asks twice on a terminal, without echo, and otherwise reads one line.
func readPassword(ctx context.Context, w *world) (string, error) {
	if !isTerminal(w.stdin) {
		line, err := await(ctx, func() (string, error) {
			return bufio.NewReader(io.LimitReader(w.stdin, 4096)).ReadString('\n')
		})
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return nonEmpty(strings.TrimRight(line, "\r\n"))
	}
	fd := int(w.stdin.(*os.File).Fd())
	echoing, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	ask := func(prompt string) (string, error) {
		_, _ = fmt.Fprint(w.stderr, prompt)
		password, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
		_, _ = fmt.Fprintln(w.stderr)
		if ctx.Err() != nil {
			err = errors.Join(err, term.Restore(fd, echoing))
		}
		return string(password), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	second, err := ask("Again: ")
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was made")
	}
	return nonEmpty(first)
}

func nonEmpty(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty; a user without a password is written without password_hash")
	}
	return password, nil
}
