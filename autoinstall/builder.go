package autoinstall

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
)

// builder works out what a machine's three forms have in common: repositories,
// steps and data files.
type builder struct {
	in      *Input
	scripts scriptSet
	rep     report.Report
	repos   []repository
	apps    []apps.App
	shared  []string // commands that other machines are likely to have too
}

func newBuilder(in *Input, set scriptSet) *builder {
	b := &builder{in: in, scripts: set}
	b.checkInput()
	if !b.rep.HasErrors() {
		b.repos = b.repositories()
		b.readApps()
	}
	return b
}

func (b *builder) complain(at, summary, detail string) {
	b.rep.Add(report.Diagnostic{
		Severity: report.Error, Path: at, Pos: b.in.Machine.Origin(at), Summary: summary, Detail: detail,
	})
}

func (b *builder) checkInput() {
	m := &b.in.Machine
	if codenames[m.Ubuntu] == "" {
		b.complain("ubuntu", fmt.Sprintf("there is no render for Ubuntu %s", m.Ubuntu), "write 22.04, 24.04 or 26.04")
	}
	if len(m.Users) == 0 {
		b.complain("users", "the machine has no user", "nobody could log in")
	}
	if m.GPU != nil && m.GPU.Auto {
		if b.in.Stack == nil || b.in.Stacks == nil {
			b.complain("gpu.auto", "there is no table for the machine to choose by", "name the GPUs with gpu.model or gpu.pci")
		}
	} else if m.GPU != nil && (b.in.Stack == nil || len(b.in.Stack.Packages) == 0) {
		b.complain("gpu", "no driver packages are worked out for these GPUs", "name them with gpu.model")
	}
	if n := m.Network; n != nil && len(n.Addresses) > 0 && n.Interface == "" && b.networkMAC() == "" {
		b.complain("network.addresses", "the addresses belong to no interface",
			"add network.mac or network.interface; every interface would get them")
	}
}

// steps returns the steps of the installation in order.
func (b *builder) steps() []string {
	m := &b.in.Machine
	var out []string
	add := func(step string, wanted bool) {
		if wanted {
			out = append(out, step)
		}
	}
	installs := b.in.Stack != nil || m.Docker != nil || m.Toolkit != nil || len(b.packages()) > 0 || b.tpm() != nil
	add(stepOffline, installs && b.in.Offline != nil)
	add(stepSurroundings, b.hasSurroundings())
	add(stepRepositories, installs || len(b.repos) > 0)
	add(stepDriver, b.in.Stack != nil)
	add(stepDocker, m.Docker != nil)
	add(stepToolkit, m.Toolkit != nil)
	add(stepPackages, len(b.packages()) > 0)
	add(stepTPM, b.tpm() != nil)
	add(stepUsers, len(b.dockerUsers()) > 0)
	add(stepSettings, b.in.Stack != nil)
	add(stepRootless, len(b.rootlessUsers()) > 0)
	add(stepPrune, m.Docker != nil && m.Docker.Prune != nil)
	add(stepApps, len(m.Apps) > 0)
	add(stepUpgrades, b.in.Stack != nil && len(b.in.Stack.Hold) > 0)
	add(stepReady, b.in.Stack != nil || m.Docker != nil)
	add(stepUnlock, installs && b.in.Locked != nil)
	add(stepFiles, len(m.Files) > 0)
	add(stepFirstBoot, b.needsFirstBoot())
	add(stepCommands, len(m.LateCommands) > 0)
	return out
}

// dockerUsers are the members of the docker group.
func (b *builder) dockerUsers() []string {
	var out []string
	if b.in.Machine.Docker != nil {
		for _, u := range b.in.Machine.Users {
			if u.Docker {
				out = append(out, u.Name)
			}
		}
	}
	return out
}

// The data files that no two machines share.
const (
	environmentFile = dataFolder + "/machine.env"
	tokenFile       = dataFolder + "/token"
)

// dataFiles returns the files that tell the scripts what this machine is.
func (b *builder) dataFiles(steps []string) []file {
	files := []file{{environmentFile, "0644", b.environment(steps)}}
	if slices.Contains(steps, stepRepositories) {
		var lines strings.Builder
		for _, r := range b.repos {
			lines.WriteString(r.line())
			if r.keyData != nil {
				files = append(files, file{dataFolder + "/" + r.key, "0644", string(r.keyData)})
			}
		}
		files = append(files, file{dataFolder + "/repositories", "0644", lines.String()})
		if pins := b.preferences(); pins != "" {
			files = append(files, file{dataFolder + "/preferences", "0644", pins})
		}
	}
	if slices.Contains(steps, stepOffline) {
		files = append(files, file{dataFolder + "/keys/offline.asc", "0644", string(b.in.Offline.Key)})
	}
	if slices.Contains(steps, stepUnlock) {
		files = append(files, file{dataFolder + "/versions", "0644", strings.Join(b.in.Locked.Versions, "\n") + "\n"})
	}
	files = append(files, b.ownData()...)
	if b.in.Stacks != nil {
		files = append(files, file{dataFolder + "/stacks", "0644", string(b.in.Stacks)})
	}
	if len(b.rootlessUsers()) > 0 {
		files = append(files, file{dataFolder + "/daemon-rootless.json", "0644", b.rootlessJSON()})
	}
	if len(b.in.Machine.Apps) > 0 {
		files = append(files, file{dataFolder + "/apps", "0644", b.appTable()})
	}
	if b.in.Machine.Docker != nil {
		files = append(files, file{dataFolder + "/daemon.json", "0644", b.daemonJSON()})
	}
	if b.in.Machine.Ready.Token != "" {
		files = append(files, file{tokenFile, "0600", b.in.Machine.Ready.Token + "\n"})
	}
	for _, f := range files {
		if err := fitsHeredoc(f.content); err != nil {
			b.rep.Add(internal(b.in, fmt.Errorf("cannot carry %s: %w", f.path, err)))
		}
	}
	return files
}

// environment returns machine.env, the settings that the scripts read.
func (b *builder) environment(steps []string) string {
	m := &b.in.Machine
	var s strings.Builder
	s.WriteString("# Written by gpustrap for " + m.Name + "; the scripts in " + scriptFolder + " read it.\n")
	set := func(name, value string) { s.WriteString(assignment(name, value)) }
	setList := func(name string, values []string) { set(name, strings.Join(values, " ")) }

	set("MACHINE", m.Name)
	set("UBUNTU_RELEASE", m.Ubuntu)
	set("UBUNTU_ARCH", m.Arch)
	setList("STEPS", steps)
	setList("PACKAGES", b.packages())

	if b.in.Offline != nil {
		set("OFFLINE", string(m.Offline))
		set("OFFLINE_SUITE", b.in.Offline.Suite)
	}

	var branch, kernel string
	var packages, services, modules, hold, pci []string
	if stack := b.in.Stack; stack != nil {
		branch, kernel = stack.Branch.Name, stack.Kernel.Meta
		packages, services, modules, hold = stack.Packages, stack.Services, stack.Modules, stack.Hold
		for _, device := range stack.GPUs {
			pci = append(pci, device.PCI...)
		}
	}
	count := 0
	var mig, power, persistence string
	if m.GPU != nil {
		count = m.GPU.Count
		mig, power, persistence = migLayout(m.GPU.MIG), watts(m.GPU.PowerLimit), flag(m.GPU.Persistence)
	}
	set("GPU_AUTO", flag(b.in.Stacks != nil))
	set("GPU_BRANCH", branch)
	setList("GPU_PACKAGES", packages)
	setList("GPU_COMPONENTS", b.components())
	setList("GPU_SERVICES", services)
	setList("GPU_MODULES", modules)
	setList("GPU_HOLD", hold)
	set("GPU_COUNT", strconv.Itoa(count))
	setList("GPU_PCI", pci)
	set("GPU_MIG", mig)
	set("GPU_POWER_LIMIT", power)
	set("GPU_PERSISTENCE", persistence)
	set("KERNEL_PACKAGE", kernel)

	var dockerVersion, dataRoot, toolkitVersion string
	if m.Docker != nil {
		dockerVersion, dataRoot = m.Docker.Version, m.Docker.DataRoot
	}
	if m.Toolkit != nil {
		toolkitVersion = m.Toolkit.Version
	}
	set("DOCKER", flag(m.Docker != nil))
	set("DOCKER_VERSION", dockerVersion)
	set("DOCKER_DATA_ROOT", dataRoot)
	setList("DOCKER_USERS", b.dockerUsers())
	if m.Docker != nil && m.Docker.Prune != nil {
		set("PRUNE_EVERY", m.Docker.Prune.Every)
		set("PRUNE_DAYS", strconv.Itoa(m.Docker.Prune.UnusedDays))
	}
	if users := b.rootlessUsers(); len(users) > 0 {
		setList("ROOTLESS_USERS", users)
	}
	if len(m.Apps) > 0 {
		setList("APPS", b.appNames())
	}
	set("TOOLKIT", flag(m.Toolkit != nil))
	set("TOOLKIT_VERSION", toolkitVersion)
	set("READY_REPORT", m.Ready.Report)
	set("READY_DCGMI", strconv.Itoa(m.Ready.DCGMI))
	s.WriteString(b.tpmSettings())
	return s.String()
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// migLayout returns the profiles as nvidia-smi takes them, "off" for a GPU that
// is not to be divided, and "" where nothing is said.
func migLayout(profiles []string) string {
	if profiles != nil && len(profiles) == 0 {
		return "off"
	}
	return strings.Join(profiles, ",")
}

func watts(limit int) string {
	if limit == 0 {
		return ""
	}
	return strconv.Itoa(limit)
}

// daemonConfig is the part of Docker's daemon.json that gpustrap sets.
type daemonConfig struct {
	DataRoot        string            `json:"data-root,omitempty"`
	AddressPools    []addressPool     `json:"default-address-pools,omitempty"`
	ShmSize         string            `json:"default-shm-size,omitempty"`
	NetworkOptions  networkOptions    `json:"default-network-opts,omitempty"`
	Features        map[string]bool   `json:"features,omitempty"`
	Address         string            `json:"ip,omitempty"`
	LiveRestore     bool              `json:"live-restore"`
	LogDriver       string            `json:"log-driver"`
	LogOptions      map[string]string `json:"log-opts,omitempty"`
	Proxies         map[string]string `json:"proxies,omitempty"`
	RegistryMirrors []string          `json:"registry-mirrors,omitempty"`
}

// networkOptions are options of new networks, by driver.
type networkOptions map[string]map[string]string

type addressPool struct {
	Base string `json:"base"`
	Size int    `json:"size"`
}

// daemonJSON returns Docker's configuration. Logs rotate, containers survive a
// restart of the engine, and devices are given by CDI, which needs no say from
// Docker 28.2 on.
func (b *builder) daemonJSON() string {
	d := b.in.Machine.Docker
	c := daemonConfig{
		DataRoot: d.DataRoot, ShmSize: d.ShmSize, LiveRestore: d.LiveRestore,
		LogDriver: "json-file", LogOptions: map[string]string{}, RegistryMirrors: d.RegistryProxy,
		Proxies: proxies(b.in.Machine.Proxy),
	}
	if d.LogMaxSize != "" {
		c.LogOptions["max-size"] = d.LogMaxSize
	}
	if d.LogMaxFiles > 0 {
		c.LogOptions["max-file"] = strconv.Itoa(d.LogMaxFiles)
	}
	for _, p := range d.AddressPools {
		c.AddressPools = append(c.AddressPools, addressPool{p.Base.String(), p.Size})
	}
	c.Address, c.NetworkOptions = publishing(d)
	if b.in.Machine.Toolkit != nil {
		c.Features = map[string]bool{"cdi": true}
	}
	out, err := json.MarshalIndent(c, "", "    ")
	if err != nil {
		b.rep.Add(internal(b.in, err))
	}
	return string(out) + "\n"
}

// publishing says where ports are published that name no address: the first value
// is for the network that containers are in unless told otherwise, the second for
// those that people and Compose make.
func publishing(d *config.Docker) (string, networkOptions) {
	if d.Publish != config.PublishLocalhost {
		return "", nil
	}
	const loopback = "127.0.0.1"
	return loopback, networkOptions{"bridge": {"com.docker.network.bridge.host_binding_ipv4": loopback}}
}

// cloudUser returns a user as cloud-init makes them at the first boot. The
// docker group is left to users.sh: it may not be there yet.
func cloudUser(u config.User) CloudUser {
	locked := u.PasswordHash == ""
	out := CloudUser{
		Name: u.Name, Gecos: u.FullName, Shell: u.Shell,
		LockPasswd: &locked, Passwd: u.PasswordHash, SSHAuthorizedKeys: u.AuthorizedKeys,
	}
	if out.Shell == "" {
		out.Shell = "/bin/bash"
	}
	groups := make([]any, 0, len(u.Groups)+2)
	if u.Sudo != config.SudoNo {
		groups = append(groups, "adm", "sudo")
	}
	for _, g := range u.Groups {
		groups = append(groups, g)
	}
	if len(groups) > 0 {
		out.Groups = groups
	}
	if len(u.AuthorizedKeys) == 0 {
		out.SSHAuthorizedKeys = nil
	}
	if u.Sudo == config.SudoNoPassword {
		out.Sudo = "ALL=(ALL) NOPASSWD:ALL"
	}
	return out
}
