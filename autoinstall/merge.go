package autoinstall

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

// mergeFragment lays a person's raw autoinstall fragment over a document, in
// place. The rule: mappings are merged key by key, lists are appended to ours,
// anything else replaces ours; storage.config, which cannot stand beside our
// storage.layout, replaces it.
func mergeFragment(document, fragment *yaml.Node) error {
	budget := maxFragmentNodes
	copied, err := detach(fragment, &budget)
	if err != nil {
		return err
	}
	if storage := valueOf(copied, "storage"); storage != nil && valueOf(storage, "config") != nil {
		removeKey(document, "storage")
	}
	mergeMapping(document, copied)
	return nil
}

// maxFragmentNodes bounds what aliases can blow a fragment up to.
const maxFragmentNodes = 100_000

// detach copies a node with its aliases resolved and comments dropped, keeping
// line and column.
func detach(node *yaml.Node, budget *int) (*yaml.Node, error) {
	if *budget--; *budget < 0 {
		return nil, fmt.Errorf("the fragment has more than %d values", maxFragmentNodes)
	}
	node = resolveAlias(node)
	out := &yaml.Node{Kind: node.Kind, Style: node.Style, Tag: node.Tag, Value: node.Value, Line: node.Line, Column: node.Column}
	for _, child := range node.Content {
		c, err := detach(child, budget)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, c)
	}
	return out, nil
}

func removeKey(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content = append(mapping.Content[:i], mapping.Content[i+2:]...)
			return
		}
	}
}

func mergeMapping(below, above *yaml.Node) {
	for i := 0; i+1 < len(above.Content); i += 2 {
		key, value := above.Content[i], above.Content[i+1]
		old := valueOf(below, key.Value)
		switch {
		case old == nil:
			below.Content = append(below.Content, key, value)
		case old.Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			mergeMapping(old, value)
		case old.Kind == yaml.SequenceNode && value.Kind == yaml.SequenceNode:
			old.Content = append(old.Content, value.Content...)
		default:
			*old = *value
		}
	}
}

// applyFragment returns the document with the machine's raw fragment merged
// into it and checked; positions are those in the person's file.
func applyFragment(doc *Document, in *Input) (*Document, report.Report) {
	var rep report.Report
	m := &in.Machine
	refuse := func(err error) (*Document, report.Report) {
		rep.Add(report.Diagnostic{
			Severity: report.Error, Path: "autoinstall", Pos: m.Origin("autoinstall"), Summary: err.Error(),
		})
		return nil, rep
	}
	data, err := marshal(doc)
	if err != nil {
		return refuse(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return refuse(err)
	}
	section := root.Content[0]
	forget(section)
	if err := mergeFragment(section, m.Autoinstall); err != nil {
		return refuse(err)
	}
	c := checker{release: m.Ubuntu, place: func(node *yaml.Node, path string) report.Position {
		pos := m.Origin(path)
		if node.Line > 0 {
			pos.Line, pos.Column = node.Line, node.Column
		}
		return pos
	}}
	return c.decode(section)
}

// forget drops the positions of nodes that no person wrote.
func forget(node *yaml.Node) {
	node.Line, node.Column = 0, 0
	for _, child := range node.Content {
		forget(child)
	}
}
