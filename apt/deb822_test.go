package apt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt"
)

const sample = `# a comment
Package: dkms
Version: 1:3.4.0-1ubuntu1
Description: kernel modules
 of several
# in between
 .
	lines

Package: b
depends: x,
 y
Empty:


Package: c
`

func TestStanzas(t *testing.T) {
	var got []string
	for s, err := range apt.Stanzas(sample) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s", s.Line, s.Field("package")))
		if s.Field("Package") == "dkms" {
			if d, want := s.Field("Description"), "kernel modules\nof several\n.\nlines"; d != want {
				t.Errorf("the description is %q, want %q", d, want)
			}
		}
		if s.Field("Package") == "b" {
			if d := s.Field("Depends"); d != "x,\ny" {
				t.Errorf("Depends is %q", d)
			}
			if _, e := s.Field("Empty"), s.Field("None"); e != "" {
				t.Errorf("a missing field is %q", e)
			}
		}
	}
	if s := strings.Join(got, "; "); s != "1 dkms; 10 b; 16 c" {
		t.Errorf("stanzas are %s", s)
	}
}

func TestStanzaErrors(t *testing.T) {
	for text, want := range map[string]string{
		"Package: a\n\n continued\n":         "line 3: it continues",
		"Package: a\nno field here\n":        `line 2: "no field here" is no field`,
		"Package: a\n\n\nPackage: b\n:x\n\n": "line 5",
		"a b: c\n":                           "line 1",
	} {
		var last error
		for _, err := range apt.Stanzas(text) {
			last = err
		}
		var syntax *apt.SyntaxError
		if !errors.As(last, &syntax) || !strings.Contains(last.Error(), want) {
			t.Errorf("%q: %v, want %q", text, last, want)
		}
	}
}

func FuzzStanzas(f *testing.F) {
	for _, s := range []string{sample, "", "\n\n", "A: b", "A:\n b\n#\n c\n\n\n", " x", ":", "A: b\r\n\r\nB: c", "#\n#\n\nA: 1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for s, err := range apt.Stanzas(text) {
			if err != nil {
				return
			}
			var out strings.Builder
			fields := map[string]string{}
			for name, value := range s.Fields() {
				if _, twice := fields[strings.ToLower(name)]; twice {
					return // Field returns the first
				}
				fields[strings.ToLower(name)] = value
				fmt.Fprintf(&out, "%s: %s\n", name, strings.ReplaceAll(value, "\n", "\n "))
				if got := s.Field(name); got != value {
					t.Errorf("Field(%q) is %q, Fields say %q", name, got, value)
				}
			}
		}
	})
}

func FuzzRelations(f *testing.F) {
	for _, s := range []string{"a", "a (>= 1) | b:any, c", "a:amd64 (<< 2~)", ",", "a(=1)", "(", "a |"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		groups, err := apt.ParseRelations(text)
		if err != nil {
			return
		}
		for _, g := range groups {
			for _, r := range g {
				again, err := apt.ParseRelation(r.String())
				if err != nil || again != r {
					t.Errorf("%q is read as %#v, %v, when written again", r, again, err)
				}
			}
		}
	})
}
