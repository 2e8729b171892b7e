package config

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxNamedFile bounds a file that the configuration names, in bytes.
const maxNamedFile = 1 << 20

// filePath is any text without control characters; "~" and "$" are not
// expanded, so a path must not begin with them.
var filePath = regexp.MustCompile(`^[^~$\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`)

func pathForm() textForm {
	return textForm{
		what: "the path of a file", example: "keys/ops.pub", pattern: filePath, max: 4096,
		hint: "absolute, or relative to the folder of this file; ~ and variables are not expanded",
	}
}

// readFile returns a file that the configuration names. A file is read once.
func (d *decoder) readFile(n *yaml.Node, path, name, remedy string) (string, bool) {
	f, ok := d.files[name]
	if !ok {
		f.data, f.err = d.read(name)
		if f.err == nil && len(f.data) > maxNamedFile {
			f.err = fmt.Errorf("it has more than %d bytes", maxNamedFile)
		}
		d.files[name] = f
	}
	if f.err == nil {
		return string(f.data), true
	}
	var pathErr *fs.PathError
	reason := f.err
	if errors.As(f.err, &pathErr) {
		reason = pathErr.Err
	}
	d.errorAt(n, path, fmt.Sprintf("cannot read %s: %v", shorten(name), reason), remedy)
	return "", false
}

// hashFileForm is the path of a file that holds a crypt hash; its value is the
// hash.
type hashFileForm struct{ textForm }

func (f hashFileForm) decode(d *decoder, n *yaml.Node, path string) text {
	out := f.textForm.decode(d, n, path)
	if !out.ok() {
		return out
	}
	name := out.v
	out.v, out.bad = "", true
	content, ok := d.readFile(n, path, name, "`gpustrap hash > "+name+"` writes it")
	if !ok {
		return out
	}
	hash := strings.TrimSpace(content)
	if p := refuseHash(hash); p.summary != "" {
		d.errorAt(n, path, shorten(name)+": "+p.summary, p.detail)
		return out
	}
	return text{v: hash, at: out.at}
}

// tokenFileForm is the path of a file that holds a token; its value is the token.
type tokenFileForm struct{ textForm }

// tokenPattern leaves out spaces and what a shell or a line of a file may change.
var tokenPattern = regexp.MustCompile(`^[!-~]{16,256}$`)

func (f tokenFileForm) decode(d *decoder, n *yaml.Node, path string) text {
	out := f.textForm.decode(d, n, path)
	if !out.ok() {
		return out
	}
	name := out.v
	out.v, out.bad = "", true
	const remedy = "`openssl rand -hex 32` makes one; each machine has its own"
	content, ok := d.readFile(n, path, name, remedy)
	if !ok {
		return out
	}
	token := strings.TrimSpace(content)
	if !tokenPattern.MatchString(token) {
		d.errorAt(n, path, shorten(name)+": this is not a token: one line of 16 to 256 characters without spaces", remedy)
		return out
	}
	return text{v: token, at: out.at}
}

// textOrFileForm is a text, or {file: PATH}.
type textOrFileForm[V any] struct {
	what   string
	accept func(d *decoder, n *yaml.Node, path, content, file string) (V, bool)
	refuse func(at mark) V
	place  func(V) mark
}

func (f textOrFileForm[V]) words() string {
	return strings.TrimPrefix(f.what, "an ") + ", or `{file: PATH}`"
}

func (f textOrFileForm[V]) entries() []entry { return nil }

func (f textOrFileForm[V]) decode(d *decoder, n *yaml.Node, path string) V {
	content, file, ok := f.read(d, n, path)
	if !ok {
		return f.refuse(markOf(n))
	}
	v, ok := f.accept(d, n, path, content, file)
	if !ok {
		return f.refuse(markOf(n))
	}
	return v
}

func (f textOrFileForm[V]) read(d *decoder, n *yaml.Node, path string) (content, file string, ok bool) {
	switch {
	case n.Kind == yaml.ScalarNode && isText(n):
		if n.Value == "" {
			d.shapeError(n, path, "the text is empty", "write "+f.what+", or {file: PATH}")
		}
		return n.Value, "", n.Value != ""
	case n.Kind != yaml.MappingNode:
		d.wrongType(n, path, f.what+", or {file: PATH}", "write the text in quotes, or name the file that holds it: {file: PATH}")
		return "", "", false
	}
	type fileKey struct {
		section
		file text
	}
	keys := mapping("file", nil, key("file", func(k *fileKey) *text { return &k.file }, pathForm(), "", "").must()).decode(d, n, path)
	if !keys.file.ok() {
		return "", "", false
	}
	content, ok = d.readFile(n, under(path, "file"), keys.file.v, "write the path of a file that is there, absolute or relative to the folder of this file")
	return content, keys.file.v, ok
}

func (f textOrFileForm[V]) marks(v V, path string, visit visitor) {
	if at := f.place(v); (at != mark{}) {
		visit(path, at)
	}
}

// namedForm is a mapping of names to profiles.
type namedForm struct {
	name    textForm
	profile mappingForm[profileKeys, *profileKeys]
}

func (p namedForm) words() string    { return "mapping of names to profiles" }
func (p namedForm) entries() []entry { return nil }

func (p namedForm) decode(d *decoder, n *yaml.Node, path string) list[named] {
	out := list[named]{at: markOf(n)}
	if n.Kind != yaml.MappingNode {
		out.bad = true
		d.wrongType(n, path, "a mapping of names to profiles", "write a name, a colon, and the settings indented below it")
		return out
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" || seen[k.Value] {
			continue // checkNodes has said so
		}
		seen[k.Value] = true
		name := text{v: k.Value, at: markOf(k)}
		if wrong := p.name.refuse(k.Value); wrong.summary != "" {
			d.shapeError(k, under(path, k.Value), wrong.summary, wrong.detail)
			name.bad = true
		}
		out.items = append(out.items, named{name, p.profile.decode(d, v, under(path, k.Value))})
	}
	return out
}

func (p namedForm) marks(v list[named], path string, visit visitor) {
	for _, item := range v.items {
		p.profile.marks(item.profile, under(path, item.name.v), visit)
	}
}
