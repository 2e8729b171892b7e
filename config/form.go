package config

import (
	"fmt"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"
)

// A shape describes what may stand in one place of the file. The JSON Schema
// and the reference are written from it.
type shape interface {
	schema(s *schemaWriter) map[string]any
	words() string    // what it is, for people: "text", "a list of …"
	entries() []entry // the keys of a mapping and of what is in it, or none
}

// A form is a shape that can be decoded into V.
type form[V any] interface {
	shape
	// decode reads a value. What it refuses it reports, and returns a V that is
	// marked as bad.
	decode(d *decoder, n *yaml.Node, path string) V
	// marks calls visit with the place of v and of every value below it.
	marks(v V, path string, visit visitor)
}

// visitor is shown the place of a value, and says whether to be shown those
// below it.
type visitor func(path string, at mark) (deeper bool)

// entry is a key of a mapping, as the schema and the reference see it.
type entry struct {
	name     string
	doc      string // one or two sentences, Markdown
	fallback string // what holds where the key is left out
	required bool
	shape    shape
}

// field is a key of the mapping that T holds.
type field[T any] struct {
	entry
	decode func(d *decoder, into *T, n *yaml.Node, path string)
	marks  func(from *T, path string, visit visitor)
}

// key binds a key of the file to a field of T.
func key[T, V any](name string, at func(*T) *V, f form[V], doc, fallback string) field[T] {
	return field[T]{
		entry:  entry{name: name, doc: doc, fallback: fallback, shape: f},
		decode: func(d *decoder, into *T, n *yaml.Node, path string) { *at(into) = f.decode(d, n, path) },
		marks:  func(from *T, path string, visit visitor) { f.marks(*at(from), path, visit) },
	}
}

func (f field[T]) must() field[T] {
	f.required = true
	return f
}

// lift makes keys of S into keys of a T that contains S.
func lift[T, S any](fields []field[S], at func(*T) *S) []field[T] {
	lifted := make([]field[T], len(fields))
	for i, f := range fields {
		lifted[i] = field[T]{
			entry:  f.entry,
			decode: func(d *decoder, into *T, n *yaml.Node, path string) { f.decode(d, at(into), n, path) },
			marks:  func(from *T, path string, visit visitor) { f.marks(at(from), path, visit) },
		}
	}
	return lifted
}

func under(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// placed is a pointer to a wire type that embeds section.
type placed[T any] interface {
	*T
	self() *section
}

// mappingForm is a mapping with known keys.
type mappingForm[T any, P placed[T]] struct {
	id     string // name in the schema's $defs
	fields []field[T]
	groups []group
	index  map[string]int
}

// group names keys of which at most one may stand, or exactly one.
type group struct {
	keys []string
	one  bool // exactly one
}

func mapping[T any, P placed[T]](id string, groups []group, fields ...field[T]) mappingForm[T, P] {
	m := mappingForm[T, P]{id: id, fields: fields, groups: groups, index: make(map[string]int, len(fields))}
	for i, f := range fields {
		m.index[f.name] = i
	}
	return m
}

func (m mappingForm[T, P]) words() string { return "mapping" }

func (m mappingForm[T, P]) entries() []entry {
	es := make([]entry, len(m.fields))
	for i, f := range m.fields {
		es[i] = f.entry
	}
	return es
}

func (m mappingForm[T, P]) decode(d *decoder, n *yaml.Node, path string) *T {
	into := new(T)
	s := P(into).self()
	s.at = markOf(n)
	if n.Kind != yaml.MappingNode {
		s.bad = true
		d.wrongType(n, path, "a mapping", mappingExample(m.entries()))
		return into
	}
	m.decodeInto(d, into, n, path)
	return into
}

func (m mappingForm[T, P]) decodeInto(d *decoder, into *T, n *yaml.Node, path string) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	var meant []string // by keys that are misspelt: they are not missing as well
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" || seen[k.Value] != nil {
			continue // checkNodes has said so
		}
		seen[k.Value] = k
		at, ok := m.index[k.Value]
		if !ok {
			meant = append(meant, d.unknownKey(k, path, m.entries()))
			P(into).self().gaps = true
			continue
		}
		m.fields[at].decode(d, into, v, under(path, k.Value))
	}
	for _, f := range m.fields {
		if f.required && seen[f.name] == nil && !slices.Contains(meant, f.name) && !d.partial {
			d.missingKey(n, path, f.entry)
		}
	}
	for _, g := range m.groups {
		d.checkGroup(g, n, path, seen, len(meant) > 0)
	}
}

func (m mappingForm[T, P]) marks(v *T, path string, visit visitor) {
	if v == nil {
		return
	}
	if !visit(path, P(v).self().at) {
		return
	}
	for _, f := range m.fields {
		f.marks(v, under(path, f.name), visit)
	}
}

// switchForm is a mapping, or off.
type switchForm[T any, P placed[T]] struct {
	mappingForm[T, P]
	on      func(*T) *value[bool]
	example string // a mapping that is enough
}

func (s switchForm[T, P]) words() string { return "mapping, or `off`" }

func (s switchForm[T, P]) decode(d *decoder, n *yaml.Node, path string) *T {
	if n.Kind == yaml.ScalarNode && (isText(n) && n.Value == "off" || n.ShortTag() == "!!bool" && isFalse(n.Value)) {
		into := new(T)
		P(into).self().at = markOf(n)
		*s.on(into) = value[bool]{v: false, at: markOf(n)}
		return into
	}
	if n.Kind != yaml.MappingNode {
		into := new(T)
		*P(into).self() = section{at: markOf(n), bad: true}
		d.wrongType(n, path, "a mapping, or off", "write "+lastKey(path)+": "+s.example+", or "+lastKey(path)+": off")
		return into
	}
	into := s.mappingForm.decode(d, n, path)
	*s.on(into) = value[bool]{v: true, at: markOf(n)}
	return into
}

// appForm is the name of an app, or a mapping with it.
type appForm struct {
	mappingForm[appKeys, *appKeys]
	name textForm
}

func (a appForm) words() string { return "name, or mapping" }

func (a appForm) decode(d *decoder, n *yaml.Node, path string) *appKeys {
	if n.Kind != yaml.ScalarNode {
		return a.mappingForm.decode(d, n, path)
	}
	into := &appKeys{section: section{at: markOf(n)}}
	into.name = a.name.decode(d, n, path)
	return into
}

// listForm is a sequence. With single, one item may stand without the list
// around it.
type listForm[V any] struct {
	item   form[V]
	bad    func(V) bool
	single bool
	min    int
}

func listOf[V any](item form[V], bad func(V) bool) listForm[V] {
	return listForm[V]{item: item, bad: bad}
}

func texts(item form[text]) listForm[text] {
	return listOf(item, func(t text) bool { return t.bad })
}

func (l listForm[V]) orOne() listForm[V] {
	l.single = true
	return l
}

func (l listForm[V]) words() string {
	if l.single {
		return l.item.words() + ", or a list of such"
	}
	if len(l.item.entries()) > 0 {
		return "list of mappings"
	}
	return "list, each entry a " + l.item.words()
}

func (l listForm[V]) entries() []entry { return l.item.entries() }

func (l listForm[V]) decode(d *decoder, n *yaml.Node, path string) list[V] {
	out := list[V]{at: markOf(n)}
	if n.Kind != yaml.SequenceNode {
		if !l.single || isNull(n) {
			out.bad = true
			d.wrongType(n, path, "a list", "start each entry with \"- \" on a line of its own, or write [a, b]")
			return out
		}
		v := l.item.decode(d, n, path)
		if out.bad = l.bad(v); !out.bad {
			out.items = []V{v}
		}
		return out
	}
	if len(n.Content) < l.min {
		out.bad = true
		d.shapeError(n, path, fmt.Sprintf("%q is empty", lastKey(path)), "add an entry, or remove the key")
	}
	out.items = make([]V, 0, len(n.Content))
	for i, c := range n.Content {
		v := l.item.decode(d, c, path+"["+strconv.Itoa(i)+"]")
		if l.bad(v) {
			out.bad = true
			continue
		}
		out.items = append(out.items, v)
	}
	return out
}

func (l listForm[V]) marks(v list[V], path string, visit visitor) {
	if !v.set() || !visit(path, v.at) {
		return
	}
	for i, item := range v.items {
		l.item.marks(item, path+"["+strconv.Itoa(i)+"]", visit)
	}
}
