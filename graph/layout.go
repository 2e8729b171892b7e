package graph

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Sizes in pixels.
const (
	letter  = 7.2 // width of a letter, on average
	line    = 16.0
	padding = 8.0
	gapX    = 90.0 // between layers, at least
	small   = 6.0  // a letter of an arrow's label
	gapY    = 14.0 // between boxes of a layer
	margin  = 24.0
	rim     = 14.0 // between a frame and its boxes
)

// placed is a box with its place: the upper left corner, width and height.
type placed struct {
	Box
	x, y, w, h float64
	layer      int
	gap        bool    // for an arrow to pass, no box
	weight     float64 // where its neighbours are
	in, out    []*placed
}

// frame is around the boxes of a half.
type frame struct {
	half       Half
	x, y, w, h float64
}

// picture is a graph with everything in its place.
type picture struct {
	boxes         []*placed
	frames        []frame
	routes        [][]*placed // of each arrow: its ends, and the gaps that it passes between
	width, height float64
}

// routed is how many arrows a graph may have for those that pass a layer to be led
// between its boxes. With more they pass behind: gaps for all would make the
// picture huge.
const routed = 60

// layout puts the boxes in layers, what needs to the left of what is needed, and
// orders each layer by where the neighbours are.
func layout(g Graph) picture {
	var out picture
	of := map[string]*placed{}
	for _, b := range g.Boxes {
		p := &placed{Box: b, h: 2 * padding}
		for text := range strings.SplitSeq(b.Label, "\n") {
			p.w = max(p.w, letter*float64(len([]rune(text)))+2*padding)
			p.h += line
		}
		out.boxes, of[b.ID] = append(out.boxes, p), p
	}
	for _, a := range g.Arrows {
		from, to := of[a.From], of[a.To]
		from.out, to.in = append(from.out, to), append(to.in, from)
	}
	layers := assign(out.boxes)
	gap := gapX
	for _, a := range g.Arrows {
		gap = max(gap, small*float64(len([]rune(a.Label)))+30)
		route := []*placed{of[a.From], of[a.To]}
		if len(g.Arrows) <= routed {
			route = lead(layers, route[0], route[1])
		}
		out.routes = append(out.routes, route)
	}
	x := margin + rim
	for _, layer := range order(layers) {
		widest := 0.0
		for _, p := range layer {
			widest = max(widest, p.w)
		}
		for _, p := range layer {
			p.x, p.w = x, widest
		}
		x += widest + gap
	}
	y := margin + 2*line
	for _, half := range halves() {
		y = out.stack(layers, half, y)
	}
	out.width, out.height = x-gap+rim+margin, y+margin-gapY
	return out
}

// stack puts the boxes of one half below y, those of each layer around the middle
// of the tallest, frames them, and returns where the next half may begin.
func (p *picture) stack(layers [][]*placed, half Half, y float64) float64 {
	heights := make([]float64, len(layers))
	f := frame{half: half, y: y}
	for i, layer := range layers {
		heights[i] = -gapY
		for _, b := range layer {
			if b.Half == half {
				heights[i] += b.h + gapY
			}
		}
	}
	tall := slices.Max(append(heights, 0))
	left, right := math.Inf(1), math.Inf(-1)
	for i, layer := range layers {
		at := y + line + rim + (tall-heights[i])/2
		for _, b := range layer {
			if b.Half != half {
				continue
			}
			b.y = at
			at += b.h + gapY
			if !b.gap {
				left, right = min(left, b.x), max(right, b.x+b.w)
			}
		}
	}
	if left > right {
		return y // none lives there
	}
	f.x, f.w, f.h = left-rim, right-left+2*rim, tall+line+2*rim
	p.frames = append(p.frames, f)
	return y + f.h + gapY
}

// lead makes a gap for an arrow in each layer that it passes.
func lead(layers [][]*placed, from, to *placed) []*placed {
	if to.layer-from.layer < 2 {
		return []*placed{from, to}
	}
	route := []*placed{from}
	last := from
	for i := from.layer + 1; i < to.layer; i++ {
		p := &placed{Box: Box{Half: from.Half}, gap: true, h: line, layer: i, in: []*placed{last}}
		last.out = append(last.out, p)
		layers[i] = append(layers[i], p)
		route, last = append(route, p), p
	}
	last.out, to.in = append(last.out, to), append(to.in, last)
	return append(route, to)
}

// assign gives each box its layer: one more than the last of those that need it.
// An arrow that closes a circle does not count.
func assign(boxes []*placed) [][]*placed {
	const open, done = 1, 2
	state := map[*placed]int{}
	last := 0
	var visit func(p *placed) int
	visit = func(p *placed) int {
		if state[p] == done {
			return p.layer
		}
		state[p] = open
		for _, from := range p.in {
			if state[from] != open {
				p.layer = max(p.layer, visit(from)+1)
			}
		}
		state[p] = done
		last = max(last, p.layer)
		return p.layer
	}
	for _, p := range boxes {
		visit(p)
	}
	layers := make([][]*placed, last+1)
	for _, p := range boxes {
		layers[p.layer] = append(layers[p.layer], p)
	}
	return layers
}

// order sorts each layer by the mean place of the neighbours, from left to right and
// back, some times over.
func order(layers [][]*placed) [][]*placed {
	at := map[*placed]float64{}
	note := func(layer []*placed) {
		for i, p := range layer {
			at[p] = float64(i) - float64(len(layer))/2
		}
	}
	for _, layer := range layers {
		note(layer)
	}
	sweep := func(layer []*placed, side func(p *placed) []*placed) {
		for _, p := range layer {
			p.weight = at[p]
			if list := side(p); len(list) > 0 {
				p.weight = 0
				for _, q := range list {
					p.weight += at[q] / float64(len(list))
				}
			}
		}
		slices.SortStableFunc(layer, func(a, b *placed) int {
			return cmp.Or(cmp.Compare(b.Half, a.Half), cmp.Compare(a.weight, b.weight)) // as halves has them
		})
		note(layer)
	}
	for range 6 {
		for _, layer := range layers {
			sweep(layer, func(p *placed) []*placed { return p.in })
		}
		for _, layer := range slices.Backward(layers) {
			sweep(layer, func(p *placed) []*placed { return p.out })
		}
	}
	return layers
}
