package config

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// scanSyntax finds no fault in YAML that has none: in every file here, and in
// random documents as yaml.v3 writes them.
func TestScanSyntaxKnowsGoodYAML(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseYAML(data); err != nil || !(&decoder{}).checkText(data) {
			continue
		}
		if faults := scanSyntax(part{data, 1}); len(faults) > 0 {
			t.Errorf("%s: %+v", file, faults)
		}
	}
}

func TestScanSyntaxKnowsRandomYAML(t *testing.T) {
	word := rapid.StringMatching(`[a-z0-9"'\[\]{}:,#&*!|>%@\\ \n.-]{0,12}`)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return rapid.Map(word, func(s string) any { return s })
		}
		return rapid.OneOf(
			rapid.Map(word, func(s string) any { return s }),
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(s []any) any { return s }),
			rapid.Map(rapid.MapOfN(word, value(depth-1), 0, 3), func(m map[string]any) any { return m }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.MapOfN(rapid.StringMatching(`[a-z_]{1,8}`), value(3), 1, 4).Draw(t, "document")
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(rapid.IntRange(1, 6).Draw(t, "indent"))
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		if _, err := parseYAML(b.Bytes()); err != nil {
			t.Skip("yaml.v3 does not read what it wrote")
		}
		if faults := scanSyntax(part{b.Bytes(), 1}); len(faults) > 0 {
			t.Errorf("%+v in\n%s", faults, b.String())
		}
	})
}

// A file that is broken in one place is still checked in the others.
func TestBrokenPartsDoNotHideOthers(t *testing.T) {
	c, rep := Decode("x.yaml", []byte("version: 1\nhostname: \"gpu\" 1\narch: arm65\nuser: {name: [}\nafter: never\n"), readTestdata)
	var lines []int
	for _, d := range rep.Diagnostics {
		lines = append(lines, d.Pos.Line)
	}
	if want := []int{2, 3, 4, 5}; !slices.Equal(slices.Compact(lines), want) {
		t.Errorf("problems on lines %v, want %v", lines, want)
	}
	if fleet, _ := c.Resolve(); len(fleet.Machines) != 0 {
		t.Error("a broken file was resolved")
	}
}

func TestLoadRefusesTooMuch(t *testing.T) {
	_, rep := Load("x.yaml", bytes.Repeat([]byte("#"), MaxFileSize+1), readTestdata)
	if !rep.HasErrors() {
		t.Error("an oversized file was read")
	}
	huge := func(string) ([]byte, error) { return make([]byte, maxNamedFile+1), nil }
	_, rep = Load("x.yaml", []byte("version: 1\nubuntu: \"24.04\"\nuser: {name: ops, password_file: x}\n"), huge)
	if !rep.HasErrors() || !strings.Contains(rep.Err().Error(), "more than") {
		t.Errorf("an oversized password file was read: %v", rep.Err())
	}
	deep := "version: 1\nautoinstall: " + strings.Repeat("[", 20000) + "\n"
	if _, rep = Load("x.yaml", []byte(deep), readTestdata); !rep.HasErrors() {
		t.Error("20,000 brackets were accepted")
	}
}

// Hostile texts are refused in a time that grows with their length alone.
func TestHostileTexts(t *testing.T) {
	const size = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, text := range map[string]string{
		"brackets":       "autoinstall: " + fill("["),
		"pairs":          "autoinstall: {a: [" + fill("[],") + "]}",
		"nested pairs":   "autoinstall: {a: " + fill(strings.Repeat("[", 90)+strings.Repeat("]", 90)+",") + "}",
		"dashes":         "packages: \n" + fill("- "),
		"comments":       fill("#\n") + "version: 1",
		"questions":      fill("? "),
		"quotes":         "hostname: " + fill("'"),
		"colons":         fill("a: "),
		"keys":           fill("k: v\n"),
		"unknown keys":   fill("{k: v}"),
		"long key":       fill("k") + ": v",
		"long text":      "hostname: " + fill("k"),
		"blank lines":    fill("\n") + "version: 1",
		"spaces":         "version: 1" + fill(" "),
		"indentation":    "a:\n" + fill(" ") + "b: 1\n",
		"block text":     "hostname: |\n" + fill(" x\n"),
		"plain text":     "hostname:\n" + fill(" x\n"),
		"parts":          fill("a: [\n"),
		"documents":      fill("---\n"),
		"passwords":      fill("password: \"\n"),
		"open passwords": fill("password: {"),
		"password files": "{" + fill("password_file: x, "),
		"aliases":        "a: &a [x]\nb: [" + fill("*a,") + "]\n",
	} {
		t.Run(name, func(t *testing.T) {
			text = strings.ReplaceAll(text, `\n`, "\n")
			start := cpuTime(t)
			_, rep := Load("x.yaml", []byte(text), readTestdata)
			Mask([]byte(text))
			if took := cpuTime(t) - start; took > 2*time.Second {
				t.Errorf("took %v of processor time for %d bytes", took, len(text))
			} else {
				t.Log(took, len(rep.Diagnostics))
			}
			if !rep.HasErrors() {
				t.Error("it was accepted")
			}
		})
	}
}

// The excerpts of a report never show a secret, wherever it stands.
func TestMaskHidesSecrets(t *testing.T) {
	const secret = "S3cr3tS3cr3t"
	for _, text := range []string{
		"password: S3cr3tS3cr3t\nnext: 1\n",
		"user: {password_hash: S3cr3tS3cr3t, name: kept}\n",
		"user: {name: kept, 'password': \"S3cr3t, } S3cr3tS3cr3t\"}\n",
		"  - user_passwd: 'S3cr3t''S3cr3tS3cr3t'\n    name: kept\n",
		"password_hash: |\n  S3cr3tS3cr3t\n\n  S3cr3tS3cr3t\nname: kept\n",
		"password_hash: >-\r\n  S3cr3tS3cr3t\r\nname: kept\r\n",
		"password_hash:\n  S3cr3tS3cr3t\nname: kept\n",
		"password_hash: \"S3cr3t\n  S3cr3tS3cr3t\"\nname: kept\n",
		"pasword_hash: $6$salt$S3cr3tS3cr3t\nname: kept\n",
		"hash: $y$j9T$salt$S3cr3tS3cr3t\nname: kept\n",
		"url: https://user:S3cr3tS3cr3t@mirror.example.org/\nname: kept\n",
		"key: |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  S3cr3tS3cr3t\n  -----END OPENSSH PRIVATE KEY-----\nname: kept\n",
		"key: |\n  -----BEGIN PGP PRIVATE KEY BLOCK-----\n  S3cr3tS3cr3t\n",
		"password: \"S3cr3tS3cr3t\nname: broken\n",
		"PASSWORD: S3cr3tS3cr3t # S3cr3tS3cr3t\nname: kept\n",
		"chpasswd: {list: [ops:S3cr3tS3cr3t]}\nname: kept\n",
	} {
		masked := string(Mask([]byte(text)))
		if strings.Contains(masked, secret) {
			t.Errorf("%q shows the secret: %q", text, masked)
		}
		if strings.Contains(text, "kept") && !strings.Contains(masked, "kept") {
			t.Errorf("%q hides too much: %q", text, masked)
		}
		if strings.Count(masked, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q: lines have moved: %q", text, masked)
		}
	}
	for _, text := range []string{
		"password_file: secrets/ops.hash\n",
		"user: {name: ops, password_file: secrets/ops.hash, sudo: password}\n",
		"url: https://mirror.example.org/a@b\n",
		"suite: $RELEASE/x\n",
	} {
		if masked := string(Mask([]byte(text))); masked != text {
			t.Errorf("%q was masked: %q", text, masked)
		}
	}
	if got := string(Mask([]byte("password: päß ☃ x\n"))); got != "password: *******\n" {
		t.Errorf("columns have moved: %q", got)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"model", "modules", "driver", "secure_boot", "authorized_keys", "gpu"}
	for word, want := range map[string]string{
		"modle": "model", "drivr": "driver", "secureboot": "secure_boot", "Secure-Boot": "secure_boot",
		"authorised-keys": "authorized_keys", "module": "modules", "cpu": "gpu", "overclocking": "", "x": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// FuzzLoad holds that no text makes Load panic, that every report has its places
// inside the text and its excerpts no broken UTF-8, and that a fleet comes
// without errors alone.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			t.Skip("time is for small inputs")
		}
		fleet, rep := Load("fuzz.yaml", data, func(string) ([]byte, error) { return nil, os.ErrNotExist })
		if (fleet == nil) != rep.HasErrors() {
			t.Fatalf("fleet %v with %v", fleet, rep.Err())
		}
		if fleet != nil && len(fleet.Machines) == 0 {
			t.Fatal("no machines and no errors")
		}
		checkPositions(t, rep, data)
		if text := printed(t, "fuzz.yaml", data, rep); !utf8.ValidString(text) {
			t.Fatal("the report is not UTF-8")
		}
		scanSyntax(part{data, 1})
	})
}
