package gpu

import (
	"bufio"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManyComplaintsAtOnce: one run of check shows them all.
func TestManyComplaintsAtOnce(t *testing.T) {
	_, findings := load(t).Resolve(Request{
		Models: []string{"h100", "gh200"}, Count: -3, Driver: "580.*", SecureBoot: "required", Source: "cuda", Display: "both",
		Release: "24.04", Arch: "amd64",
	})
	want := []string{"unknown-value", "secure-boot-cuda", "driver-glob", "ambiguous-model", "superchip-arch", "count-impossible"}
	if got := rules(findings, false); !slices.Equal(got, want) {
		t.Errorf("rules %v, want %v", got, want)
	}
}

// TestH200Machine: what a real machine has is what the tables choose for it.
func TestH200Machine(t *testing.T) {
	text, err := io.ReadAll(shared(t, "h200/nvidia-smi-q.txt"))
	if err != nil {
		t.Fatal(err)
	}
	driver := regexp.MustCompile(`Driver Version\s+: (\d+)\.`).FindStringSubmatch(string(text))
	part := regexp.MustCompile(`GPU Part Number\s+: ([0-9A-F]{4})-`).FindStringSubmatch(string(text))
	product := regexp.MustCompile(`Product Name\s+: (.+)`).FindStringSubmatch(string(text))
	architecture := regexp.MustCompile(`Product Architecture\s+: (.+)`).FindStringSubmatch(string(text))
	if driver == nil || part == nil || product == nil || architecture == nil {
		t.Fatal("nvidia-smi's text has not the lines expected")
	}
	id := "10de:" + strings.ToLower(part[1])
	tables := load(t)
	s, findings := tables.Resolve(Request{PCI: []string{id}, Count: 1, Release: "24.04", Arch: "amd64"})
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	if s.Branch.Name != driver[1]+"-server" || s.Flavour != Open {
		t.Errorf("chose %s %s, the machine has %s open", s.Branch.Name, s.Flavour, driver[1])
	}
	d := tables.byPCI(id)
	if d.product != strings.TrimSpace(product[1]) || d.architecture.name != strings.TrimSpace(architecture[1]) {
		t.Errorf("%s is %s, %s; the machine says %s, %s", id, d.product, d.architecture.name, product[1], architecture[1])
	}
	chosen := chooseByShell(t, tables, Request{Release: "24.04", Arch: "amd64"}, []string{id})[0]
	if !strings.HasPrefix(chosen, driver[1]+"-server\topen\t") {
		t.Errorf("the machine's own choice: %s", chosen)
	}
}

// TestGracePages: 64 KiB pages unless others are asked for, and then it is said.
func TestGracePages(t *testing.T) {
	tables := load(t)
	for kernel, want := range map[string]struct {
		meta string
		said bool
	}{
		"":    {"linux-generic-64k", false},
		"64k": {"linux-generic-64k", false},
		"ga":  {"linux-generic", true},
		"hwe": {"linux-generic-hwe-24.04", true},
	} {
		s, _ := tables.Resolve(Request{Models: []string{"gb200"}, Kernel: kernel, SecureBoot: "off", Release: "24.04", Arch: "arm64"})
		said := slices.ContainsFunc(s.Reasons, func(r Reason) bool { return r.Choice == "kernel pages of 4 KiB" })
		if s.Kernel.Meta != want.meta || said != want.said {
			t.Errorf("kernel %q: %s, remark %v", kernel, s.Kernel.Meta, said)
		}
	}
}

// TestStackIsJSON: explain --json prints it, with lists as lists.
func TestStackIsJSON(t *testing.T) {
	s, _ := load(t).Resolve(Request{Models: []string{"rtx-4090"}, Release: "24.04", Arch: "amd64"})
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "null") {
		t.Errorf("null in %s", text)
	}
	var back Stack
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back); diff != "" {
		t.Error(diff)
	}
}

// TestUnverifiedIsSaid: a fact that its source does not quite state is marked.
func TestUnverifiedIsSaid(t *testing.T) {
	tables := load(t)
	has := func(q Request) bool {
		q.Release, q.Arch = "24.04", "amd64"
		s, _ := tables.Resolve(q)
		return slices.ContainsFunc(s.Reasons, func(r Reason) bool { return strings.Contains(r.Source, "[UNVERIFIED]") })
	}
	if !has(Request{PCI: []string{"10de:2909"}}) {
		t.Error("a GPU that is in no list is not marked")
	}
	if !has(Request{Models: []string{"a40"}, Driver: "615-server"}) {
		t.Error("a name that was not seen is not marked")
	}
	if has(Request{Models: []string{"h200"}}) {
		t.Error("h200 on 24.04 is marked, and all of it was read")
	}
}

// lines splits text into its lines.
func lines(text string) []string {
	var out []string
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		out = append(out, sc.Text())
	}
	return out
}
