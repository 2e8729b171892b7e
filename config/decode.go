package config

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

// ReadFile returns the content of a file that the configuration names. The
// path is as written there: absolute, or relative to the configuration's folder.
type ReadFile func(path string) ([]byte, error)

// Config is a decoded gpustrap.yaml: every value as written, with its place,
// nothing inherited yet.
type Config struct {
	file string // name of the configuration file, for positions
	keys *fileKeys
	// whole is false where a part could not be parsed as YAML, so that nothing
	// can be said about what is missing.
	whole bool
}

// Load decodes, resolves and validates a gpustrap.yaml. The name is what
// positions say. The Fleet is nil when the report has errors. Excerpts in what
// is printed must come from Mask(data), never from data.
func Load(name string, data []byte, read ReadFile) (*Fleet, report.Report) {
	c, rep := Decode(name, data, read)
	fleet, resolved := c.Resolve()
	rep.Merge(resolved)
	rep.Sort()
	if rep.HasErrors() {
		return nil, rep
	}
	return fleet, rep
}

// Decode reads a gpustrap.yaml and the files that it names, and reports every
// value that cannot be taken: YAML that does not parse, unknown keys, wrong
// types and forms, keys that exclude each other. The Config holds the rest.
func Decode(name string, data []byte, read ReadFile) (*Config, report.Report) {
	d := &decoder{file: name, read: read, files: map[string]fileText{}}
	c := &Config{file: name}
	form := fileForm(nil)
	root := d.parse(data)
	if root != nil {
		d.checkNodes(root, "")
		c.keys = form.decode(d, root, "")
		c.whole = !d.partial && !c.keys.bad
	}
	d.report.Sort()
	return c, d.report
}

// decoder collects what is wrong while forms read nodes.
type decoder struct {
	file    string
	read    ReadFile
	files   map[string]fileText // by path, read once
	report  report.Report
	partial bool // part of the document did not parse
	shape   int  // problems that the JSON Schema sees as well
}

type fileText struct {
	data []byte
	err  error
}

func (d *decoder) position(m mark) report.Position {
	return report.Position{File: d.file, Line: int(m.line), Column: int(m.column)}
}

func (d *decoder) add(at mark, path, summary, detail string, related ...report.Related) {
	d.report.Add(report.Diagnostic{
		Severity: report.Error, Path: path, Pos: d.position(at),
		Summary: summary, Detail: detail, Related: related,
	})
}

// errorAt reports what only Go code can see.
func (d *decoder) errorAt(n *yaml.Node, path, summary, detail string) {
	d.add(markOf(n), path, summary, detail)
}

// shapeError reports what the JSON Schema refuses as well.
func (d *decoder) shapeError(n *yaml.Node, path, summary, detail string, related ...report.Related) {
	d.shape++
	d.add(markOf(n), path, summary, detail, related...)
}

func (d *decoder) wrongType(n *yaml.Node, path, want, detail string) {
	name := "the file"
	if path != "" {
		name = strconv.Quote(lastKey(path))
	}
	if n.Kind == yaml.AliasNode {
		return // checkNodes has refused it
	}
	if isNull(n) {
		d.shapeError(n, path, name+" has no value", detail)
		return
	}
	d.shapeError(n, path, fmt.Sprintf("%s must be %s, not %s", name, want, kindOf(n)), detail)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	}
	return "text"
}

// elsewhere are keys that people look for where they are not, or under another
// name.
var elsewhere = map[string]string{
	"password":       "a password is only ever a crypt hash: run `gpustrap hash` and write password_hash or password_file",
	"passwd":         "a password is only ever a crypt hash: run `gpustrap hash` and write password_hash or password_file",
	"ssh_keys":       "SSH public keys go into authorized_keys of a user",
	"groups":         "groups belong to a user",
	"disk":           "write storage: {disk: {…}}",
	"layout":         "write storage: {layout: …}, or keyboard: {layout: …}",
	"driver":         "write gpu: {driver: …}",
	"model":          "write gpu: {model: …}",
	"mac":            "write match: {mac: …} in a machine, or network: {mac: …}",
	"serial":         "write match: {serial: …} in a machine, or storage: {disk: {serial: …}}",
	"addresses":      "write network: {addresses: […]}",
	"ip":             "write network: {addresses: […]}",
	"dns":            "name servers go into network: {nameservers: […]}",
	"release":        "the Ubuntu release is the key ubuntu",
	"match":          "match belongs to a machine, under machines:",
	"name":           "names belong to machines, under machines:; a file without machines: takes hostname",
	"profile":        "a machine under machines: names its profile; a profile names another with extends",
	"extends":        "only a profile extends another; a machine names its profile with profile",
	"nvidia_toolkit": "the NVIDIA Container Toolkit is the key toolkit",
	"wifis":          noWiFi,
	"wifi":           noWiFi,
	"version":        "version stands once, at the top of the file",
}

// unknownKey reports a key and returns the one that was probably meant, or "".
func (d *decoder) unknownKey(k *yaml.Node, path string, known []entry) string {
	names := make([]string, len(known))
	for i, e := range known {
		names[i] = e.name
	}
	where := "at the top of the file"
	if path != "" {
		where = "in " + path
	}
	detail := "known keys " + where + ": " + strings.Join(names, ", ")
	near := nearest(k.Value, names)
	if near != "" {
		detail = "did you mean \"" + near + "\"?"
	} else if k.Value == "password" && lastKey(path) == "bmc" {
		detail = "write it to a file that only you can read, and name that by password_file"
	} else if hint, ok := elsewhere[k.Value]; ok {
		detail = hint
	}
	d.shapeError(k, under(path, k.Value), fmt.Sprintf("unknown key %q", shorten(k.Value)), detail)
	return near
}

func (d *decoder) missingKey(n *yaml.Node, path string, e entry) {
	where := "the file"
	if path != "" {
		where = path
	}
	d.shapeError(n, path, fmt.Sprintf("%s has no %q", where, e.name), "add "+e.name+": "+exampleOf(e.shape))
}

// exampleOf returns a value that the shape accepts, as YAML.
func exampleOf(s shape) string {
	switch f := s.(type) {
	case textForm:
		if len(f.enum) > 0 {
			return quoteIfNumber(f.enum[0])
		}
		return f.example
	case intForm:
		return strconv.Itoa(f.min)
	}
	return "…"
}

func quoteIfNumber(s string) string {
	if sameNumber(s, s) {
		return strconv.Quote(s)
	}
	return s
}

// checkGroup reports keys that exclude each other, and, unless one may be
// misspelt, the absence of one that must be there.
func (d *decoder) checkGroup(g group, n *yaml.Node, path string, seen map[string]*yaml.Node, misspelt bool) {
	var first *yaml.Node
	for _, name := range g.keys {
		k := seen[name]
		switch {
		case k == nil:
		case first == nil:
			first = k
		default:
			a, b := first, k
			if b.Line < a.Line || b.Line == a.Line && b.Column < a.Column {
				a, b = b, a
			}
			d.shapeError(b, under(path, b.Value), fmt.Sprintf("%q and %q exclude each other", a.Value, b.Value),
				"keep one of "+strings.Join(g.keys, ", "),
				report.Related{Pos: d.position(markOf(a)), Message: fmt.Sprintf("%q is here", a.Value)})
		}
	}
	if g.one && first == nil && !misspelt && !d.partial {
		d.shapeError(n, path, fmt.Sprintf("%q names nothing", lastKey(path)), "write one of "+strings.Join(g.keys, ", ")+", or remove the key")
	}
}

// checkNodes refuses what YAML can write and a gpustrap.yaml has no use for:
// anchors, aliases, tags, merge keys, keys that are not text, and keys that
// stand twice. Without aliases a document is never larger than its text.
func (d *decoder) checkNodes(n *yaml.Node, path string) { d.checkNode(n, path, 0) }

// maxDepth bounds how deep values nest; Ubuntu's storage configurations, the
// deepest that anyone writes, stay below ten.
const maxDepth = 100

func (d *decoder) checkNode(n *yaml.Node, path string, depth int) {
	if depth > maxDepth {
		d.errorAt(n, "", fmt.Sprintf("values nest more than %d levels deep", maxDepth), "look for brackets that are never closed, or flatten the value")
		return
	}
	if n.Anchor != "" && n.Kind != yaml.AliasNode {
		d.errorAt(n, path, "anchors are not supported", "write the value where it is needed, or put shared settings into a profile and name it with profile or extends")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.errorAt(n, path, "tags such as !!str are not supported", "remove the tag; quotes make a value text")
	}
	switch n.Kind {
	case yaml.AliasNode:
		d.errorAt(n, path, "aliases are not supported", "write the value where it is needed, or put shared settings into a profile and name it with profile or extends")
	case yaml.SequenceNode:
		for i, c := range n.Content {
			d.checkNode(c, path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	case yaml.MappingNode:
		d.checkMapping(n, path, depth+1)
	}
}

func (d *decoder) checkMapping(n *yaml.Node, path string, depth int) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.errorAt(k, path, "a key must be a word", "write one key, a colon, and its value; quote text that begins with a bracket or an asterisk")
			continue
		}
		if k.ShortTag() == "!!merge" {
			d.errorAt(k, path, "merge keys are not supported", "put shared settings into a profile and name it with profile or extends")
			seen[k.Value] = k
			continue
		}
		if k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 {
			d.checkNode(k, path, depth)
		}
		if first := seen[k.Value]; first != nil {
			d.add(markOf(k), under(path, k.Value), fmt.Sprintf("%q stands twice", shorten(k.Value)), "keep one of the two",
				report.Related{Pos: d.position(markOf(first)), Message: "it is first written here"})
			continue
		}
		seen[k.Value] = k
		d.checkNode(v, under(path, k.Value), depth)
	}
}
