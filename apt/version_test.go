package apt_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

func TestCompareVersions(t *testing.T) {
	// Each is newer than the one before.
	ascending := []string{
		"0~~", "0~", "0", "0+", "1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1ubuntu1", "1.0-1ubuntu1.1", "1.0-1+b1",
		"1.0-10", "1.0+dfsg-1", "1.2.3", "1.10", "2.0", "580.173.02-0ubuntu0.24.04.1", "1:0.1", "5:28.5.1-1~ubuntu.24.04~noble",
		"5:29.6.1-1~ubuntu.24.04~noble", "10:0",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := max(-1, min(1, i-j))
			if got := apt.CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.0-0"}, {"0:1", "1"}, {"1.01", "1.1"}, {"", "0"}} {
		if c := apt.CompareVersions(same[0], same[1]); c != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, want 0", same[0], same[1], c)
		}
	}
}

func versions() *rapid.Generator[string] {
	return rapid.StringMatching(`([0-9]{1,2}:)?[0-9][0-9a-c.+~-]{0,6}(-[0-9a-c.+~]{1,3})?`).
		Filter(func(v string) bool { return apt.CheckVersion(v) == nil })
}

func TestVersionsAreOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(versions(), 3, 3).Draw(t, "versions")
		for _, a := range list {
			for _, b := range list {
				if apt.CompareVersions(a, b) != -apt.CompareVersions(b, a) {
					t.Errorf("%q and %q: not the opposite the other way round", a, b)
				}
			}
		}
		slices.SortFunc(list, apt.CompareVersions)
		if apt.CompareVersions(list[0], list[2]) > 0 {
			t.Errorf("%q: not transitive", list)
		}
	})
}

// TestVersionsLikeDpkg asks dpkg.
func TestVersionsLikeDpkg(t *testing.T) {
	dpkg := oracle.Need(t, "dpkg")
	rapid.Check(t, func(rt *rapid.T) {
		a, b := versions().Draw(rt, "a"), versions().Draw(rt, "b")
		c := apt.CompareVersions(a, b)
		for op, want := range map[string]bool{"lt": c < 0, "eq": c == 0, "gt": c > 0} {
			got := exec.Command(dpkg, "--compare-versions", a, op, b).Run() == nil
			if got != want {
				rt.Errorf("%s %s %s: dpkg says %t", a, op, b, got)
			}
		}
	})
}

func TestCheckVersion(t *testing.T) {
	for v, want := range map[string]string{
		"1.0-1": "", "5:29.6.1-1~ubuntu.24.04~noble": "", "1:2:3-4": "",
		"": "digit", "a1": "digit", ":1": "epoch", "x:1": "epoch", "1.0-": "hyphen", "1 0": "character", "1_0": "character",
	} {
		err := apt.CheckVersion(v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckVersion(%q) = %v, want %q", v, err, want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, v := range []string{"1.0", "5:29.6.1-1~ubuntu.24.04~noble", "1:0~~-", "~", "00009", "1.0-1-2", ":", "-"} {
		f.Add(v, "1.0")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if c := apt.CompareVersions(a, b); c < -1 || c > 1 || c != -apt.CompareVersions(b, a) {
			t.Errorf("CompareVersions(%q, %q) = %d, and %d the other way round", a, b, c, apt.CompareVersions(b, a))
		}
		if apt.CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
		_ = apt.CheckVersion(a)
	})
}

func TestParseRelations(t *testing.T) {
	tests := []struct{ value, want, err string }{
		{"libc6", "libc6", ""},
		{"libc6 (>= 2.34), libcuda1 (= 550.163.01-2) | libcuda-any", "libc6 (>= 2.34), libcuda1 (= 550.163.01-2) | libcuda-any", ""},
		{"python3:any (>= 3.11~)", "python3:any (>= 3.11~)", ""},
		{"gcc:amd64(<<4:13)", "gcc:amd64 (<< 4:13)", ""},
		{"old (< 1), new (> 2)", "old (<= 1), new (>= 2)", ""},
		{"nvidia-open-kernel-dkms-any (= 550.163.01),", "nvidia-open-kernel-dkms-any (= 550.163.01)", ""},
		{"a,\n b\n | c", "a, b | c", ""},
		{"", "", ""},
		{"a (>= )", "", "no version"},
		{"a (>= 1", "", "in brackets"},
		{"a 1", "", "in brackets"},
		{"a (!= 1)", "", "compares"},
		{"(>= 1)", "", "no name"},
		{"a | ", "", "no name"},
		{"a (=> 1)", "", "compares"},
	}
	for _, tt := range tests {
		groups, err := apt.ParseRelations(tt.value)
		if tt.err != "" {
			if err == nil {
				t.Errorf("%q: no error", tt.value)
			}
			continue
		}
		var list []string
		for _, g := range groups {
			var alternatives []string
			for _, r := range g {
				alternatives = append(alternatives, r.String())
			}
			list = append(list, strings.Join(alternatives, " | "))
		}
		if got := strings.Join(list, ", "); err != nil || got != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.value, got, err, tt.want)
		}
	}
}

func TestRelationMatches(t *testing.T) {
	for op, want := range map[string][3]bool{
		"": {true, true, true}, "<<": {true, false, false}, "<=": {true, true, false},
		"=": {false, true, false}, ">=": {false, true, true}, ">>": {false, false, true},
	} {
		for i, v := range []string{"1~", "1", "1.1"} {
			if got := (apt.Relation{Name: "a", Op: op, Version: "1"}).Matches(v); got != want[i] {
				t.Errorf("%s matches (%s 1): %t", v, op, got)
			}
		}
	}
}
