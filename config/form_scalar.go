package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// textForm is a scalar text.
type textForm struct {
	what    string // with an article: "a MAC address"
	example string // a value that is accepted, as it stands in YAML
	hint    string // said after the example where the form is refused
	pattern *regexp.Regexp
	enum    []string
	max     int // characters; 0: no limit
	// numeral: digits may stand without quotes, in the range of lowest to
	// highest, which the pattern must agree with.
	numeral         bool
	lowest, highest int
	secret          bool // never repeated in a message
	// refusal, where set, has the words for what the pattern refuses.
	refusal func(s string) problem
	// check says what is wrong with a value of the right form, in words that
	// follow the value.
	check func(s string) problem
}

// problem is what a check has to say; the zero problem is none.
type problem struct {
	summary, detail string
}

func (t textForm) words() string {
	if len(t.enum) == 0 {
		what := t.what
		for _, article := range []string{"a ", "an ", "the "} {
			what = strings.TrimPrefix(what, article)
		}
		if t.example == "" {
			return what
		}
		return what + ", such as `" + t.example + "`"
	}
	quoted := make([]string, len(t.enum))
	for i, e := range t.enum {
		quoted[i] = "`" + e + "`"
	}
	return strings.Join(quoted, ", ")
}

func (t textForm) entries() []entry { return nil }

func (t textForm) advice() string {
	if len(t.enum) > 0 {
		return "write " + orList(t.enum)
	}
	advice := "write " + t.what
	if t.example != "" {
		advice = "write it like " + t.example
	}
	if t.hint != "" {
		advice += "; " + t.hint
	}
	return advice
}

func (t textForm) decode(d *decoder, n *yaml.Node, path string) text {
	out := text{at: markOf(n), bad: true}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.wrongType(n, path, t.what, t.advice())
		return out
	}
	s, ok := t.textOf(n)
	if !ok {
		quoted := "quote it, so that it is kept as it stands"
		if !t.secret {
			quoted = "quote it, so that it is kept as it stands: \"" + n.Value + "\""
		}
		if len(t.enum) > 0 {
			quoted = t.advice()
		}
		d.wrongType(n, path, t.what, quoted)
		return out
	}
	if p := t.refuse(s); p.summary != "" {
		d.shapeError(n, path, p.summary, p.detail)
		return out
	}
	if t.check != nil {
		if p := t.check(s); p.summary != "" {
			d.errorAt(n, path, p.summary, p.detail)
			return out
		}
	}
	return text{v: s, at: markOf(n)}
}

// textOf returns the text of a scalar, and false for one that YAML takes for
// something else.
func (t textForm) textOf(n *yaml.Node) (string, bool) {
	switch tag := n.ShortTag(); {
	case isText(n):
		return n.Value, true
	case t.numeral && tag == "!!int" && decimal.MatchString(n.Value):
		return n.Value, true
	case tag == "!!bool":
		for _, e := range t.enum { // off, no and on are booleans to YAML 1.1
			if b, ok := switchWord(e); ok && b != isFalse(n.Value) {
				return e, true
			}
		}
	case (tag == "!!float" || tag == "!!int") && t.numbers():
		for _, e := range t.enum { // 24.04 without quotes
			if sameNumber(e, n.Value) {
				return e, true
			}
		}
		return n.Value, true
	}
	return "", false
}

// numbers reports whether the words of the enumeration are numbers to YAML
// where they stand without quotes.
func (t textForm) numbers() bool {
	return slices.ContainsFunc(t.enum, func(e string) bool { return sameNumber(e, e) })
}

// refuse says what in the text the schema refuses as well.
func (t textForm) refuse(s string) problem {
	quoted := strconv.Quote(shorten(s))
	if t.secret {
		quoted = "this"
	}
	switch {
	case len(t.enum) > 0:
		if slices.Contains(t.enum, s) {
			return problem{}
		}
		detail := t.advice()
		if near := nearest(s, t.enum); near != "" {
			detail = "did you mean " + near + "? " + detail
		}
		return problem{quoted + " is not " + t.what, detail}
	case s == "" && t.refusal == nil:
		return problem{"the text is empty", t.advice() + ", or remove the key"}
	case t.max > 0 && utf8.RuneCountInString(s) > t.max:
		return problem{fmt.Sprintf("%s has %d characters, more than %d", quoted, utf8.RuneCountInString(s), t.max), t.advice()}
	case t.pattern != nil && !t.pattern.MatchString(s) && t.refusal != nil:
		return t.refusal(s)
	case t.pattern != nil && !t.pattern.MatchString(s):
		return problem{quoted + " is not " + t.what, t.advice()}
	}
	return problem{}
}

func (t textForm) marks(v text, path string, visit visitor) {
	if v.set() {
		visit(path, v.at)
	}
}

// intForm is a whole number in decimal digits.
type intForm struct {
	min, max int
	what     string // unit or meaning: "seconds"
}

func (f intForm) words() string {
	if f.min == f.max {
		return fmt.Sprintf("`%d`", f.min)
	}
	return fmt.Sprintf("whole number, %d to %d", f.min, f.max)
}

func (f intForm) entries() []entry { return nil }

func (f intForm) decode(d *decoder, n *yaml.Node, path string) value[int] {
	out := value[int]{at: markOf(n), bad: true}
	advice := fmt.Sprintf("write %s from %d to %d", f.what, f.min, f.max)
	if f.min == f.max {
		advice = fmt.Sprintf("write %d", f.min)
	}
	if tag := n.ShortTag(); n.Kind == yaml.ScalarNode && (tag == "!!float" || tag == "!!int" && !decimal.MatchString(n.Value)) {
		d.shapeError(n, path, shorten(n.Value)+" is not a whole number in decimal digits", advice)
		return out
	} else if n.Kind != yaml.ScalarNode || tag != "!!int" {
		d.wrongType(n, path, "a whole number", advice)
		return out
	}
	i, err := strconv.Atoi(n.Value)
	if f.min == f.max && i != f.min {
		d.shapeError(n, path, fmt.Sprintf("%s is not %s", shorten(n.Value), f.what), fmt.Sprintf("write %d", f.min))
		return out
	}
	if err != nil || i < f.min || i > f.max {
		d.shapeError(n, path, fmt.Sprintf("%s is outside %d to %d", shorten(n.Value), f.min, f.max), advice)
		return out
	}
	return value[int]{v: i, at: markOf(n)}
}

func (f intForm) marks(v value[int], path string, visit visitor) {
	if v.set() {
		visit(path, v.at)
	}
}

// boolForm is true or false; with only, that one of them.
type boolForm struct {
	onlyTrue bool
}

func (f boolForm) words() string {
	if f.onlyTrue {
		return "`true`"
	}
	return "`true` or `false`"
}

func (f boolForm) entries() []entry { return nil }

func (f boolForm) decode(d *decoder, n *yaml.Node, path string) value[bool] {
	out := value[bool]{at: markOf(n), bad: true}
	advice := "write true or false"
	if f.onlyTrue {
		advice = "write true, or remove the key"
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		d.wrongType(n, path, strings.TrimPrefix(advice, "write "), advice)
		return out
	}
	if f.onlyTrue && isFalse(n.Value) {
		d.shapeError(n, path, fmt.Sprintf("%q can only be true", lastKey(path)), advice)
		return out
	}
	return value[bool]{v: !isFalse(n.Value), at: markOf(n)}
}

func (f boolForm) marks(v value[bool], path string, visit visitor) {
	if v.set() {
		visit(path, v.at)
	}
}

// accessForm is true, false, or the word rootless. Its value is the word.
type accessForm struct{}

const rootlessWord = "rootless"

func (accessForm) words() string    { return "`true`, `false` or `rootless`" }
func (accessForm) entries() []entry { return nil }

func (accessForm) decode(d *decoder, n *yaml.Node, path string) text {
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool":
		return text{v: strconv.FormatBool(!isFalse(n.Value)), at: markOf(n)}
	case n.Kind == yaml.ScalarNode && isText(n) && n.Value == rootlessWord:
		return text{v: rootlessWord, at: markOf(n)}
	}
	d.wrongType(n, path, "true, false or rootless", "write true, false or rootless")
	return text{at: markOf(n), bad: true}
}

func (accessForm) marks(v text, path string, visit visitor) {
	if v.set() {
		visit(path, v.at)
	}
}

// rawForm is a mapping that is kept as it stands.
type rawForm struct{}

func (rawForm) words() string    { return "mapping, kept as it stands" }
func (rawForm) entries() []entry { return nil }

func (rawForm) decode(d *decoder, n *yaml.Node, path string) value[*yaml.Node] {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping", "write the sections of Ubuntu's autoinstall reference below it, without the autoinstall: line around them")
		return value[*yaml.Node]{at: markOf(n), bad: true}
	}
	return value[*yaml.Node]{v: n, at: markOf(n)}
}

func (rawForm) marks(v value[*yaml.Node], path string, visit visitor) {
	if v.set() && visit(path, v.at) && v.v != nil {
		visitNodes(v.v, path, visit)
	}
}

func visitNodes(n *yaml.Node, path string, visit visitor) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			child := under(path, n.Content[i].Value)
			if visit(child, markOf(n.Content[i+1])) {
				visitNodes(n.Content[i+1], child, visit)
			}
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			child := path + "[" + strconv.Itoa(i) + "]"
			if visit(child, markOf(c)) {
				visitNodes(c, child, visit)
			}
		}
	}
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// isText reports whether YAML takes the scalar for text. yaml.v3 tells dates
// and the merge key apart, which are text to the JSON Schema.
func isText(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!merge":
		return true
	}
	return false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// isFalse tells the two booleans apart; YAML 1.2 writes them in three ways each.
func isFalse(s string) bool { return s == "false" || s == "False" || s == "FALSE" }

// switchWord returns the truth of the words that YAML 1.1 takes for booleans.
func switchWord(s string) (on, ok bool) {
	switch s {
	case "on":
		return true, true
	case "off", "no":
		return false, true
	}
	return false, false
}

func sameNumber(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	if err != nil {
		return false
	}
	y, err := strconv.ParseFloat(b, 64)
	return err == nil && x == y
}

func lastKey(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

func orList(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}

// shorten cuts a foreign text to what a message can bear.
func shorten(s string) string {
	const limit = 40
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

func mappingExample(es []entry) string {
	names := make([]string, len(es))
	for i, e := range es {
		names[i] = e.name
	}
	return "its keys are " + strings.Join(names, ", ")
}
