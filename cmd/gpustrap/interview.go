package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/config"
)

// interview asks on the terminal for what the flags did not say.
type interview struct {
	ctx   context.Context
	w     *world
	here  probe
	lines *bufio.Scanner
}

func newInterview(ctx context.Context, w *world, here probe) *interview {
	return &interview{ctx: ctx, w: w, here: here, lines: bufio.NewScanner(w.stdin)}
}

// fill completes the values and returns a password when one was given.
func (i *interview) fill(v *config.StarterValues) (password string, err error) {
	i.w.say("Enter takes the proposal in brackets.")
	if v.UserName == "" {
		if v.UserName, err = i.ask("Name of the first user", "ops"); err != nil {
			return "", err
		}
	}
	if len(v.Keys) == 0 {
		if v.Keys, err = i.askKeys(); err != nil {
			return "", err
		}
	}
	if len(v.Keys) == 0 && v.PasswordFile == "" {
		i.w.say("Without an SSH key the user needs a password.")
		if password, err = readPassword(i.ctx, i.w); err != nil {
			return "", err
		}
	}
	if v.Timezone == "" {
		if v.Timezone, err = i.ask("Time zone", orElse(i.here.timezone(), "Etc/UTC")); err != nil {
			return "", err
		}
	}
	if len(v.GPUModels) == 0 {
		if v.GPUModels, err = i.askGPUs(); err != nil {
			return "", err
		}
	}
	if v.DiskSerial == "" {
		v.DiskSerial, err = i.askDisk()
	}
	return password, err
}

// ask prints a question with its proposal and returns the answer.
func (i *interview) ask(question, proposal string) (string, error) {
	if proposal != "" {
		question += " [" + proposal + "]"
	}
	_, _ = fmt.Fprintf(i.w.stderr, "%s: ", question)
	answered, err := await(i.ctx, func() (bool, error) { return i.lines.Scan(), nil })
	if err != nil {
		_, _ = fmt.Fprintln(i.w.stderr) // the question's line has no end yet
		return "", fmt.Errorf("the questions were not answered; nothing was written: %w", err)
	}
	if !answered {
		if err := i.lines.Err(); err != nil {
			return "", fmt.Errorf("cannot read the answer: %w", err)
		}
		return "", fmt.Errorf("the questions were not answered; nothing was written: %w", io.ErrUnexpectedEOF)
	}
	return orElse(strings.TrimSpace(i.lines.Text()), proposal), nil
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// askKeys offers the public keys in the home folder.
func (i *interview) askKeys() ([]string, error) {
	found := i.here.sshKeys(i.w.getenv("HOME"))
	answer, err := i.ask("SSH public key files, separated by spaces; - for none", strings.Join(found, " "))
	if err != nil || answer == "" || answer == "-" {
		return nil, err
	}
	return readKeys(strings.Fields(answer))
}

// askGPUs offers the GPUs of this machine; none named means that the machine
// chooses by itself.
func (i *interview) askGPUs() ([]string, error) {
	found, err := modelsHere(i.here)
	if err != nil {
		return nil, err
	}
	known, err := modelNames()
	if err != nil {
		return nil, err
	}
	for {
		answer, err := i.ask("GPU models, separated by spaces; auto lets the machine choose",
			orElse(strings.Join(found, " "), "auto"))
		if err != nil || answer == "auto" {
			return nil, err
		}
		models := strings.Fields(answer)
		wrong := slices.IndexFunc(models, func(m string) bool { return !slices.Contains(known, m) })
		if wrong < 0 {
			return models, nil
		}
		i.w.say("there is no model %q; gpustrap explain --models lists them", models[wrong])
	}
}

// askDisk shows this machine's disks and asks which is erased.
func (i *interview) askDisk() (string, error) {
	for _, d := range i.here.disks() {
		if d.serial != "" {
			i.w.say("  this machine has %s  %s  %s  serial %s", d.name, d.model, byteCount(d.size), d.serial)
		}
	}
	answer, err := i.ask("Serial number of the disk to ERASE; empty: the installer asks", "")
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(answer, " \t") {
		return "", errors.New("a serial number has no spaces; nothing was written")
	}
	return answer, nil
}
