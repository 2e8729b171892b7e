package autoinstall

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

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

// provenCommands holds commands that many machines share, by their text, as they
// stand in a command list of a user-data. They carry the scripts, most of a
// seed's bytes; marshalled and read back once, they are copied after. It may be
// used by several goroutines at a time.
type provenCommands struct {
	items sync.Map // string -> []byte
	count atomic.Int64
}

// maxProven bounds the commands that are kept, so that a server which renders
// for years does not grow.
const maxProven = 1000

// add marshals a command, proves that it reads back as itself, and keeps it.
func (p *provenCommands) add(text string) error {
	if _, ok := p.items.Load(text); ok || p.count.Load() >= maxProven {
		return nil
	}
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
	if _, loaded := p.items.LoadOrStore(text, item); !loaded {
		p.count.Add(1)
	}
	return nil
}

// get returns the lines of a proven command, or nil.
func (p *provenCommands) get(c Command) []byte {
	if c.Args != nil {
		return nil
	}
	item, ok := p.items.Load(c.Shell)
	if !ok {
		return nil
	}
	return item.([]byte)
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

// encoded is a document as YAML. Varying and rest are the same without the
// proven commands: rest is what varying must read back as.
type encoded struct {
	whole, varying []byte
	rest           *Document
}

// encode writes the document. What is proven is set between the items of the
// command lists, which come after all other sections; that gives the same bytes
// as marshalling the whole.
func (p *provenCommands) encode(doc *Document) (encoded, error) {
	rest := *doc
	lists := []struct {
		name     string
		commands []Command
		rest     *[]Command
		items    [][]byte // of rest, as they were marshalled
	}{
		{name: "early-commands", commands: doc.EarlyCommands, rest: &rest.EarlyCommands},
		{name: "late-commands", commands: doc.LateCommands, rest: &rest.LateCommands},
		{name: "error-commands", commands: doc.ErrorCommands, rest: &rest.ErrorCommands},
	}
	size := len(header)
	proven := map[string][]byte{}
	for _, list := range lists {
		*list.rest = nil
		for _, c := range list.commands {
			if item := p.get(c); item != nil {
				proven[c.Shell] = item
				size += len(item)
			} else {
				*list.rest = append(*list.rest, c)
			}
		}
	}
	data, err := marshal(userData{&rest})
	if err != nil {
		return encoded{}, err
	}
	sections := data
	for i := len(lists) - 1; i >= 0; i-- {
		if len(*lists[i].rest) == 0 {
			continue
		}
		before, list, ok := bytes.Cut(sections, []byte("\n  "+lists[i].name+":\n"))
		if lists[i].items = splitItems(list); !ok || len(lists[i].items) != len(*lists[i].rest) {
			return encoded{}, fmt.Errorf("cannot find the %s in what was written", lists[i].name)
		}
		sections = sections[:len(before)+1]
	}
	whole := make([]byte, 0, size+len(data)+64)
	whole = append(append(whole, header...), sections...)
	for _, list := range lists {
		if len(list.commands) > 0 {
			whole = append(whole, "  "+list.name+":\n"...)
		}
		for _, c := range list.commands {
			item, ok := proven[c.Shell]
			if !ok || c.Args != nil {
				item, list.items = list.items[0], list.items[1:]
			}
			whole = append(whole, item...)
		}
	}
	return encoded{whole: whole, varying: append([]byte(header), data...), rest: &rest}, nil
}

// splitItems cuts a list of a section into its items: each begins with a dash
// two levels in, and everything else in it is set deeper or empty.
func splitItems(list []byte) [][]byte {
	var starts []int
	for at := 0; at < len(list); {
		if bytes.HasPrefix(list[at:], []byte("    - ")) {
			starts = append(starts, at)
		}
		end := bytes.IndexByte(list[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	items := make([][]byte, len(starts))
	for i, start := range starts {
		end := len(list)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		items[i] = list[start:end]
	}
	return items
}
