package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/report"
)

// The defaults of settings that have one.
const (
	defaultName        = "gpu"
	defaultArch        = "amd64"
	defaultLocale      = "en_US.UTF-8"
	defaultTimezone    = "Etc/UTC"
	defaultLayout      = "us"
	defaultStorage     = "lvm"
	defaultLogMaxSize  = "50m"
	defaultLogMaxFiles = 3
	defaultTimeout     = 30 // seconds
	defaultUnusedDays  = 30
)

// otherwise returns the value, or the fallback where none is set.
func otherwise[V any](v value[V], fallback V) V {
	if v.ok() {
		return v.v
	}
	return fallback
}

// machine makes a Machine of settings that are already merged. The path is that
// of the machine in the file, empty for an anonymous one.
func (r *resolver) machine(m *machineKeys, path string) Machine {
	s := &m.settings
	out := Machine{
		Anonymous:   path == "",
		Name:        m.name.v,
		Hostname:    otherwise(s.hostname, m.name.v),
		Ubuntu:      s.ubuntu.v,
		Arch:        otherwise(s.arch, defaultArch),
		Match:       matchOf(m.match),
		Locale:      otherwise(s.locale, defaultLocale),
		Timezone:    otherwise(s.timezone, defaultTimezone),
		Keyboard:    r.keyboard(s.keyboard, path),
		Packages:    valuesOf(s.packages),
		Sources:     sourcesOf(s.sources),
		After:       After(otherwise(s.after, string(AfterPoweroff))),
		Reinstall:   s.reinstall.v,
		Report:      s.report.v,
		Offline:     Offline(otherwise(s.offline, string(OfflineOff))),
		Autoinstall: s.autoinstall.v,
		origin:      &origin{file: r.file, keys: m},
	}
	if out.Anonymous {
		out.Hostname = otherwise(s.hostname, defaultName)
		out.Name = out.Hostname
	} else if !s.hostname.set() && m.name.ok() && !hostnamePattern.MatchString(m.name.v) {
		r.error(m.name.at, under(path, "name"), fmt.Sprintf("%q cannot be a hostname", m.name.v), "set hostname, or use letters, digits, hyphens and dots alone in the name")
	}
	if !s.ubuntu.set() && !s.gaps {
		r.lack(m, path, "ubuntu", `write ubuntu: "24.04" at the top of the file, for all machines, or in a profile`)
	}
	out.GPU = r.gpu(s.gpu, path)
	out.Docker = r.docker(s.docker, path)
	out.Toolkit = r.toolkit(s, path)
	r.checkPackages(s.packages, out.Docker != nil, path)
	out.Apps = r.apps(s, &out, path)
	out.Users = r.users(m, out.Docker != nil, path)
	out.Storage = r.storage(s.storage, &out, path)
	out.Network = r.network(s.network, out.Match, path)
	out.Proxy = proxyOf(s.proxy)
	out.CACerts, out.NTP, out.KernelArgs = valuesOf(s.caCerts), valuesOf(s.ntp), valuesOf(s.kernelArgs)
	out.Files = r.files(s.files, path)
	out.LateCommands, out.FirstBoot = valuesOf(s.lateCommands), valuesOf(s.firstBoot)
	out.Ready = r.ready(s, out.GPU, path)
	out.BMC = r.bmc(s.bmc, path)
	out.Boot = r.boot(s.boot, out.Storage.Exact(), path)
	return out
}

func valuesOf(l list[text]) []string {
	if len(l.items) == 0 {
		return nil
	}
	out := make([]string, len(l.items))
	for i, t := range l.items {
		out[i] = t.v
	}
	return out
}

// parsed makes values of texts that were checked when they were decoded.
func parsed[V any](l list[text], parse func(string) (V, error)) []V {
	var out []V
	for _, t := range l.items {
		if v, err := parse(t.v); err == nil {
			out = append(out, v)
		}
	}
	return out
}

func matchOf(m *matchKeys) Match {
	if m == nil {
		return Match{}
	}
	return Match{
		MACs:   parsed(m.mac, net.ParseMAC),
		Serial: m.serial.v,
		UUID:   strings.ToLower(m.uuid.v),
	}
}

func (r *resolver) keyboard(k *keyboardKeys, path string) Keyboard {
	if k == nil {
		return Keyboard{Layout: defaultLayout}
	}
	out := Keyboard{Layout: otherwise(k.layout, defaultLayout), Variant: k.variant.v, Toggle: k.toggle.v}
	layouts, variants := strings.Count(out.Layout, ",")+1, strings.Count(out.Variant, ",")+1
	switch {
	case out.Variant == "":
		out.Variant = strings.Repeat(",", layouts-1) // the installer counts them
		return out
	case layouts == variants:
		if p := checkVariants(out.Layout, out.Variant); p.summary != "" {
			r.error(k.variant.at, under(path, "keyboard.variant"), p.summary, p.detail, r.layoutHere(k)...)
		}
	default:
		r.error(k.variant.at, under(path, "keyboard.variant"), fmt.Sprintf("the number of layouts is %d, that of variants %d", layouts, variants),
			"write one variant for each layout; one may be empty: variant: \",dvorak\"", r.layoutHere(k)...)
	}
	return out
}

func (r *resolver) layoutHere(k *keyboardKeys) []report.Related {
	if !k.layout.set() {
		return nil
	}
	return []report.Related{r.related(k.layout.at, "the layout is here")}
}

func (r *resolver) gpu(g *gpuKeys, path string) *GPU {
	if g == nil || !otherwise(g.on, true) {
		return nil
	}
	if !g.model.set() && !g.pci.set() && !g.auto.set() && !g.bad && !g.gaps {
		r.error(g.at, under(path, "gpu"), "gpu does not say what the GPUs are", "write model: with a product name, pci: with PCI ids, or auto: true")
	}
	out := &GPU{
		Models:        valuesOf(g.model),
		Auto:          g.auto.v,
		Count:         g.count.v,
		Driver:        g.driver.v,
		Modules:       g.modules.v,
		Source:        g.source.v,
		SecureBoot:    g.secureBoot.v,
		Kernel:        g.kernel.v,
		FabricManager: g.fabricManager.v,
		DCGM:          g.dcgm.v,
		Display:       g.display.v,
		PowerLimit:    g.powerLimit.v,
		Persistence:   otherwise(g.persistence, true),
	}
	if g.mig.set() && !g.mig.bad {
		out.MIG = append([]string{}, valuesOf(g.mig)...)
	}
	for _, id := range g.pci.items {
		out.PCI = append(out.PCI, strings.ToLower(id.v))
	}
	if g.override != nil {
		out.Override = g.override.reason.v
	}
	return out
}

func (r *resolver) docker(k *dockerKeys, path string) *Docker {
	out := &Docker{LogMaxSize: defaultLogMaxSize, LogMaxFiles: defaultLogMaxFiles, LiveRestore: true, Publish: PublishAny}
	if k == nil {
		return out
	}
	if !otherwise(k.on, true) {
		return nil
	}
	out.Version = k.version.v
	out.DataRoot = k.dataRoot.v
	out.LiveRestore = otherwise(k.liveRestore, true)
	out.ShmSize = k.shmSize.v
	out.Publish = otherwise(k.publish, PublishAny)
	out.RegistryProxy = valuesOf(k.mirrors)
	if k.prune != nil && otherwise(k.prune.on, true) {
		out.Prune = &Prune{Every: otherwise(k.prune.every, "weekly"), UnusedDays: otherwise(k.prune.days, defaultUnusedDays)}
	}
	if k.log != nil {
		out.LogMaxSize = otherwise(k.log.maxSize, defaultLogMaxSize)
		out.LogMaxFiles = otherwise(k.log.maxFiles, defaultLogMaxFiles)
	}
	out.AddressPools = r.addressPools(k.addressPools, under(path, "docker.address_pools"))
	return out
}

func (r *resolver) addressPools(l list[*addressPoolKeys], path string) []AddressPool {
	var pools []AddressPool
	for i, p := range l.items {
		base, err := netip.ParsePrefix(p.base.v)
		if err != nil || !p.size.ok() {
			continue // refused when it was decoded
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		if p.size.v < base.Bits() || p.size.v > base.Addr().BitLen() {
			r.error(p.size.at, at+".size", fmt.Sprintf("networks of /%d do not fit into %s", p.size.v, base),
				fmt.Sprintf("write a prefix length from %d to %d", base.Bits(), base.Addr().BitLen()))
		}
		for _, q := range l.items[:i] {
			if other, err := netip.ParsePrefix(q.base.v); err == nil && other.Overlaps(base) {
				r.error(p.base.at, at+".base", fmt.Sprintf("%s overlaps %s", base, other), "keep the ranges apart", r.related(q.base.at, fmt.Sprintf("%s is here", other)))
				break
			}
		}
		pools = append(pools, AddressPool{Base: base, Size: p.size.v})
	}
	return pools
}

func (r *resolver) toolkit(s *settings, path string) *Toolkit {
	gpuOn := s.gpu != nil && otherwise(s.gpu.on, true)
	dockerOn := s.docker == nil || otherwise(s.docker.on, true)
	if s.toolkit == nil {
		if gpuOn && dockerOn {
			return &Toolkit{}
		}
		return nil
	}
	if !otherwise(s.toolkit.on, true) || s.gpu != nil && !gpuOn {
		return nil
	}
	switch {
	case s.gpu == nil:
		r.error(s.toolkit.at, under(path, "toolkit"), "the toolkit shows GPUs to containers, and this machine has no gpu", "add gpu: {model: …}, or remove toolkit")
	case !dockerOn:
		r.error(s.toolkit.at, under(path, "toolkit"), "the toolkit is set up for Docker, which is off", "write toolkit: off as well, or docker: {}", r.related(s.docker.at, "docker is off here"))
	}
	return &Toolkit{Version: s.toolkit.version.v}
}

func sourcesOf(k *sourcesKeys) Sources {
	if k == nil {
		return Sources{}
	}
	return Sources{Ubuntu: sourceOf(k.ubuntu), Docker: sourceOf(k.docker), Toolkit: sourceOf(k.toolkit), CUDA: sourceOf(k.cuda)}
}

func sourceOf(k *sourceKeys) Source {
	if k == nil {
		return Source{}
	}
	out := Source{URL: k.url.v, Suite: k.suite.v, Fingerprint: fingerprintOf(k.fingerprint.v)}
	if k.key.v != "" {
		out.Key = []byte(k.key.v)
	}
	return out
}

func (r *resolver) ready(s *settings, gpu *GPU, path string) Ready {
	k := s.ready
	if k == nil {
		return Ready{}
	}
	out := Ready{Report: k.report.v, Token: k.token.v}
	if level := otherwise(k.dcgmi, "off"); level != "off" && (gpu != nil || s.gpu == nil) {
		out.DCGMI = int(level[0] - '0')
		if gpu == nil || !gpu.DCGM && !s.gpu.gaps {
			r.error(k.dcgmi.at, under(path, "ready.dcgmi"), "dcgmi diag needs NVIDIA's Data Center GPU Manager, which is not installed", "add dcgm: true to gpu, or write dcgmi: off")
		}
	}
	if k.token.ok() && !k.report.set() && !k.gaps {
		r.warn(k.token.at, under(path, "ready.token_file"), "without report, token_file signs only what \"gpustrap serve\" is sent", "add report: with the URL that receipts are posted to, unless a server installs the machine")
	}
	return out
}

func (r *resolver) boot(k *bootKeys, exact bool, path string) Boot {
	out := Boot{Confirm: ConfirmTyped, Timeout: defaultTimeout}
	if exact {
		out.Confirm = ConfirmCountdown
	}
	if k == nil {
		return out
	}
	out.Timeout = otherwise(k.timeout, defaultTimeout)
	if !k.confirm.ok() {
		return out
	}
	out.Confirm = Confirm(k.confirm.v)
	if out.Confirm != ConfirmCountdown && k.timeout.ok() {
		r.warn(k.timeout.at, under(path, "boot.timeout"), "timeout has no meaning with confirm: "+k.confirm.v, "remove it, or write confirm: countdown",
			r.related(k.confirm.at, "confirm is here"))
	}
	if out.Confirm == ConfirmNone && !exact {
		r.warn(k.confirm.at, under(path, "boot.confirm"), "the medium erases a disk without asking, and storage.disk does not name one exactly",
			"name the disk by serial, wwn or path, or write confirm: typed")
	}
	return out
}

// users returns the machine's users, the one whom the installer creates first.
func (r *resolver) users(m *machineKeys, docker bool, path string) []User {
	s := &m.settings
	var keys []*userKeys
	var paths []string
	if s.user != nil {
		keys, paths = append(keys, s.user), append(paths, under(path, "user"))
	}
	for i, u := range s.users.items {
		keys, paths = append(keys, u), append(paths, under(path, fmt.Sprintf("users[%d]", i)))
	}
	if len(keys) == 0 {
		if !s.users.bad && !s.gaps {
			r.lack(m, path, "user", "write user: {name: ops, authorized_keys: [{file: keys/ops.pub}]} at the top of the file, in a profile, or in the machine")
		}
		return nil
	}
	users := make([]User, len(keys))
	for i, u := range keys {
		users[i] = userOf(u, i == 0, docker)
		r.checkUser(m, u, users[i], paths[i])
		for j := range i {
			if u.name.ok() && keys[j].name.v == u.name.v {
				r.error(u.name.at, under(paths[i], "name"), fmt.Sprintf("there are two users named %q", u.name.v), "rename one, or remove it",
					r.related(keys[j].name.at, "the other is here"))
				break
			}
		}
	}
	r.checkAccess(keys, users, path)
	return users
}

func userOf(u *userKeys, first, docker bool) User {
	out := User{
		Name:         u.name.v,
		FullName:     u.fullName.v,
		PasswordHash: u.password.value(),
		Groups:       valuesOf(u.groups),
		Docker:       docker && otherwise(u.docker, "true") == "true",
		Rootless:     docker && u.docker.v == rootlessWord,
		Shell:        u.shell.v,
	}
	for _, k := range u.authorizedKeys.items {
		for _, line := range k.lines {
			if !slices.Contains(out.AuthorizedKeys, line) {
				out.AuthorizedKeys = append(out.AuthorizedKeys, line)
			}
		}
	}
	out.Sudo = SudoNo
	switch {
	case u.sudo.ok():
		out.Sudo = Sudo(u.sudo.v)
	case first && u.password.set():
		out.Sudo = SudoPassword
	case first && len(out.AuthorizedKeys) > 0:
		out.Sudo = SudoNoPassword
	}
	return out
}

// refused reports whether a way to log in was written, and refused already.
func refused(u *userKeys) bool { return u.bad || u.gaps || u.password.bad() || u.authorizedKeys.bad }

func (u User) canLogIn() bool { return u.PasswordHash != "" || len(u.AuthorizedKeys) > 0 }

func (u User) canSudo() bool {
	return u.Sudo == SudoNoPassword && u.canLogIn() || u.Sudo == SudoPassword && u.PasswordHash != ""
}

func (r *resolver) checkUser(m *machineKeys, u *userKeys, user User, path string) {
	if u.bad || u.gaps {
		return
	}
	if u == m.settings.user && !u.name.set() { // in a list it is required
		r.error(u.at, path, "the user has no name", "add name: ops, or another login name")
	}
	if u.docker.v == rootlessWord && m.settings.docker != nil && !otherwise(m.settings.docker.on, true) {
		r.error(u.docker.at, under(path, "docker"), "rootless Docker is a part of Docker, which is off", "write docker: {} for the machine, or remove this",
			r.related(m.settings.docker.at, "docker is off here"))
	}
	if u.sudo.ok() && user.Sudo == SudoPassword && !u.password.set() {
		r.error(u.sudo.at, under(path, "sudo"), "sudo would ask for a password that this user does not have", "add password_file or password_hash, or write sudo: nopassword")
	}
}

// checkAccess refuses a machine that nobody could use, and warns of a user who
// cannot log in.
func (r *resolver) checkAccess(keys []*userKeys, users []User, path string) {
	if slices.ContainsFunc(keys, refused) {
		return
	}
	at := keys[0].at
	if !slices.ContainsFunc(users, User.canLogIn) {
		r.error(at, under(path, "user"), "nobody could log in: no user has a password or an SSH key", "add authorized_keys: [{file: keys/ops.pub}], or password_file with what `gpustrap hash` prints")
		return
	}
	said := func(u *userKeys) bool { return u.sudo.bad || u.sudo.v == string(SudoPassword) && !u.password.set() }
	if !slices.ContainsFunc(users, User.canSudo) && !slices.ContainsFunc(keys, said) {
		r.error(at, under(path, "user"), "nobody could use sudo", "write sudo: password for a user who has a password, or sudo: nopassword for one with an SSH key")
	}
	for i, u := range users {
		if !u.canLogIn() && keys[i].name.ok() {
			r.warn(keys[i].at, under(path, "users"), fmt.Sprintf("%s cannot log in: no password and no SSH key", u.Name), "add authorized_keys or password_file, if this is not what you want")
		}
	}
}
