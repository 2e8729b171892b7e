package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyRequest draws requests that are mostly sensible, with some that are not.
func anyRequest(tables *Tables) *rapid.Generator[Request] {
	var models, ids []string
	for _, d := range tables.Models() {
		models = append(models, d.Model)
	}
	for _, d := range tables.devices {
		ids = append(ids, d.pci)
	}
	for _, s := range tables.switches {
		ids = append(ids, s.pci)
	}
	drivers := []string{"", "auto", "580*", "580.173.02", "595-open"}
	for _, b := range tables.branches {
		drivers = append(drivers, fmt.Sprint(b.number), fmt.Sprintf("%d-server", b.number))
	}
	slices.Sort(drivers)
	return rapid.Custom(func(t *rapid.T) Request {
		word := func(name string, values ...string) string {
			if rapid.IntRange(0, 40).Draw(t, name+"?") == 0 {
				return rapid.StringN(0, 12, 24).Draw(t, name)
			}
			return rapid.SampledFrom(values).Draw(t, name)
		}
		q := Request{
			Driver:        word("driver", drivers...),
			Modules:       word("modules", "", "auto", "open", "proprietary"),
			Source:        word("source", "", "ubuntu", "cuda"),
			SecureBoot:    word("secure boot", "", "auto", "required", "off"),
			Kernel:        word("kernel", "", "ga", "hwe", "64k"),
			FabricManager: word("fabric manager", "", "auto", "on", "off"),
			Display:       word("display", "", "none", "desktop"),
			Override:      word("override", "", "", "because"),
			Release:       word("release", "22.04", "24.04", "26.04"),
			Arch:          word("arch", "amd64", "arm64"),
			DCGM:          rapid.Bool().Draw(t, "dcgm"),
			Count:         rapid.IntRange(-1, 20).Draw(t, "count"),
		}
		switch rapid.IntRange(0, 7).Draw(t, "named by") {
		case 0:
			q.Auto = true
		case 1, 2, 3:
			for range rapid.IntRange(1, 3).Draw(t, "gpus") {
				q.PCI = append(q.PCI, word("pci", ids...))
			}
		default:
			for range rapid.IntRange(1, 3).Draw(t, "gpus") {
				q.Models = append(q.Models, word("model", models...))
			}
		}
		return q
	})
}

// TestAnyRequest: whatever is asked, there is no panic, and either a finding
// refuses it or the stack holds together.
func TestAnyRequest(t *testing.T) {
	tables := load(t)
	requests := anyRequest(tables)
	rapid.Check(t, func(rt *rapid.T) {
		q := requests.Draw(rt, "request")
		s, findings := tables.Resolve(q)
		for _, f := range findings {
			if f.Rule == "" || f.Summary == "" || f.Detail == "" {
				rt.Fatalf("a finding without words: %+v", f)
			}
		}
		if len(rules(findings, false)) > 0 {
			if s.Reasons != nil || s.Packages != nil {
				rt.Fatalf("refused, but with a stack: %+v", findings)
			}
			return
		}
		if q.Auto {
			return
		}
		coherent(rt, tables, q, s)
	})
}

var packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)

// coherent checks what must hold for every stack, whatever the tables say.
func coherent(t *rapid.T, tables *Tables, q Request, s Stack) {
	b := tables.branchOf(s.Branch.Name)
	if b == nil || len(s.GPUs) == 0 || len(s.Packages) == 0 {
		t.Fatalf("branch %q, %d GPUs, %d packages", s.Branch.Name, len(s.GPUs), len(s.Packages))
	}
	for _, list := range [][]string{s.Packages, s.Components, s.Services, s.Modules, s.Hold, s.Repositories} {
		for i, x := range list {
			if slices.Contains(list[:i], x) {
				t.Fatalf("%s is there twice: %v", x, list)
			}
		}
	}
	number := fmt.Sprint(b.number)
	branch := regexp.MustCompile(`(?:^|-)([1-9][0-9]{2})(?:-|$)`)
	for _, p := range s.Packages {
		if !packageForm.MatchString(p) {
			t.Fatalf("package name %q", p)
		}
		if m := branch.FindStringSubmatch(p); m != nil && m[1] != number {
			t.Fatalf("%s next to branch %s", p, s.Branch.Name)
		}
		if strings.HasPrefix(p, "linux-modules-nvidia-") && strings.Contains(p, "-open-") != (s.Flavour == Open) {
			t.Fatalf("%s with %s modules", p, s.Flavour)
		}
		if slices.Contains([]string{"nvidia-driver-" + number, "dkms"}, p) && q.SecureBoot == "required" && p == "dkms" {
			t.Fatalf("DKMS under Secure Boot")
		}
	}
	for _, d := range s.GPUs {
		if d.Architecture == "" { // not in the tables, let pass by the override
			continue
		}
		a := tables.architectures[d.Architecture]
		if !slices.Contains(a.modules, s.Flavour) || !slices.Contains(b.modules, s.Flavour) {
			t.Fatalf("%s modules of branch %d for %s", s.Flavour, b.number, a.name)
		}
		if a.last != 0 && b.number > a.last {
			t.Fatalf("branch %d for %s", b.number, a.name)
		}
		if tables.boards[d.Board].arch != "" && tables.boards[d.Board].arch != q.Arch {
			t.Fatalf("%s on %s", d.Model, q.Arch)
		}
	}
	if q.SecureBoot == "required" && !s.Signed {
		t.Fatal("unsigned modules under Secure Boot")
	}
	if b.ended && q.Override == "" {
		t.Fatalf("branch %d is at its end", b.number)
	}
	manager := slices.ContainsFunc(s.Packages, func(p string) bool { return strings.HasPrefix(p, "nvidia-fabricmanager") })
	if manager != s.FabricManager || manager != slices.Contains(s.Services, "nvidia-fabricmanager.service") || manager && q.FabricManager == "off" {
		t.Fatalf("Fabric Manager: package %v, field %v, services %v, asked for %q", manager, s.FabricManager, s.Services, q.FabricManager)
	}
	if cuda := slices.Contains(s.Repositories, "cuda"); cuda != (len(s.Pins) > 0) {
		t.Fatalf("repositories %v with pins %v", s.Repositories, s.Pins)
	}
	if q.Kernel == "64k" != strings.Contains(s.Kernel.Meta, "64k") && q.Kernel != "" {
		t.Fatalf("kernel %s asked for, %s chosen", q.Kernel, s.Kernel.Meta)
	}
	for _, r := range s.Reasons {
		if r.Choice == "" || r.Why == "" || !strings.Contains(r.Source, ", 20") {
			t.Fatalf("a reason without a source: %+v", r)
		}
	}
}

// TestSameRequestSameAnswer: nothing depends on the order of maps.
func TestSameRequestSameAnswer(t *testing.T) {
	requests := anyRequest(load(t))
	rapid.Check(t, func(rt *rapid.T) {
		q := requests.Draw(rt, "request")
		s1, f1 := load(t).Resolve(q)
		s2, f2 := load(t).Resolve(q)
		if fmt.Sprint(s1, f1) != fmt.Sprint(s2, f2) {
			rt.Fatalf("two answers:\n%v %v\n%v %v", s1, f1, s2, f2)
		}
	})
}
