package graph_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/graph"
)

type rect struct{ x, y, w, h float64 }

func (r rect) within(f rect) bool {
	return r.x > f.x && r.y > f.y && r.x+r.w < f.x+f.w && r.y+r.h < f.y+f.h
}

// read parses a picture: the rectangles of the boxes by ID and of the frames, all text, and how many
// arrows there are.
func read(t testing.TB, svg []byte) (boxes map[string]rect, frames []rect, text string, arrows int, size rect) {
	t.Helper()
	boxes = map[string]rect{}
	var all strings.Builder
	id := ""
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return boxes, frames, all.String(), arrows, size
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		switch e := token.(type) {
		case xml.CharData:
			all.Write(e)
		case xml.EndElement:
			if e.Name.Local == "g" {
				id = ""
			}
		case xml.StartElement:
			get := func(name string) string {
				i := slices.IndexFunc(e.Attr, func(a xml.Attr) bool { return a.Name.Local == name })
				if i < 0 {
					return ""
				}
				return e.Attr[i].Value
			}
			number := func(name string) float64 {
				f, err := strconv.ParseFloat(get(name), 64)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			switch {
			case e.Name.Local == "svg":
				size = rect{0, 0, number("width"), number("height")}
			case e.Name.Local == "g":
				id = get("id")
			case e.Name.Local == "rect" && id != "":
				boxes[id] = rect{number("x"), number("y"), number("width"), number("height")}
			case e.Name.Local == "rect" && get("class") == "frame":
				frames = append(frames, rect{number("x"), number("y"), number("width"), number("height")})
			case e.Name.Local == "path" && get("marker-end") != "":
				arrows++
			}
		}
	}
}

func TestSimple(t *testing.T) {
	g := graph.Simple(map[string]string{"nvidia-driver": "580.173.02"})
	boxes, frames, text, arrows, _ := read(t, g.SVG())
	if len(boxes) != 6 || arrows != 6 {
		t.Errorf("%d boxes and %d arrows", len(boxes), arrows)
	}
	for _, want := range []string{"your application", "cuda-toolkit", "nvidia-container-toolkit", "580.173.02", "on the host", "in containers"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	if len(frames) != 2 {
		t.Fatalf("%d frames", len(frames))
	}
	for _, b := range g.Boxes {
		within := []bool{boxes[b.ID].within(frames[0]), boxes[b.ID].within(frames[1])}
		if want := []bool{b.Half == graph.Container, b.Half == graph.Host}; !slices.Equal(within, want) {
			t.Errorf("%s lies in the frames %v, want %v", b.ID, within, want)
		}
	}
	if boxes["application"].x >= boxes["cuda-runtime"].x || boxes["cuda-runtime"].x >= boxes["nvidia-driver"].x {
		t.Error("what is needed is not to the right of what needs it")
	}
	if !bytes.Equal(g.SVG(), g.SVG()) || !bytes.Equal(g.DOT(), g.DOT()) {
		t.Error("drawn twice it differs")
	}
}

func TestHalfOf(t *testing.T) {
	for name, want := range map[string]graph.Half{
		"cuda-toolkit-13-0": graph.Container, "libcublas-13-0": graph.Container, "cuda-runtime-13-0": graph.Container,
		"cuda-drivers": graph.Host, "cuda-drivers-580": graph.Host, "nvidia-driver-580-server": graph.Host,
		"docker-ce": graph.Host, "libnvidia-compute-580-server": graph.Host, "libc6": graph.Host,
	} {
		if got := graph.HalfOf(name); got != want {
			t.Errorf("%s lives %v, want %v", name, got, want)
		}
	}
}

func graphs() *rapid.Generator[graph.Graph] {
	return rapid.Custom(func(t *rapid.T) graph.Graph {
		var list []graph.Package
		n := rapid.IntRange(0, 30).Draw(t, "packages")
		for i := range n {
			p := graph.Package{Name: fmt.Sprintf("p%d", i), Version: rapid.String().Draw(t, "version")}
			for _, need := range rapid.SliceOfN(rapid.IntRange(0, 35), 0, 4).Draw(t, "needs") {
				p.Needs = append(p.Needs, fmt.Sprintf("p%d", need))
			}
			list = append(list, p)
		}
		return graph.Closure(rapid.String().Draw(t, "title"), list)
	})
}

// TestBoxesDoNotOverlap draws random graphs, with circles and arrows to nowhere.
func TestBoxesDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := graphs().Draw(rt, "graph")
		boxes, frames, _, _, size := read(t, g.SVG())
		if len(boxes) != len(g.Boxes) {
			rt.Fatalf("%d boxes are drawn of %d", len(boxes), len(g.Boxes))
		}
		for a, x := range boxes {
			if x.x < 0 || x.y < 0 || x.x+x.w > size.w || x.y+x.h > size.h {
				rt.Errorf("%s lies outside the picture: %v in %v", a, x, size)
			}
			if len(frames) != 1 || !x.within(frames[0]) { // all on the host
				rt.Errorf("%s does not lie in the one frame: %v in %v", a, x, frames)
			}
			for b, y := range boxes {
				if a < b && x.x < y.x+y.w && y.x < x.x+x.w && x.y < y.y+y.h && y.y < x.y+x.h {
					rt.Errorf("%s and %s overlap", a, b)
				}
			}
		}
		shuffled := graph.Graph{Title: g.Title, Boxes: slices.Clone(g.Boxes), Arrows: slices.Clone(g.Arrows)}
		slices.Reverse(shuffled.Boxes)
		slices.Reverse(shuffled.Arrows)
		if !bytes.Equal(g.SVG(), shuffled.SVG()) || !bytes.Equal(g.DOT(), shuffled.DOT()) {
			rt.Error("the picture depends on the order in which parts are given")
		}
	})
}

// TestDOTForGraphviz has Graphviz read the DOT, where it is installed.
func TestDOTForGraphviz(t *testing.T) {
	dot := oracle.Need(t, "dot")
	odd := graph.Closure(`a "title" \ <b>`, []graph.Package{{Name: `q"uote`, Version: `1\2`, Needs: []string{"-dash"}}, {Name: "-dash", Version: "<x>"}})
	for _, g := range []graph.Graph{graph.Simple(nil), odd, {}} {
		cmd := exec.Command(dot, "-Tplain")
		cmd.Stdin = bytes.NewReader(g.DOT())
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Count(out, []byte("\nnode ")) != len(g.Boxes) {
			t.Errorf("%v: %s\n%s", err, out, g.DOT())
		}
	}
}
