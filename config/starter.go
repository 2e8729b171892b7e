package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"unicode"
)

//go:embed starter.yaml.tmpl
var starterText string

// StarterValues are what a new gpustrap.yaml says. Empty fields become a
// default, or a comment that shows what could stand there.
type StarterValues struct {
	Release  string // default: 24.04
	Arch     string // default: amd64, not written
	Hostname string

	UserName     string   // default: ops
	PasswordFile string   // path of a file with a crypt hash
	PasswordHash string   // used without PasswordFile
	Keys         []string // SSH public keys
	KeyFiles     []string // paths of files with SSH public keys

	Timezone string // default: Etc/UTC
	Locale   string // default: en_US.UTF-8, not written
	Keyboard string // X11 layout; default: us, not written

	GPUModels []string // product names; none: GPUIDs
	GPUIDs    []string // PCI ids; none: the machine chooses

	DiskSerial string
	DiskWWN    string // used without DiskSerial
}

// Starter returns the text of a new, commented gpustrap.yaml for one machine.
// Decode accepts it where the values are good; nobody could log in to a machine
// without a password or a key, which Resolve refuses.
func Starter(v StarterValues) (string, error) {
	fill := func(s *string, fallback string) {
		if *s == "" {
			*s = fallback
		}
	}
	fill(&v.Release, "24.04")
	fill(&v.UserName, "ops")
	fill(&v.Timezone, defaultTimezone)
	t, err := template.New("gpustrap.yaml").Option("missingkey=error").Funcs(template.FuncMap{
		"quote": quoteYAML,
		"list":  listYAML,
	}).Parse(starterText)
	if err != nil {
		return "", fmt.Errorf("cannot read the template of a new configuration: %w", err)
	}
	var b bytes.Buffer
	data := struct {
		StarterValues
		Releases string
	}{v, orList(Releases())}
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("cannot write a new configuration: %w", err)
	}
	return b.String(), nil
}

// quoteYAML writes a text in double quotes, with YAML's escapes (YAML 1.2,
// 5.7) for what is not printable.
func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// listYAML writes one text, or a list of several in brackets.
func listYAML(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = quoteYAML(s)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
