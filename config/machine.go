// Package config decodes gpustrap.yaml, validates it, and resolves its profiles
// into a Fleet of Machines.
package config

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

// Fleet is what a gpustrap.yaml describes once profiles are resolved: machines
// in the order of the file, each complete in itself.
type Fleet struct {
	Machines   []Machine
	SigningKey string // file with the key of its offline packages, as the file names it; empty: the default place
}

// Machine is one machine with every inherited setting in place and every
// default filled in.
type Machine struct {
	Name      string // unique in the fleet, safe as a file name
	Anonymous bool   // the one machine of a file without machines:
	Hostname  string
	Ubuntu    string // release: 22.04, 24.04 or 26.04
	Arch      string // Debian architecture: amd64 or arm64
	Match     Match

	Users    []User // at least one; the first is the identity user
	Locale   string // such as en_US.UTF-8
	Timezone string // such as Etc/UTC
	Keyboard Keyboard

	GPU      *GPU     // nil: no GPU stack is installed
	Docker   *Docker  // nil: Docker is not installed
	Toolkit  *Toolkit // nil: the NVIDIA Container Toolkit is not installed
	Storage  Storage
	Network  *Network // nil: DHCP on every Ethernet interface (Subiquity's default)
	Packages []string // further Debian packages
	Apps     []App    // container apps
	Sources  Sources

	Proxy      *Proxy   // nil: none
	CACerts    []string // certificates in PEM, each text with one or more
	NTP        []string // time servers; none: Ubuntu's
	KernelArgs []string

	Files        []File
	LateCommands []string // shell commands, in the new system, when all is installed
	FirstBoot    []string // shell commands, once at the first boot
	Ready        Ready

	Boot  Boot
	After After // what the machine does when the installation is over

	BMC *BMC // nil: none

	Reinstall bool    // a disk that was installed already is erased too
	Report    string  // URL that the installer posts its events to; empty: none
	Offline   Offline // where packages come from during the installation

	// Autoinstall is the person's raw autoinstall fragment, a mapping node, or
	// nil. It is merged last and checked like the rest.
	Autoinstall *yaml.Node

	origin *origin
}

// origin is what a machine was made of: the values as written, with their
// places.
type origin struct {
	file string
	keys *machineKeys
}

// machineTable is the table of a machine's keys, which never changes.
var machineTable = sync.OnceValue(func() mappingForm[machineKeys, *machineKeys] {
	return machineForm(settingsFields(nil))
})

// Origin returns where the value at a configuration path was written, or that
// of its nearest parent. A path is made of the keys of the file, from the
// machine down: "gpu.driver", "network.addresses[0]", "user.name",
// "users[1].name", "autoinstall.storage". An inherited value has the position
// of the profile that gave it; what stands nowhere has that of the machine.
func (m *Machine) Origin(path string) report.Position {
	if m.origin == nil {
		return report.Position{}
	}
	found := m.origin.keys.at
	machineTable().marks(m.origin.keys, "", func(p string, at mark) bool {
		leads := p == "" || p == path || strings.HasPrefix(path, p) && strings.ContainsRune(".[", rune(path[len(p)]))
		if leads && at != (mark{}) {
			found = at
		}
		return leads
	})
	return report.Position{File: m.origin.file, Line: int(found.line), Column: int(found.column)}
}

// Match holds what identifies the machine's hardware. Empty fields match
// anything; a machine with no field set matches any hardware.
type Match struct {
	MACs   []net.HardwareAddr
	Serial string // DMI system serial number
	UUID   string // DMI system UUID, lower case
}

// User is a person's account on the machine.
type User struct {
	Name           string
	FullName       string
	PasswordHash   string   // crypt(3) hash; empty: the password is locked
	AuthorizedKeys []string // OpenSSH public keys, one line each
	Groups         []string // supplementary groups besides docker and sudo
	Sudo           Sudo
	Docker         bool   // member of the docker group
	Rootless       bool   // has a Docker engine of their own, which runs as them
	Shell          string // empty: the distribution's default
}

// Sudo says whether a user may become root.
type Sudo string

// The values of Sudo.
const (
	SudoNo         Sudo = "no"
	SudoPassword   Sudo = "password"   // with the user's own password
	SudoNoPassword Sudo = "nopassword" // without being asked
)

// Keyboard is the console's keyboard, in X11 terms.
type Keyboard struct {
	Layout, Variant, Toggle string
}

// GPU is what the file says of the machine's GPUs. Package gpu works out the
// rest. Empty strings and zero mean that the file leaves the choice open.
type GPU struct {
	Models        []string // product names such as h200, rtx-5090
	PCI           []string // PCI ids such as 10de:2335
	Auto          bool     // chosen on the machine, by what is there
	Count         int
	Driver        string // auto, or a branch such as 580-server
	Modules       string // auto, open, proprietary
	Source        string // ubuntu, cuda
	SecureBoot    string // auto, required, off
	Kernel        string // ga, hwe, 64k
	FabricManager string // auto, on, off
	DCGM          bool
	MIG           []string // profiles of the instances of each GPU; nil: left as it is; empty: MIG is switched off
	PowerLimit    int      // watts; 0: the GPU's own
	Persistence   bool     // persistence mode
	Display       string   // none, desktop
	Override      string   // reason given for a set that would be refused on doubt
}

// Docker is the container engine's configuration.
type Docker struct {
	Version       string        // exact Debian version; empty: the newest the repository has
	DataRoot      string        // absolute path; empty: Docker's default
	LogMaxSize    string        // such as 50m
	LogMaxFiles   int           //
	LiveRestore   bool          //
	Publish       string        // PublishAny or PublishLocalhost
	ShmSize       string        // default /dev/shm of a container, such as 8g; empty: Docker's default
	AddressPools  []AddressPool // empty: Docker's default
	RegistryProxy []string      // registry mirrors, URLs
	Prune         *Prune        // nil: images stay
}

// Prune is the removal of images that nobody uses.
type Prune struct {
	Every      string // daily, weekly or monthly
	UnusedDays int    // since an image was pulled, built or tagged
}

// The values of Docker.Publish: where published ports can be reached.
const (
	PublishAny       = "any"
	PublishLocalhost = "localhost"
)

// AddressPool is a range that Docker takes its networks from.
type AddressPool struct {
	Base netip.Prefix
	Size int // prefix length of each network, in bits
}

// Toolkit is the NVIDIA Container Toolkit's configuration.
type Toolkit struct {
	Version string // exact Debian version; empty: the newest the repository has
}

// App is a container app that the machine offers.
type App struct {
	Name    string
	Start   bool       // the machine runs an instance of its own, from each boot on
	Address netip.Addr // that the machine's own instance listens on
	Port    int        // of the machine's own instance; 0: the first free one from the app's own on
	ShmSize string     // size of every instance's /dev/shm, such as 8g; empty: the app's own

	ImageFile string // archive of its image, by docker save, as the file names it; empty: none
}

// Storage is where and how the system is installed.
type Storage struct {
	Layout     string // direct, lvm, zfs or raid1; empty with Config
	Disk       Disk   // the first disk of the system
	Further    []Disk // the others, of raid1 or Config
	Encryption *Encryption
	Boot       int64  // size of /boot's own partition in bytes; 0: the layout's own
	Swap       *int64 // size of the swap file in bytes; nil: the installer's own
	Data       []Data

	// Config is a list of curtin's storage actions in place of a layout, or nil.
	// Its disks have the ids disk-0, disk-1 and so on.
	Config *yaml.Node
}

// Disks returns the rules for the disks of the system, of which all are erased.
func (s Storage) Disks() []Disk { return append([]Disk{s.Disk}, s.Further...) }

// Exact reports whether the storage names every disk that is erased.
func (s Storage) Exact() bool {
	for _, d := range s.Disks() {
		if !d.Exact() {
			return false
		}
	}
	for _, d := range s.Data {
		if !d.Preserve && !d.Disk.Exact() {
			return false
		}
	}
	return true
}

// Encryption says how the system's file systems are encrypted.
type Encryption struct {
	Key string // passphrase
	TPM *TPM   // nil: the passphrase is asked for at each boot
}

// TPM says how the machine's TPM 2.0 unlocks the system at boot.
type TPM struct {
	PCRs     []int // that must be as they are at the first boot, ascending; none: the machine's TPM is enough
	Recovery bool  // the passphrase goes on to unlock the system, too
}

// Data is a disk of its own.
type Data struct {
	Disk       Disk
	Mount      string // absolute path
	Preserve   bool   // what is on it stays; only an empty disk is formatted
	Filesystem string // ext4, xfs or btrfs, where it is formatted
	Partition  int    // number of the one to mount; 0: the one with a file system
}

// Disk says which disk is erased. At most one field is set; none: the machine
// must have exactly one disk besides the installation medium.
type Disk struct {
	Serial string
	WWN    string
	Path   string
	Size   string // largest or smallest
}

// Exact reports whether the rule names one particular disk.
func (d Disk) Exact() bool { return d.Serial != "" || d.WWN != "" || d.Path != "" }

// Network is the machine's network configuration: that of one interface, or of
// Links.
type Network struct {
	Links []Link // without any, the fields below describe the one interface

	MAC         net.HardwareAddr // interface; nil: the match's first MAC, else every Ethernet interface
	Interface   string           // interface by name; empty: by MAC
	DHCP        bool
	Addresses   []netip.Prefix
	Gateway     netip.Addr // zero: none
	Nameservers []netip.Addr
	Search      []string
	MTU         int  // bytes; 0: the default
	Optional    bool // the machine starts without it
}

// Link is an interface, a bond or a VLAN, of which several make a network.
type Link struct {
	Network          // its addresses, and for an interface which one it is
	Name    string   // of a bond or VLAN; empty: an interface
	Members []string // of a bond: interfaces by name or MAC address
	Mode    string   // of a bond
	VLAN    int      // a VLAN's number; 0: none
	Parent  string   // of a VLAN: the name of an interface or bond, or a MAC address
}

// Proxy is an HTTP proxy.
type Proxy struct {
	URL    string
	Except []string // hosts, domains and networks that are reached without it
	Hosts  []string // those of Except that are one host each
}

// File is a file that is written to the machine.
type File struct {
	Path, Content string
	Mode          string // four octal digits
	Owner         string // a user, or a user and a group with a colon between
}

// Sources are the package repositories.
type Sources struct {
	Ubuntu  Source
	Docker  Source
	Toolkit Source
	CUDA    Source
}

// Source is a signed package repository. An empty field means the default,
// which is the vendor's own repository with its pinned key.
type Source struct {
	URL         string
	Suite       string
	Key         []byte // OpenPGP public key given in the file, armored or binary
	Fingerprint string // 40 hexadecimal digits, upper case
}

// Ready is what gpu-ready, which proves the machine at every boot, does besides.
type Ready struct {
	Report string // URL that the receipt is posted to; empty: nobody
	Token  string // secret that signs the receipt; empty: it is not signed
	DCGMI  int    // level of dcgmi diag at the first boot, 1 or 2; 0: none
}

// Boot is how the installation medium's menu behaves.
type Boot struct {
	Confirm Confirm
	Timeout int // seconds that the menu counts down
}

// BMC is the machine's baseboard management controller, spoken to by Redfish.
type BMC struct {
	URL          string
	User         string
	PasswordFile string // relative to the folder of the configuration; empty: none
	System       string // Id, UUID or serial number of the machine there; empty: it has one
	Fingerprint  string // SHA-256 of the BMC's certificate, hexadecimal, perhaps with colons; empty: not pinned
	CA           string // certificates in PEM; empty: this computer's authorities
	Insecure     bool   // any certificate, or none
	Legacy       bool   // the medium is booted by BIOS, not UEFI
}

// Confirm says what happens before a disk is erased.
type Confirm string

// The values of Confirm.
const (
	ConfirmCountdown Confirm = "countdown" // the menu counts down, a key stops it
	ConfirmTyped     Confirm = "typed"     // the installer waits until somebody types yes
	ConfirmNone      Confirm = "none"      // at once
)

// After says what the machine does when the installation is over.
type After string

// The values of After.
const (
	AfterPoweroff After = "poweroff"
	AfterReboot   After = "reboot"
)

// Offline says whether the installation goes without the network.
type Offline string

// The values of Offline.
const (
	OfflineOff      Offline = "off"
	OfflineOnly     Offline = "only"     // packages come from the installation medium, and the network is not tried
	OfflineFallback Offline = "fallback" // from the medium, and from the network where that cannot be
)
