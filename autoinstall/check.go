package autoinstall

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

// documentShape is the table of sections, made once.
var documentShape = sections()

// checker holds an autoinstall's nodes against the table of what the installer
// of a release knows.
type checker struct {
	release string
	place   func(node *yaml.Node, path string) report.Position
	rep     report.Report
}

func (c *checker) complain(node *yaml.Node, path, summary, detail string) {
	c.rep.Add(report.Diagnostic{
		Severity: report.Error, Path: path, Pos: c.place(node, path), Summary: summary, Detail: detail,
	})
}

// check walks a value. Path is its configuration path, such as autoinstall.ssh.
func (c *checker) check(node *yaml.Node, s shape, path string) {
	node = resolveAlias(node)
	got := kindOf(node)
	if got == isText && s.kinds&isText == 0 && s.kinds&isBoolean != 0 && oldBoolean(node) {
		got = isBoolean
	}
	if s.kinds&got == 0 {
		c.complain(node, path, fmt.Sprintf("%s must be %s, not %s", path, s.kinds, got), adviceFor(s, got))
		return
	}
	switch got {
	case isMapping:
		c.checkMapping(node, s, path)
	case isList:
		if s.items == nil {
			return
		}
		for i, item := range node.Content {
			c.check(item, *s.items, fmt.Sprintf("%s[%d]", path, i))
		}
	case isText:
		if s.values != nil && !slices.Contains(s.values, node.Value) {
			c.complain(node, path, fmt.Sprintf("%s cannot be %q", path, node.Value),
				"write one of "+strings.Join(s.values, ", "))
		}
	}
}

func (c *checker) checkMapping(node *yaml.Node, s shape, path string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := path + "." + key.Value
		if seen[key.Value] {
			c.complain(key, at, fmt.Sprintf("%s stands there twice", at), "keep one of them")
		}
		seen[key.Value] = true
		if s.each != nil {
			c.check(value, *s.each, at)
			continue
		}
		j := slices.IndexFunc(s.fields, func(f field) bool { return f.name == key.Value })
		switch {
		case j < 0 && s.open:
		case j < 0:
			c.complain(key, at, "Ubuntu's installer knows no "+at, "known here: "+strings.Join(names(s.fields), ", "))
		case s.fields[j].since > c.release:
			c.complain(key, at, fmt.Sprintf("the installer of Ubuntu %s does not know %s", c.release, at),
				fmt.Sprintf("leave it out, or set ubuntu: %q, the first release that knows it", s.fields[j].since))
		default:
			c.check(value, s.fields[j].shape, at)
		}
	}
	for _, f := range s.fields {
		if f.required && !seen[f.name] {
			c.complain(node, path, fmt.Sprintf("%s lacks %s", path, f.name), "the installer demands it")
		}
	}
	if s.one != nil {
		n := 0
		for _, name := range s.one {
			if seen[name] {
				n++
			}
		}
		if n != 1 {
			c.complain(node, path, fmt.Sprintf("%s needs exactly one of %s", path, strings.Join(s.one, " and ")), "")
		}
	}
}

func names(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

func resolveAlias(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// kindOf returns the one kind that a node has.
func kindOf(node *yaml.Node) kind {
	switch node.Kind {
	case yaml.MappingNode:
		return isMapping
	case yaml.SequenceNode:
		return isList
	}
	switch node.ShortTag() {
	case "!!int":
		return isInteger
	case "!!bool":
		return isBoolean
	case "!!null":
		return isNull
	case "!!float":
		return isInteger // no section takes a fraction; decoding says so
	}
	return isText
}

// oldBoolean reports whether a plain word is a boolean in YAML 1.1, which
// Ubuntu's installer reads, though not in YAML 1.2.
func oldBoolean(node *yaml.Node) bool {
	if node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return false
	}
	switch strings.ToLower(node.Value) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return false
}

// String names the kinds for a person.
func (k kind) String() string {
	all := []struct {
		kind kind
		name string
	}{
		{isMapping, "a mapping"}, {isList, "a list"}, {isText, "text"},
		{isInteger, "a whole number"}, {isBoolean, "true or false"}, {isNull, "null"},
	}
	var out []string
	for _, n := range all {
		if k&n.kind != 0 {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, " or ")
}

func adviceFor(s shape, got kind) string {
	switch {
	case got == isMapping && s.kinds&isText != 0:
		return "quote it: an unquoted colon makes a mapping of it"
	case got == isText && s.kinds&isBoolean != 0:
		return "write true or false, without quotes"
	case s.kinds&isText != 0:
		return "quote it"
	}
	return ""
}
