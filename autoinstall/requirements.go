package autoinstall

import (
	"strings"

	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/keys"
	"github.com/gpustrap/gpustrap/report"
)

// Requirements say what a machine's scripts install with apt, and from where.
// Recommended packages are not among it: the scripts leave them out.
type Requirements struct {
	// Packages are NAME or NAME=VERSION, as the scripts ask for them. With an
	// automatic Stack the driver's are not among them: the machine chooses those.
	Packages     []string
	Repositories []Repository
	Pins         []gpu.Pin // of several that name a package the first counts
}

// Repository is a signed package repository.
type Repository struct {
	Name        string // ubuntu, docker, toolkit or cuda
	URL         string // empty: Ubuntu's own archive
	Suites      []string
	Components  []string // none: a flat repository
	Fingerprint string   // of the key that signs it; empty: one of Ubuntu's own
	KeyURL      string   // where its owner publishes the key; empty where Key holds it
	Key         []byte   // armored
}

// Packages that scripts name.
var (
	dockerNames  = []string{"docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin"}
	toolkitNames = []string{"nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1"}
	keyNames     = []string{"gpg", "curl", "ca-certificates"} // to fetch and check keys
)

// Requirements returns what must be installable for the machine. The report has
// what Render would complain of.
func (r *Renderer) Requirements(in Input) (Requirements, report.Report) {
	b := newBuilder(&in, r.scripts)
	if b.rep.HasErrors() {
		return Requirements{}, b.rep
	}
	m := &b.in.Machine
	var out Requirements
	if len(b.steps()) == 0 {
		return out, b.rep
	}
	add := func(version string, names ...string) {
		for _, name := range names {
			if version != "" {
				name += "=" + version
			}
			out.Packages = appendNew(out.Packages, name)
		}
	}
	if s := in.Stack; s != nil {
		if s.Kernel.Meta != "" {
			add("", s.Kernel.Meta)
		}
		add("", s.Packages...)
		out.Pins = s.Pins
	}
	if m.Docker != nil {
		add(m.Docker.Version, dockerNames[:2]...)
		add("", dockerNames[2:]...)
	}
	if m.Toolkit != nil {
		add(m.Toolkit.Version, toolkitNames...)
	}
	if len(b.rootlessUsers()) > 0 {
		add(m.Docker.Version, rootlessNames[0])
		add("", rootlessNames[1:]...)
	}
	if b.tpm() != nil {
		_, names := tpmTool(m.Ubuntu)
		add("", names...)
	}
	add("", b.packages()...)
	add("", keyNames...)
	if m.Sources.Ubuntu.URL == "" {
		out.Repositories = append(out.Repositories, Repository{Name: "ubuntu", Fingerprint: keys.UbuntuArchiveFingerprint})
	}
	for _, r := range b.repos {
		if r.name == snapshotName {
			continue
		}
		out.Repositories = append(out.Repositories, r.public())
	}
	return out, b.rep
}

// public returns the repository as other packages see it.
func (r repository) public() Repository {
	out := Repository{
		Name: r.name, URL: r.url, Suites: r.suites, Components: r.components, Fingerprint: r.fingerprint, Key: r.keyData,
	}
	if strings.HasPrefix(r.key, "https://") {
		out.KeyURL = r.key
	}
	return out
}
