package autoinstall

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// These tests run the rendered late-commands, cloud-config and script on real
// systems with real apt, in mount namespaces: bookworm's as Ubuntu 22.04 and
// 24.04, trixie's as 26.04.

var suites = map[string]string{"22.04": "bookworm", "24.04": "bookworm", "26.04": "trixie"}

// target is a system that something is installed on.
type target struct {
	t    *testing.T
	base string
	dir  string

	before []string // words before each command, such as those of unshare
}

func newTarget(t *testing.T, release string) *target {
	t.Helper()
	if testing.Short() {
		t.Skip("installs packages into a chroot")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	oracle.Need(t, "mmdebstrap")
	oracle.Need(t, "unshare")
	cache := os.Getenv("GPUSTRAP_CACHE")
	if cache == "" {
		cache = filepath.Join("..", "build", "cache")
	}
	base, err := filepath.Abs(filepath.Join(cache, "chroot-"+suites[release]))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("testdata/chroot/base", suites[release], base).CombinedOutput(); err != nil {
		t.Fatalf("base: %v\n%s", err, out)
	}
	tg := &target{t: t, base: base, dir: t.TempDir()}
	if out, err := tg.enter("true"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("cannot lay a system over the base: %v\n%s", err, out)
		}
		t.Skipf("cannot lay a system over the base: %v\n%s", err, out)
	}
	tg.write("/etc/os-release", fmt.Sprintf("ID=ubuntu\nVERSION_ID=\"%s\"\nPRETTY_NAME=\"Ubuntu %s\"\n", release, release))
	tg.write("/boot/vmlinuz-6.8.0-40-generic", "an older kernel")
	return tg
}

func (tg *target) write(path, content string) {
	tg.t.Helper()
	at := filepath.Join(tg.dir, "files", path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		tg.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
		tg.t.Fatal(err)
	}
}

// enter runs a command with the system at $TARGET_MOUNT_POINT.
func (tg *target) enter(command ...string) (string, error) {
	words := append(slices.Clone(tg.before), "testdata/chroot/enter", tg.base, tg.dir)
	words = append(words, command...)
	cmd := exec.Command(words[0], words[1:]...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a shell command in the system and returns its output.
func (tg *target) run(command string) string {
	tg.t.Helper()
	out, err := tg.enter("sh", "-c", `exec chroot "$TARGET_MOUNT_POINT" sh -c "$1"`, "sh", command)
	if err != nil {
		tg.t.Errorf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// state returns a line for each file that differs from the base system's, but
// for caches and logs.
func (tg *target) state() string {
	tg.t.Helper()
	var out strings.Builder
	root := filepath.Join(tg.dir, "files")
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		switch {
		case entry.IsDir() && slices.Contains([]string{"/var/cache", "/var/log", "/tmp"}, name):
			return filepath.SkipDir
		case entry.IsDir():
			return nil
		}
		sum := [sha256.Size]byte{}
		if entry.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(data)
		}
		info, err := entry.Info()
		fmt.Fprintf(&out, "%s %v %x\n", name, info.Mode(), sum[:4])
		return err
	})
	if err != nil {
		tg.t.Fatal(err)
	}
	return out.String()
}

// install runs a seed's late-commands as the installer does.
func (tg *target) install(seed Seed, release string) (string, error) {
	tg.t.Helper()
	doc, rep := DecodeDocument(seed.UserData, release)
	if err := rep.Err(); err != nil {
		tg.t.Fatal(err)
	}
	// What a failed command leaves mounted counts as well.
	script := `trap 'status=$?; if grep " $TARGET_MOUNT_POINT/" /proc/self/mountinfo; then echo "these mounts are left"; status=97; fi; exit $status' EXIT` + "\nset -e\n"
	for i, c := range doc.LateCommands {
		if strings.Contains(c.Shell, growRoot) {
			continue // there is no volume group here
		}
		name := filepath.Join(tg.dir, fmt.Sprintf("late-command-%02d", i))
		if err := os.WriteFile(name, []byte(c.Shell), 0o600); err != nil {
			tg.t.Fatal(err)
		}
		script += "sh -c \"$(cat " + name + ")\"\n"
	}
	return tg.enter("sh", "-c", script)
}

// on points a machine's repositories to an archive.
func on(a *apttest.Archive, in Input) Input {
	source := func(name string) config.Source {
		return config.Source{URL: a.URL + "/" + name, Key: a.Key, Fingerprint: a.Fingerprint}
	}
	in.Machine.Sources = config.Sources{Ubuntu: source("ubuntu"), Docker: source("docker"), Toolkit: source("toolkit")}
	return in
}

func mustRender(t *testing.T, in Input) Seed {
	t.Helper()
	seed, rep := newTestRenderer(t).Render(in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	return seed
}

func TestLateCommandsInstall(t *testing.T) {
	for _, home := range []struct {
		installer, release string
		user               bool // the installer makes the user of the identity section, not cloud-init
	}{{"22.04", "22.04", false}, {"24.04.3", "24.04", false}, {"24.04.4", "24.04", true}, {"26.04", "26.04", true}} {
		t.Run(home.installer, func(t *testing.T) {
			release := home.release
			tg := newTarget(t, release)
			a := apttest.New(t, release)
			in := on(a, shared(release))
			if home.user {
				tg.run("useradd ops")
			}
			if release == "22.04" {
				// What the installer had to trust: either way, by image.
				tg.write("/etc/apt/trusted.gpg.d/gpustrap-ubuntu.asc", string(a.Key))
				tg.run("gpg --batch --dearmor -o /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/gpustrap-ubuntu.asc && rm -rf /root/.gnupg")
			}
			seed := mustRender(t, in)
			out, err := tg.install(seed, release)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, tg.run("cat /var/log/gpustrap/install.log"))
			}
			t.Logf("%s", out)
			checkInstalled(t, tg, in)
			if home.user {
				if groups := tg.run("id -nG ops"); !slices.Contains(strings.Fields(groups), "docker") {
					t.Errorf("ops is in %s", groups)
				}
			}

			before := tg.state()
			if out, err := tg.install(seed, release); err != nil {
				t.Fatalf("the second run: %v\n%s", err, out)
			}
			if after := tg.state(); after != before {
				t.Errorf("the second run changed something; before:\n%s\nafter:\n%s", before, after)
			}

			// First boot: the others come.
			tg.run("id ops >/dev/null 2>&1 || useradd ops; useradd ada; useradd -m mia; bash /usr/local/lib/gpustrap/users.sh --boot; bash /usr/local/lib/gpustrap/rootless.sh --boot")
			checkRootless(t, tg, "mia")
			tg.run("! test -e /etc/systemd/system/multi-user.target.wants/gpustrap-rootless.service")
			for _, user := range []string{"ops", "ada"} {
				if groups := tg.run("id -nG " + user); !slices.Contains(strings.Fields(groups), "docker") {
					t.Errorf("after the first boot %s is in %s", user, groups)
				}
			}
			tg.run("! test -e /etc/systemd/system/multi-user.target.wants/gpustrap-users.service")
		})
	}
}

// checkInstalled asks the system what it has.
func checkInstalled(t *testing.T, tg *target, in Input) {
	t.Helper()
	release := in.Machine.Ubuntu
	versions := map[string]string{}
	for line := range strings.Lines(tg.run(`dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n'`)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "installed" {
			versions[f[1]] = f[2]
		}
	}
	want := slices.Concat(in.Stack.Packages, in.Machine.Packages, []string{
		"docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin",
		"nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1",
	})
	for _, name := range want {
		if versions[name] == "" {
			t.Errorf("%s is not installed", name)
		}
	}
	if v := in.Machine.Docker.Version; v != "" && versions["docker-ce"] != v {
		t.Errorf("docker-ce is %s, want %s", versions["docker-ce"], v)
	}

	for _, name := range []string{"docker", "toolkit"} {
		at := "/etc/apt/sources.list.d/gpustrap-" + name + ".sources"
		signedBy := "Signed-By: /etc/apt/keyrings/gpustrap-" + name + ".gpg"
		if release == "22.04" {
			at = "/etc/apt/sources.list.d/gpustrap-" + name + ".list"
			signedBy = "signed-by=/etc/apt/keyrings/gpustrap-" + name + ".gpg"
		}
		if text := tg.run("cat " + at); !strings.Contains(text, signedBy) {
			t.Errorf("%s lacks %s:\n%s", at, signedBy, text)
		}
		keys := tg.run("gpg --homedir /tmp --batch --with-colons --show-keys /etc/apt/keyrings/gpustrap-" + name + ".gpg | grep -c ^pub")
		if !strings.HasSuffix(keys, "1") {
			t.Errorf("the keyring of %s holds %s keys", name, keys)
		}
	}

	var daemon struct {
		DataRoot string                    `json:"data-root"`
		Features map[string]bool           `json:"features"`
		Runtimes map[string]map[string]any `json:"runtimes"`
		LogOpts  map[string]string         `json:"log-opts"`
	}
	if err := json.Unmarshal([]byte(tg.run("cat /etc/docker/daemon.json")), &daemon); err != nil {
		t.Error(err)
	}
	if daemon.DataRoot != in.Machine.Docker.DataRoot || !daemon.Features["cdi"] || daemon.Runtimes["nvidia"] == nil ||
		daemon.LogOpts["max-size"] != in.Machine.Docker.LogMaxSize {
		t.Errorf("daemon.json is %+v", daemon)
	}
	if in.Machine.Docker.DataRoot != "" {
		toml := tg.run("cat /etc/containerd/config.toml")
		if !strings.HasPrefix(toml, "root = \"/srv/docker/containerd\"\n") || strings.Count(toml, "/containerd\"\n") != 2 || !strings.Contains(toml, "root = \"kept\"") {
			t.Errorf("containerd's config.toml is\n%s", toml)
		}
	}

	checkApps(t, tg)
	if got := tg.run("ls /etc/systemd/system/timers.target.wants/gpustrap-prune.timer && grep -o 'docker-prune.sh 30' /etc/systemd/system/gpustrap-prune.service"); !strings.HasSuffix(got, "docker-prune.sh 30") {
		t.Errorf("of pruning: %s", got)
	}
	tg.run("grep -qx RequiresMountsFor=/srv/docker /etc/systemd/system/docker.service.d/gpustrap-data-root.conf")
	wanted := []string{"docker.service", "containerd.service", "nvidia-persistenced.service", "nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service", "gpu-settings.service", "gpu-ready.service"}
	enabled := tg.run("ls /etc/systemd/system/multi-user.target.wants")
	for _, unit := range wanted {
		if !slices.Contains(strings.Fields(enabled), unit) {
			t.Errorf("%s is not enabled: %s", unit, enabled)
		}
	}
	tg.run("grep -q '^blacklist nouveau' /etc/modprobe.d/gpustrap-nouveau.conf")
	if got := tg.run("cat /boot/initrd.img-" + apttest.Current.Image()); got != "-u -k all" {
		t.Errorf("update-initramfs was called with %q", got)
	}
	blocked := tg.run("apt-config dump Unattended-Upgrade::Package-Blacklist")
	for _, name := range in.Stack.Hold {
		if !strings.Contains(blocked, `"^`+name+`$"`) {
			t.Errorf("unattended-upgrades may take %s:\n%s", name, blocked)
		}
	}
	tg.run("! test -e /etc/apt/trusted.gpg.d/gpustrap-ubuntu.asc && ! test -s /etc/apt/trusted.gpg && ! test -e /root/.gnupg")
	// Leftovers of the installer, and what must not have happened.
	tg.run("! test -e /usr/sbin/policy-rc.d && ! test -e /nvidia-smi-was-run")
	tg.run("! find /etc /usr/local -name '*.gpustrap-new' | grep .")
}

// checkRootless asks for what a user with an engine of their own has.
func checkRootless(t *testing.T, tg *target, user string) {
	t.Helper()
	for _, file := range []string{"subuid", "subgid"} {
		if got := tg.run("awk -F : '$1 == \"" + user + "\" && $3 >= 65536' /etc/" + file); strings.Count(got, "\n") != 0 || got == "" {
			t.Errorf("%s has in /etc/%s: %q", user, file, got)
		}
	}
	tg.run("test -e /var/lib/systemd/linger/" + user + " && ! id -nG " + user + " | tr ' ' '\\n' | grep -qx docker")
	tg.run("test \"$(stat -c '%U %a' /srv/docker-rootless/" + user + ")\" = '" + user + " 700'")
	var daemon struct {
		DataRoot string         `json:"data-root"`
		Runtimes map[string]any `json:"runtimes"`
		Features map[string]bool
	}
	if err := json.Unmarshal([]byte(tg.run("cat ~"+user+"/.config/docker/daemon.json")), &daemon); err != nil {
		t.Error(err)
	}
	if daemon.DataRoot != "/srv/docker-rootless/"+user || !daemon.Features["cdi"] || daemon.Runtimes["nvidia"] == nil {
		t.Errorf("the daemon.json of %s is %+v", user, daemon)
	}
	tg.run("test \"$(readlink -f ~" + user + "/.config/systemd/user/default.target.wants/docker.service)\" = /etc/systemd/user/docker.service")
	if foreign := tg.run("find ~" + user + " ! -user " + user); foreign != "" {
		t.Errorf("not theirs in the home of %s: %s", user, foreign)
	}
}

// checkApps asks for what the apps of the fixture shared leave on a machine.
func checkApps(t *testing.T, tg *target) {
	t.Helper()
	if got, want := tg.run("cd /opt/apps && ls -d *"), "cuda-dev\nfastbook"; got != want {
		t.Errorf("/opt/apps has %q, want %q", got, want)
	}
	if got, want := tg.run("cat /etc/gpustrap/apps"), "fastbook no [::1] 9000 16g\ncuda-dev no 127.0.0.1 - -"; got != want {
		t.Errorf("the table of apps is\n%s", got)
	}
	tg.run("test -x /opt/apps/cuda-dev/run && test -x /opt/apps/fastbook/start && ! test -x /opt/apps/fastbook/manifest")
	if got := tg.run("ls /etc/systemd/system/timers.target.wants | grep gpustrap-app"); got != "gpustrap-app@fastbook.timer" {
		t.Errorf("enabled for apps: %s", got)
	}
	// Docker's command of this archive answers nothing.
	if got := tg.run("app list"); !strings.Contains(got, "fastbook         ?") {
		t.Errorf("app list says\n%s", got)
	}
}

func TestLateCommandsFailLoudly(t *testing.T) {
	const release = "24.04"
	if testing.Short() {
		t.Skip("installs packages into a chroot")
	}
	a := apttest.New(t, release)
	other := apttest.New(t, release)
	cases := map[string]struct {
		change func(*Input)
		want   []string
	}{
		"wrong fingerprint": {func(in *Input) {
			in.Machine.Sources.Docker.Fingerprint = other.Fingerprint
		}, []string{"the key of the docker repository has the fingerprint " + a.Fingerprint + ", not " + other.Fingerprint}},
		"signed by another key": {func(in *Input) {
			in.Machine.Sources.Toolkit.Key, in.Machine.Sources.Toolkit.Fingerprint = other.Key, other.Fingerprint
		}, []string{"failed while: read the toolkit repository's index", "NO_PUBKEY"}},
		"unreachable mirror": {func(in *Input) {
			in.Machine.Sources.Docker.URL = "http://127.0.0.1:9/docker"
		}, []string{"failed while: read the docker repository's index", "http://127.0.0.1:9/docker"}},
		"missing package": {func(in *Input) {
			in.Stack.Packages = append(in.Stack.Packages, "nvidia-imaginary-580")
		}, []string{"failed while: install the NVIDIA driver", "nvidia-imaginary-580"}},
		"no module for the kernel": {func(in *Input) {
			in.Stack.Packages = []string{"nvidia-utils-580-server"}
		}, []string{"the kernel " + apttest.Current.Image() + ", which boots next, has no nvidia module"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tg := newTarget(t, release)
			in := on(a, workstation(release))
			c.change(&in)
			out, err := tg.install(mustRender(t, in), release)
			if err == nil {
				t.Fatalf("the installation went through:\n%s", out)
			}
			t.Log(out)
			tg.run("! test -e /usr/sbin/policy-rc.d && ! test -e /nvidia-smi-was-run")
			for _, want := range append(c.want, "the log is /target/var/log/gpustrap/install.log") {
				if !strings.Contains(out, want) {
					t.Errorf("the output does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestHalfARun kills dpkg in the middle of an installation, and repeats it.
func TestHalfARun(t *testing.T) {
	const release = "24.04"
	tg := newTarget(t, release)
	a := apttest.New(t, release)
	in := on(a, shared(release))
	seed := mustRender(t, in)
	tg.write("/crash", "")
	out, err := tg.install(seed, release)
	if err == nil || !strings.Contains(out, "failed while: install Docker CE") {
		t.Fatalf("error %v, output\n%s", err, out)
	}
	out, err = tg.install(seed, release)
	if err != nil || !strings.Contains(out, "finish what an earlier run left half installed") {
		t.Fatalf("the second run: %v\n%s", err, out)
	}
	checkInstalled(t, tg, in)
}

// TestUpgrade has a newer kernel and driver come out after the installation.
func TestUpgrade(t *testing.T) {
	const release = "24.04"
	tg := newTarget(t, release)
	a := apttest.New(t, release)
	in := on(a, hgx(release))
	if out, err := tg.install(mustRender(t, in), release); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// As if it had been installed from a lock, which does not hold for upgrades.
	tg.run("dpkg-query -W -f '${Package}=${Version}\\n' >/etc/gpustrap/versions")
	const upgrade = "GPUSTRAP_HOME=machine gpu-upgrade"
	if out := tg.run(upgrade); !strings.Contains(out, "are the newest that there are") {
		t.Errorf("with nothing new:\n%s", out)
	}
	tg.run("! test -e /run/reboot-required")

	// The archive has the kernel and most of the driver, not yet the Fabric Manager.
	late := apttest.Later
	late.Fabric = apttest.Current.Fabric
	a.PublishUbuntu(t, late)
	before := tg.run("dpkg-query -W")
	if out := tg.run("! " + upgrade); !strings.Contains(out, "nvidia-fabricmanager-580 : Depends: nvidia-kernel-common-580-server-"+apttest.Current.Driver) {
		t.Errorf("without a Fabric Manager:\n%s", out)
	}
	if tg.run("dpkg-query -W") != before {
		t.Error("the refused upgrade changed something")
	}

	a.PublishUbuntu(t, apttest.Later)
	out := tg.run(upgrade + " --dry-run")
	for _, want := range []string{
		"nvidia-utils-580-server " + apttest.Current.DriverVersion() + " -> " + apttest.Later.DriverVersion(), "nvidia-fabricmanager-580 " + apttest.Current.DriverVersion() + " -> " + apttest.Later.DriverVersion(),
		"linux-generic " + apttest.Current.KernelVersion() + " -> " + apttest.Later.KernelVersion(), "linux-image-" + apttest.Later.Image() + " - -> ", "nothing was changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, out)
		}
	}
	if tg.run("dpkg-query -W") != before {
		t.Error("the dry run changed something")
	}
	tg.run(": >/var/log/apt/history.log")
	out = tg.run(upgrade)
	if !strings.Contains(out, "until the reboot no new program gets a GPU") || !strings.Contains(out, "sudo systemctl reboot") {
		t.Errorf("the upgrade:\n%s", out)
	}
	if n := tg.run("grep -c ^Start-Date /var/log/apt/history.log"); n != "1" {
		t.Errorf("apt ran %s transactions", n)
	}
	after := tg.run("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n'")
	if strings.Contains(after, apttest.Current.Driver) {
		t.Errorf("something of the old driver is left:\n%s", after)
	}
	for _, want := range []string{"linux-generic " + apttest.Later.KernelVersion(), "linux-modules-nvidia-580-server-open-" + apttest.Later.Image(), "libnvidia-compute-580-server " + apttest.Later.DriverVersion()} {
		if !strings.Contains(after, "installed "+want) {
			t.Errorf("%s is not installed:\n%s", want, after)
		}
	}
	tg.run("grep -q 'restart required' /run/reboot-required && grep -qx nvidia-utils-580-server /run/reboot-required.pkgs")
}

func TestLateCommandsRefuseAnotherRelease(t *testing.T) {
	tg := newTarget(t, "22.04")
	out, err := tg.install(mustRender(t, on(apttest.New(t, "24.04"), workstation("24.04"))), "24.04")
	if err == nil || !strings.Contains(out, "this machine runs Ubuntu 22.04, and its configuration is for Ubuntu 24.04") {
		t.Errorf("error %v, output\n%s", err, out)
	}
}

// TestScriptOnARunningMachine sets up a machine that somebody has used before:
// with Ubuntu's Docker, a daemon.json, another source of the toolkit, and one of
// the users.
func TestScriptOnARunningMachine(t *testing.T) {
	const release = "24.04"
	tg := newTarget(t, release)
	a := apttest.New(t, release)
	in := on(a, shared(release))
	script, rep := newTestRenderer(t).RenderScript(in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	tg.write("/setup.sh", string(script))
	tg.write("/etc/docker/daemon.json", `{"dns": ["10.0.0.53"], "log-opts": {"max-size": "1g", "tag": "x"}}`)
	tg.write("/etc/apt/sources.list.d/libnvidia-container.list",
		"deb [trusted=yes] "+a.URL+"/toolkit /\ndeb [trusted=yes] "+a.URL+"/ubuntu noble main\n")
	tg.write("/etc/apt/sources.list.d/old.sources",
		"Types: deb\nURIs: "+a.URL+"/docker\nSuites: noble\nComponents: stable\nTrusted: yes\n\nTypes: deb\nURIs: "+a.URL+"/ubuntu\nSuites: noble\nComponents: main\nTrusted: yes\n")
	tg.run("apt-get -qq update && useradd --create-home lin && mkdir ~lin/.ssh && echo 'ssh-ed25519 AAAA kept' >~lin/.ssh/authorized_keys")
	tg.run("cd /tmp && mkdir -p d/DEBIAN && printf 'Package: docker.io\\nVersion: 27\\nArchitecture: all\\nMaintainer: x <x@example>\\nDescription: x\\n' >d/DEBIAN/control && dpkg-deb -b d docker.io.deb && dpkg -i docker.io.deb && rm -r d docker.io.deb")

	// Services seem to run, and whoever would restart them is written down.
	tg.write("/run/systemd/system/keep", "")
	tg.write("/usr/local/bin/systemctl", "#!/bin/sh\ncase $1 in restart|daemon-reload) echo \"$*\" >>/var/log/systemctl ;; *) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl \"$@\" ;; esac\n")

	before := tg.state()
	out := tg.run("bash /setup.sh --dry-run")
	for _, want := range []string{
		"would write: /etc/apt/sources.list.d/gpustrap-docker.sources", "would run: apt-get remove docker.io",
		"would run: useradd", "nothing was changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, out)
		}
	}
	if tg.state() != before {
		t.Error("the dry run changed something")
	}

	out = tg.run("bash /setup.sh")
	t.Log(out)
	checkInstalled(t, tg, in)
	if t.Failed() {
		t.Log(tg.run("cat /var/log/gpustrap/install.log"))
	}
	tg.run("! dpkg-query -W -f '${db:Status-Status}' docker.io | grep -q ^installed")
	daemon := tg.run("cat /etc/docker/daemon.json")
	for _, want := range []string{`"10.0.0.53"`, `"tag": "x"`, `"max-size": "20m"`} {
		if !strings.Contains(daemon, want) {
			t.Errorf("daemon.json lacks %s:\n%s", want, daemon)
		}
	}
	tg.run("grep -qx 'ssh-ed25519 AAAA kept' ~lin/.ssh/authorized_keys && grep -qxF '" + opsKey + "' ~lin/.ssh/authorized_keys")
	tg.run("test \"$(stat -c '%a %U' ~ada/.ssh/authorized_keys)\" = '600 ada'")
	tg.run("id -nG ada | tr ' ' '\\n' | grep -qx video && id -nG lin | tr ' ' '\\n' | grep -qx sudo")
	tg.run("! id -nG lin | tr ' ' '\\n' | grep -qx docker && id -nG ada | tr ' ' '\\n' | grep -qx docker")
	tg.run("getent shadow ops | grep -qF '" + exampleHash + "'")
	tg.run("test \"$(stat -c %a /etc/gpustrap/accounts)\" = 600")

	if got := tg.run("cat /var/log/systemctl"); got != "restart containerd.service docker.service\ndaemon-reload\nrestart docker.service" {
		t.Errorf("the script called systemctl with\n%s", got)
	}

	before = tg.state()
	tg.run("rm /var/log/systemctl && bash /setup.sh && ! test -e /var/log/systemctl")
	if after := tg.state(); after != before {
		t.Errorf("the second run changed something; before:\n%s\nafter:\n%s", before, after)
	}
	checkRetired(t, tg, in)
}

// checkRetired takes the apps out of the configuration of a machine that has them.
func checkRetired(t *testing.T, tg *target, in Input) {
	t.Helper()
	tg.run("test -e /etc/systemd/system/timers.target.wants/gpustrap-app@fastbook.timer && touch /opt/apps/fastbook/mine")
	in.Machine.Apps = in.Machine.Apps[1:]
	for _, want := range []string{"cuda-dev", ""} {
		script, rep := newTestRenderer(t).RenderScript(in)
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		tg.write("/setup.sh", string(script))
		out := tg.run("bash /setup.sh")
		if !strings.Contains(out, "which the configuration has no more") {
			t.Errorf("the script says nothing of an app that goes:\n%s", out)
		}
		if got := tg.run("ls /var/lib/gpustrap/apps-laid"); got != want {
			t.Errorf("apps: %q, want %q", got, want)
		}
		in.Machine.Apps = nil
	}
	tg.run("! test -e /etc/systemd/system/timers.target.wants/gpustrap-app@fastbook.timer && ! test -L /usr/local/bin/app && ! test -e /etc/gpustrap/apps")
	if got := tg.run("cd /opt/apps && find . -type f"); got != "./fastbook/mine" {
		t.Errorf("what is left in /opt/apps: %q", got)
	}
	before := tg.state()
	tg.run("bash /setup.sh")
	if after := tg.state(); after != before {
		t.Errorf("once more changed something; before:\n%s\nafter:\n%s", before, after)
	}
}

func TestScriptRefusesOtherSystems(t *testing.T) {
	tg := newTarget(t, "24.04")
	script, rep := newTestRenderer(t).RenderScript(workstation("24.04"))
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	tg.write("/setup.sh", string(script))
	tg.write("/etc/os-release", "ID=debian\nVERSION_ID=12\n")
	before := tg.state()
	out := tg.run("! bash /setup.sh")
	if !strings.Contains(out, "this machine runs debian 12, and gpustrap sets up Ubuntu Server 24.04") {
		t.Errorf("output:\n%s", out)
	}
	if tg.state() != before {
		t.Error("the refusal changed something")
	}
}

// TestCloudConfigInstalls does what cloud-init does with the parts that carry
// the installation: it writes the files and runs the commands.
func TestCloudConfigInstalls(t *testing.T) {
	const release = "24.04"
	tg := newTarget(t, release)
	in := on(apttest.New(t, release), shared(release))
	data, rep := newTestRenderer(t).RenderCloudInit(in)
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	var doc CloudConfig
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	for _, f := range doc.WriteFiles {
		tg.write(f.Path, f.Content)
	}
	tg.run("for u in ops ada lin mia; do useradd -m $u; done")
	tg.write("/install", doc.RunCmd[len(doc.RunCmd)-1].Shell)
	tg.run("sh /install")
	checkInstalled(t, tg, in)
	tg.run("id -nG ops | tr ' ' '\\n' | grep -qx docker && ! test -e /etc/systemd/system/gpustrap-users.service")
	checkRootless(t, tg, "mia")
}

// TestComponentsAreEnabled installs on a machine whose sources name main alone.
func TestComponentsAreEnabled(t *testing.T) {
	for _, release := range []string{"22.04", "24.04"} {
		t.Run(release, func(t *testing.T) {
			tg := newTarget(t, release)
			a := apttest.New(t, release)
			in := on(a, shared(release))
			in.Machine.Sources.Ubuntu = config.Source{}
			tg.write("/usr/share/keyrings/ubuntu-archive-keyring.asc", string(a.Key))
			line := "deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.asc] " + a.URL + "/ubuntu " + codenames[release] + " main\n"
			stanza := "Types: deb\nURIs: " + a.URL + "/ubuntu\nSuites: " + codenames[release] + " " + codenames[release] +
				"-updates\nComponents: main\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.asc\n"
			tg.write("/etc/apt/sources.list", line)
			if release != "22.04" {
				tg.write("/etc/apt/sources.list", "")
				tg.write("/etc/apt/sources.list.d/ubuntu.sources", "# Ubuntu\n"+stanza+"\n"+strings.Replace(stanza, "Components: main", "Components: universe", 1))
			}
			if out, err := tg.install(mustRender(t, in), release); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkInstalled(t, tg, in)
		})
	}
}
