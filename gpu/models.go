package gpu

import (
	"slices"
	"strings"
)

// Models returns every product that a configuration can name, data-centre
// products first, newest architecture first.
func (t *Tables) Models() []Device {
	var out []Device
	seen := map[string]bool{}
	for _, class := range []string{"datacenter", "workstation", "geforce", "mobile", "embedded", "mining"} {
		for _, d := range t.devices {
			for _, m := range d.models {
				if !seen[m] && t.byModel(m)[0].class == class {
					seen[m] = true
					out = append(out, t.product(m))
				}
			}
		}
	}
	return out
}

// product describes a model with all its PCI ids.
func (t *Tables) product(model string) Device {
	devices := t.byModel(model)
	out := devices[0].describe()
	out.Model = model
	out.PCI = nil
	for _, d := range devices {
		out.PCI = append(out.PCI, d.pci)
	}
	return out
}

// describe describes the product behind one PCI id.
func (d *device) describe() Device {
	return Device{
		Model:        d.models[0],
		Product:      d.product,
		PCI:          []string{d.pci},
		Architecture: d.architecture.id,
		Class:        d.class,
		Board:        d.board.id,
		FirstDriver:  d.listed.oldest(),
	}
}

// unknownModel says what a name that is no model may have meant.
func (t *Tables) unknownModel(field, name string) Finding {
	var names []string
	for _, m := range t.Models() {
		names = append(names, m.Model)
	}
	plain := plainName(name)
	switch matches := sharing(names, plain); {
	case slices.Contains(names, plain):
		return refuse("unknown-model", field, "no GPU model is called "+quote(name), "write "+plain)
	case len(matches) > 1:
		return refuse("ambiguous-model", field, quote(name)+" names more than one GPU",
			"write one of "+strings.Join(matches[:min(len(matches), 8)], ", "))
	case len(matches) == 1:
		return refuse("unknown-model", field, "no GPU model is called "+quote(name), "write "+matches[0])
	}
	hint := "`gpustrap explain --models` lists them; a GPU that it lacks can be named by its PCI id"
	if near := nearest(names, plain); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return refuse("unknown-model", field, "no GPU model is called "+quote(name), hint)
}

// plainName brings a product's name as people write it nearer to a model's.
func plainName(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.Join(strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(" _/-", c) }), "-")
	for _, word := range []string{"nvidia-", "geforce-", "tesla-"} {
		s = strings.TrimPrefix(s, word)
	}
	for _, word := range []string{"rtx", "gtx"} {
		if rest, ok := strings.CutPrefix(s, word); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			s = word + "-" + rest
		}
	}
	return s
}

// sharing returns the names that have all words of name, in its order.
func sharing(names []string, name string) []string {
	words := strings.Split(name, "-")
	var out []string
	for _, n := range names {
		i := 0
		for w := range strings.SplitSeq(n, "-") {
			if i < len(words) && w == words[i] {
				i++
			}
		}
		if i == len(words) {
			out = append(out, n)
		}
	}
	return out
}

// nearest returns the name that differs in the fewest letters, "" if every one
// differs in more than a third of them.
func nearest(names []string, name string) string {
	best, distance := "", len(name)/3+1
	for _, n := range names {
		if d := editDistance(n, name, distance); d < distance {
			best, distance = n, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace between two
// names, up to a limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		diagonal := last[0]
		last[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = last[j+1]
			last[j+1] = min(cost, last[j]+1, last[j+1]+1)
		}
	}
	return last[len(b)]
}
