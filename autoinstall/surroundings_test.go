package autoinstall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/config"
)

// bare is site without what needs an archive.
func bare(release string) Input {
	in := site(release)
	in.Machine.Docker, in.Machine.Packages = nil, nil
	return in
}

// bareTarget is a system with stand-ins of what Ubuntu Server has and the base
// has not.
func bareTarget(t *testing.T, release string) *target {
	tg := newTarget(t, release)
	for _, name := range []string{"update-grub", "update-ca-certificates", "systemctl", "sysctl"} {
		tg.write("/usr/sbin/"+name, "#!/bin/sh\necho \"${0##*/} $*\" >>/var/log/called\n")
	}
	tg.write("/etc/environment", "PATH=\"/usr/bin:/bin\"\nhttp_proxy=http://old\n")
	tg.write("/etc/apt/apt.conf.d/94curtin-config", "Acquire::http::Proxy::mirror.example \"DIRECT\";\nAcquire::https::CaInfo \"/run/gpustrap/ca-certificates.crt\";\n")
	tg.write("/etc/chrony/sources.d/ubuntu-ntp-pools.sources", "# Ubuntu's\npool ntp.ubuntu.com iburst\n")
	return tg
}

func (tg *target) read(path string) string {
	tg.t.Helper()
	data, err := os.ReadFile(filepath.Join(tg.dir, "files", path))
	if err != nil {
		tg.t.Fatal(err)
	}
	return string(data)
}

// TestSurroundingsAndFiles runs the steps that need no package repository in a
// system, twice, and the unit of the first boot.
func TestSurroundingsAndFiles(t *testing.T) {
	const release = "24.04"
	tg := bareTarget(t, release)
	seed := mustRender(t, bare(release))
	if out, err := tg.install(seed, release); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, tg.read("/var/log/gpustrap/install.log"))
	}
	proxy := "http://user:p%40ss@proxy.example:3128"
	none := "localhost,127.0.0.1,::1,.example,mirror.example,10.0.0.0/8"
	for path, want := range map[string]string{
		"/etc/environment": "PATH=\"/usr/bin:/bin\"\nhttp_proxy=" + proxy + "\nHTTP_PROXY=" + proxy + "\nhttps_proxy=" + proxy +
			"\nHTTPS_PROXY=" + proxy + "\nno_proxy=" + none + "\nNO_PROXY=" + none + "\n",
		"/etc/apt/apt.conf.d/95gpustrap-proxy": "// Written by gpustrap.\nAcquire::http::Proxy \"" + proxy + "\";\nAcquire::https::Proxy \"" + proxy +
			"\";\nAcquire::http::Proxy::mirror.example \"DIRECT\";\nAcquire::https::Proxy::mirror.example \"DIRECT\";\n",
		"/etc/apt/apt.conf.d/94curtin-config":             "Acquire::http::Proxy::mirror.example \"DIRECT\";\n",
		"/usr/local/share/ca-certificates/gpustrap-0.crt": siteCA,
		"/etc/systemd/timesyncd.conf.d/gpustrap.conf":     "# Written by gpustrap.\n[Time]\nNTP=ntp.example 10.0.0.1\n",
		"/etc/chrony/sources.d/gpustrap.sources":          "server ntp.example iburst\nserver 10.0.0.1 iburst\n",
		"/etc/chrony/sources.d/ubuntu-ntp-pools.sources":  "# Ubuntu's\n# gpustrap has its own: pool ntp.ubuntu.com iburst\n",
		"/etc/default/grub.d/gpustrap.cfg":                "# Written by gpustrap.\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX iommu=pt console=ttyS0,115200n8\"\n",
		"/etc/motd":                                       "It's \"$HOME\" {{ here }}\n\n  %d\n",
		"/home/ops/.profile":                              "umask 027\n",
	} {
		if got := tg.read(path); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", path, got, want)
		}
	}
	if unit := tg.read("/etc/systemd/system.conf.d/gpustrap-proxy.conf"); !strings.Contains(unit, "DefaultEnvironment=\"http_proxy=http://user:p%%40ss@proxy.example:3128\"") {
		t.Errorf("systemd's environment is\n%s", unit)
	}
	called := tg.read("/var/log/called")
	for _, want := range []string{"update-ca-certificates \n", "update-grub \n", "systemctl enable gpustrap-first-boot.service\n"} {
		if !strings.Contains(called, want) {
			t.Errorf("%q was not called, but\n%s", want, called)
		}
	}
	if log := tg.read("/var/log/gpustrap/install.log"); !strings.Contains(log, "\n1\n2\n") {
		t.Errorf("the late command did not run:\n%s", log)
	}
	if mode := tg.run("stat -c '%a %U' /home/ops/.profile /etc/gpustrap/files/1 /etc/gpustrap/commands/first-000"); mode != "600 root\n600 root\n600 root" {
		t.Errorf("modes and owners are %s", mode)
	}
	tg.write("/var/log/called", "")
	before := tg.state()
	if out, err := tg.install(seed, release); err != nil {
		t.Fatalf("the second run: %v\n%s", err, out)
	}
	if after := tg.state(); after != before {
		t.Errorf("the second run changed something:\n%s\n%s", before, after)
	}
}

// TestFirstBoot runs the commands of the first boot: one fails once, and those
// before it do not run again.
func TestFirstBoot(t *testing.T) {
	const release = "24.04"
	tg := bareTarget(t, release)
	in := bare(release)
	in.Machine.LateCommands = nil
	in.Machine.FirstBoot = []string{"echo one >>/ran", "test -e /mended", "echo $http_proxy >>/ran"}
	if out, err := tg.install(mustRender(t, in), release); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tg.run("useradd ops")
	boot := func() (string, error) {
		return tg.enter("sh", "-c", `exec chroot "$TARGET_MOUNT_POINT" bash /usr/local/lib/gpustrap/first-boot.sh --boot`)
	}
	out, err := boot()
	if err == nil || !strings.Contains(out, "failed while: run: test -e /mended") || !strings.Contains(out, "/var/log/gpustrap/first-boot.log") {
		t.Errorf("the command that fails: %v\n%s", err, out)
	}
	if owner := tg.run("stat -c %U /home/ops/.profile"); owner != "ops" {
		t.Errorf("the file of ops belongs to %s", owner)
	}
	tg.write("/mended", "")
	for range 2 {
		if out, err := boot(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if ran := tg.read("/ran"); ran != "one\nhttp://user:p%40ss@proxy.example:3128\n" {
		t.Errorf("what ran: %q", ran)
	}
	if called := tg.read("/var/log/called"); !strings.Contains(called, "systemctl disable gpustrap-first-boot.service") {
		t.Errorf("the unit stays: %s", called)
	}
}

// TestLateCommandFails holds that the installation stops at a command that
// fails, and says which.
func TestLateCommandFails(t *testing.T) {
	const release = "24.04"
	tg := bareTarget(t, release)
	in := bare(release)
	in.Machine.LateCommands = []string{"false", "echo >/ran"}
	out, err := tg.install(mustRender(t, in), release)
	if err == nil || !strings.Contains(out, "failed while: run: false") || !strings.Contains(out, "late_commands, late-000") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(tg.dir, "files", "ran")); err == nil {
		t.Error("the command after it ran")
	}
}

// TestAwkwardFiles renders files whose content begins as YAML does not like it.
func TestAwkwardFiles(t *testing.T) {
	r := newTestRenderer(t)
	for _, content := range []string{"\tx\n", "\n  a\n b\n", " \n\n", "\n", "---\n...\n", "#a\n", "\t\n a"} {
		in := bare("24.04")
		in.Machine.Files = []config.File{{Path: "/etc/x", Content: content, Mode: "0644", Owner: "root:root"}}
		_, seed := r.Render(in)
		_, cloud := r.RenderCloudInit(in)
		_, script := r.RenderScript(in)
		for form, err := range map[string]error{"seed": seed.Err(), "cloud-init": cloud.Err(), "script": script.Err()} {
			if err != nil {
				t.Errorf("%q, %s: %v", content, form, err)
			}
		}
	}
}
