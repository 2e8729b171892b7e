package autoinstall

import (
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// fragmentFile is a gpustrap.yaml whose raw fragment starts on line 7.
const fragmentFile = `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["` + opsKey + `"]}
storage: {disk: {serial: S6ESNX0W123456}}
docker: {}
autoinstall:
`

// fragmentMachine reads a machine whose raw autoinstall fragment is text.
func fragmentMachine(t *testing.T, text string) config.Machine {
	t.Helper()
	data := fragmentFile
	for line := range strings.Lines(text) {
		data += "  " + line
	}
	fleet, rep := config.Load("gpustrap.yaml", []byte(data), func(string) ([]byte, error) { return nil, nil })
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	return fleet.Machines[0]
}

func TestFragmentIsMerged(t *testing.T) {
	m := fragmentMachine(t, `
locale: de_CH.UTF-8
unsafe: true
storage: {layout: {name: zfs, mode: use_gap}}
ssh: {authorized-keys: [ssh-ed25519 AAAA other]}
late-commands:
  - echo "the person's own"
  - [touch, /target/etc/x]
user-data: {ntp: {enabled: true}, users: [{name: guest}]}
debconf-selections: |
  a b c
`)
	in := Input{Machine: m}
	seed, rep := newTestRenderer(t).Render(in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(seed.UserData), "unsafe") {
		t.Error("the installer is told of the key unsafe")
	}
	doc, rep := DecodeDocument(seed.UserData, "24.04")
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	if doc.Locale != "de_CH.UTF-8" || doc.DebconfSelections != "a b c\n" {
		t.Errorf("locale %q, debconf-selections %q", doc.Locale, doc.DebconfSelections)
	}
	layout := doc.Storage.Layout
	if layout.Name != "zfs" || layout.Mode != "use_gap" || len(layout.Match) != 1 || layout.Match[0].Serial != "*S6ESNX0W123456*" {
		t.Errorf("the layout is %+v: keys are merged one by one", layout)
	}
	n := len(doc.LateCommands)
	if n < 5 || doc.LateCommands[n-2].Shell != `echo "the person's own"` || len(doc.LateCommands[n-1].Args) != 2 {
		t.Errorf("the late-commands end with %+v: lists are appended", doc.LateCommands[n-2:])
	}
	if users := doc.UserData.Users; len(users) != 2 || users[0].Name != "ops" || users[1].Name != "guest" {
		t.Errorf("the users are %+v", users)
	}
	if doc.UserData.Extra["ntp"] == nil {
		t.Error("user-data lost what gpustrap does not know")
	}
	if m.Autoinstall.Content[0].Value != "locale" {
		t.Error("the machine's own fragment was changed")
	}
}

func TestFragmentStorageConfigReplacesLayout(t *testing.T) {
	m := fragmentMachine(t, "unsafe: true\nstorage:\n  config:\n    - {type: disk, id: d, path: /dev/vda}\n")
	in := Input{Machine: m}
	r := newTestRenderer(t)
	seed, rep := r.Render(in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	doc, _ := DecodeDocument(seed.UserData, "24.04")
	if doc.Storage.Layout != nil || len(doc.Storage.Config) != 1 {
		t.Errorf("the storage is %+v", doc.Storage)
	}
	for _, c := range doc.EarlyCommands {
		if strings.HasPrefix(c.Shell, "bash /run/gpustrap/choose-disk.sh") {
			t.Errorf("early-commands look for a disk: %+v", c)
		}
	}
}

func TestFragmentIsChecked(t *testing.T) {
	cases := []struct {
		name, text, want string
	}{
		{"unknown section", "late-comands: []\n", "gpustrap.yaml:7:3: error: Ubuntu's installer knows no autoinstall.late-comands"},
		{"not known to the release", "locale: C\nzdevs: []\n", "gpustrap.yaml:8:3: error: the installer of Ubuntu 24.04 does not know autoinstall.zdevs"},
		{"deep", "apt:\n  preferences:\n    - {package: x, pin: y}\n", "gpustrap.yaml:9:9: error: autoinstall.apt.preferences[0] lacks pin-priority"},
		{"wrong type", "ssh:\n  allow-pw: \"no\"\n", "gpustrap.yaml:8:15: error: autoinstall.ssh.allow-pw must be true or false, not text"},
		{"list for a mapping", "identity: []\n", "gpustrap.yaml:7:13: error: autoinstall.identity must be a mapping, not a list"},
		{"null for commands", "late-commands: null\n", "gpustrap.yaml:7:18: error: autoinstall.late-commands must be a list, not null"},
		{"storage", "storage:\n  swap: {size: 0}\n  layout: {name: direct}\n", "gpustrap.yaml:9:5: error: autoinstall.storage.layout undoes the guard of the disks"},
		{"storage actions", "storage: {config: []}\n", "gpustrap.yaml:7:13: error: autoinstall.storage.config undoes the guard of the disks"},
		{"interactive storage", "interactive-sections: [locale, storage]\n", "gpustrap.yaml:7:34: error: the interactive section storage undoes the guard of the disks"},
		{"all interactive", "interactive-sections: ['*']\n", "gpustrap.yaml:7:26: error: the interactive section * undoes the guard of the disks"},
		{"not quite unsafe", "unsafe: \"true\"\nstorage: {layout: {}}\n", "gpustrap.yaml:7:11: error: \"unsafe\" can only be true"},
		{"safe", "unsafe: false\n", "gpustrap.yaml:7:11: error: \"unsafe\" can only be true"},
		{"version", "version: 2\n", "gpustrap.yaml:7:12: error: autoinstall.version must be 1"},
		{"long command", "late-commands: [\"" + strings.Repeat("x", maxCommand+1) + "\"]\n", "gpustrap.yaml:7:3: error: a command is 102401 bytes long"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seed, rep := newTestRenderer(t).Render(Input{Machine: fragmentMachine(t, c.text)})
			if !rep.HasErrors() || seed.UserData != nil {
				t.Fatalf("rendered: %v", rep)
			}
			if got := rep.Diagnostics[0].String(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFragmentHasNoPartInOtherForms(t *testing.T) {
	in := Input{Machine: fragmentMachine(t, "locale: C\n")}
	r := newTestRenderer(t)
	for name, render := range map[string]func(Input) ([]byte, report.Report){"cloud-init": r.RenderCloudInit, "script": r.RenderScript} {
		data, rep := render(in)
		if len(data) == 0 || rep.HasErrors() || rep.Count(report.Warning) != 1 {
			t.Errorf("%s: %d bytes, %v", name, len(data), rep)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Input)
		path   string
		want   string
	}{
		{"unknown release", func(in *Input) { in.Machine.Ubuntu = "23.10" }, "ubuntu", "there is no render for Ubuntu 23.10"},
		{"no users", func(in *Input) { in.Machine.Users = nil }, "users", "the machine has no user"},
		{"no stack", func(in *Input) { in.Stack = nil }, "gpu", "no driver packages are worked out"},
		{"chosen on the machine without a table", func(in *Input) { in.Machine.GPU.Auto = true }, "gpu.auto", "there is no table"},
		{"space in a URL", func(in *Input) { in.Machine.Sources.Docker.URL = "http://m.example/a b" }, "sources.docker.url", "sources.docker.url holds a space"},
		{"addresses for no interface", func(in *Input) {
			in.Machine.Network, in.Machine.Match.MACs = hgx("24.04").Machine.Network, nil
		}, "network.addresses", "the addresses belong to no interface"},
		{"fingerprint without key", func(in *Input) {
			in.Machine.Sources.Docker = config.Source{URL: "http://m.example", Fingerprint: strings.Repeat("A", 40)}
		}, "sources.docker.fingerprint", "sources.docker has a fingerprint of its own and no key"},
		{"key without fingerprint", func(in *Input) {
			in.Machine.Sources.Ubuntu = config.Source{URL: "http://m.example", Key: []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")}
		}, "sources.ubuntu.key", "sources.ubuntu has a key and no fingerprint"},
		{"CUDA on 26.04", func(in *Input) {
			in.Machine.Ubuntu, in.Stack.Repositories = "26.04", []string{"cuda"}
		}, "gpu", "no key is pinned for NVIDIA's CUDA repository for Ubuntu 26.04"},
	}
	r := newTestRenderer(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := workstation("24.04")
			c.change(&in)
			_, cloud := r.RenderCloudInit(in)
			_, script := r.RenderScript(in)
			_, seed := r.Render(in)
			for form, rep := range map[string]report.Report{"seed": seed, "cloud-init": cloud, "script": script} {
				if !rep.HasErrors() {
					t.Errorf("%s: rendered", form)
					continue
				}
				d := rep.Diagnostics[0]
				if d.Path != c.path || !strings.HasPrefix(d.Summary, c.want) {
					t.Errorf("%s: %s: %s", form, d.Path, d.Summary)
				}
			}
		})
	}
}
