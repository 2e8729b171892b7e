package page

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// cells is how many machines a page of the grid has, and worries how many the list
// of those that need somebody.
const (
	cells   = 240
	worries = 12
)

// fleet is the page of all machines.
type fleetPage struct {
	Query     string
	Phase     string
	Counts    []count
	Total     int
	Matching  int
	Cells     []Machine
	Worries   []Machine
	More      int // worries that are not listed
	Number    int // of the page, from 1
	Pages     int
	Previous  string // addresses; empty: none
	Next      string
	Unknown   []Unknown
	Refused   string
	RefusedAt time.Time
}

// count is a phase with the number of machines in it.
type count struct {
	Phase   Phase
	N       int
	Link    string
	Current bool
}

func (p *Pages) fleet(w http.ResponseWriter, r *http.Request) {
	v := fleetPage{Query: strings.TrimSpace(r.URL.Query().Get("q")), Phase: r.URL.Query().Get("phase")}
	all := p.options.Source.Machines()
	v.Total = len(all)
	numbers := map[Phase]int{}
	wanted := strings.Fields(strings.ToLower(v.Query))
	var matching []Machine
	for _, m := range all {
		numbers[m.Phase]++
		if m.Phase.Tone() == Bad {
			if len(v.Worries) < worries {
				v.Worries = append(v.Worries, m)
			} else {
				v.More++
			}
		}
		if (v.Phase == "" || v.Phase == m.Phase.Key()) && matches(m, wanted) {
			matching = append(matching, m)
		}
	}
	for _, known := range phases() {
		if n := numbers[known.name]; n > 0 {
			v.Counts = append(v.Counts, count{known.name, n, address(v.Query, known.name.Key(), 1), v.Phase == known.name.Key()})
		}
	}
	if v.Query != "" || v.Phase != "" {
		v.Worries, v.More = nil, 0 // the grid has what was asked for
	}
	v.Matching = len(matching)
	v.Pages = max(1, (len(matching)+cells-1)/cells)
	number, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil {
		number = 1
	}
	v.Number = min(max(number, 1), v.Pages)
	v.Cells = matching[(v.Number-1)*cells : min(v.Number*cells, len(matching))]
	if v.Number > 1 {
		v.Previous = address(v.Query, v.Phase, v.Number-1)
	}
	if v.Number < v.Pages {
		v.Next = address(v.Query, v.Phase, v.Number+1)
	}
	v.Unknown = p.options.Source.Unknown()
	v.Refused, v.RefusedAt = p.options.Source.Refused()
	p.render(w, r, http.StatusOK, "fleet.html", frame{Title: "Fleet", Stream: "/stream", Page: v})
}

// matches reports whether a machine has all words, in lower case.
func matches(m Machine, words []string) bool {
	if len(words) == 0 {
		return true
	}
	text := strings.ToLower(m.Name + " " + m.Phase.Words() + " " + m.Waits + " " + m.Find)
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func address(query, phase string, number int) string {
	v := url.Values{}
	for key, value := range map[string]string{"q": query, "phase": phase} {
		if value != "" {
			v.Set(key, value)
		}
	}
	if number > 1 {
		v.Set("page", strconv.Itoa(number))
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

// machinePage is the page of one machine.
type machinePage struct {
	Detail
	Bars []bar
}

// bar is a step with where its bar lies in the whole, in percent.
type bar struct {
	Step
	From, Width string
}

func (p *Pages) machine(w http.ResponseWriter, r *http.Request) {
	d, ok := p.options.Source.Detail(r.PathValue("name"))
	if !ok {
		p.message(w, r, http.StatusNotFound, "There is no such machine in gpustrap.yaml.")
		return
	}
	v := machinePage{Detail: d, Bars: bars(d.Steps)}
	p.render(w, r, http.StatusOK, "machine.html", frame{Title: d.Name, Stream: "/stream?machine=" + url.QueryEscape(d.Name), Page: v})
}

func bars(steps []Step) []bar {
	out := make([]bar, len(steps))
	if len(steps) == 0 {
		return out
	}
	first, last := steps[0].Start, steps[0].End
	for _, s := range steps {
		if s.Start.Before(first) {
			first = s.Start
		}
		if s.End.After(last) {
			last = s.End
		}
	}
	whole := max(last.Sub(first), time.Second)
	percent := func(d time.Duration) string {
		return strconv.FormatFloat(100*float64(d)/float64(whole), 'f', 2, 64) + "%"
	}
	for i, s := range steps {
		// A moment is seen, too.
		width := max(s.End.Sub(s.Start), whole/150)
		from := min(s.Start.Sub(first), whole-width)
		out[i] = bar{s, percent(from), percent(width)}
	}
	return out
}
