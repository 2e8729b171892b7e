package gpu

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDivisionsAsTheDriverLists holds the table against what nvidia-smi said of
// an H200: names, and how many instances of each fit.
func TestDivisionsAsTheDriverLists(t *testing.T) {
	text, err := os.ReadFile("testdata/mig-lgip-h200.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile(`MIG (\S+) +\d+ +(\d)/\d `).FindAllStringSubmatch(string(text), -1)
	tables := load(t)
	divisions := tables.divisions(gpu{device: tables.byModel("h200")[0], model: "h200"})
	if len(divisions) != 1 || len(listed) != len(divisions[0].profiles) || len(listed) < 7 {
		t.Fatalf("%d profiles are listed, and the table has %+v", len(listed), divisions)
	}
	for _, l := range listed {
		p, ok := divisions[0].profile(l[1])
		if !ok {
			t.Errorf("the table lacks %s", l[1])
			continue
		}
		n := min(divisions[0].compute/p.compute, divisions[0].memory/p.memory)
		if strings.HasSuffix(p.name, "+me") {
			n = 1 // there is one set of the media engines
		}
		if want := l[2]; want != string(rune('0'+n)) {
			t.Errorf("by its slices %s fits %d times, and the driver says %s", p.name, n, want)
		}
	}
}

// TestLayouts has layouts that are taken, one for each kind of GPU.
func TestLayouts(t *testing.T) {
	tables := load(t)
	for model, layout := range map[string]string{
		"a30": "1g.6gb 1g.6gb 2g.12gb", "a100-pcie": "3g.20gb 2g.10gb 1g.5gb 1g.5gb", "a100-sxm": "3g.40gb 3g.40gb",
		"h100-sxm": "7g.80gb", "h100-nvl": "3g.47gb 4g.47gb", "h200": "1g.18gb 1g.18gb 1g.18gb 1g.18gb 1g.18gb 1g.18gb 1g.18gb+me",
		"b200": "2g.45gb 2g.45gb 2g.45gb", "rtx-pro-6000-server": "2g.48gb+gfx 1g.24gb 1g.24gb",
	} {
		s, findings := tables.Resolve(Request{Models: []string{model}, MIG: strings.Fields(layout), Release: "24.04", Arch: "amd64"})
		if len(findings) > 0 {
			t.Errorf("%s %s: %+v", model, layout, findings)
			continue
		}
		said := false
		for _, r := range s.Reasons {
			said = said || strings.HasPrefix(r.Choice, "GPU instances "+strings.ReplaceAll(layout, " ", ", ")) && r.Source != ""
		}
		if !said {
			t.Errorf("%s: no reason speaks of the layout", model)
		}
	}
	if _, findings := tables.Resolve(Request{Auto: true, MIG: []string{"3g.71gb"}, Release: "24.04", Arch: "amd64"}); len(findings) > 0 {
		t.Errorf("a machine that chooses for itself: %+v", findings)
	}
}
