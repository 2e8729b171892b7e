// Package graph draws boxes and arrows as SVG or DOT: what a GPU stack's parts
// need, and which half of them lives on the host and which in containers.
//
// The layout is its own, in layers from left to right, the two halves one above the
// other, so that it needs no program and gives the same bytes for the same graph.
// goccy/go-graphviz v0.2.9 was tried and measured; docs/offline.md says why not. Who
// wants Graphviz's layout gives it the DOT.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Half is where a part of the stack lives.
type Half int

// The halves.
const (
	Host Half = iota
	Container
)

// Box is a part of the stack.
type Box struct {
	ID    string
	Label string // lines
	Half  Half
}

// Arrow points from what needs to what is needed, by their IDs.
type Arrow struct {
	From, To string
	Label    string
	Dashed   bool // not a dependency of packages
}

// Graph is what is drawn. Arrows to or from unknown boxes are left out.
type Graph struct {
	Title  string
	Boxes  []Box
	Arrows []Arrow
}

// Simple is the picture for a newcomer: the six parts, and what each needs.
// versions, by ID, are shown where they are given; it may be nil.
func Simple(versions map[string]string) Graph {
	g := Graph{
		Title: "What a container needs to use a GPU",
		Boxes: []Box{
			{ID: "application", Label: "your application", Half: Container},
			{ID: "cuda-toolkit", Label: "cuda-toolkit\ncompiler and headers", Half: Container},
			{ID: "cuda-runtime", Label: "cuda-runtime\nCUDA's libraries", Half: Container},
			{ID: "docker", Label: "Docker\nruns containers", Half: Host},
			{ID: "nvidia-container-toolkit", Label: "nvidia-container-toolkit\nshows them the GPUs", Half: Host},
			{ID: "nvidia-driver", Label: "nvidia-driver\nkernel modules, libcuda", Half: Host},
		},
		Arrows: []Arrow{
			{From: "application", To: "cuda-runtime", Label: "runs with"},
			{From: "application", To: "docker", Label: "is run by", Dashed: true},
			{From: "cuda-toolkit", To: "cuda-runtime", Label: "builds against"},
			{From: "cuda-runtime", To: "nvidia-driver", Label: "needs a driver new enough", Dashed: true},
			{From: "docker", To: "nvidia-container-toolkit", Label: "for --gpus", Dashed: true},
			{From: "nvidia-container-toolkit", To: "nvidia-driver", Label: "lends its libraries", Dashed: true},
		},
	}
	for i, b := range g.Boxes {
		if v := versions[b.ID]; v != "" {
			g.Boxes[i].Label += "\n" + v
		}
	}
	return g
}

// Package is a part of a closure: a package with its version and the names of what
// it needs.
type Package struct {
	Name, Version string
	Needs         []string
}

// Closure is the picture of all packages with their versions.
func Closure(title string, packages []Package) Graph {
	g := Graph{Title: title}
	for _, p := range packages {
		g.Boxes = append(g.Boxes, Box{ID: p.Name, Label: p.Name + "\n" + p.Version, Half: HalfOf(p.Name)})
		for _, need := range p.Needs {
			g.Arrows = append(g.Arrows, Arrow{From: p.Name, To: need})
		}
	}
	return g
}

// HalfOf tells from a package's name which half it belongs in: CUDA's compiler and
// libraries belong in containers, all else on the host.
func HalfOf(name string) Half {
	for _, driver := range []string{"cuda-drivers", "cuda-keyring", "cuda-compat"} {
		if strings.HasPrefix(name, driver) {
			return Host
		}
	}
	for _, prefix := range []string{"cuda", "libcublas", "libcufft", "libcufile", "libcurand", "libcusolver", "libcusparse", "libcudnn", "libnpp", "libnvjitlink", "libnvjpeg", "libnvvm", "libnccl", "nsight-"} {
		if strings.HasPrefix(name, prefix) {
			return Container
		}
	}
	return Host
}

// halves are both, from top to bottom.
func halves() []Half { return []Half{Container, Host} }

// colours of the halves: fill and line.
func (h Half) colours() (fill, line string) {
	if h == Container {
		return "#ffe3bf", "#b35900"
	}
	return "#d6e6f7", "#1f5c99"
}

func (h Half) String() string {
	if h == Container {
		return "in containers"
	}
	return "on the host"
}

// sorted returns the graph with its boxes by ID and its arrows by their ends, each
// once, and none that leads nowhere or to itself.
func (g Graph) sorted() Graph {
	out := Graph{Title: g.Title, Boxes: slices.Clone(g.Boxes)}
	slices.SortStableFunc(out.Boxes, func(a, b Box) int { return cmp.Compare(a.ID, b.ID) })
	out.Boxes = slices.CompactFunc(out.Boxes, func(a, b Box) bool { return a.ID == b.ID })
	known := map[string]bool{}
	for _, b := range out.Boxes {
		known[b.ID] = true
	}
	for _, a := range g.Arrows {
		if known[a.From] && known[a.To] && a.From != a.To {
			out.Arrows = append(out.Arrows, a)
		}
	}
	slices.SortStableFunc(out.Arrows, func(a, b Arrow) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	out.Arrows = slices.CompactFunc(out.Arrows, func(a, b Arrow) bool { return a.From == b.From && a.To == b.To })
	return out
}

// DOT returns the graph in Graphviz's language (https://graphviz.org/doc/info/lang.html).
func (g Graph) DOT() []byte {
	g = g.sorted()
	var b strings.Builder
	fmt.Fprintf(&b, "digraph {\n  label=%s; labelloc=t; rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n", quote(g.Title))
	for _, half := range halves() {
		g.writeCluster(&b, half)
	}
	for _, a := range g.Arrows {
		var with []string
		if a.Label != "" {
			with = append(with, "label="+quote(a.Label))
		}
		if a.Dashed {
			with = append(with, "style=dashed")
		}
		fmt.Fprintf(&b, "  %s -> %s", quote(a.From), quote(a.To))
		if len(with) > 0 {
			fmt.Fprintf(&b, " [%s]", strings.Join(with, ", "))
		}
		b.WriteString(";\n")
	}
	b.WriteString("}\n")
	return []byte(b.String())
}

// writeCluster writes the boxes of one half, which Graphviz draws in a frame.
func (g Graph) writeCluster(b *strings.Builder, half Half) {
	fill, line := half.colours()
	started := false
	for _, box := range g.Boxes {
		if box.Half != half {
			continue
		}
		if !started {
			fmt.Fprintf(b, "  subgraph cluster_%d {\n    label=%s; color=%s; fontname=\"sans-serif\";\n", half, quote(half.String()), quote(line))
			started = true
		}
		fmt.Fprintf(b, "    %s [label=%s, fillcolor=%s, color=%s];\n", quote(box.ID), quote(box.Label), quote(fill), quote(line))
	}
	if started {
		b.WriteString("  }\n")
	}
}

// quote writes a string of DOT, in which a backslash begins an escape and a line
// end is one.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
