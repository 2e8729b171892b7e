package graph

import (
	"fmt"
	"strings"
)

// SVG returns the graph as a picture (SVG 1.1) that stands alone: no script, no
// style sheet, no font from elsewhere.
func (g Graph) SVG() []byte {
	g = g.sorted()
	p := layout(g)
	height := p.height
	width := max(p.width, letter*1.4*float64(len(g.Title))+2*margin, 420)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">
<title>%s</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#666"/></marker></defs>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%.0f" y="%.0f" font-size="16" font-weight="bold">%s</text>
`, width, height, width, height, escape(g.Title), margin, margin+line/2, escape(g.Title))
	for _, f := range p.frames {
		writeFrame(&b, f)
	}
	for i, a := range g.Arrows {
		writeArrow(&b, a, p.routes[i])
	}
	for _, box := range p.boxes {
		writeBox(&b, box)
	}
	for i, a := range g.Arrows {
		writeLabel(&b, a, p.routes[i][0], p.routes[i][1])
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// writeFrame draws what a half's boxes lie in, with its name in the corner.
func writeFrame(b *strings.Builder, f frame) {
	_, stroke := f.half.colours()
	fmt.Fprintf(b, `<rect class="frame" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="8" fill="%s" fill-opacity="0.05" stroke="%s" stroke-opacity="0.5"/>`,
		f.x, f.y, f.w, f.h, stroke, stroke)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", f.x+rim, f.y+line+padding/2, stroke, f.half)
}

func writeBox(b *strings.Builder, p *placed) {
	fill, stroke := p.Half.colours()
	fmt.Fprintf(b, `<g id="%s"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4" fill="%s" stroke="%s"/>`,
		escape(p.ID), p.x, p.y, p.w, p.h, fill, stroke)
	for i, text := range strings.Split(p.Label, "\n") {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle"%s>%s</text>`,
			p.x+p.w/2, p.y+padding+line*(float64(i)+0.8), weight, escape(text))
	}
	b.WriteString("</g>\n")
}

// writeArrow draws curves from a box's right side to another's left side, straight
// through the gaps between. One that leads back bends around.
func writeArrow(b *strings.Builder, a Arrow, route []*placed) {
	dash := ""
	if a.Dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	b.WriteString(`<path d="`)
	for i, to := range route[1:] {
		from := route[i]
		x1, y1 := from.x+from.w, from.y+from.h/2
		x2, y2 := to.x, to.y+to.h/2
		bend := max((x2-x1)/2, gapX/2)
		step := "L"
		if i == 0 {
			step = "M"
		}
		fmt.Fprintf(b, "%s%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", step, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
	}
	fmt.Fprintf(b, `" fill="none" stroke="#999"%s marker-end="url(#tip)"/>`+"\n", dash)
}

// writeLabel writes what an arrow means above its middle, on a white rim.
func writeLabel(b *strings.Builder, a Arrow, from, to *placed) {
	if a.Label == "" {
		return
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="10" fill="#444" stroke="#fff" stroke-width="3" paint-order="stroke">%s</text>`+"\n",
		(from.x+from.w+to.x)/2, (from.y+from.h/2+to.y+to.h/2)/2-3, escape(a.Label))
}

// escape writes text for XML; what XML cannot hold is left out.
func escape(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(c rune) rune {
		if c < 0x20 && c != '\n' && c != '\t' || c == 0xFFFE || c == 0xFFFF {
			return -1
		}
		return c
	}, s)
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
