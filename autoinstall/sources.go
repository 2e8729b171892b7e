package autoinstall

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/keys"
)

// codenames are Ubuntu's names for its releases, as suites are called.
var codenames = map[string]string{"22.04": "jammy", "24.04": "noble", "26.04": "resolute"}

// repository is a signed package repository as a machine uses it.
type repository struct {
	name        string // in messages, file names and as the key of sources
	url         string
	suites      []string
	components  []string // none: a flat repository
	fingerprint string   // 40 hexadecimal digits
	key         string   // https URL, or the path of a file in the data folder; empty: Ubuntu's own keyring
	keyData     []byte   // armored, for a key that the seed carries
}

// Vendors' repositories. The fingerprints of the keys that sign them stand in keys.
const (
	dockerURL = "https://download.docker.com/linux/ubuntu"
	dockerKey = "https://download.docker.com/linux/ubuntu/gpg"

	toolkitURL = "https://nvidia.github.io/libnvidia-container/stable/deb/" // + architecture
	toolkitKey = "https://nvidia.github.io/libnvidia-container/gpgkey"

	cudaURL     = "https://developer.download.nvidia.com/compute/cuda/repos/"
	cudaKeyFile = "3bf863cc.pub"
)

// snapshotName is the repository with Ubuntu's archive as it was when the lock was
// made. unlock.sh takes it away when all is installed.
const snapshotName = "snapshot"

// flat is the suite of a repository without suites.
const flat = "/"

// repositories returns the package repositories of the machine in the order in
// which they are set up.
func (b *builder) repositories() []repository {
	m := &b.in.Machine
	var out []repository
	if m.Sources.Ubuntu.URL != "" {
		name := codenames[m.Ubuntu]
		out = append(out, b.override(repository{
			name:       "ubuntu",
			suites:     []string{name, name + "-updates", name + "-security"},
			components: b.archiveComponents(),
		}, m.Sources.Ubuntu))
	}
	if m.Docker != nil {
		out = append(out, b.override(repository{
			name: "docker", url: dockerURL, suites: []string{codenames[m.Ubuntu]}, components: []string{"stable"},
			fingerprint: keys.DockerFingerprint, key: dockerKey,
		}, m.Sources.Docker))
	}
	if m.Toolkit != nil {
		out = append(out, b.override(repository{
			name: "toolkit", url: toolkitURL + m.Arch, suites: []string{flat},
			fingerprint: keys.NVIDIAToolkitFingerprint, key: toolkitKey,
		}, m.Sources.Toolkit))
	}
	if b.in.Stack != nil && slices.Contains(b.in.Stack.Repositories, "cuda") {
		out = append(out, b.cuda())
	}
	if b.in.Locked != nil && b.in.Locked.Snapshot != "" {
		name := codenames[m.Ubuntu]
		out = append(out, repository{
			name: snapshotName, url: b.in.Locked.Snapshot,
			suites: []string{name, name + "-updates", name + "-security"}, components: b.archiveComponents(),
		})
	}
	return out
}

func (b *builder) cuda() repository {
	m := &b.in.Machine
	arch := map[string]string{"amd64": "x86_64", "arm64": "sbsa"}[m.Arch]
	url := cudaURL + "ubuntu" + strings.ReplaceAll(m.Ubuntu, ".", "") + "/" + arch
	r := repository{
		name: "cuda", url: url, suites: []string{flat},
		fingerprint: keys.CUDAFingerprint, key: url + "/" + cudaKeyFile,
	}
	// No source for the key of the repository for 26.04 could be checked.
	if m.Ubuntu >= "26.04" {
		r.fingerprint, r.key = "", ""
	}
	return b.override(r, m.Sources.CUDA)
}

// archiveComponents are the components of Ubuntu's archive and whatever else
// the Stack's packages come from.
func (b *builder) archiveComponents() []string {
	out := []string{"main", "universe", "restricted", "multiverse"}
	if b.in.Stack != nil {
		for _, c := range b.in.Stack.Components {
			out = appendNew(out, c)
		}
	}
	return out
}

// override lays what the file says of a repository over the vendor's own.
func (b *builder) override(r repository, s config.Source) repository {
	at := "sources." + r.name
	if s.URL != "" {
		r.url = s.URL
	}
	if s.Suite != "" {
		r.suites = strings.FieldsFunc(s.Suite, func(c rune) bool { return c == ',' || c == ' ' })
		switch {
		case strings.HasSuffix(s.Suite, "/"):
			r.components = nil
		case r.components == nil:
			r.components = []string{"main"}
		}
	}
	if strings.ContainsFunc(s.URL, unicode.IsSpace) {
		b.complain(at+".url", at+".url holds a space", "write %20 for it")
	}
	ownFingerprint := s.Fingerprint != "" && s.Fingerprint != r.fingerprint
	if s.Fingerprint != "" {
		r.fingerprint = s.Fingerprint
	}
	switch {
	case len(s.Key) > 0:
		armored, err := armorKey(s.Key)
		if err != nil {
			b.complain(at+".key", fmt.Sprintf("the key cannot be written: %v", err), "")
		}
		r.key, r.keyData = "keys/"+r.name+".asc", armored
	case ownFingerprint && r.name != "ubuntu":
		b.complain(at+".fingerprint", fmt.Sprintf("%s has a fingerprint of its own and no key", at),
			"add the key: "+at+".key: {file: …}")
	}
	if r.fingerprint == "" && r.key != "" {
		b.complain(at+".key", fmt.Sprintf("%s has a key and no fingerprint to check it against", at),
			"add "+at+".fingerprint; gpg --show-keys prints it")
	}
	if r.name == "cuda" && r.key == "" {
		b.complain(b.cudaReason(), fmt.Sprintf("no key is pinned for NVIDIA's CUDA repository for Ubuntu %s", b.in.Machine.Ubuntu),
			"packages from there are needed; give sources.cuda.key and sources.cuda.fingerprint")
	}
	return r
}

// cudaReason is the key that asks for packages of NVIDIA's repository.
func (b *builder) cudaReason() string {
	switch g, s := b.in.Machine.GPU, b.in.Stack; {
	case s != nil && s.Source == "cuda":
		return "gpu.source"
	case g != nil && g.DCGM:
		return "gpu.dcgm"
	}
	return "gpu"
}

// armorKey returns an OpenPGP key in its text form.
func armorKey(key []byte) ([]byte, error) {
	const begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	if bytes.Contains(key, []byte(begin)) {
		return key, nil
	}
	var out bytes.Buffer
	w, err := armor.Encode(&out, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(key); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// line returns the repository as repositories.sh reads it.
func (r repository) line() string {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return strings.Join([]string{
		r.name, r.url, strings.Join(r.suites, ","), dash(strings.Join(r.components, ",")), dash(r.fingerprint), dash(r.key),
	}, " ") + "\n"
}

// releaseFields name the repositories of pins by fields of their Release files, which
// mirrors keep. NVIDIA's own cuda-repository-pin-600 does so too.
var releaseFields = map[string]string{"ubuntu": "o=Ubuntu", "cuda": "l=NVIDIA CUDA"}

// preferences returns the Stack's pins in the form of apt_preferences(5).
func (b *builder) preferences() string {
	if b.in.Stack == nil || len(b.in.Stack.Pins) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("# Written by gpustrap: one repository must not replace what came from another.\n")
	for _, p := range b.in.Stack.Pins {
		pin := "version " + p.Version
		if p.Repository != "" {
			pin = "release " + releaseFields[p.Repository]
		}
		if (p.Version == "") == (p.Repository == "") {
			b.rep.Add(internal(b.in, fmt.Errorf("a pin of %s needs a repository or a version, one of them", strings.Join(p.Packages, " "))))
		}
		fmt.Fprintf(&out, "\nPackage: %s\nPin: %s\nPin-Priority: %d\n", strings.Join(p.Packages, " "), pin, p.Priority)
	}
	return out.String()
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// archiveKeyring is where Ubuntu keeps the keys of its archive.
const archiveKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

// installerKey is the name of an entry of apt.sources that holds a key alone.
// The installer of 22.04 trusts it for every repository: into a file of that
// name in trusted.gpg.d, or, in the first images, through apt-key.
// repositories.sh takes it away again.
const installerKey = "gpustrap-ubuntu"

// deb822 returns the repository as Ubuntu reads it from 24.04 on, the key in it.
func (r repository) deb822() string {
	signedBy := " " + archiveKeyring
	if r.keyData != nil {
		signedBy = ""
		for line := range strings.Lines(string(r.keyData)) {
			line = strings.TrimSpace(line)
			if line == "" {
				line = "." // deb822's empty line
			}
			signedBy += "\n " + line
		}
	}
	return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By:%s\n",
		r.url, strings.Join(r.suites, " "), strings.Join(r.components, " "), signedBy)
}

// oneLine returns the repository as the installer of Ubuntu 22.04 reads it. It
// names no keyring: which file the key comes to lie in differs between images.
func (r repository) oneLine(arch string) string {
	var out strings.Builder
	for _, suite := range r.suites {
		fmt.Fprintf(&out, "deb [arch=%s] %s %s %s\n", arch, r.url, suite, strings.Join(r.components, " "))
	}
	return out.String()
}
