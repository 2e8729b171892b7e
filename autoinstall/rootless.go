package autoinstall

import (
	"encoding/json"
	"slices"
	"strconv"
)

// rootlessNames are the packages of rootless Docker besides Docker's own, which
// rootless.sh installs; the first has Docker's version.
var rootlessNames = []string{"docker-ce-rootless-extras", "uidmap", "slirp4netns", "dbus-user-session", "iptables"}

// rootlessUsers are those who have a Docker engine of their own.
func (b *builder) rootlessUsers() []string {
	var out []string
	if b.in.Machine.Docker != nil {
		for _, u := range b.in.Machine.Users {
			if u.Rootless {
				out = append(out, u.Name)
			}
		}
	}
	return out
}

// components are those of Ubuntu's archive that packages come from: the driver's,
// and universe where users have engines of their own or a TPM unlocks the disk.
func (b *builder) components() []string {
	var out []string
	if b.in.Stack != nil {
		out = slices.Clone(b.in.Stack.Components)
	}
	if len(b.rootlessUsers()) > 0 || b.tpm() != nil {
		out = withUniverse(out)
	}
	return out
}

// rootlessConfig is the part of a user's daemon.json that gpustrap sets. GPUs are
// given by CDI, which asks nothing of cgroups: the runtime's no-cgroups, which
// holds for the whole machine, stays as it is.
type rootlessConfig struct {
	ShmSize         string                      `json:"default-shm-size,omitempty"`
	NetworkOptions  networkOptions              `json:"default-network-opts,omitempty"`
	Features        map[string]bool             `json:"features,omitempty"`
	CDISpecDirs     []string                    `json:"cdi-spec-dirs,omitempty"` // of var-lib-gpustrap-cdi.mount
	Address         string                      `json:"ip,omitempty"`
	LogDriver       string                      `json:"log-driver"`
	LogOptions      map[string]string           `json:"log-opts,omitempty"`
	Proxies         map[string]string           `json:"proxies,omitempty"`
	RegistryMirrors []string                    `json:"registry-mirrors,omitempty"`
	Runtimes        map[string]containerRuntime `json:"runtimes,omitempty"`
}

// containerRuntime is written as nvidia-ctk runtime configure writes it.
type containerRuntime struct {
	Args []string `json:"args"`
	Path string   `json:"path"`
}

// rootlessJSON returns the configuration that the engines of users begin with.
func (b *builder) rootlessJSON() string {
	d := b.in.Machine.Docker
	c := rootlessConfig{
		ShmSize: d.ShmSize, LogDriver: "json-file", RegistryMirrors: d.RegistryProxy, LogOptions: map[string]string{},
		Proxies: proxies(b.in.Machine.Proxy),
	}
	c.Address, c.NetworkOptions = publishing(d)
	if d.LogMaxSize != "" {
		c.LogOptions["max-size"] = d.LogMaxSize
	}
	if d.LogMaxFiles > 0 {
		c.LogOptions["max-file"] = strconv.Itoa(d.LogMaxFiles)
	}
	if b.in.Machine.Toolkit != nil {
		c.CDISpecDirs = []string{"/var/lib/gpustrap/cdi"}
		c.Features = map[string]bool{"cdi": true}
		c.Runtimes = map[string]containerRuntime{"nvidia": {Args: []string{}, Path: "nvidia-container-runtime"}}
	}
	out, err := json.MarshalIndent(c, "", "    ")
	if err != nil {
		b.rep.Add(internal(b.in, err))
	}
	return string(out) + "\n"
}
