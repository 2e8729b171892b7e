package autoinstall

import (
	"bytes"
	"fmt"
	"strings"
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

// commandList is a list of commands on its way into a user-data.
type commandList struct {
	name     string
	commands []Command
	rest     *[]Command // without the proven ones
	marshal  *[]Command // without those whose lines are made here
	items    [][]byte   // of marshal, as they were marshalled
}

// encode writes the document. What is proven, and what is a plain literal block,
// is set between the items of the command lists, which come after all other
// sections; that gives the same bytes as marshalling the whole.
func (p *provenCommands) encode(doc *Document) (encoded, error) {
	rest, few := *doc, *doc
	lists := []commandList{
		{name: "early-commands", commands: doc.EarlyCommands, rest: &rest.EarlyCommands, marshal: &few.EarlyCommands},
		{name: "late-commands", commands: doc.LateCommands, rest: &rest.LateCommands, marshal: &few.LateCommands},
		{name: "error-commands", commands: doc.ErrorCommands, rest: &rest.ErrorCommands, marshal: &few.ErrorCommands},
	}
	size := 0
	for _, list := range lists {
		*list.rest, *list.marshal = nil, nil
		for _, c := range list.commands {
			if item := p.get(c); item != nil {
				size += len(item)
				continue
			}
			*list.rest = append(*list.rest, c)
			if !isPlainBlock(c) {
				*list.marshal = append(*list.marshal, c)
			}
		}
	}
	data, err := marshal(userData{&few})
	if err != nil {
		return encoded{}, err
	}
	sections := data
	for i := len(lists) - 1; i >= 0; i-- {
		if len(*lists[i].marshal) == 0 {
			continue
		}
		before, list, ok := bytes.Cut(sections, []byte("\n  "+lists[i].name+":\n"))
		if lists[i].items = splitItems(list); !ok || len(lists[i].items) != len(*lists[i].marshal) {
			return encoded{}, fmt.Errorf("cannot find the %s in what was written", lists[i].name)
		}
		sections = sections[:len(before)+1]
	}
	whole := make([]byte, 0, len(header)+len(data)+size+8<<10)
	whole = append(append(whole, header...), sections...)
	varying := bytes.Clone(whole)
	for _, list := range lists {
		whole, varying = p.appendList(list, whole, varying)
	}
	return encoded{whole: whole, varying: varying, rest: &rest}, nil
}

// appendList appends a list of commands to a user-data, and those that are not
// proven to another.
func (p *provenCommands) appendList(list commandList, whole, varying []byte) ([]byte, []byte) {
	if len(list.commands) > 0 {
		whole = append(whole, "  "+list.name+":\n"...)
	}
	if len(*list.rest) > 0 {
		varying = append(varying, "  "+list.name+":\n"...)
	}
	for _, c := range list.commands {
		if item := p.get(c); item != nil {
			whole = append(whole, item...)
			continue
		}
		from := len(whole)
		if isPlainBlock(c) {
			whole = appendBlock(whole, c.Shell)
		} else {
			whole = append(whole, list.items[0]...)
			list.items = list.items[1:]
		}
		varying = append(varying, whole[from:]...)
	}
	return whole, varying
}

// isPlainBlock reports whether a command is several lines that YAML takes as a
// literal block just as they are: printable ASCII, the first line not indented, no
// space at a line's end, and one newline at the end of all.
func isPlainBlock(c Command) bool {
	text := c.Shell
	if c.Args != nil || len(text) < 2 || text[0] == ' ' || text[0] == '\n' {
		return false
	}
	lines := 0
	for i := range len(text) {
		switch b := text[i]; {
		case b == '\n':
			if text[i-1] == ' ' {
				return false
			}
			lines++
		case b < ' ' || b > '~':
			return false
		}
	}
	return lines > 0 && text[len(text)-1] == '\n' && text[len(text)-2] != '\n'
}

// appendBlock appends a command that isPlainBlock as an item of a command list.
func appendBlock(out []byte, text string) []byte {
	out = append(out, "    - |\n"...)
	for line := range strings.Lines(text) {
		if line != "\n" {
			out = append(out, "      "...)
		}
		out = append(out, line...)
	}
	return out
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
