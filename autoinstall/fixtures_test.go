package autoinstall

import (
	"net"
	"net/netip"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
)

// The machines that golden renders are made of. Stacks are written out here:
// package gpu has its own tests for how they come about.

const (
	opsKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0WdoiyUTNMUQpxIeGJWTgIvQ8nVGmLKzGYkyVb4ZtX ops@example"
	adaKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHk3TnAqWbYoT8P0YhJ6cTq6R2d0yXo0w2r9YyKcPq1B ada@example"
	// The password is "example".
	exampleHash = "$6$exampleexample$pPlZqPpdBLC365k4vsSuYxCI0Nxenfo5jQAmRH37meI/kKCnR.io8gJFIbatADWoralJVbGUQWHCGiiBhpvbh."
)

// siteKey is a key of nobody's: its secret half was thrown away.
const siteKey = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRHqRYJKwYBBAHaRw8BAQdAUCv21tMHjPmCsK6IcWWD+sHJmkNcacMtqFPX
ElhIBTy0ImdwdXN0cmFwIGZpeHR1cmUgPGZpeHR1cmVAZXhhbXBsZT6IkAQTFggA
OBYhBJvwTDyndrKPMjddcZsTbMH9dpssBQJrBEepAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEJsTbMH9dpssRloBAIM2X4sh18nCtFpJtFT7iBxETr2q970R
jT1coikzgNovAP49ZUhqb8Kbaj4KNIRZxs5aw0RXgiMsvq1tsMg1+r+WBQ==
=80sE
-----END PGP PUBLIC KEY BLOCK-----
`

// siteCA is the certificate of an authority whose key was thrown away.
const siteCA = `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUFOBsSC9ok9yyguy2s1hXsZq9zE0wCgYIKoZIzj0EAwIw
HzEdMBsGA1UEAwwUQSBzdGFuZC1pbiBhdXRob3JpdHkwIBcNMjYxMTIzMTYxNTI0
WhgPMjEyNjEwMzAxNjE1MjRaMB8xHTAbBgNVBAMMFEEgc3RhbmQtaW4gYXV0aG9y
aXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEDG7Q/1cvAByDa5f8OPmb6+Ef
F+bJyKfCBO1SNcbzHAlp74SpO64bHp5GHFK7eROrvLotcmxJ0ZbGfpFKHlU4EaNT
MFEwHQYDVR0OBBYEFG8UWe/248hedLBk1VHWK462HO/QMB8GA1UdIwQYMBaAFG8U
We/248hedLBk1VHWK462HO/QMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SAAwRQIhALh3QZcRdV6fhwBTwtAv/ytsCH5juOraxPMjMVyeWzrrAiBzE5P1wPD9
iaIpe5BecLpScmYXM0Xq1h1rwNCiK41qdQ==
-----END CERTIFICATE-----
`

var releases = []string{"22.04", "24.04", "26.04"}

func baseMachine(name, release string) config.Machine {
	return config.Machine{
		Name: name, Hostname: name, Ubuntu: release, Arch: "amd64",
		Locale: "en_US.UTF-8", Timezone: "Etc/UTC", Keyboard: config.Keyboard{Layout: "us"},
		Users: []config.User{{
			Name: "ops", AuthorizedKeys: []string{opsKey}, Sudo: config.SudoNoPassword, Docker: true,
		}},
		Storage: config.Storage{Layout: "lvm", Disk: config.Disk{Serial: "S6ESNX0W123456"}},
		Boot:    config.Boot{Confirm: config.ConfirmCountdown, Timeout: 30},
		After:   config.AfterPoweroff,
	}
}

func defaultDocker() *config.Docker {
	return &config.Docker{LogMaxSize: "50m", LogMaxFiles: 3, LiveRestore: true}
}

func testStack(release, branch string, flavour gpu.Flavour) *gpu.Stack {
	open := ""
	if flavour == gpu.Open {
		open = "-open"
	}
	return &gpu.Stack{
		Branch: gpu.Branch{Name: branch, Status: "LTSB", EOL: "2028-06"}, Flavour: flavour, Source: "ubuntu",
		Kernel: gpu.Kernel{Flavour: "ga", Meta: "linux-generic"}, Signed: true,
		Packages: []string{
			"linux-modules-nvidia-" + branch + open + "-generic",
			"nvidia-headless-no-dkms-" + branch + open, "nvidia-utils-" + branch,
		},
		Components: []string{"restricted"},
		Services:   []string{"nvidia-persistenced.service"},
		Hold: []string{
			"linux-generic", "linux-modules-nvidia-" + branch + open + "-generic",
			"nvidia-headless-no-dkms-" + branch + open, "nvidia-utils-" + branch,
		},
	}
}

func workstation(release string) Input {
	m := baseMachine("workstation", release)
	m.Docker, m.Toolkit = defaultDocker(), &config.Toolkit{}
	m.GPU = &config.GPU{Models: []string{"rtx-5090"}, Count: 1}
	return Input{Machine: m, Stack: testStack(release, "580-server", gpu.Open)}
}

func lab(release string) Input {
	m := baseMachine("lab", release)
	m.Users = []config.User{
		{Name: "ops", FullName: "Olga P. Stevens", PasswordHash: exampleHash, AuthorizedKeys: []string{opsKey}, Sudo: config.SudoPassword, Docker: true},
		{Name: "ada", FullName: "Ada L.", AuthorizedKeys: []string{adaKey}, Sudo: config.SudoNo, Docker: true, Groups: []string{"video"}},
		{Name: "lin", FullName: "Lin Y.", PasswordHash: exampleHash, AuthorizedKeys: []string{opsKey}, Sudo: config.SudoPassword, Shell: "/bin/dash"},
	}
	m.Docker = &config.Docker{
		Version: "5:29.6.1-1~ubuntu." + release + "~" + codenames[release], DataRoot: "/srv/docker", Publish: config.PublishLocalhost,
		LogMaxSize: "20m", LogMaxFiles: 5, LiveRestore: true, ShmSize: "8g",
		AddressPools:  []config.AddressPool{{Base: netip.MustParsePrefix("10.200.0.0/16"), Size: 24}},
		RegistryProxy: []string{"https://registry.example"},
	}
	m.Toolkit = &config.Toolkit{Version: "1.20.1-1"}
	m.GPU = &config.GPU{Models: []string{"l40s"}, Count: 4, Persistence: true, PowerLimit: 300}
	m.Packages = []string{"htop", "tmux"}
	m.Timezone = "Europe/Zurich"
	m.Keyboard = config.Keyboard{Layout: "de,us", Variant: "nodeadkeys,", Toggle: "alt_shift_toggle"}
	m.Storage.Disk = config.Disk{WWN: "0x500a07512345678a"}
	m.After = config.AfterReboot
	return Input{Machine: m, Stack: testStack(release, "580-server", gpu.Open)}
}

// shared is the lab's machine with what only people who share one need.
func shared(release string) Input {
	in := lab(release)
	in.Machine.Apps = []config.App{
		{Name: "fastbook", Address: netip.MustParseAddr("::1"), Port: 9000, ShmSize: "16g"},
		{Name: "cuda-dev", Address: netip.MustParseAddr("127.0.0.1")},
	}
	in.Machine.Docker.Prune = &config.Prune{Every: "weekly", UnusedDays: 30}
	in.Machine.Users = append(in.Machine.Users, config.User{
		Name: "mia", AuthorizedKeys: []string{adaKey}, Sudo: config.SudoNo, Rootless: true,
	})
	return in
}

func hgx(release string) Input {
	m := baseMachine("hgx01", release)
	m.Docker, m.Toolkit = defaultDocker(), &config.Toolkit{}
	m.GPU = &config.GPU{Models: []string{"h100-sxm"}, Count: 8, Persistence: true, MIG: []string{"3g.40gb", "3g.40gb"}}
	m.Match.MACs = []net.HardwareAddr{{0xb8, 0xce, 0xf6, 0, 0, 1}}
	m.Ready = config.Ready{Report: "https://fleet.example/receipts", Token: "0123456789abcdef0123456789abcdef", DCGMI: 1}
	m.Network = &config.Network{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.11/24")}, Gateway: netip.MustParseAddr("10.0.0.1"),
		Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Search: []string{"example.com"}, MTU: 9000,
	}
	m.Storage = config.Storage{Layout: "direct", Disk: config.Disk{Size: "smallest"}}
	s := testStack(release, "580-server", gpu.Open)
	s.Packages = append(s.Packages, "nvidia-fabricmanager-580", "libnvidia-nscq-580")
	s.Hold = append(s.Hold, "nvidia-fabricmanager-580", "libnvidia-nscq-580")
	s.Components = []string{"restricted", "multiverse"}
	s.Services = append(s.Services, "nvidia-fabricmanager.service")
	s.FabricManager = true
	s.GPUs = []gpu.Device{{Model: "h100-sxm", PCI: []string{"10de:2330", "10de:2336"}}}
	return Input{Machine: m, Stack: s, Report: "http://10.0.0.2:8080/events/hgx01"}
}

func plain(release string) Input {
	m := baseMachine("login", release)
	m.Storage.Disk = config.Disk{}
	return Input{Machine: m}
}

// mirrored has every repository on a site's own server, with keys of its own.
func mirrored(release string) Input {
	in := workstation(release)
	m := &in.Machine
	m.Name, m.Hostname = "mirrored", "mirrored"
	own := func(url, suite string) config.Source {
		return config.Source{URL: url, Suite: suite, Key: []byte(siteKey), Fingerprint: "9BF04C3CA776B28F32375D719B136CC1FD769B2C"}
	}
	m.Sources = config.Sources{
		Ubuntu: own("http://mirror.example/ubuntu", "noble-site"), Docker: own("http://mirror.example/docker", ""),
		Toolkit: own("http://mirror.example/toolkit", "stable"), CUDA: own("http://mirror.example/cuda", ""),
	}
	in.Stack.Source, in.Stack.Repositories = "cuda", []string{"cuda"}
	in.Stack.Pins = []gpu.Pin{
		{Packages: []string{"nvidia-*", "libnvidia-*"}, Repository: "ubuntu", Priority: -1},
		{Packages: []string{"nvidia-*", "libnvidia-*"}, Version: "580.*", Priority: 1000},
		{Packages: []string{"nvlsm"}, Repository: "cuda", Priority: 500},
	}
	m.Storage.Disk = config.Disk{Path: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}
	return in
}

// bonded has a bond of two interfaces, a VLAN on it, and one apart.
func bonded(release string) Input {
	m := baseMachine("bonded", release)
	m.Network = &config.Network{Links: []config.Link{
		{Network: config.Network{Interface: "eno1", DHCP: true, Optional: true}},
		{
			Name: "bond0", Mode: "802.3ad", Members: []string{"b8:ce:f6:00:00:01", "ens1f1"},
			Network: config.Network{Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.11/24")}, Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 9000},
		},
		{Name: "bond0.100", VLAN: 100, Parent: "bond0", Network: config.Network{
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.11/24")}, Nameservers: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
		}},
		{Name: "store", VLAN: 7, Parent: "ens2", Network: config.Network{DHCP: true}},
	}}
	return Input{Machine: m}
}

// site lies behind a proxy, trusts its own authority, and has everything that
// is written by hand.
func site(release string) Input {
	m := baseMachine("site", release)
	m.Docker = defaultDocker()
	m.Proxy = &config.Proxy{
		URL: "http://user:p%40ss@proxy.example:3128", Except: []string{".example", "mirror.example", "10.0.0.0/8"}, Hosts: []string{"mirror.example"},
	}
	m.CACerts = []string{siteCA}
	m.NTP = []string{"ntp.example", "10.0.0.1"}
	m.KernelArgs = []string{"iommu=pt", "console=ttyS0,115200n8"}
	m.Packages = []string{"htop"}
	m.Files = []config.File{
		{Path: "/etc/motd", Content: "It's \"$HOME\" {{ here }}\n\n  %d\n", Mode: "0644", Owner: "root:root"},
		{Path: "/home/ops/.profile", Content: "umask 027", Mode: "0600", Owner: "ops"},
	}
	m.LateCommands = []string{"sysctl --system", "for i in 1 2; do\n  echo $i\ndone\n"}
	m.FirstBoot = []string{"curl -fsS http://mirror.example/ready", "echo 'done'"}
	return Input{Machine: m}
}

// raid has its system on two encrypted disks that the TPM unlocks, and disks of data.
func raid(release string) Input {
	m := baseMachine("raid", release)
	swap := int64(16 << 30)
	m.Storage = config.Storage{
		Layout: "raid1", Disk: config.Disk{Size: "smallest"}, Further: []config.Disk{{Size: "smallest"}},
		Encryption: &config.Encryption{Key: "correct horse: #battery 'staple'", TPM: &config.TPM{PCRs: []int{4, 7}, Recovery: true}}, Swap: &swap,
		Data: []config.Data{
			{Disk: config.Disk{Serial: "DATA1"}, Mount: "/srv", Preserve: true, Filesystem: "ext4"},
			{Disk: config.Disk{WWN: "0x500a07512345678b"}, Mount: "/srv/scratch", Filesystem: "xfs"},
		},
	}
	return Input{Machine: m}
}

// volumes has logical volumes of which the installer's own layout does not do
// all.
func volumes(release string) Input {
	m := baseMachine("volumes", release)
	none := int64(0)
	m.Arch = "arm64"
	m.Storage.Boot, m.Storage.Swap = 4<<30, &none
	return Input{Machine: m}
}

// described has storage actions of its own.
func described(release string) Input {
	m := baseMachine("described", release)
	m.Storage = config.Storage{Disk: config.Disk{Serial: "A"}, Further: []config.Disk{{Path: "/dev/vdb"}}, Config: new(yaml.Node)}
	if err := yaml.Unmarshal([]byte(`
- {id: disk-0, type: disk, ptable: gpt, wipe: superblock, grub_device: true}
- {id: disk-1, type: disk, ptable: gpt, wipe: superblock}
- {id: root, type: partition, device: disk-1, size: -1}
- {id: root-format, type: format, volume: root, fstype: ext4}
- {id: root-mount, type: mount, device: root-format, path: /}
`), m.Storage.Config); err != nil {
		panic(err)
	}
	m.Storage.Config = m.Storage.Config.Content[0]
	return Input{Machine: m}
}

var fixtures = map[string]func(release string) Input{
	"workstation": workstation, "lab": lab, "hgx": hgx, "plain": plain, "mirrored": mirrored,
	"raid": raid, "site": site, "bonded": bonded, "volumes": volumes, "described": described,
}

func newTestRenderer(t testing.TB) *Renderer {
	t.Helper()
	r, err := NewRenderer()
	if err != nil {
		t.Fatal(err)
	}
	return r
}
