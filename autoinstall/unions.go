package autoinstall

import (
	"gopkg.in/yaml.v3"
)

// Command is an entry of a command list: text that a shell runs, or an argument
// vector.
type Command struct {
	Shell string
	Args  []string
}

// MarshalYAML writes the command as text or as a list.
func (c Command) MarshalYAML() (any, error) {
	if c.Args == nil {
		return c.Shell, nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, arg := range c.Args {
		word := new(yaml.Node)
		word.SetString(arg)
		list.Content = append(list.Content, word)
	}
	return list, nil
}

// UnmarshalYAML reads the command from text or a list.
func (c *Command) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode(&c.Args)
	}
	return node.Decode(&c.Shell)
}

// size returns the length of the longest argument that the command makes, in bytes.
func (c Command) size() int {
	longest := len(c.Shell)
	for _, arg := range c.Args {
		longest = max(longest, len(arg))
	}
	return longest
}

// Matches is one match or an ordered list of them; the first that finds a disk
// counts.
type Matches []Match

// MarshalYAML writes a single match as a mapping.
func (m Matches) MarshalYAML() (any, error) {
	if len(m) == 1 {
		return m[0], nil
	}
	return []Match(m), nil
}

// UnmarshalYAML reads a mapping or a list of them.
func (m *Matches) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode((*[]Match)(m))
	}
	*m = make(Matches, 1)
	return node.Decode(&(*m)[0])
}

// Groups are the groups of the first user: Override in place of the installer's
// own, or Append beside them. An empty Override means no groups, a nil one the
// installer's own.
type Groups struct {
	Override []string `yaml:"override"`
	Append   []string `yaml:"append"`
}

// MarshalYAML writes the lists that are not nil.
func (g Groups) MarshalYAML() (any, error) {
	out := map[string][]string{}
	if g.Override != nil {
		out["override"] = g.Override
	}
	if g.Append != nil {
		out["append"] = g.Append
	}
	return out, nil
}

// UnmarshalYAML reads a mapping, or a list, which means Override.
func (g *Groups) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode(&g.Override)
	}
	type plain Groups
	return node.Decode((*plain)(g))
}

// MirrorCandidate is a candidate for the primary archive: a mirror, or the one
// of the country that the machine seems to be in.
type MirrorCandidate struct {
	Country bool     `yaml:"-"`
	URI     string   `yaml:"uri"`
	Arches  []string `yaml:"arches,omitempty,flow"`
}

const countryMirror = "country-mirror"

// MarshalYAML writes a candidate.
func (m MirrorCandidate) MarshalYAML() (any, error) {
	if m.Country {
		return countryMirror, nil
	}
	type plain MirrorCandidate
	return plain(m), nil
}

// UnmarshalYAML reads a candidate.
func (m *MirrorCandidate) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		m.Country = true
		return nil
	}
	type plain MirrorCandidate
	return node.Decode((*plain)(m))
}

// UnmarshalYAML reads a network section, which may be wrapped in a key network
// as netplan's own files are.
func (n *Network) UnmarshalYAML(node *yaml.Node) error {
	type plain Network
	if inner := valueOf(node, "network"); inner != nil {
		node = inner
	}
	return node.Decode((*plain)(n))
}

// valueOf returns the value of a key in a mapping node, or nil.
func valueOf(node *yaml.Node, key string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}
