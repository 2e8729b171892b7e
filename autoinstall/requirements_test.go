package autoinstall

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/scripts"
)

func TestRequirements(t *testing.T) {
	r := newTestRenderer(t)
	got, rep := r.Requirements(hgx("24.04"))
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"linux-generic", "linux-modules-nvidia-580-server-open-generic", "nvidia-headless-no-dkms-580-server-open",
		"nvidia-utils-580-server", "nvidia-fabricmanager-580", "libnvidia-nscq-580",
		"docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin",
		"nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1",
		"gpg", "curl", "ca-certificates",
	}
	if diff := cmp.Diff(want, got.Packages); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, r := range got.Repositories {
		names = append(names, r.Name)
	}
	if !slices.Equal(names, []string{"ubuntu", "docker", "toolkit"}) || got.Repositories[0].URL != "" || got.Repositories[1].KeyURL != dockerKey {
		t.Errorf("%+v", got.Repositories)
	}

	got, _ = r.Requirements(mirrored("24.04"))
	if len(got.Repositories) != 4 || got.Repositories[3].Name != "cuda" || string(got.Repositories[3].Key) != siteKey ||
		got.Repositories[0].URL != "http://mirror.example/ubuntu" || len(got.Pins) != 3 {
		t.Errorf("%+v", got)
	}
	got, _ = r.Requirements(lab("24.04"))
	if !slices.Contains(got.Packages, "docker-ce=5:29.6.1-1~ubuntu.24.04~noble") || !slices.Contains(got.Packages, "libnvidia-container1=1.20.1-1") || !slices.Contains(got.Packages, "tmux") {
		t.Errorf("%v", got.Packages)
	}
	got, _ = r.Requirements(raid("24.04"))
	if !slices.Contains(got.Packages, "clevis-initramfs") {
		t.Errorf("a TPM that unlocks the disk requires %v", got.Packages)
	}
	got, _ = r.Requirements(raid("26.04"))
	if !slices.Contains(got.Packages, "tpm2-tools") || slices.Contains(got.Packages, "clevis-initramfs") {
		t.Errorf("a TPM that unlocks the disk requires %v", got.Packages)
	}
	if got, _ := r.Requirements(plain("24.04")); len(got.Packages) > 0 {
		t.Errorf("a machine that installs nothing requires %v", got.Packages)
	}
}

// TestScriptsNameTheRequirements: every package that a script names is among what
// a lock is made of.
func TestScriptsNameTheRequirements(t *testing.T) {
	known := slices.Concat(dockerNames, toolkitNames, keyNames)
	name := regexp.MustCompile(`\b(docker-[a-z-]+|containerd\.io|(lib)?nvidia-container[a-z0-9-]*|gpg|curl|ca-certificates)\b`)
	for script, part := range map[string]*regexp.Regexp{
		"docker.sh":       regexp.MustCompile(`(?s)\napt_install .*?[^\\]\n`),
		"toolkit.sh":      regexp.MustCompile(`\npackages=\([^)]*\)`),
		"repositories.sh": regexp.MustCompile(`missing\+=\([^)$]*\)`),
	} {
		text, err := scripts.Read(script)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, line := range part.FindAllString(text, -1) {
			for _, p := range name.FindAllString(line, -1) {
				named++
				if !slices.Contains(known, p) {
					t.Errorf("%s installs %s, and a lock has it not", script, p)
				}
			}
		}
		if named < 3 {
			t.Errorf("%s names %d packages where the test looks", script, named)
		}
	}
}

func TestLocked(t *testing.T) {
	in := workstation("24.04")
	in.Locked = &Locked{Versions: []string{"docker-ce=5:29.6.1", "libgcc-s1=14"}, Snapshot: "https://snapshot.example/ubuntu/20261123T000000Z/"}
	seed := string(mustRender(t, in).UserData)
	for _, want := range []string{
		"      docker-ce=5:29.6.1\n      libgcc-s1=14\n",
		"      snapshot https://snapshot.example/ubuntu/20261123T000000Z/ noble,noble-updates,noble-security main,universe,restricted,multiverse - -\n",
		" ready unlock'\n", "/unlock.sh\"",
	} {
		if !strings.Contains(seed, want) {
			t.Errorf("no %q", want)
		}
	}
	if free := string(mustRender(t, workstation("24.04")).UserData); strings.Contains(free, "lib/gpustrap/unlock.sh\"") || strings.Contains(free, "etc/gpustrap/versions\"") {
		t.Error("a render without a lock has parts of one")
	}
}
