package apt_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/apt"
)

// index writes stanzas from lines such as
//
//	docker-ce 5:29 | Depends: containerd.io (>= 2) | Conflicts: docker.io
func index(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		parts := strings.Split(strings.TrimSpace(line), " | ")
		head := strings.Fields(parts[0])
		if len(head) < 2 {
			continue
		}
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\n", head[0], head[1])
		rest := strings.Join(parts[1:], "\n")
		rest = strings.ReplaceAll(rest, " || ", " | ")
		if !strings.Contains(rest, "Architecture:") {
			b.WriteString("Architecture: amd64\n")
		}
		if !strings.Contains(rest, "Priority:") {
			b.WriteString("Priority: optional\n")
		}
		fmt.Fprintf(&b, "Filename: pool/%s_%s.deb\nSize: 1\nSHA256: %s\n", head[0], head[1], sum([]byte(line)))
		if rest != "" {
			b.WriteString(rest + "\n")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// status writes dpkg's status from lines as index takes them; a version that ends
// with "!" is held.
func status(lines string) string {
	var b strings.Builder
	for stanza, err := range apt.Stanzas(index(lines)) {
		if err != nil {
			panic(err)
		}
		state := "install ok installed"
		text := stanza.Text
		if v := stanza.Field("Version"); strings.HasSuffix(v, "!") {
			state, text = "hold ok installed", strings.Replace(text, v, v[:len(v)-1], 1)
		}
		fmt.Fprintf(&b, "%s\nStatus: %s\n\n", text, state)
	}
	return b.String()
}

func names(s *apt.Solution) string {
	var all []string
	for _, p := range s.Install {
		all = append(all, p.String())
	}
	for _, p := range s.Remove {
		all = append(all, "-"+p.Name)
	}
	return strings.Join(all, " ")
}

func TestResolve(t *testing.T) {
	tests := []struct {
		name, offers, installed string
		ask                     string
		recommends              bool
		pins                    []apt.Pin
		want                    string // or, with "!", part of the error
	}{
		{name: "alternatives: the first that can be had", offers: "a 1 | Depends: x || b || c\nb 1\nc 1", ask: "a", want: "a=1 b=1"},
		{name: "alternatives: one is there", offers: "a 1 | Depends: b || c\nb 1\nc 1", installed: "c 1", ask: "a", want: "a=1"},
		{name: "exact version", offers: "a 1 | Depends: b (= 2)\nb 2\nb 1", ask: "a", want: "a=1 b=2"},
		{name: "versioned Provides", offers: "a 1 | Depends: kernel-common-580.173.02\nc 580.173.02 | Provides: kernel-common-580.173.02", ask: "a", want: "a=1 c=580.173.02"},
		{name: "Provides with a version", offers: "a 1 | Depends: v (= 550)\nx 1 | Provides: v\ny 1 | Provides: v (= 560)\nz 1 | Provides: v (= 550)", ask: "a", want: "a=1 z=1"},
		{name: "the real package before those that provide it", offers: "a 1 | Depends: v\nx 1 | Provides: v\nv 1", ask: "a", want: "a=1 v=1"},
		{name: "tie: what came last", offers: "a 1 | Depends: v\nx 1 | Provides: v\ny 1 | Provides: v", ask: "a", want: "a=1 y=1"},
		{name: "priority before order", offers: "a 1 | Depends: v\nx 1 | Provides: v | Priority: standard\ny 1 | Provides: v", ask: "a", want: "a=1 x=1"},
		{name: ":any of Multi-Arch allowed", offers: "a 1 | Depends: python3:any (>= 3)\npython3 3.12 | Multi-Arch: allowed", ask: "a", want: "a=1 python3=3.12"},
		{name: ":any of another kind", offers: "a 1 | Depends: python3:any\npython3 3.12 | Multi-Arch: foreign", ask: "a", want: "!python3:any"},
		{name: "architecture", offers: "a 1 | Depends: b:amd64\nb 1", ask: "a", want: "a=1 b=1"},
		{name: "another architecture", offers: "a 1 | Depends: b:i386\nb 1", ask: "a", want: "!b:i386"},
		{name: "epochs", offers: "a 1 | Depends: b (>= 5:1)\nb 99\nb 5:1", ask: "a", want: "a=1 b=5:1"},
		{name: "tilde", offers: "a 1 | Depends: b (>= 2)\nb 2~rc1", ask: "a", want: "!b (>= 2), and there is only b 2~rc1"},
		{name: "recommends", offers: "a 1 | Recommends: b, x\nb 1", ask: "a", recommends: true, want: "a=1 b=1"},
		{name: "no recommends", offers: "a 1 | Recommends: b\nb 1", ask: "a", want: "a=1"},
		{name: "recommends that cannot be had", offers: "a 1 | Recommends: b | Conflicts: c\nb 1 | Depends: c\nc 1", ask: "a", recommends: true, want: "a=1"},
		{name: "transitional package", offers: "drv-535 580 | Depends: drv-580 | Architecture: all\ndrv-580 580", ask: "drv-535", want: "drv-535=580 drv-580=580"},
		{name: "cycle", offers: "a 1 | Depends: b\nb 1 | Depends: a", ask: "a", want: "a=1 b=1"},
		{name: "Conflicts removes what is installed", offers: "docker-ce 29 | Conflicts: docker.io\ndocker.io 26", installed: "docker.io 26", ask: "docker-ce", want: "docker-ce=29 -docker.io"},
		{name: "Breaks upgrades what is installed", offers: "a 2 | Breaks: b (<< 2)\nb 2", installed: "b 1", ask: "a", want: "a=2 b=2"},
		{name: "Conflicts and Replaces of what it provides", offers: "containerd.io 2 | Provides: containerd, runc | Conflicts: containerd, runc | Replaces: containerd, runc\ncontainerd 1\nrunc 1", installed: "containerd 1", ask: "containerd.io", want: "containerd.io=2 -containerd"},
		{name: "an upgrade pulls its sibling", offers: "lib 2 | Source: src\ndev 2 | Source: src | Depends: lib (= 2)", installed: "lib 1 | Source: src\ndev 1 | Source: src | Depends: lib (= 1)", ask: "lib", want: "dev=2 lib=2"},
		{name: "essential stays", offers: "a 1 | Conflicts: b\nb 1 | Essential: yes", installed: "b 1 | Essential: yes", ask: "a", want: "!cannot install a"},
		{name: "held stays", offers: "a 1 | Depends: b (>= 2)\nb 2", installed: "b 1!", ask: "a", want: "!cannot install a"},
		{name: "virtual name of one package", offers: "x 1 | Provides: v", ask: "v", want: "x=1"},
		{name: "virtual name of several", offers: "x 1 | Provides: v\ny 1 | Provides: v", ask: "v", want: "!it is a virtual package"},
		{name: "no such package", offers: "x 1", ask: "y", want: "!no repository has a package of this name"},
		{name: "asked for by version", offers: "a 2\na 1", ask: "a=1", want: "a=1"},
		{name: "asked for by glob", offers: "a 590.1\na 580.2\na 580.1", ask: "a=580.*", want: "a=580.2"},
		{name: "no such version", offers: "a 2", ask: "a=1", want: "!no repository has version 1 of it"},
		{name: "pin to a branch", offers: "fm 590 | Depends: drv (= 590)\nfm 580 | Depends: drv (= 580)\ndrv 590\ndrv 580", ask: "fm", pins: []apt.Pin{{Packages: []string{"*"}, Version: "580*", Priority: 1000}}, want: "drv=580 fm=580"},
		{name: "a pin that forbids", offers: "a 1", ask: "a", pins: []apt.Pin{{Packages: []string{"a*"}, Priority: -1}}, want: "!a pin forbids"},
		{name: "the first pin counts", offers: "a 2\na 1", ask: "a", pins: []apt.Pin{{Packages: []string{"a"}, Version: "1", Priority: 1001}, {Packages: []string{"a"}, Version: "2", Priority: 2000}}, want: "a=2"},
		{name: "a phased update is left alone", offers: "a 2 | Phased-Update-Percentage: 10\na 1", ask: "a", want: "a=1"},
		{name: "a new version of what is installed", offers: "a 2", installed: "a 1", ask: "a", want: "a=2"},
		{name: "never an older version", offers: "a 1", installed: "a 2", ask: "a", want: ""},
		{name: "unless a pin wants it", offers: "a 1", installed: "a 2", ask: "a", pins: []apt.Pin{{Packages: []string{"a"}, Version: "1", Priority: 1001}}, want: "a=1"},
		{name: "two that exclude each other", offers: "docker-ce 29 | Conflicts: docker.io\nnv-docker 1 | Depends: docker.io\ndocker.io 26\nz 1", ask: "docker-ce nv-docker z", want: "!cannot install docker-ce and nv-docker together: docker-ce 29 (asked for) conflicts with docker.io, and docker.io 26 (needed by nv-docker) is there"},
		{name: "two that want different versions", offers: "a 1 | Depends: lib (= 1)\nb 1 | Depends: lib (= 2)\nlib 1\nlib 2", ask: "a b", want: "!cannot install a: a 1 (asked for) needs lib (= 1), and lib 2 is to be installed (the newest)"},
		{name: "two that provide the same", offers: "exim 1 | Provides: mta | Conflicts: mta\npostfix 2 | Provides: mta", ask: "exim postfix", want: "!exim 1 (asked for) conflicts with mta, and postfix 2 (asked for) provides it"},
		{name: "a need that nothing has", offers: "a 1 | Depends: b\nb 1 | Depends: gone (>= 3)", ask: "a", want: "!b 1 (needed by a) needs gone (>= 3), which no repository has"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := apt.Request{Packages: strings.Fields(tt.ask), Recommends: tt.recommends, Pins: tt.pins}
			if tt.installed != "" {
				in, err := apt.ParseStatus(status(tt.installed), "")
				if err != nil {
					t.Fatal(err)
				}
				r.Installed = in
			}
			s, err := offers(t, index(tt.offers)).Resolve(r)
			if text, failure := strings.CutPrefix(tt.want, "!"); failure {
				var e *apt.Error
				if !errors.As(err, &e) || !errors.Is(err, apt.ErrNoSolution) && !errors.Is(err, apt.ErrNoPackage) || !strings.Contains(err.Error(), text) {
					t.Fatalf("error %v, want %q", err, text)
				}
				return
			}
			if err != nil || names(s) != tt.want {
				t.Errorf("got %v, %v, want %s", s, err, tt.want)
			}
		})
	}
}

// TestNotAutomatic: of a source such as backports only what was installed from it
// is upgraded.
func TestSourcePriorities(t *testing.T) {
	a := offers(t, index("a 1\nb 1"))
	if err := a.AddIndex(apt.Source{Name: "cuda", Priority: 600}, "/", index("a 0.5\nb 2")); err != nil {
		t.Fatal(err)
	}
	s, err := a.Resolve(apt.Request{Packages: []string{"a", "b"}})
	if err != nil || names(s) != "a=0.5 b=2" {
		t.Errorf("got %s, %v", names(s), err)
	}
	pin := apt.Pin{Packages: []string{"a"}, Source: "cuda", Priority: -1}
	if s, err = a.Resolve(apt.Request{Packages: []string{"a", "b"}, Pins: []apt.Pin{pin}}); err != nil || names(s) != "a=1 b=2" {
		t.Errorf("with a pin: got %s, %v", names(s), err)
	}
}

func TestManifest(t *testing.T) {
	in, err := apt.ParseManifest("libc6:amd64\t2.39-0ubuntu8.4\nmawk\t1.3\nlibc6:i386\t2.39\nsnap:lxd\t5.21/stable\n\n")
	if err != nil {
		t.Fatal(err)
	}
	a := offers(t, index("libc6 2.39-0ubuntu8.5\nmawk 1.4 | Provides: awk, mawk-abi (= 4)\ngawk 1 | Provides: awk\nx 1 | Depends: libc6 (>= 2.38), awk\ny 1 | Depends: mawk-abi (= 4)"))
	s, err := a.Resolve(apt.Request{Packages: []string{"x"}, Installed: in})
	if err != nil || names(s) != "x=1" {
		t.Errorf("got %v, %v", s, err)
	}
	if s, err = a.Resolve(apt.Request{Packages: []string{"y"}, Installed: in}); err != nil || names(s) != "mawk=1.4 y=1" {
		t.Errorf("what an old version provides with a version is not known: got %v, %v", s, err)
	}
	for text, want := range map[string]string{"libc6\n": "line 1", "\na b c\n": "line 2", "a x\n": "no version"} {
		if _, err := apt.ParseManifest(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestStatusErrors(t *testing.T) {
	for text, want := range map[string]string{
		"Package: a\n": "no Status", "Status: install ok installed\n": "without a name", "x\n": "no field",
	} {
		if _, err := apt.ParseStatus(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	in, err := apt.ParseStatus("Package: a\nVersion: 1\nStatus: deinstall ok config-files\n", "Package: a\nAuto-Installed: 1\n")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := offers(t, index("a 1")).Resolve(apt.Request{Packages: []string{"a"}, Installed: in}); err != nil || names(s) != "a=1" {
		t.Errorf("what left its configuration behind is not installed: got %v, %v", s, err)
	}
}

// small is a random archive of few packages.
type small struct {
	text string
	list []tiny
}

type tiny struct {
	name, version string
	depends       [][]apt.Relation
	conflicts     []apt.Relation
	provides      string
}

func relation() *rapid.Generator[apt.Relation] {
	return rapid.Custom(func(t *rapid.T) apt.Relation {
		r := apt.Relation{Name: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "v"}).Draw(t, "name")}
		if r.Name != "v" && rapid.IntRange(0, 2).Draw(t, "versioned") == 0 {
			r.Op = rapid.SampledFrom([]string{"=", ">=", "<<", "<=", ">>"}).Draw(t, "op")
			r.Version = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version")
		}
		return r
	})
}

func archives() *rapid.Generator[small] {
	return rapid.Custom(func(t *rapid.T) small {
		var s small
		var b strings.Builder
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			for _, version := range []string{"1", "2"} {
				if version == "2" && rapid.Bool().Draw(t, "one version") {
					continue
				}
				p := tiny{name: name, version: version}
				p.depends = rapid.SliceOfN(rapid.SliceOfN(relation(), 1, 2), 0, 2).Draw(t, "depends")
				p.conflicts = rapid.SliceOfN(relation(), 0, 1).Draw(t, "conflicts")
				if rapid.IntRange(0, 3).Draw(t, "provides") == 0 {
					p.provides = "v"
				}
				fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: amd64\nPriority: optional\n", name, version)
				var groups, against []string
				for _, g := range p.depends {
					var alternatives []string
					for _, r := range g {
						alternatives = append(alternatives, r.String())
					}
					groups = append(groups, strings.Join(alternatives, " | "))
				}
				for _, r := range p.conflicts {
					against = append(against, r.String())
				}
				for field, value := range map[string]string{"Depends": strings.Join(groups, ", "), "Conflicts": strings.Join(against, ", "), "Provides": p.provides} {
					if value != "" {
						fmt.Fprintf(&b, "%s: %s\n", field, value)
					}
				}
				b.WriteByte('\n')
				s.list = append(s.list, p)
			}
		}
		s.text = b.String()
		return s
	})
}

func (p tiny) meets(r apt.Relation) bool {
	return p.name == r.Name && r.Matches(p.version) || p.provides == r.Name && r.Op == ""
}

// works reports whether a set of versions has all it needs and nothing that
// collides.
func works(set []tiny) bool {
	for i, p := range set {
		for j, q := range set {
			if i != j && p.name == q.name {
				return false
			}
			if p.name != q.name && slices.ContainsFunc(p.conflicts, q.meets) {
				return false
			}
		}
		for _, group := range p.depends {
			if !slices.ContainsFunc(group, func(r apt.Relation) bool {
				return slices.ContainsFunc(set, func(q tiny) bool { return q.meets(r) })
			}) {
				return false
			}
		}
	}
	return true
}

// newest leaves the newest version of each package, which is all that apt looks at
// when nothing is installed.
func newest(list []tiny) []tiny {
	var out []tiny
	for i, p := range list {
		if i+1 == len(list) || list[i+1].name != p.name {
			out = append(out, p)
		}
	}
	return out
}

// solvable tries all subsets.
func solvable(list []tiny, asked string) bool {
	for bits := range 1 << len(list) {
		var set []tiny
		has := false
		for i, p := range list {
			if bits>>i&1 == 1 {
				set = append(set, p)
				has = has || p.name == asked
			}
		}
		if has && works(set) {
			return true
		}
	}
	return false
}

// TestSolverAgainstBruteForce: what the solver finds works; where it finds
// nothing it says why; and where trying everything finds nothing, so does it. The
// other way round apt's rules promise nothing: they try no second way once the
// first alternative that could be installed collides later.
func TestSolverAgainstBruteForce(t *testing.T) {
	found, missed, none := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := archives().Draw(rt, "archive")
		a := apt.NewArchive("amd64")
		if err := a.AddIndex(apt.Source{Name: "test", URL: "http://test.example"}, "s", s.text); err != nil {
			rt.Fatal(err)
		}
		solution, err := a.Resolve(apt.Request{Packages: []string{"a"}})
		possible := solvable(newest(s.list), "a")
		if err != nil {
			if !strings.Contains(err.Error(), ": ") {
				rt.Errorf("the error says no reason: %v", err)
			}
			if possible {
				missed++
			} else {
				none++
			}
			return
		}
		found++
		var set []tiny
		for _, p := range solution.Install {
			i := slices.IndexFunc(s.list, func(q tiny) bool { return q.name == p.Name && q.version == p.Version })
			set = append(set, s.list[i])
		}
		if !works(set) || !slices.ContainsFunc(set, func(p tiny) bool { return p.name == "a" }) {
			rt.Fatalf("%v does not work:\n%s", names(solution), s.text)
		}
		if !possible {
			rt.Fatalf("%v works, and trying everything finds nothing", names(solution))
		}
		for i, p := range set { // nothing is there that nobody needs
			if p.name != "a" && works(slices.Delete(slices.Clone(set), i, i+1)) && len(set) > 1 && !isNeeded(set, p) {
				rt.Fatalf("%v has %s for nothing:\n%s", names(solution), p.name, s.text)
			}
		}
	})
	t.Logf("%d solved, %d without a solution, %d that apt's way misses", found, none, missed)
	if missed > 2 && missed*20 > found { // of a handful, one or two say nothing
		t.Errorf("%d of %d solvable cases were missed", missed, missed+found)
	}
}

// isNeeded reports whether something in the set depends on the package: it may have
// been taken before something else that does as well came in.
func isNeeded(set []tiny, p tiny) bool {
	return slices.ContainsFunc(set, func(q tiny) bool {
		return slices.ContainsFunc(q.depends, func(g []apt.Relation) bool { return slices.ContainsFunc(g, p.meets) })
	})
}
