package gpu

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// families has one product of every GPU family and mounting, with what NVIDIA
// says of it: which modules drive it, and the link that needs a package set.
var families = []struct {
	model, arch string // arch: the only architecture; "" any
	flavours    string // that drive it, the default first
	link        string
	count       int // GPUs in a whole machine
}{
	{"m60", "", "proprietary", "", 2},
	{"gtx-980", "", "proprietary", "", 1},
	{"p40", "", "proprietary", "", 4},
	{"p100-sxm", "", "proprietary", "", 8},
	{"gtx-1080-ti", "", "proprietary", "", 1},
	{"quadro-p4000", "", "proprietary", "", 1},
	{"v100", "", "proprietary", "", 8},
	{"v100-sxm3", "", "proprietary", "nvswitch", 16},
	{"titan-v", "", "proprietary", "", 1},
	{"t4", "", "open proprietary", "", 4},
	{"rtx-2080-ti", "", "open proprietary", "", 1},
	{"quadro-rtx-6000", "", "open proprietary", "", 2},
	{"a100-pcie", "", "open proprietary", "", 4},
	{"a100-sxm", "", "open proprietary", "nvswitch", 8},
	{"a40", "", "open proprietary", "", 8},
	{"rtx-a6000", "", "open proprietary", "", 2},
	{"rtx-3090", "", "open proprietary", "", 2},
	{"l40s", "", "open proprietary", "", 8},
	{"l4", "", "open proprietary", "", 8},
	{"rtx-6000-ada", "", "open proprietary", "", 4},
	{"rtx-4090", "", "open proprietary", "", 2},
	{"rtx-4090-laptop", "", "open proprietary", "", 1},
	{"h100-pcie", "", "open proprietary", "", 8},
	{"h100-sxm", "", "open proprietary", "nvswitch", 8},
	{"h200", "", "open proprietary", "nvswitch", 8},
	{"h200-nvl", "", "open proprietary", "", 8},
	{"gh200", "arm64", "open", "", 1},
	{"b200", "", "open", "nvlink5", 8},
	{"b300", "", "open", "nvlink5", 8},
	{"gb200", "arm64", "open", "imex", 4},
	{"gb300", "arm64", "open", "imex", 4},
	{"gb10", "arm64", "open", "", 1},
	{"rtx-5090", "", "open", "", 1},
	{"rtx-pro-6000", "", "open", "", 4},
	{"rtx-pro-6000-server", "", "open", "", 8},
}

// TestMatrix goes through every GPU family, release, architecture, source,
// Secure Boot policy, kernel and wish for modules, and holds the answer against
// the rules as the documents state them.
func TestMatrix(t *testing.T) {
	tables := load(t)
	n := 0
	for _, f := range families {
		for _, release := range []string{"22.04", "24.04", "26.04"} {
			for _, arch := range []string{"amd64", "arm64"} {
				for _, source := range []string{"ubuntu", "cuda"} {
					for _, boot := range []string{"auto", "required", "off"} {
						for _, kernel := range []string{"ga", "hwe", "64k"} {
							for _, modules := range []string{"auto", "open", "proprietary"} {
								n++
								var want []string
								if kernel == "64k" && arch == "amd64" {
									want = append(want, "kernel-absent")
								}
								signed := source == "ubuntu" && (arch == "amd64" || release == "26.04")
								if boot == "required" && !signed {
									want = append(want, map[string]string{"ubuntu": "secure-boot-unsigned", "cuda": "secure-boot-cuda"}[source])
								}
								if f.arch != "" && f.arch != arch {
									want = append(want, "superchip-arch")
								}
								if modules != "auto" && !strings.Contains(" "+f.flavours+" ", " "+modules+" ") {
									want = append(want, modules+"-impossible")
								}
								q := Request{
									Models: []string{f.model}, Count: f.count, Modules: modules, Source: source,
									SecureBoot: boot, Kernel: kernel, Release: release, Arch: arch,
								}
								s, findings := tables.Resolve(q)
								got := rules(findings, false)
								if kernel == "64k" && arch == "amd64" {
									// Without a kernel, of the rest only the machine is looked at.
									want = slices.DeleteFunc(want, func(r string) bool { return r != "kernel-absent" && r != "superchip-arch" })
								}
								if !slices.Equal(got, want) {
									t.Fatalf("%+v: refused for %v, want %v", q, got, want)
								}
								if len(want) == 0 {
									flavour := modules
									if modules == "auto" {
										flavour, _, _ = strings.Cut(f.flavours, " ")
									}
									checkStack(t, q, s, flavour, f.link, signed)
								}
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests", n)
}

// checkStack holds an accepted stack against what was asked for.
func checkStack(t *testing.T, q Request, s Stack, flavour, link string, signed bool) {
	t.Helper()
	suffix := map[string]string{"ga": "generic", "hwe": "generic-hwe-" + q.Release, "64k": "generic-64k"}[q.Kernel]
	if q.Kernel == "64k" && q.Release == "22.04" {
		suffix += "-hwe-22.04"
	}
	branch := map[string]string{"ubuntu": "580-server", "cuda": "580"}[q.Source]
	open := ""
	if flavour == "open" {
		open = "-open"
	}
	want := []string{
		"linux-modules-nvidia-" + branch + open + "-" + suffix, "nvidia-utils-" + branch,
		"nvidia-headless-no-dkms-" + branch + open, "nvidia-compute-utils-" + branch,
	}
	links := map[string][]string{
		"nvswitch": {"nvidia-fabricmanager-580", "libnvidia-nscq-580"},
		"nvlink5":  {"nvidia-fabricmanager-580", "nvlsm", "infiniband-diags", "nvidia-imex-580"},
		"imex":     {"nvidia-imex-580"},
	}
	if q.Source == "cuda" {
		want = []string{"linux-headers-" + suffix, "nvidia-driver-pinning-580", "nvidia-dkms-580" + open, "nvidia-utils-580", "libnvidia-compute-580"}
		links = map[string][]string{
			"nvswitch": {"nvidia-fabricmanager", "libnvidia-nscq"},
			"nvlink5":  {"nvidia-fabricmanager", "nvlsm", "infiniband-diags", "nvidia-imex"},
			"imex":     {"nvidia-imex"},
		}
	}
	for _, name := range append(want, links[link]...) {
		if !slices.Contains(s.Packages, name) {
			t.Errorf("%+v: no %s in %v", q, name, s.Packages)
		}
	}
	if s.Branch.Name != branch || string(s.Flavour) != flavour || s.Signed != signed || s.Kernel.Meta != "linux-"+suffix {
		t.Errorf("%+v: %s %s, signed %v, kernel %s", q, s.Branch.Name, s.Flavour, s.Signed, s.Kernel.Meta)
	}
	if managed := link == "nvswitch" || link == "nvlink5"; s.FabricManager != managed {
		t.Errorf("%+v: Fabric Manager %v", q, s.FabricManager)
	}
}

// rules returns the names of the findings' rules, refusing ones or warnings.
func rules(findings []Finding, warnings bool) []string {
	var out []string
	for _, f := range findings {
		if f.Warning == warnings && !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
	}
	return out
}

// TestStacks has whole answers, as a person would read them.
func TestStacks(t *testing.T) {
	tests := []struct {
		name string
		req  Request
		want Stack // compared where set
	}{
		{
			name: "workstation with a desktop",
			req:  Request{Models: []string{"rtx-5090"}, Release: "24.04", Arch: "amd64", Kernel: "hwe", Display: "desktop", SecureBoot: "required"},
			want: Stack{
				Branch: Branch{"580", "LTSB", "2028-06"}, Flavour: Open, Signed: true,
				Kernel:     Kernel{"hwe", "linux-generic-hwe-24.04", "linux-headers-generic-hwe-24.04"},
				Packages:   []string{"linux-modules-nvidia-580-open-generic-hwe-24.04", "nvidia-compute-utils-580", "nvidia-utils-580", "nvidia-driver-580-open"},
				Components: []string{"restricted"},
				Services:   []string{"nvidia-persistenced.service"},
			},
		},
		{
			name: "HGX B200 with DCGM",
			req:  Request{Models: []string{"b200"}, Count: 8, DCGM: true, Release: "24.04", Arch: "amd64", SecureBoot: "required"},
			want: Stack{
				Branch: Branch{"580-server", "LTSB", "2028-06"}, Flavour: Open, Signed: true, FabricManager: true,
				Kernel: Kernel{"ga", "linux-generic", "linux-headers-generic"},
				Packages: []string{
					"linux-modules-nvidia-580-server-open-generic", "nvidia-compute-utils-580-server", "nvidia-utils-580-server",
					"nvidia-headless-no-dkms-580-server-open", "libnvidia-decode-580-server", "libnvidia-encode-580-server",
					"datacenter-gpu-manager-4-core", "datacenter-gpu-manager-4-cuda13",
					"nvidia-fabricmanager-580", "nvlsm", "infiniband-diags", "nvidia-imex-580",
				},
				Components:   []string{"restricted", "universe", "multiverse"},
				Repositories: []string{"cuda"},
				Pins: []Pin{
					{Packages: []string{"datacenter-gpu-manager-4-*", "nvlsm"}, Repository: "cuda", Priority: 500},
					{Packages: []string{"*"}, Repository: "cuda", Priority: -1},
				},
				Services: []string{"nvidia-persistenced.service", "nvidia-dcgm.service", "nvidia-fabricmanager.service"},
				Modules:  []string{"mlx5_core", "mlx5_ib", "ib_umad"},
			},
		},
		{
			name: "Grace Hopper picks its pages",
			req:  Request{Models: []string{"gh200"}, Release: "24.04", Arch: "arm64", SecureBoot: "off"},
			want: Stack{
				Branch: Branch{"580-server", "LTSB", "2028-06"}, Flavour: Open,
				Kernel: Kernel{"64k", "linux-generic-64k", "linux-headers-generic-64k"},
				Packages: []string{
					"linux-modules-nvidia-580-server-open-generic-64k", "nvidia-compute-utils-580-server", "nvidia-utils-580-server",
					"nvidia-headless-no-dkms-580-server-open", "libnvidia-decode-580-server", "libnvidia-encode-580-server",
				},
				Components: []string{"restricted"},
				Services:   []string{"nvidia-persistenced.service"},
			},
		},
		{
			name: "an old V100 box",
			req:  Request{Models: []string{"v100"}, Count: 4, Release: "22.04", Arch: "amd64", SecureBoot: "required"},
			want: Stack{
				Branch: Branch{"580-server", "LTSB", "2028-06"}, Flavour: Proprietary, Signed: true,
				Kernel: Kernel{"ga", "linux-generic", "linux-headers-generic"},
				Packages: []string{
					"linux-modules-nvidia-580-server-generic", "nvidia-compute-utils-580-server", "nvidia-utils-580-server",
					"nvidia-headless-no-dkms-580-server", "libnvidia-decode-580-server", "libnvidia-encode-580-server",
				},
				Components: []string{"restricted"},
				Services:   []string{"nvidia-persistenced.service"},
			},
		},
		{
			name: "the newer branch is in multiverse",
			req:  Request{PCI: []string{"10de:2330"}, Count: 8, Driver: "595-server", Release: "24.04", Arch: "amd64"},
			want: Stack{
				Branch: Branch{"595-server", "PB", "2027-03"}, Flavour: Open, Signed: true, FabricManager: true,
				Kernel: Kernel{"ga", "linux-generic", "linux-headers-generic"},
				Packages: []string{
					"linux-modules-nvidia-595-server-open-generic", "nvidia-compute-utils-595-server", "nvidia-utils-595-server",
					"nvidia-headless-no-dkms-595-server-open", "libnvidia-decode-595-server", "libnvidia-encode-595-server",
					"nvidia-fabricmanager-595", "libnvidia-nscq-595",
				},
				Components: []string{"restricted", "multiverse"},
				Services:   []string{"nvidia-persistenced.service", "nvidia-fabricmanager.service"},
			},
		},
		{
			name: "NVIDIA's repository after the renaming",
			req:  Request{Models: []string{"h200"}, Count: 8, Driver: "595", Source: "cuda", SecureBoot: "off", Release: "24.04", Arch: "amd64"},
			want: Stack{
				Branch: Branch{"595", "PB", "2027-03"}, Flavour: Open, FabricManager: true,
				Kernel: Kernel{"ga", "linux-generic", "linux-headers-generic"},
				Packages: []string{
					"linux-headers-generic", "dkms", "nvidia-driver-pinning-595", "libnvidia-compute", "nvidia-persistenced",
					"nvidia-dkms-open", "libnvidia-decode", "libnvidia-encode", "nvidia-fabricmanager", "libnvidia-nscq",
				},
				Components:   []string{"universe"},
				Repositories: []string{"cuda"},
				Pins: []Pin{
					{Packages: driverNames, Repository: "ubuntu", Priority: -1},
					{Packages: driverNames, Version: "595.*", Priority: 1000},
				},
				Services: []string{"nvidia-persistenced.service", "nvidia-fabricmanager.service"},
			},
		},
		{
			name: "NVIDIA's repository, a desktop on an old card",
			req:  Request{Models: []string{"gtx-1080-ti"}, Source: "cuda", SecureBoot: "off", Display: "desktop", Release: "22.04", Arch: "amd64"},
			want: Stack{
				Branch: Branch{"580", "LTSB", "2028-06"}, Flavour: Proprietary,
				Kernel: Kernel{"ga", "linux-generic", "linux-headers-generic"},
				Packages: []string{
					"linux-headers-generic", "dkms", "nvidia-driver-pinning-580", "libnvidia-compute-580", "nvidia-compute-utils-580",
					"nvidia-utils-580", "cuda-drivers-580",
				},
				Components:   []string{"universe"},
				Repositories: []string{"cuda"},
				Pins: []Pin{
					{Packages: driverNames, Repository: "ubuntu", Priority: -1},
					{Packages: driverNames, Version: "580.*", Priority: 1000},
				},
				Services: []string{"nvidia-persistenced.service"},
			},
		},
	}
	tables := load(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, findings := tables.Resolve(tt.req)
			if len(findings) > 0 {
				t.Errorf("findings: %+v", findings)
			}
			if len(s.Reasons) < 5 || len(s.Hold) < len(s.Packages) {
				t.Errorf("%d reasons, %d held names", len(s.Reasons), len(s.Hold))
			}
			s.GPUs, s.Hold, s.Reasons = nil, nil, nil
			tt.want.Source = "ubuntu"
			if tt.req.Source != "" {
				tt.want.Source = tt.req.Source
			}
			want := tt.want.filled()
			got := s.filled()
			if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Hold" }, cmp.Ignore())); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestHold: driver, libraries, Fabric Manager, modules and kernel are held
// together, and what is not NVIDIA's is not.
func TestHold(t *testing.T) {
	tables := load(t)
	q := Request{Models: []string{"b200"}, Count: 8, Kernel: "hwe", SecureBoot: "off", Release: "24.04", Arch: "amd64"}
	for _, tt := range []struct{ source, driver, names string }{
		{"ubuntu", "580-server", "nvidia-utils-580-server libnvidia-compute-580-server libnvidia-cfg1-580-server nvidia-kernel-common-580-server nvidia-fabricmanager-580 nvidia-imex-580 nvlsm linux-modules-nvidia-580-server-open-generic-hwe-24.04"},
		{"cuda", "580", "nvidia-dkms-580-open libnvidia-compute-580 libnvidia-gl-580 nvidia-driver-pinning-580 nvidia-fabricmanager libnvsdm nvidia-modprobe"},
		{"cuda", "595", "nvidia-dkms-open libnvidia-compute libnvidia-gpucomp nvidia-persistenced nvidia-kernel-source-open nvidia-fabricmanager nvidia-imex"},
	} {
		q.Source, q.Driver = tt.source, tt.driver
		s, _ := tables.Resolve(q)
		for _, name := range append(strings.Fields(tt.names), "linux-generic-hwe-24.04", "linux-image-generic-hwe-24.04", "linux-headers-generic-hwe-24.04") {
			if !slices.Contains(s.Hold, name) {
				t.Errorf("%s %s: %s is not held", tt.source, tt.driver, name)
			}
		}
		for _, name := range []string{"infiniband-diags", "dkms"} {
			if slices.Contains(s.Hold, name) {
				t.Errorf("%s %s: %s is held", tt.source, tt.driver, name)
			}
		}
		for _, name := range s.Hold {
			if !packageForm.MatchString(name) || strings.HasSuffix(name, "-") {
				t.Errorf("%q is no package name", name)
			}
		}
	}
}

// TestFabric: when a Fabric Manager is installed.
func TestFabric(t *testing.T) {
	tests := []struct {
		name     string
		req      Request
		on       bool
		refused  []string
		warnings []string
	}{
		{name: "count unknown", req: Request{Models: []string{"h100-sxm"}}, on: true},
		{name: "whole board", req: Request{Models: []string{"h100-sxm"}, Count: 8}, on: true},
		{name: "four of them have no NVSwitch", req: Request{Models: []string{"h100-sxm"}, Count: 4}},
		{name: "one passed through", req: Request{PCI: []string{"10de:2335"}, Count: 1}},
		{name: "four and the switches passed through", req: Request{PCI: []string{"10de:2330", "10de:22a3"}, Count: 4}, on: true},
		{name: "four, forced", req: Request{Models: []string{"h100-sxm"}, Count: 4, FabricManager: "on"}, on: true, warnings: []string{"fabric-few"}},
		{name: "off", req: Request{Models: []string{"h200"}, Count: 8, FabricManager: "off"}, warnings: []string{"fabric-off"}},
		{name: "off, NVLink 5", req: Request{Models: []string{"b200"}, Count: 8, FabricManager: "off"}, warnings: []string{"fabric-off"}},
		{name: "off where there is none", req: Request{Models: []string{"h200"}, Count: 2, FabricManager: "off"}},
		{name: "on where there is none", req: Request{Models: []string{"rtx-5090"}, FabricManager: "on"}, refused: []string{"fabric-none"}},
		{name: "on where there is none, insisted on", req: Request{Models: []string{"l40s"}, FabricManager: "on", Override: "a test"}, on: true, warnings: []string{"fabric-none"}},
		{name: "a rack's compute tray", req: Request{Models: []string{"gb200"}, Count: 4, Arch: "arm64", SecureBoot: "off"}},
		{name: "on a rack's compute tray", req: Request{Models: []string{"gb200"}, Count: 4, Arch: "arm64", SecureBoot: "off", FabricManager: "on"}, refused: []string{"fabric-none"}},
		{name: "PCIe card of the same name", req: Request{Models: []string{"h200-nvl"}, Count: 8}},
		{name: "a desktop's branch has none", req: Request{Models: []string{"h200"}, Count: 8, Driver: "580"}, refused: []string{"fabric-needs-server"}},
		{name: "a desktop takes the server branch then", req: Request{Models: []string{"a100-sxm"}, Count: 8, Display: "desktop"}, on: true, warnings: []string{"desktop-on-datacenter"}},
	}
	tables := load(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.Release = "24.04"
			if tt.req.Arch == "" {
				tt.req.Arch = "amd64"
			}
			s, findings := tables.Resolve(tt.req)
			if !slices.Equal(rules(findings, false), tt.refused) || !slices.Equal(rules(findings, true), tt.warnings) {
				t.Errorf("findings %+v", findings)
			}
			if s.FabricManager != tt.on {
				t.Errorf("Fabric Manager %v, want %v: %v", s.FabricManager, tt.on, s.Packages)
			}
		})
	}
}

// TestRefusals has every rule, by name, with the field that it points at and
// what it tells the person to write.
func TestRefusals(t *testing.T) {
	tests := []struct {
		rule    string
		req     Request
		field   string
		detail  string // part of it
		warning bool
	}{
		{rule: "open-impossible", req: Request{Models: []string{"v100"}, Modules: "open"}, field: "modules", detail: "write modules: proprietary"},
		{rule: "open-impossible", req: Request{Models: []string{"gtx-1080-ti"}, Modules: "open"}, field: "modules"},
		{rule: "open-impossible", req: Request{Models: []string{"m60"}, Modules: "open"}, field: "modules"},
		{rule: "proprietary-impossible", req: Request{Models: []string{"b200"}, Modules: "proprietary"}, field: "modules", detail: "write modules: open"},
		{rule: "proprietary-impossible", req: Request{Models: []string{"rtx-5090"}, Modules: "proprietary"}, field: "modules"},
		{rule: "proprietary-impossible", req: Request{Models: []string{"gh200"}, Modules: "proprietary", Arch: "arm64"}, field: "modules"},
		{rule: "proprietary-gone", req: Request{Models: []string{"t4"}, Modules: "proprietary", Driver: "615-server", Release: "26.04"}, field: "modules", detail: "modules: auto"},
		{rule: "driver-unlisted", req: Request{Models: []string{"rtx-pro-4500-server"}, Driver: "595-server"}, field: "driver", detail: "override"},
		{rule: "driver-unlisted", req: Request{Models: []string{"rtx-pro-4500-server"}, Driver: "595-server", Override: "tried it"}, field: "driver", detail: "tried it", warning: true},
		{rule: "driver-unlisted", req: Request{Models: []string{"b300"}, Driver: "570-server", Override: ""}, field: "driver", detail: "driver: auto"},
		{rule: "driver-too-new", req: Request{Models: []string{"v100"}, Driver: "595-server"}, field: "driver", detail: "up to 580"},
		{rule: "driver-ended", req: Request{Models: []string{"a40"}, Driver: "535-server"}, field: "driver", detail: "580-server"},
		{rule: "driver-ended", req: Request{Models: []string{"a40"}, Driver: "535-server", Override: "validated on it"}, field: "driver", detail: "validated on it", warning: true},
		{rule: "driver-ended", req: Request{Models: []string{"h100-pcie"}, Driver: "610", Source: "cuda"}, field: "driver"},
		{rule: "driver-transitional", req: Request{Models: []string{"a40"}, Driver: "570-server", Release: "26.04"}, field: "driver", detail: "write driver: 580-server"},
		{rule: "driver-transitional", req: Request{Models: []string{"a40"}, Driver: "590-server", Release: "26.04", Override: "no override for this"}, field: "driver", detail: "write driver: 595-server"},
		{rule: "driver-absent", req: Request{Models: []string{"a40"}, Driver: "615", Release: "24.04"}, field: "driver", detail: "auto, 580-server"},
		{rule: "driver-undesignated", req: Request{Models: []string{"a40"}, Driver: "615-server", Release: "26.04"}, field: "driver", warning: true},
		{rule: "driver-unknown", req: Request{Models: []string{"a40"}, Driver: "latest"}, field: "driver", detail: "580-server"},
		{rule: "driver-glob", req: Request{Models: []string{"a40"}, Driver: "580*"}, field: "driver", detail: "580-server"},
		{rule: "driver-glob", req: Request{Models: []string{"a40"}, Driver: "580.173.*"}, field: "driver"},
		{rule: "driver-version", req: Request{Models: []string{"a40"}, Driver: "580.173.02"}, field: "driver", detail: "write 580"},
		{rule: "driver-flavour", req: Request{Models: []string{"a40"}, Driver: "580-server-open"}, field: "driver", detail: "driver: 580-server and modules: open"},
		{rule: "driver-server-in-cuda", req: Request{Models: []string{"a40"}, Driver: "580-server", Source: "cuda"}, field: "driver", detail: "driver: 580"},
		{rule: "secure-boot-cuda", req: Request{Models: []string{"a40"}, Source: "cuda", SecureBoot: "required"}, field: "source", detail: "source: ubuntu"},
		{rule: "secure-boot-unsigned", req: Request{Models: []string{"a40"}, SecureBoot: "required", Arch: "arm64"}, field: "secure_boot", detail: "26.04"},
		{rule: "secure-boot-unknown", req: Request{Models: []string{"a40"}, Arch: "arm64"}, field: "secure_boot", warning: true},
		{rule: "secure-boot-unknown", req: Request{Models: []string{"a40"}, Source: "cuda"}, field: "source", warning: true},
		{rule: "mixed-generations", req: Request{Models: []string{"p40", "rtx-a6000"}}, field: "model[1]", detail: "modules: proprietary"},
		{rule: "mixed-generations", req: Request{Models: []string{"p40", "rtx-a6000"}, Override: "a lab"}, field: "modules", detail: "a lab", warning: true},
		{rule: "mixed-generations", req: Request{Models: []string{"v100", "b200"}, Modules: "proprietary", Override: "hope"}, field: "model[1]", detail: "different machines"},
		{rule: "mixed-generations", req: Request{PCI: []string{"10de:2b85", "10de:1b06"}}, field: "pci[0]"},
		{rule: "kernel-absent", req: Request{Models: []string{"a40"}, Kernel: "64k"}, field: "kernel", detail: "ga or hwe"},
		{rule: "superchip-arch", req: Request{Models: []string{"gh200"}}, field: "model", detail: "arch: arm64"},
		{rule: "superchip-arch", req: Request{Models: []string{"gb300"}}, field: "model"},
		{rule: "unknown-release", req: Request{Models: []string{"a40"}, Release: "25.10"}, detail: "24.04"},
		{rule: "unknown-release", req: Request{Models: []string{"a40"}, Release: "20.04"}},
		{rule: "unknown-arch", req: Request{Models: []string{"a40"}, Arch: "riscv64"}, detail: "amd64 or arm64"},
		{rule: "unknown-value", req: Request{Models: []string{"a40"}, Modules: "dkms"}, field: "modules", detail: "auto, open, proprietary"},
		{rule: "unknown-value", req: Request{Models: []string{"a40"}, Kernel: "lowlatency"}, field: "kernel", detail: "write ga, hwe, 64k"},
		{rule: "count-impossible", req: Request{Models: []string{"h100-sxm"}, Count: 9}, field: "count", detail: "override"},
		{rule: "count-impossible", req: Request{Models: []string{"h100-sxm"}, Count: 16, Override: "two boards"}, field: "count", warning: true},
		{rule: "count-impossible", req: Request{Models: []string{"l4"}, Count: 33}, field: "count"},
		{rule: "count-impossible", req: Request{Models: []string{"l4"}, Count: -1}, field: "count"},
		{rule: "count-impossible", req: Request{Models: []string{"l4", "t4"}, Count: 1}, field: "count"},
		{rule: "architecture-ended", req: Request{Models: []string{"k80"}}, field: "model"},
		{rule: "unknown-model", req: Request{Models: []string{"h20o"}}, field: "model", detail: "did you mean"},
		{rule: "unknown-model", req: Request{Models: []string{"RTX 4090"}}, field: "model", detail: "write rtx-4090"},
		{rule: "unknown-model", req: Request{Models: []string{"NVIDIA GeForce RTX 4090"}}, field: "model", detail: "write rtx-4090"},
		{rule: "unknown-model", req: Request{Models: []string{"tesla-t4"}}, field: "model", detail: "write t4"},
		{rule: "unknown-model", req: Request{Models: []string{"radeon"}}, field: "model", detail: "explain --models"},
		{rule: "ambiguous-model", req: Request{Models: []string{"h100"}}, field: "model", detail: "h100-sxm, h100-pcie"},
		{rule: "ambiguous-model", req: Request{Models: []string{"a100"}}, field: "model", detail: "a100-sxm"},
		{rule: "ambiguous-model", req: Request{Models: []string{"a40", "rtx-6000"}}, field: "model[1]", detail: "rtx-6000-ada"},
		{rule: "unknown-pci", req: Request{PCI: []string{"10de:2335", "10de:ffff"}}, field: "pci[1]", detail: "lspci"},
		{rule: "unknown-pci", req: Request{PCI: []string{"10de:ffff"}, Driver: "595-server", Modules: "open"}, field: "pci[0]", detail: "override"},
		{rule: "unknown-pci", req: Request{PCI: []string{"10de:ffff"}, Driver: "595-server", Modules: "open", Override: "newer than the tables"}, field: "pci[0]", warning: true},
		{rule: "pci-form", req: Request{PCI: []string{"2335"}}, field: "pci[0]", detail: "10de:2335"},
		{rule: "which-gpu", req: Request{}, detail: "model, pci, auto"},
		{rule: "which-gpu", req: Request{Models: []string{"a40"}, Auto: true}},
		{rule: "which-gpu", req: Request{PCI: []string{"10de:22a3"}}, field: "pci", detail: "GPUs"},
		{rule: "desktop-on-datacenter", req: Request{Models: []string{"h100-pcie"}, Display: "desktop"}, field: "display", detail: "display: none", warning: true},
		{rule: "override-unused", req: Request{Models: []string{"a40"}, Override: "just in case"}, field: "override", warning: true},
		{rule: "mig-impossible", req: Request{Models: []string{"l40s"}, MIG: []string{"1g.6gb"}}, field: "mig", detail: "leave mig out"},
		{rule: "mig-impossible", req: Request{Models: []string{"rtx-pro-5000"}, MIG: []string{"1g.24gb"}, Override: "seen"}, field: "mig", warning: true},
		{rule: "mig-profile", req: Request{Models: []string{"h200"}, MIG: []string{"3g.71gb", "3g.40gb"}}, field: "mig[1]", detail: "3g.71gb, 4g.71gb"},
		{rule: "mig-profile", req: Request{Models: []string{"a100-sxm"}, MIG: []string{"1g.5gb", "3g.40gb"}}, field: "mig[1]", detail: "override"},
		{rule: "mig-profile", req: Request{PCI: []string{"10de:2335"}, MIG: []string{"1g.19gb"}, Override: "a newer driver"}, field: "mig[0]", warning: true},
		{rule: "mig-overfull", req: Request{Models: []string{"h200"}, MIG: []string{"4g.71gb", "4g.71gb"}, Override: "no override for this"}, field: "mig", detail: "fewer"},
		{rule: "mig-overfull", req: Request{Models: []string{"h200"}, MIG: []string{"3g.71gb", "3g.71gb", "1g.18gb"}}, field: "mig"},
		{rule: "mig-overfull", req: Request{Models: []string{"a30"}, MIG: []string{"4g.24gb", "1g.6gb"}}, field: "mig"},
		{rule: "auto-cuda", req: Request{Auto: true, Source: "cuda"}, field: "driver", detail: "source: ubuntu"},
	}
	tables := load(t)
	seen := map[string]bool{}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %v%v", tt.rule, tt.req.Models, tt.req.PCI), func(t *testing.T) {
			if tt.req.Release == "" {
				tt.req.Release = "24.04"
			}
			if tt.req.Arch == "" {
				tt.req.Arch = "amd64"
			}
			s, findings := tables.Resolve(tt.req)
			i := slices.IndexFunc(findings, func(f Finding) bool { return f.Rule == tt.rule })
			if i < 0 {
				t.Fatalf("findings %+v", findings)
			}
			seen[tt.rule] = true
			f := findings[i]
			if f.Field != tt.field || f.Warning != tt.warning || !strings.Contains(f.Detail, tt.detail) {
				t.Errorf("%+v", f)
			}
			if refused := len(rules(findings, false)) > 0; refused == tt.warning || refused != (s.Packages == nil) {
				t.Errorf("refused %v with %d packages: %+v", refused, len(s.Packages), findings)
			}
			for _, f := range findings {
				if f.Summary == "" || f.Detail == "" || strings.HasSuffix(f.Summary, ".") || strings.ContainsAny(f.Summary, "\n") {
					t.Errorf("wording: %+v", f)
				}
			}
		})
	}
	for _, rule := range append(rulesInCode(t), "fabric-none") {
		if !seen[rule] && !strings.HasPrefix(rule, "fabric-") {
			t.Errorf("rule %s is refused in no test", rule)
		}
	}
}

// rulesInCode returns the names that the package's sources give to refuse and warn.
func rulesInCode(t *testing.T) []string {
	form := regexp.MustCompile(`(?:refuse|warn|bad)\("([a-z-]+)"`)
	var out []string
	for _, name := range []string{"resolve.go", "driver.go", "assemble.go", "models.go", "mig.go"} {
		for _, m := range form.FindAllStringSubmatch(string(must(os.ReadFile(name))), -1) {
			out = append(out, m[1])
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d rules found", len(out))
	}
	return out
}
