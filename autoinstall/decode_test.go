package autoinstall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDecodeDocumentRefuses(t *testing.T) {
	const release = "24.04"
	wrap := func(body string) string {
		out := header + "autoinstall:\n  version: 1\n"
		for line := range strings.Lines(body) {
			out += "  " + line
		}
		return out
	}
	cases := []struct {
		name, in string
		want     string // position and summary of the first error
	}{
		{"no header", "autoinstall: {version: 1}\n", "user-data:1:1: error: user-data does not begin with the line #cloud-config"},
		{"header with a space", "#cloud-config \nautoinstall: {version: 1}\n", "user-data:1:1: error: user-data does not begin with the line #cloud-config"},
		{"not YAML", header + "autoinstall: [\n", "user-data:1:1: error: user-data is not YAML"},
		{"empty", header, "user-data:1:1: error: user-data is empty"},
		{"no autoinstall", header + "users: []\n", "user-data:2:1: error: user-data has no key autoinstall"},
		{"directive beside", header + "autoinstall: {version: 1}\nruncmd: []\n", "user-data:2:1: error: user-data has keys beside autoinstall"},
		{"not a mapping", header + "autoinstall: 5\n", "user-data:2:14: error: autoinstall must be a mapping, not a whole number"},
		{"no version", header + "autoinstall:\n  locale: C\n", "user-data:3:3: error: autoinstall lacks version"},
		{"version 2", header + "autoinstall:\n  version: 2\n", "user-data:3:3: error: autoinstall.version must be 1"},
		{"unknown section", wrap("late-comands: []\n"), "user-data:4:3: error: Ubuntu's installer knows no autoinstall.late-comands"},
		{"section twice", wrap("locale: C\nlocale: C\n"), "user-data:5:3: error: autoinstall.locale stands there twice"},
		{"newer section", wrap("kernel-crash-dumps: {enabled: true}\n"), "user-data:4:3: error: the installer of Ubuntu 24.04 does not know autoinstall.kernel-crash-dumps"},
		{"newer key", wrap("identity: {username: u, hostname: h, password: x, groups: [docker]}\n"), "user-data:4:53: error: the installer of Ubuntu 24.04 does not know autoinstall.identity.groups"},
		{"key of a closed mapping", wrap("keyboard: {layout: us, model: pc}\n"), "user-data:4:26: error: Ubuntu's installer knows no autoinstall.keyboard.model"},
		{"required key", wrap("identity: {username: u, hostname: h}\n"), "user-data:4:13: error: autoinstall.identity lacks password"},
		{"quoted boolean", wrap("ssh: {allow-pw: \"no\"}\n"), "user-data:4:19: error: autoinstall.ssh.allow-pw must be true or false, not text"},
		{"number for text", wrap("timezone: 5\n"), "user-data:4:13: error: autoinstall.timezone must be text, not a whole number"},
		{"colon makes a mapping", wrap("late-commands:\n  - echo \"foo: bar\" > x\n"), "user-data:5:7: error: autoinstall.late-commands[0] must be a list or text, not a mapping"},
		{"layout name", wrap("storage: {layout: {name: lvmm}}\n"), "user-data:4:28: error: autoinstall.storage.layout.name cannot be \"lvmm\""},
		{"match key", wrap("storage: {layout: {name: lvm, match: {wwn: x}}}\n"), "user-data:4:41: error: Ubuntu's installer knows no autoinstall.storage.layout.match.wwn"},
		{"fallback", wrap("apt: {fallback: never}\n"), "user-data:4:19: error: autoinstall.apt.fallback cannot be \"never\""},
		{"kernel both", wrap("kernel: {package: a, flavor: b}\n"), "user-data:4:11: error: autoinstall.kernel needs exactly one of package and flavor"},
		{"kernel neither", wrap("kernel: {}\n"), "user-data:4:11: error: autoinstall.kernel needs exactly one of package and flavor"},
		{"oem word", wrap("oem: {install: always}\n"), "user-data:4:18: error: autoinstall.oem.install cannot be \"always\""},
		{"retries as a number", wrap("reporting: {hook: {type: webhook, retries: 3}}\n"), "user-data:4:46: error: autoinstall.reporting.hook.retries must be a list, not a whole number"},
		{"first boot file", wrap("user-data: {write_files: [{content: x}]}\n"), "user-data:4:29: error: autoinstall.user-data.write_files[0] lacks path"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			doc, rep := DecodeDocument([]byte(c.in), release)
			if doc != nil || !rep.HasErrors() {
				t.Fatalf("taken: %+v", doc)
			}
			if got := rep.Diagnostics[0].String(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDecodeDocumentTakesEveryForm(t *testing.T) {
	text := header + `
autoinstall:
  version: 1
  interactive-sections: [network]
  keyboard: {layout: us, toggle: null}
  proxy: null
  network: {network: {version: 2, ethernets: {eno1: {dhcp4: yes, optional: true}}}}
  apt:
    mirror-selection: {primary: [country-mirror, {uri: "http://a.example", arches: [amd64]}]}
    sources: {x.list: {keyid: "0123"}}
    conf: "Acquire::x 1;"
  storage: {swap: {size: 0}, config: [{type: disk, id: d, match: {ssd: true}}]}
  identity: {username: u, hostname: h, password: x, groups: {append: [docker]}}
  kernel-crash-dumps: {enabled: null}
  oem: {install: auto}
  zdevs: [{id: 0.0.1507, enabled: true}]
  reporting: {hook: {type: webhook, endpoint: "http://x", retries: [1, 2]}}
  user-data: {users: [default, {name: x, groups: a}], runcmd: [[a, b], c], ntp: {enabled: true}}
  early-commands: [[sh, -c, "true"], "false"]
`
	doc, rep := DecodeDocument([]byte(text), "26.04")
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	var p provenCommands
	encoded, err := p.encode(doc)
	out := encoded.whole
	if err != nil {
		t.Fatal(err)
	}
	again, rep := DecodeDocument(out, "26.04")
	if err := rep.Err(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compareDocuments(t, again, doc)
	compareGolden(t, filepath.Join("testdata", "every-form.user-data"), out)
}

func FuzzDecodeDocument(f *testing.F) {
	for _, name := range []string{"every-form"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".user-data"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(header + "autoinstall: &a {version: 1, user-data: *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, rep := DecodeDocument(data, "26.04")
		if (doc == nil) != rep.HasErrors() {
			t.Fatalf("document %v with report %v", doc, rep)
		}
		if doc == nil {
			return
		}
		var p provenCommands
		encoded, err := p.encode(doc)
		out := encoded.whole
		if err != nil {
			t.Fatal(err)
		}
		again, rep := DecodeDocument(out, "26.04")
		if err := rep.Err(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		compareDocuments(t, again, doc)
	})
}
