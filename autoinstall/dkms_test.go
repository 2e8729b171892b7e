package autoinstall

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt/apttest"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
)

// dkmsModule is a driver's source as DKMS takes it, and what NVIDIA's packages tell
// DKMS when they are configured.
var dkmsModule = apttest.Package{
	Name: "nvidia-dkms-580-open", Version: "580.95.05-1ubuntu1", Fields: "Depends: dkms (>= 3), nvidia-utils-580",
	Files: map[string]string{
		"/usr/src/nvidia-580.95.05/dkms.conf": `PACKAGE_NAME="nvidia"
PACKAGE_VERSION="580.95.05"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/nvidia/580.95.05/build modules"
AUTOINSTALL="yes"
`,
		"/usr/src/nvidia-580.95.05/nvidia.c": "/* a driver */\n",
	},
	PostInst: `if [ "$1" = configure ]; then /usr/lib/dkms/common.postinst nvidia 580.95.05 /usr/share/nvidia-dkms-580-open "" $2; fi` + "\n",
}

// headers is the package of a kernel's headers. Its build system says for which
// kernel it made a module.
func headers(release, version string) apttest.Package {
	build := "/usr/src/linux-headers-" + release
	return apttest.Package{
		Name: "linux-headers-" + release, Version: version, Files: map[string]string{
			build + "/include/generated/autoconf.h": "\n",
			build + "/.config":                      "CONFIG_MODULES=y\n",
			build + "/Makefile":                     "modules:\n\tprintf 'for %s\\n' " + release + " >$(M)/nvidia.ko\n",
		},
		PostInst: "mkdir -p /lib/modules/" + release + " && ln -sfn " + build + " /lib/modules/" + release + "/build\n",
	}
}

// TestDKMS installs NVIDIA's driver from its own repository with the real DKMS of
// Debian, where another kernel runs than the machine will have: the module is made
// for the machine's, with that one's headers.
func TestDKMS(t *testing.T) {
	tg := newTarget(t, "26.04")
	uname, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	running := strings.TrimSpace(string(uname))
	kernel := apttest.Current.Image()

	a := apttest.New(t, "26.04")
	folder := tg.debs("trixie", "dkms", "xz-utils")
	found, err := filepath.Glob(filepath.Join(folder, "*.deb"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	universe := []apttest.Package{
		headers(kernel, apttest.Current.KernelVersion()),
		headers(running, "9:1"), // what nobody is to install
		{Name: "linux-headers-generic", Version: apttest.Current.KernelVersion(), Fields: "Depends: linux-headers-" + kernel},
	}
	for _, deb := range found {
		universe = append(universe, apttest.Package{Deb: deb})
	}
	a.PublishUbuntu(t, apttest.Current, universe...)
	const version = "580.95.05-1ubuntu1"
	cuda := []apttest.Package{dkmsModule, {Name: "nvidia-driver-pinning-580", Version: "580-1"}}
	for _, name := range []string{"libnvidia-compute-580", "nvidia-compute-utils-580", "nvidia-utils-580", "libnvidia-decode-580", "libnvidia-encode-580"} {
		cuda = append(cuda, apttest.Package{Name: name, Version: version})
	}
	a.PublishCUDA(t, cuda)

	tables, err := gpu.Load()
	if err != nil {
		t.Fatal(err)
	}
	stack, findings := tables.Resolve(gpu.Request{
		Models: []string{"l40s"}, Count: 4, Driver: "580", Source: "cuda", SecureBoot: "off", Release: "26.04", Arch: "amd64",
	})
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	// Its unit is not in the packages of this archive.
	stack.Services = nil
	in := on(a, plain("26.04"))
	in.Stack = &stack
	in.Machine.GPU = &config.GPU{Models: []string{"l40s"}, Count: 4, Persistence: true}
	in.Machine.Sources.CUDA = config.Source{URL: a.URL + "/cuda", Key: a.Key, Fingerprint: a.Fingerprint}
	seed := mustRender(t, in)
	out, err := tg.install(seed, "26.04")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, tg.run("cat /var/log/gpustrap/install.log; cat /var/lib/dkms/nvidia/*/build/make.log"))
	}
	t.Log(out)

	if got := tg.run("cd /lib/modules && find . -name 'nvidia.ko*'"); !strings.HasPrefix(got, "./"+kernel+"/updates/dkms/nvidia.ko") || strings.Contains(got, "\n") {
		t.Errorf("modules: %q, want one for %s", got, kernel)
	}
	if got := tg.run("xz -dcf /lib/modules/*/updates/dkms/nvidia.ko*"); got != "for "+kernel {
		t.Errorf("the module was made %q", got)
	}
	if got := tg.run("dkms status"); !strings.Contains(got, "nvidia/580.95.05, "+kernel+", ") || !strings.Contains(got, ": installed") {
		t.Errorf("dkms status: %q", got)
	}
	installed := strings.Fields(tg.run(`dpkg-query -W -f '${db:Status-Status}/${Package}\n' 'linux-headers-*' | sed -n s,^installed/,,p`))
	slices.Sort(installed)
	if want := []string{"linux-headers-" + kernel, "linux-headers-generic"}; !slices.Equal(installed, want) {
		t.Errorf("headers: %v, want %v", installed, want)
	}
	before := tg.state()
	if out, err := tg.install(seed, "26.04"); err != nil {
		t.Fatalf("the second run: %v\n%s", err, out)
	}
	if after := tg.state(); after != before {
		t.Errorf("the second run changed something; before:\n%s\nafter:\n%s", before, after)
	}

	// A newer kernel without headers: DKMS passes over it without an error.
	tg.run("mkdir -p /lib/modules/6.8.0-999-generic && touch /boot/vmlinuz-6.8.0-999-generic")
	out, err = tg.install(seed, "26.04")
	if want := "the kernel 6.8.0-999-generic, which boots next, has no nvidia module"; err == nil || !strings.Contains(out, want) {
		t.Errorf("%v, want %q:\n%s", err, want, out)
	}
}
