package autoinstall

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// mergeFragment lays a person's raw autoinstall fragment over a document, in
// place. The rule: mappings are merged key by key, lists are appended to ours,
// anything else replaces ours; of storage.config and storage.layout, which cannot
// stand beside each other, the fragment's replaces ours.
func mergeFragment(document, fragment *yaml.Node) error {
	budget := maxFragmentNodes
	copied, err := detach(fragment, &budget)
	if err != nil {
		return err
	}
	if storage := valueOf(copied, "storage"); storage != nil {
		ours := valueOf(document, "storage")
		if valueOf(storage, "config") != nil || valueOf(storage, "layout") != nil && ours != nil && valueOf(ours, "config") != nil {
			removeKey(document, "storage")
		}
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
	fragment := refuseUnsafe(m, &rep)
	if rep.HasErrors() {
		return nil, rep
	}
	if err := mergeFragment(section, fragment); err != nil {
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

// unsafeKey is the key of a fragment by which a person takes the guards' work on
// themselves. It is ours: the installer never sees it.
const unsafeKey = "unsafe"

// refuseUnsafe returns the machine's fragment without the key unsafe, and
// complains of what undoes a guard without it. Lists of commands do not: they
// come after ours.
func refuseUnsafe(m *config.Machine, rep *report.Report) *yaml.Node {
	complain := func(node *yaml.Node, path, summary, detail string) {
		pos := m.Origin(path)
		if node.Line > 0 {
			pos.Line, pos.Column = node.Line, node.Column
		}
		rep.Add(report.Diagnostic{Severity: report.Error, Path: path, Pos: pos, Summary: summary, Detail: detail})
	}
	fragment := *m.Autoinstall
	fragment.Content = slices.Clone(fragment.Content)
	if node := valueOf(&fragment, unsafeKey); node != nil {
		removeKey(&fragment, unsafeKey)
		if node.ShortTag() == "!!bool" && strings.EqualFold(node.Value, "true") {
			return &fragment
		}
		complain(node, "autoinstall.unsafe", `"unsafe" can only be true`, "write true, or remove the key")
	}
	const detail = "use the keys of storage in gpustrap.yaml, or write unsafe: true into the fragment: then nothing checks which disk is erased"
	if storage := valueOf(&fragment, "storage"); storage != nil {
		for i := 0; i+1 < len(resolveAlias(storage).Content); i += 2 {
			key := resolveAlias(storage).Content[i]
			if key.Value != "swap" && key.Value != "grub" {
				complain(key, "autoinstall.storage."+key.Value, fmt.Sprintf("autoinstall.storage.%s undoes the guard of the disks", key.Value), detail)
			}
		}
	}
	if sections := valueOf(&fragment, "interactive-sections"); sections != nil {
		for _, item := range resolveAlias(sections).Content {
			if item.Value == "storage" || item.Value == "*" {
				complain(item, "autoinstall.interactive-sections", fmt.Sprintf("the interactive section %s undoes the guard of the disks", item.Value), detail)
			}
		}
	}
	return &fragment
}

// forget drops the positions of nodes that no person wrote.
func forget(node *yaml.Node) {
	node.Line, node.Column = 0, 0
	for _, child := range node.Content {
		forget(child)
	}
}
