package autoinstall

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// indent is the number of spaces that a level of the YAML is set in.
const indent = 2

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("cannot write YAML: %w", err)
	}
	return b.Bytes(), nil
}

// userData is the whole of a user-data file with an autoinstall.
type userData struct {
	Autoinstall *Document `yaml:"autoinstall"`
}

// fixedCommands holds commands that are the same for every machine, by their
// text, as they stand in a command list of a user-data. They carry the scripts,
// most of a seed's bytes; marshalled and checked once, they are copied after.
type fixedCommands map[string][]byte

// add marshals a command and proves that it reads back as itself.
func (f fixedCommands) add(text string) error {
	item, err := marshalCommand(Command{Shell: text})
	if err != nil {
		return err
	}
	var back userData
	if err := yaml.Unmarshal(append([]byte("autoinstall:\n  late-commands:\n"), item...), &back); err != nil {
		return fmt.Errorf("cannot read a command back: %w", err)
	}
	if list := back.Autoinstall.LateCommands; len(list) != 1 || list[0].Shell != text {
		return fmt.Errorf("a command does not read back as it was written")
	}
	f[text] = item
	return nil
}

// marshalCommand returns the lines that a command takes in a command list.
func marshalCommand(c Command) ([]byte, error) {
	data, err := marshal(userData{&Document{LateCommands: []Command{c}}})
	if err != nil {
		return nil, err
	}
	_, item, ok := bytes.Cut(data, []byte("  late-commands:\n"))
	if !ok {
		return nil, fmt.Errorf("cannot write a command: its list is missing")
	}
	return item, nil
}

// encode returns the user-data, and the same without the fixed commands, which
// are proven, for a check of the rest. The command lists are written after all
// other sections, item by item, which gives the same bytes as marshalling the
// whole.
func (f fixedCommands) encode(doc *Document) (whole, varying []byte, err error) {
	rest := *doc
	rest.EarlyCommands, rest.LateCommands, rest.ErrorCommands = nil, nil, nil
	data, err := marshal(userData{&rest})
	if err != nil {
		return nil, nil, err
	}
	whole = append([]byte(header), data...)
	varying = append([]byte(header), data...)
	for _, list := range []struct {
		name     string
		commands []Command
	}{
		{"early-commands", doc.EarlyCommands},
		{"late-commands", doc.LateCommands},
		{"error-commands", doc.ErrorCommands},
	} {
		if len(list.commands) == 0 {
			continue
		}
		key := "  " + list.name + ":\n"
		whole = append(whole, key...)
		varies := false
		for _, c := range list.commands {
			if f.has(c) {
				whole = append(whole, f[c.Shell]...)
				continue
			}
			item, err := marshalCommand(c)
			if err != nil {
				return nil, nil, err
			}
			if !varies {
				varying = append(varying, key...)
				varies = true
			}
			whole = append(whole, item...)
			varying = append(varying, item...)
		}
	}
	return whole, varying, nil
}

func (f fixedCommands) has(c Command) bool {
	_, ok := f[c.Shell]
	return ok && c.Args == nil
}

// without returns the document without the fixed commands.
func (f fixedCommands) without(doc *Document) *Document {
	out := *doc
	for _, list := range []*[]Command{&out.EarlyCommands, &out.LateCommands, &out.ErrorCommands} {
		var kept []Command
		for _, c := range *list {
			if !f.has(c) {
				kept = append(kept, c)
			}
		}
		*list = kept
	}
	return &out
}
