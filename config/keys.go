package config

import (
	"regexp"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/apps"
)

// This file is the table of every key: its name, its form, what it means and
// what holds where it is left out. The decoder reads by it, and the JSON
// Schema and the reference are written from it.

// Releases are the Ubuntu releases that can be installed.
func Releases() []string { return []string{"22.04", "24.04", "26.04"} }

func enumOf(what string, words ...string) textForm { return textForm{what: what, enum: words} }

func fileForm(gpuModels []string) mappingForm[fileKeys, *fileKeys] {
	shared := settingsFields(gpuModels)
	profile := mapping("profile", nil, append([]field[profileKeys]{
		key("extends", func(p *profileKeys) *text { return &p.extends }, profileName(),
			"Another profile, whose settings this one inherits.", ""),
	}, lift(shared, func(p *profileKeys) *settings { return &p.settings })...)...)
	machine := machineForm(shared)
	return mapping("file", nil, append(append([]field[fileKeys]{
		key("version", func(f *fileKeys) *value[int] { return &f.version }, intForm{min: 1, max: 1, what: "a version of this format that gpustrap knows"},
			"The version of the file's format.", "").must(),
	}, lift(shared, func(f *fileKeys) *settings { return &f.settings })...),
		key("signing_key", func(f *fileKeys) *text { return &f.key }, signingKeyForm(),
			"File with the private key that signs the fleet's offline packages, relative to the folder of this file. It is made when it is not there.",
			"`gpustrap.key` beside `gpustrap.yaml`"),
		key("profiles", func(f *fileKeys) *list[named] { return &f.profiles }, namedForm{profileName(), profile},
			"Named settings that machines and other profiles inherit.", "none"),
		key("machines", func(f *fileKeys) *list[*machineKeys] { return &f.machines },
			listForm[*machineKeys]{item: machine, bad: kept, min: 1},
			"The machines. Without this key the file describes one machine, whose settings stand at the top.", "one machine named `gpu`"),
	)...)
}

// kept keeps every machine in the list, so that it can be named by its place;
// Resolve leaves out those that are bad.
func kept(*machineKeys) bool { return false }

func machineForm(shared []field[settings]) mappingForm[machineKeys, *machineKeys] {
	return mapping("machine", nil, append(machineFields(), lift(shared, func(m *machineKeys) *settings { return &m.settings })...)...)
}

func profileName() textForm {
	return textForm{what: "a name of letters, digits, dots, hyphens and underscores", example: "base", pattern: namePattern, max: 63}
}

func machineFields() []field[machineKeys] {
	match := mapping("match", nil,
		key("mac", func(m *matchKeys) *list[text] { return &m.mac }, texts(macForm()).orOne(),
			"MAC addresses of the machine's network interfaces; one of them is enough to match.", ""),
		key("serial", func(m *matchKeys) *text { return &m.serial },
			textForm{what: "a serial number", example: `"S123456X"`, pattern: oneLine, max: 128, check: checkSerial},
			"System serial number, as `dmidecode -s system-serial-number` prints it.", ""),
		key("uuid", func(m *matchKeys) *text { return &m.uuid },
			textForm{what: "a UUID", example: "4c4c4544-0042-3510-8052-b4c04f4e3732", pattern: uuidPattern, check: checkUUID},
			"System UUID, as `dmidecode -s system-uuid` prints it.", ""),
	)
	return []field[machineKeys]{
		key("name", func(m *machineKeys) *text { return &m.name },
			textForm{what: "a name of letters, digits, dots, hyphens and underscores", example: "node01", pattern: namePattern, max: 63},
			"Name of the machine: on the command line, as a file name, and as its hostname.", "").must(),
		key("profile", func(m *machineKeys) *text { return &m.profile }, profileName(),
			"The profile whose settings the machine inherits.", "none"),
		key("match", func(m *machineKeys) **matchKeys { return &m.match }, match,
			"What identifies the machine's hardware. Every key that is given must fit. Needed where the file has several machines.", ""),
	}
}

func macForm() textForm {
	return textForm{what: "a MAC address", example: `"b8:ce:f6:00:00:01"`, pattern: macPattern, check: checkMAC}
}

func settingsFields(gpuModels []string) []field[settings] {
	user := userForm()
	return []field[settings]{
		key("ubuntu", func(s *settings) *text { return &s.ubuntu }, enumOf("an Ubuntu release that can be installed", Releases()...),
			"Ubuntu release. Every machine needs one, its own or inherited.", ""),
		key("arch", func(s *settings) *text { return &s.arch }, enumOf("an architecture that can be installed", "amd64", "arm64"),
			"Debian architecture.", "`amd64`"),
		key("hostname", func(s *settings) *text { return &s.hostname },
			textForm{what: "a hostname of letters, digits, hyphens and dots", example: "gpu01", pattern: hostnamePattern, max: 64, check: checkHostname},
			"Hostname (RFC 1123, at most 64 characters).", "the machine's name"),
		key("user", func(s *settings) **userKeys { return &s.user }, user,
			"The first user, whom the installer creates.", ""),
		key("users", func(s *settings) *list[*userKeys] { return &s.users },
			listForm[*userKeys]{item: furtherUserForm(), bad: func(u *userKeys) bool { return u.bad }},
			"Further users. Without `user`, the first of them is the one whom the installer creates.", "none"),
		key("locale", func(s *settings) *text { return &s.locale }, textForm{what: "a locale", example: "en_US.UTF-8", pattern: localePattern, max: 64},
			"Locale of the system.", "`en_US.UTF-8`"),
		key("timezone", func(s *settings) *text { return &s.timezone },
			textForm{what: "a time zone", example: "Europe/Berlin", pattern: regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`), check: checkTimezone},
			"Time zone of the tz database.", "`Etc/UTC`"),
		key("keyboard", func(s *settings) **keyboardKeys { return &s.keyboard }, keyboardForm(), "Keyboard of the console, in X11 terms.", "US layout"),
		key("gpu", func(s *settings) **gpuKeys { return &s.gpu }, gpuForm(gpuModels),
			"The machine's GPUs, of which the driver stack follows. One of `model`, `pci` and `auto` says what they are.", "no GPU stack"),
		key("docker", func(s *settings) **dockerKeys { return &s.docker }, dockerForm(),
			"Docker Engine, from Docker's own repository. `{}` takes the defaults.", "installed"),
		key("toolkit", func(s *settings) **toolkitKeys { return &s.toolkit }, toolkitForm(),
			"NVIDIA Container Toolkit, which shows the GPUs to containers. `{}` takes the defaults.", "installed where there is a GPU and Docker"),
		key("storage", func(s *settings) **storageKeys { return &s.storage }, storageForm(),
			"The disk that is erased, and what is made on it.", "`lvm` on the only disk"),
		key("network", func(s *settings) **networkKeys { return &s.network }, networkForm(),
			"Network configuration: of one interface, or of several, with bonds and VLANs.", "DHCP on every Ethernet interface"),
		key("proxy", func(s *settings) **proxyKeys { return &s.proxy }, proxyForm(),
			"HTTP proxy, for the installer, apt, Docker's daemon, every service and every shell.", "`off`"),
		key("ca_certs", func(s *settings) *list[text] { return &s.caCerts },
			listOf(form[text](certificateForm()), badText).orOne(),
			"Certificates of authorities that the machine trusts besides Ubuntu's own, in PEM.", "none"),
		key("ntp", func(s *settings) *list[text] { return &s.ntp },
			texts(textForm{what: "a host name or an IP address", example: "ntp.example.org", pattern: hostOrAddress, max: 253}),
			"Time servers.", "Ubuntu's"),
		key("kernel_args", func(s *settings) *list[text] { return &s.kernelArgs },
			texts(textForm{what: "a kernel argument of letters, digits and _.,:=/@%+-", example: "iommu=pt", pattern: kernelArgument, max: 500, check: checkKernelArgument}),
			"Arguments of the kernel, on the machine and on the installation medium.", "none"),
		key("packages", func(s *settings) *list[text] { return &s.packages },
			texts(textForm{what: "the name of a Debian package", example: "htop", pattern: packagePattern, max: 200,
				hint: "a version may follow an equals sign: htop=3.3.0-4build1"}),
			"Further Debian packages to install.", "none"),
		key("apps", func(s *settings) *list[*appKeys] { return &s.apps },
			listForm[*appKeys]{item: newAppForm(), bad: func(a *appKeys) bool { return a.bad || a.name.bad }},
			"Container apps, each by its name or as a mapping. They are laid into /opt/apps; the command `app` runs them.", "none"),
		key("files", func(s *settings) *list[*fileEntryKeys] { return &s.files },
			listForm[*fileEntryKeys]{item: fileEntryForm(), bad: func(f *fileEntryKeys) bool { return f.bad }},
			"Files to write, as they stand: nothing in them is replaced.", "none"),
		key("late_commands", func(s *settings) *list[text] { return &s.lateCommands }, texts(commandForm()),
			"Shell commands that run as root in the new system when everything else is installed. The first that fails stops the installation.", "none"),
		key("first_boot", func(s *settings) *list[text] { return &s.firstBoot }, texts(commandForm()),
			"Shell commands that run as root at the machine's first boot, once each. After one that fails, the next boot goes on with it.", "none"),
		key("sources", func(s *settings) **sourcesKeys { return &s.sources }, sourcesForm(),
			"Package repositories other than the vendors' own: a site mirror, a test archive.", "the vendors' own"),
		key("ready", func(s *settings) **readyKeys { return &s.ready }, readyForm(),
			"What `gpu-ready` does besides, which proves the machine at every boot and writes a receipt.", ""),
		key("boot", func(s *settings) **bootKeys { return &s.boot }, bootForm(), "Boot menu of the installation medium.", ""),
		key("bmc", func(s *settings) **bmcKeys { return &s.bmc }, bmcForm(),
			"The machine's BMC, by which `gpustrap install --bmc` boots it from its medium. What machines share may stand at the top or in a profile.", "none"),
		key("after", func(s *settings) *text { return &s.after }, enumOf("what a machine can do after the installation", "poweroff", "reboot"),
			"What the machine does when the installation is over.", "`poweroff`"),
		key("reinstall", func(s *settings) *value[bool] { return &s.reinstall }, boolForm{},
			"Whether a disk is erased that gpustrap installed already. Without it the installation stops there; the boot menu's entry \"reinstall\" says yes for once.", "`false`"),
		key("report", func(s *settings) *text { return &s.report },
			textForm{what: "a URL that begins with http:// or https://", example: "http://10.0.0.2:8080/events", pattern: urlPattern, max: 500, check: checkURL},
			"URL that the installer posts its events to, and what went wrong if the installation fails.", "none"),
		key("offline", func(s *settings) *text { return &s.offline }, enumOf("a way to install without a network", "off", "only", "fallback"),
			"Where packages come from during the installation: `only` from the signed repository on the installation medium, and the network is never tried; `fallback` from there, and from the network where the medium has no such repository or apt refuses it. Both need a lock, and `remaster` puts the repository on the medium.", "`off`: from the network"),
		key("autoinstall", func(s *settings) *value[*yaml.Node] { return &s.autoinstall }, rawForm{},
			"Sections of Ubuntu's autoinstall reference, for what no other key says. They are merged last, and checked like the rest. "+
				"A fragment that undoes a guard, such as one with `storage`, needs `unsafe: true` among them.", "none"),
	}
}

func userForm() mappingForm[userKeys, *userKeys] {
	return mapping("user", []group{{keys: []string{"password_hash", "password_file"}}}, userFields()...)
}

// furtherUserForm is that of an entry of a list, which is not merged with
// another and so needs its name.
func furtherUserForm() mappingForm[userKeys, *userKeys] {
	fields := userFields()
	fields[0] = fields[0].must()
	return mapping("listed_user", []group{{keys: []string{"password_hash", "password_file"}}}, fields...)
}

func userFields() []field[userKeys] {
	return []field[userKeys]{
		key("name", func(u *userKeys) *text { return &u.name },
			textForm{what: "a user name of lower-case letters, digits, hyphens and underscores", example: "ops", pattern: accountPattern, max: 32, check: checkUserName},
			"Login name.", ""),
		key("full_name", func(u *userKeys) *text { return &u.fullName },
			textForm{what: "a name without colons, commas and equals signs", example: "Ada Lovelace", pattern: gecosPattern, max: 200},
			"The person's name.", "none"),
		key("password_hash", func(u *userKeys) *text { return &u.password.hash },
			textForm{what: "a crypt hash", example: `"$6$…"`, pattern: hashPattern, secret: true, refusal: refuseHash},
			"Password, as a crypt hash of sha512-crypt or yescrypt; `gpustrap hash` makes one.", "the password is locked"),
		key("password_file", func(u *userKeys) *text { return &u.password.file }, hashFileForm{pathForm()},
			"File that holds the crypt hash, relative to the folder of this file.", ""),
		key("authorized_keys", func(u *userKeys) *list[publicKeys] { return &u.authorizedKeys },
			listOf(form[publicKeys](publicKeysForm()), func(p publicKeys) bool { return p.bad }).orOne(),
			"SSH public keys that log in as this user.", "none"),
		key("groups", func(u *userKeys) *list[text] { return &u.groups },
			texts(textForm{what: "a group name of lower-case letters, digits, hyphens and underscores", example: "users", pattern: accountPattern, max: 32, check: checkUserGroup}),
			"Supplementary groups besides sudo and docker.", "none"),
		key("sudo", func(u *userKeys) *text { return &u.sudo }, enumOf("a way to use sudo", "no", "password", "nopassword"),
			"Whether the user may become root, and whether sudo asks for the password.",
			"for the first user `password`, or `nopassword` where only SSH keys are given; for others `no`"),
		key("docker", func(u *userKeys) *text { return &u.docker }, accessForm{},
			"Whether the user is in the docker group. Who is, is root on the machine, whatever sudo says: a container can mount its root folder. With `rootless` the user is not, and has a Docker engine of their own.", "`true`"),
		key("shell", func(u *userKeys) *text { return &u.shell },
			textForm{what: "the absolute path of a shell", example: "/usr/bin/zsh", pattern: absolutePath, max: 200, check: checkAbsolute},
			"Login shell; its package must be installed.", "`/bin/bash`"),
	}
}

func publicKeysForm() textOrFileForm[publicKeys] {
	return textOrFileForm[publicKeys]{
		what:   "an SSH public key",
		accept: acceptPublicKeys,
		refuse: func(at mark) publicKeys { return publicKeys{at: at, bad: true} },
		place:  func(p publicKeys) mark { return p.at },
	}
}

func keyboardForm() mappingForm[keyboardKeys, *keyboardKeys] {
	return mapping("keyboard", nil,
		key("layout", func(k *keyboardKeys) *text { return &k.layout },
			textForm{what: "a keyboard layout", example: "us", pattern: layoutPattern, max: 64, check: checkLayout},
			"Layout, or several with commas between them.", "`us`"),
		key("variant", func(k *keyboardKeys) *text { return &k.variant },
			textForm{what: "a keyboard variant", example: "dvorak", pattern: variantPattern, max: 64},
			"Variant of the layout, one for each layout.", "none"),
		key("toggle", func(k *keyboardKeys) *text { return &k.toggle },
			textForm{what: "a key combination of X11", example: "alt_shift_toggle", pattern: togglePattern, max: 64},
			"Key combination that switches between layouts.", "none"),
	)
}

func gpuForm(models []string) switchForm[gpuKeys, *gpuKeys] {
	model := textForm{what: "the name of a GPU: lower case, with hyphens", example: "h100-sxm", pattern: modelPattern, max: 64,
		refusal: refuseModel}
	if len(models) > 0 {
		model.enum = models
	}
	keys := mapping("gpu", []group{{keys: []string{"model", "pci", "auto"}}},
		key("model", func(g *gpuKeys) *list[text] { return &g.model }, listForm[text]{item: model, bad: badText, single: true, min: 1},
			"Product name, such as `h200` or `rtx-5090`, or a list of them; `gpustrap explain --models` lists all.", ""),
		key("pci", func(g *gpuKeys) *list[text] { return &g.pci },
			listForm[text]{item: textForm{what: "the PCI id of an NVIDIA device", example: `"10de:2335"`, pattern: pciPattern,
				hint: "`lspci -nn -d 10de:` prints it in brackets"}, bad: badText, single: true, min: 1},
			"PCI id, or a list of them, where the product name is not known.", ""),
		key("auto", func(g *gpuKeys) *value[bool] { return &g.auto }, boolForm{onlyTrue: true},
			"Chooses the stack on the machine, by the GPUs that are found there.", ""),
		key("count", func(g *gpuKeys) *value[int] { return &g.count }, intForm{min: 1, max: 64, what: "a number"},
			"Number of GPUs; the first boot checks it.", "whatever is there"),
		key("driver", func(g *gpuKeys) *text { return &g.driver },
			textForm{what: "a driver branch", example: "580-server", pattern: driverPattern, hint: "or auto; the kind of modules is the key modules",
				numeral: true, lowest: 100, highest: 999},
			"Driver branch, such as `580-server` or `580`, or `auto`.", "`auto`"),
		key("modules", func(g *gpuKeys) *text { return &g.modules }, enumOf("a flavour of the kernel modules", "auto", "open", "proprietary"),
			"Flavour of the kernel modules.", "`auto`"),
		key("source", func(g *gpuKeys) *text { return &g.source }, enumOf("a source of drivers", "ubuntu", "cuda"),
			"Where the driver comes from: Ubuntu's archive, with signed modules, or NVIDIA's CUDA repository.", "`ubuntu`"),
		key("secure_boot", func(g *gpuKeys) *text { return &g.secureBoot }, enumOf("a Secure Boot policy", "auto", "required", "off"),
			"Whether the stack must work under Secure Boot.", "`auto`"),
		key("kernel", func(g *gpuKeys) *text { return &g.kernel }, enumOf("a kernel of Ubuntu Server", "ga", "hwe", "64k"),
			"Kernel: general availability, hardware enablement, or 64 KiB pages (arm64).", "what the GPU needs"),
		key("fabric_manager", func(g *gpuKeys) *text { return &g.fabricManager }, enumOf("a choice", "auto", "on", "off"),
			"Whether the Fabric Manager is installed, which NVSwitch machines need.", "`auto`"),
		key("dcgm", func(g *gpuKeys) *value[bool] { return &g.dcgm }, boolForm{},
			"Whether NVIDIA's Data Center GPU Manager is installed.", "`false`"),
		key("display", func(g *gpuKeys) *text { return &g.display }, enumOf("a choice", "none", "desktop"),
			"Whether the driver's display parts are installed.", "`none`"),
		key("mig", func(g *gpuKeys) *list[text] { return &g.mig },
			texts(textForm{what: "the name of a MIG profile", example: "3g.71gb", pattern: migPattern, max: 32,
				hint: "`nvidia-smi mig -lgip` lists those of a GPU"}).orOne(),
			"GPU instances (MIG profiles) that every GPU is divided into at boot; `[]` switches MIG off.", "left as it is"),
		key("power_limit", func(g *gpuKeys) *value[int] { return &g.powerLimit }, intForm{min: 1, max: 10000, what: "a number of watts"},
			"Power limit of every GPU in watts, set at boot. What lies outside of the GPU's own range fails there.", "the GPU's own"),
		key("persistence", func(g *gpuKeys) *value[bool] { return &g.persistence }, boolForm{},
			"Whether the driver keeps the GPUs initialised while nobody uses them (persistence mode), set at boot.", "`true`"),
		key("override", func(g *gpuKeys) **overrideKeys { return &g.override },
			mapping("override", nil, key("reason", func(o *overrideKeys) *text { return &o.reason },
				textForm{what: "a reason", example: `"tried on node01"`, pattern: oneLine, max: 500}, "Why.", "").must()),
			"Takes a set that would be refused on doubt.", "none"),
	)
	return switchForm[gpuKeys, *gpuKeys]{keys, func(g *gpuKeys) *value[bool] { return &g.on }, "{model: h200}"}
}

func badText(t text) bool { return t.bad }

func debVersion() textForm {
	return textForm{what: "the exact version of a Debian package", example: `"1.17.8-1"`, pattern: versionPattern, max: 100, hint: "in quotes"}
}

func dockerForm() switchForm[dockerKeys, *dockerKeys] {
	size := sizeForm()
	log := mapping("log", nil,
		key("max_size", func(l *logKeys) *text { return &l.maxSize }, size, "Size at which a container's log is rotated.", "`50m`"),
		key("max_files", func(l *logKeys) *value[int] { return &l.maxFiles }, intForm{min: 1, max: 1000, what: "a number"}, "Number of log files that a container keeps.", "`3`"),
	)
	pool := mapping("address_pool", nil,
		key("base", func(p *addressPoolKeys) *text { return &p.base },
			textForm{what: "a network with its prefix length", example: "172.30.0.0/16", pattern: prefixPattern, check: checkPoolBase}, "Range that networks are taken from.", "").must(),
		key("size", func(p *addressPoolKeys) *value[int] { return &p.size }, intForm{min: 1, max: 128, what: "a prefix length"}, "Prefix length of each network, in bits.", "").must(),
	)
	keys := mapping("docker", nil,
		key("version", func(k *dockerKeys) *text { return &k.version }, textForm{what: "the exact version of a Debian package",
			example: `"5:27.5.1-1~ubuntu.24.04~noble"`, pattern: versionPattern, max: 100, hint: "in quotes"}, "Exact version of docker-ce.", "the newest"),
		key("data_root", func(k *dockerKeys) *text { return &k.dataRoot },
			textForm{what: "an absolute path", example: "/srv/docker", pattern: absolutePath, max: 1000, check: checkDataRoot},
			"Folder of images and containers.", "`/var/lib/docker`"),
		key("log", func(k *dockerKeys) **logKeys { return &k.log }, log, "Rotation of the containers' logs.", ""),
		key("live_restore", func(k *dockerKeys) *value[bool] { return &k.liveRestore }, boolForm{}, "Whether containers keep running while the daemon restarts.", "`true`"),
		key("shm_size", func(k *dockerKeys) *text { return &k.shmSize }, size, "Size of a container's /dev/shm.", "`64m`, Docker's own"),
		key("publish", func(k *dockerKeys) *text { return &k.publish }, enumOf("a place for published ports", PublishAny, PublishLocalhost),
			"Where ports that a container publishes without an address (`-p 8888:8888`) can be reached: from anywhere, past ufw, or from the machine itself alone, by way of `ssh -L`.", "`any`, Docker's own"),
		key("address_pools", func(k *dockerKeys) *list[*addressPoolKeys] { return &k.addressPools },
			listForm[*addressPoolKeys]{item: pool, bad: func(p *addressPoolKeys) bool { return p.bad }}, "Ranges that Docker takes its networks from.", "Docker's own"),
		key("registry_mirrors", func(k *dockerKeys) *list[text] { return &k.mirrors },
			texts(textForm{what: "the URL of a registry", example: "https://registry.example.org", pattern: urlPattern, max: 500, check: checkMirror}),
			"Mirrors of Docker Hub.", "none"),
		key("prune", func(k *dockerKeys) **pruneKeys { return &k.prune }, pruneForm(),
			"Removes images that nobody uses: no container has them, none of the `apps` needs them. `{}` takes the defaults.", "`off`"),
	)
	return switchForm[dockerKeys, *dockerKeys]{keys, func(k *dockerKeys) *value[bool] { return &k.on }, "{} for the defaults"}
}

func pruneForm() switchForm[pruneKeys, *pruneKeys] {
	keys := mapping("prune", nil,
		key("every", func(p *pruneKeys) *text { return &p.every }, enumOf("an interval", "daily", "weekly", "monthly"),
			"How often.", "`weekly`"),
		key("unused_days", func(p *pruneKeys) *value[int] { return &p.days }, intForm{min: 1, max: 3650, what: "a number of days"},
			"Days for which nobody pulled, built or tagged the image.", "`30`"),
	)
	return switchForm[pruneKeys, *pruneKeys]{keys, func(p *pruneKeys) *value[bool] { return &p.on }, "{} for the defaults"}
}

func newAppForm() appForm {
	name := enumOf("an app", apps.Names()...)
	keys := mapping("app", nil,
		key("name", func(a *appKeys) *text { return &a.name }, name, "Name of the app.", "").must(),
		key("start", func(a *appKeys) *value[bool] { return &a.start }, boolForm{},
			"Whether the machine runs an instance of its own, from each boot on. With `false` the boot only gets the image, and users start their own with `app start`.",
			"`true` for an app that is a service"),
		key("address", func(a *appKeys) *text { return &a.address },
			textForm{what: "an IP address", example: "10.0.0.1", pattern: addressPattern, max: 45, check: checkListener},
			"Address that the machine's own instance listens on. Docker's published ports are open past the firewall ufw.", "`127.0.0.1`"),
		key("port", func(a *appKeys) *value[int] { return &a.port }, intForm{min: 1, max: 65535, what: "a port"},
			"Port of the machine's own instance.", "the first free one from the app's own on"),
		key("shm_size", func(a *appKeys) *text { return &a.shmSize }, sizeForm(), "Size of /dev/shm in every instance.", "the app's own"),
		key("image_file", func(a *appKeys) *text { return &a.imageFile }, archiveForm(),
			"Archive of the app's image, as `docker save` writes it, relative to the folder of this file. It goes on the installation medium with an `offline` machine's packages, and the machine loads it.",
			"the machine pulls the image, or makes it"),
	)
	return appForm{keys, name}
}

func signingKeyForm() textForm {
	f := pathForm()
	f.example = "secrets/fleet.key"
	return f
}

func archiveForm() textForm {
	f := pathForm()
	f.example = "images/fastbook.tar"
	return f
}

func sizeForm() textForm {
	return textForm{what: "a size", example: "50m", pattern: sizePattern, max: 12, hint: "a whole number and k, m or g"}
}

func toolkitForm() switchForm[toolkitKeys, *toolkitKeys] {
	keys := mapping("toolkit", nil,
		key("version", func(t *toolkitKeys) *text { return &t.version }, debVersion(), "Exact version of nvidia-container-toolkit.", "the newest"),
	)
	return switchForm[toolkitKeys, *toolkitKeys]{keys, func(t *toolkitKeys) *value[bool] { return &t.on }, "{} for the defaults"}
}

func sourcesForm() mappingForm[sourcesKeys, *sourcesKeys] {
	source := mapping("source", nil,
		key("url", func(s *sourceKeys) *text { return &s.url },
			textForm{what: "a URL that begins with http:// or https://", example: "https://mirror.example.org/ubuntu", pattern: urlPattern, max: 500, check: checkURL}, "URL of the repository.", "the vendor's"),
		key("suite", func(s *sourceKeys) *text { return &s.suite },
			textForm{what: "a suite", example: "noble", pattern: suitePattern, max: 100, hint: "./ or / for a flat repository"}, "Suite of the repository.", "the vendor's"),
		key("key", func(s *sourceKeys) *text { return &s.key }, repositoryKeyForm(), "OpenPGP public key that signs the repository.", "the vendor's"),
		key("fingerprint", func(s *sourceKeys) *text { return &s.fingerprint },
			textForm{what: "a key fingerprint", example: `"9DC858229FC7DD38854AE2D88D81803C0EBFCD88"`, pattern: fingerprintRE, max: 60, check: checkFingerprint,
				hint: "40 hexadecimal digits; `gpg --show-keys FILE` prints them"},
			"Fingerprint of that key, 40 hexadecimal digits.", "the vendor's"),
	)
	return mapping("sources", nil,
		key("ubuntu", func(s *sourcesKeys) **sourceKeys { return &s.ubuntu }, source, "Ubuntu's archive.", ""),
		key("docker", func(s *sourcesKeys) **sourceKeys { return &s.docker }, source, "Docker's repository.", ""),
		key("toolkit", func(s *sourcesKeys) **sourceKeys { return &s.toolkit }, source, "The NVIDIA Container Toolkit's repository.", ""),
		key("cuda", func(s *sourcesKeys) **sourceKeys { return &s.cuda }, source, "NVIDIA's CUDA repository.", ""),
	)
}

func repositoryKeyForm() textOrFileForm[text] {
	return textOrFileForm[text]{
		what:   "an OpenPGP public key",
		accept: acceptRepositoryKey,
		refuse: func(at mark) text { return text{at: at, bad: true} },
		place:  func(t text) mark { return t.at },
	}
}

func readyForm() mappingForm[readyKeys, *readyKeys] {
	return mapping("ready", nil,
		key("report", func(r *readyKeys) *text { return &r.report },
			textForm{what: "a URL that begins with http:// or https://", example: "https://fleet.example.org/receipts", pattern: urlPattern, max: 500, check: checkReport},
			"URL that the receipt of every boot is posted to.", "none"),
		key("token_file", func(r *readyKeys) *text { return &r.token }, tokenFileForm{pathForm()},
			"File that holds the machine's token, relative to the folder of this file. It signs the receipt: header `X-Gpustrap-Signature`, HMAC-SHA256 of the body.",
			"the receipt is not signed"),
		key("dcgmi", func(r *readyKeys) *text { return &r.dcgmi }, enumOf("a level of dcgmi diag", "off", "1", "2"),
			"Level of the `dcgmi diag` that runs until all checks have passed once: `1` takes seconds, `2` minutes. It needs `gpu.dcgm`.", "`off`"),
	)
}

func bootForm() mappingForm[bootKeys, *bootKeys] {
	return mapping("boot", nil,
		key("confirm", func(b *bootKeys) *text { return &b.confirm }, enumOf("a kind of confirmation", "countdown", "typed", "none"),
			"What happens before the disk is erased: the menu counts down and any key stops it, somebody types yes, or nothing.",
			"`countdown` where `storage.disk` names one disk exactly, else `typed`"),
		key("timeout", func(b *bootKeys) *value[int] { return &b.timeout }, intForm{min: 1, max: 3600, what: "a number of seconds"}, "Seconds that the menu counts down.", "`30`"),
	)
}
