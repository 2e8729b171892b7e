package main

import (
	"bufio"
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
		RunE: func(*cobra.Command, []string) error {
			password, err := readPassword(w)
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
func readPassword(w *world) (string, error) {
	if !isTerminal(w.stdin) {
		line, err := bufio.NewReader(io.LimitReader(w.stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return nonEmpty(strings.TrimRight(line, "\r\n"))
	}
	fd := int(w.stdin.(*os.File).Fd())
	ask := func(prompt string) (string, error) {
		_, _ = fmt.Fprint(w.stderr, prompt)
		password, err := term.ReadPassword(fd)
		_, _ = fmt.Fprintln(w.stderr)
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
