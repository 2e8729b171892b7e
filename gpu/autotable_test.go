package gpu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// chooseByShell lets the reference reader choose for each machine, given as its
// PCI ids, one for each device.
func chooseByShell(t testing.TB, tables *Tables, req Request, machines ...[]string) []string {
	t.Helper()
	table, findings := tables.AutoTable(req)
	if table == nil {
		t.Fatalf("no table: %+v", findings)
	}
	path := filepath.Join(t.TempDir(), "gpu.tsv")
	if err := os.WriteFile(path, table, 0o600); err != nil {
		t.Fatal(err)
	}
	var in strings.Builder
	for _, ids := range machines {
		fmt.Fprintln(&in, strings.Join(ids, " "))
	}
	cmd := exec.Command("sh", "-u", filepath.Join("..", "scripts", "choose-stack.sh"), path)
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("choose-stack.sh: %v\n%s", err, out)
	}
	got := lines(string(out))
	if len(got) != len(machines) {
		t.Fatalf("%d answers for %d machines", len(got), len(machines))
	}
	return got
}

// asRecord writes a resolver's answer as the reference reader writes its own.
func asRecord(s Stack, findings []Finding) string {
	if len(rules(findings, false)) > 0 {
		return "error"
	}
	dash := func(list []string) string {
		if len(list) == 0 {
			return "-"
		}
		return strings.Join(list, " ")
	}
	return strings.Join([]string{s.Branch.Name, string(s.Flavour), dash(s.Packages), dash(s.Services), dash(s.Modules), dash(s.Repositories)}, "\t")
}

// sameChoice stops at the first machine for which the two differ.
func sameChoice(t *testing.T, tables *Tables, req Request, machines [][]string) {
	t.Helper()
	got := chooseByShell(t, tables, req, machines...)
	for i, ids := range machines {
		q := req
		q.PCI, q.Count = ids, 0
		for _, id := range ids {
			if _, isSwitch := tables.nvswitch(id); !isSwitch {
				q.Count++
			}
		}
		want := asRecord(tables.Resolve(q))
		if want == "error" && strings.HasPrefix(got[i], "error\t") {
			continue
		}
		if got[i] != want {
			t.Fatalf("%+v\nshell:    %s\nresolver: %s", q, got[i], want)
		}
	}
}

// platforms are the requests that a machine's own choice can be made under.
func platforms(t *testing.T) map[string]Request {
	t.Helper()
	out := map[string]Request{}
	releases := []string{"24.04", "22.04", "26.04"}
	if testing.Short() {
		releases = releases[:1]
	}
	for _, release := range releases {
		for _, arch := range []string{"amd64", "arm64"} {
			for name, q := range map[string]Request{
				"archive":       {},
				"hwe":           {Kernel: "hwe"},
				"desktop":       {Display: "desktop"},
				"dcgm":          {DCGM: true},
				"no fabric":     {FabricManager: "off"},
				"proprietary":   {Modules: "proprietary"},
				"override":      {Override: "mixed on purpose"},
				"newer":         {Driver: "595-server"},
				"newer, forced": {Driver: "595-server", Override: "tried it"},
				"cuda":          {Source: "cuda", Driver: "580"},
				"cuda, renamed": {Source: "cuda", Driver: "595", DCGM: true},
			} {
				// Left out, a Grace machine would get its own pages, which a
				// machine that chooses for itself cannot: its kernel is there.
				if q.Kernel == "" {
					q.Kernel = "ga"
				}
				q.Release, q.Arch, q.SecureBoot = release, arch, "off"
				out[strings.Join([]string{release, arch, name}, " ")] = q
			}
		}
	}
	return out
}

// TestShellChoosesAsTheResolver goes through every PCI id, one of it and a whole
// machine of it, for every release.
func TestShellChoosesAsTheResolver(t *testing.T) {
	tables := load(t)
	for name, q := range platforms(t) {
		t.Run(name, func(t *testing.T) {
			machines := [][]string{{"10de:0000"}, {"10de:22a3"}, {"10de:2330", "10de:22a3"}, {"10de:20b0", "10de:20b0", "10de:22a3"}}
			for _, d := range tables.devices {
				one := []string{d.pci}
				machines = append(machines, one)
				if d.board.max > 1 {
					machines = append(machines, slices.Repeat(one, min(d.board.max, 8)))
				}
			}
			sameChoice(t, tables, q, machines)
		})
	}
}

// TestShellChoosesForMixedMachines puts random GPUs together.
func TestShellChoosesForMixedMachines(t *testing.T) {
	tables := load(t)
	var ids []string
	for _, d := range tables.devices {
		ids = append(ids, d.pci)
	}
	// Ids that bring the rules in, more often than chance would.
	common := []string{"10de:1db4", "10de:1eb8", "10de:2330", "10de:2335", "10de:2901", "10de:3182", "10de:2941", "10de:2342", "10de:2c3a", "10de:102d", "10de:22a3"}
	device := rapid.OneOf(rapid.SampledFrom(ids), rapid.SampledFrom(common))
	all := platforms(t)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		// Many machines for each table: a process a machine would take minutes.
		machines := rapid.SliceOfN(rapid.SliceOfN(device, 1, 9), 50, 50).Draw(rt, "machines")
		machines = slices.DeleteFunc(machines, func(ids []string) bool { return tooMany(tables, ids) })
		if len(machines) > 0 {
			sameChoice(t, tables, all[rapid.SampledFrom(names).Draw(rt, "platform")], machines)
		}
	})
}

// tooMany reports machines that only the resolver refuses, for having more GPUs
// than such a machine can: the GPUs that a machine finds, it has.
func tooMany(tables *Tables, ids []string) bool {
	most, n := 0, 0
	for _, id := range ids {
		if d := tables.byPCI(id); d != nil {
			most += d.board.max
			n++
		}
	}
	return n > most
}

func TestAutoTableIsPlain(t *testing.T) {
	table, findings := load(t).AutoTable(Request{Models: []string{"ignored"}, Release: "24.04", Arch: "amd64"})
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	for i, line := range lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		want := map[string]int{"format": 2, "stack": 8, "fabric": 7, "switch": 3, "gpu": 7}[fields[0]]
		if len(fields) != want || slices.Contains(fields, "") || strings.ContainsAny(line, "'\"\\$`\r") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
	// It travels in the seed: one argument of the kernel is 128 KiB at most.
	if len(table) > 100<<10 {
		t.Errorf("%d bytes", len(table))
	}
}

func TestAutoTableRefuses(t *testing.T) {
	table, findings := load(t).AutoTable(Request{Driver: "580*", Release: "24.04", Arch: "amd64"})
	if table != nil || !slices.Equal(rules(findings, false), []string{"driver-glob"}) {
		t.Errorf("%d bytes, %+v", len(table), findings)
	}
}

// TestAutoStack: it covers what the machine may choose.
func TestAutoStack(t *testing.T) {
	tables := load(t)
	for name, q := range platforms(t) {
		auto := q
		auto.Auto = true
		s, findings := tables.Resolve(auto)
		if len(rules(findings, false)) > 0 || len(s.GPUs)+len(s.Packages) > 0 {
			t.Fatalf("%s: %+v, %v", name, findings, s.Packages)
		}
		for _, d := range tables.devices {
			q.PCI = []string{d.pci}
			one, findings := tables.Resolve(q)
			if len(rules(findings, false)) > 0 {
				continue
			}
			for _, list := range [][2][]string{{one.Components, s.Components}, {one.Repositories, s.Repositories}, {one.Hold, s.Hold}} {
				for _, x := range list[0] {
					if !slices.Contains(list[1], x) {
						t.Errorf("%s, %s: %s is not covered", name, d.pci, x)
					}
				}
			}
		}
	}
}

// TestAutoPackages: whatever a machine chooses is one of the lists that a lock is
// made of.
func TestAutoPackages(t *testing.T) {
	tables := load(t)
	for _, req := range []Request{
		{Release: "24.04", Arch: "amd64"},
		{Release: "26.04", Arch: "arm64", Kernel: "hwe"}, {Release: "24.04", Arch: "amd64", FabricManager: "on", DCGM: true},
	} {
		lists := tables.AutoPackages(req)
		if len(lists) < 2 {
			t.Errorf("%+v: %d lists", req, len(lists))
		}
		for _, d := range tables.devices {
			for _, count := range []int{1, 8} {
				q := req
				q.PCI, q.Count = slices.Repeat([]string{d.pci}, count), count
				s, findings := tables.Resolve(q)
				if len(rules(findings, false)) > 0 {
					continue
				}
				if !slices.ContainsFunc(lists, func(l []string) bool {
					return slices.Equal(slices.Sorted(slices.Values(l)), slices.Sorted(slices.Values(s.Packages)))
				}) {
					t.Fatalf("%d x %s takes %v, which no list is", count, d.pci, s.Packages)
				}
			}
		}
	}
	if got := tables.AutoPackages(Request{Release: "20.04", Arch: "amd64"}); got != nil {
		t.Errorf("a refused request has %v", got)
	}
}
