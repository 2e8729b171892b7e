// Package autoinstall renders a Machine and its driver Stack into the files that
// install it: a NoCloud seed with Ubuntu's autoinstall, a plain cloud-config for
// a machine that boots from a cloud image, or one shell script for a machine
// that already runs.
//
// The autoinstall is a typed Document that is marshalled, never a text template.
// Sections and their meaning: Ubuntu's autoinstall configuration reference
// manual; what each release's installer knows stands in one table (sections).
package autoinstall

// Document is what stands under autoinstall: in user-data. Its fields are the
// sections of Ubuntu's reference, the command lists last: they carry the
// scripts, and whoever reads the file meets the settings first.
type Document struct {
	Version             int                 `yaml:"version"`
	InteractiveSections []string            `yaml:"interactive-sections,omitempty"`
	Locale              string              `yaml:"locale,omitempty"`
	Keyboard            *Keyboard           `yaml:"keyboard,omitempty"`
	Timezone            string              `yaml:"timezone,omitempty"`
	Source              *Source             `yaml:"source,omitempty"`
	RefreshInstaller    *RefreshInstaller   `yaml:"refresh-installer,omitempty"`
	Network             *Network            `yaml:"network,omitempty"`
	Proxy               string              `yaml:"proxy,omitempty"`
	APT                 *APT                `yaml:"apt,omitempty"`
	Storage             *Storage            `yaml:"storage,omitempty"`
	Identity            *Identity           `yaml:"identity,omitempty"`
	ActiveDirectory     *ActiveDirectory    `yaml:"active-directory,omitempty"`
	UbuntuPro           *UbuntuPro          `yaml:"ubuntu-pro,omitempty"`
	UbuntuAdvantage     *UbuntuPro          `yaml:"ubuntu-advantage,omitempty"`
	SSH                 *SSH                `yaml:"ssh,omitempty"`
	Kernel              *Kernel             `yaml:"kernel,omitempty"`
	KernelCrashDumps    *KernelCrashDumps   `yaml:"kernel-crash-dumps,omitempty"`
	OEM                 *OEM                `yaml:"oem,omitempty"`
	Drivers             *Install            `yaml:"drivers,omitempty"`
	Codecs              *Install            `yaml:"codecs,omitempty"`
	Snaps               []Snap              `yaml:"snaps,omitempty"`
	ZDevs               []ZDev              `yaml:"zdevs,omitempty"`
	DebconfSelections   string              `yaml:"debconf-selections,omitempty"`
	Packages            []string            `yaml:"packages,omitempty"`
	Updates             string              `yaml:"updates,omitempty"`
	Reporting           map[string]Reporter `yaml:"reporting,omitempty"`
	UserData            *CloudConfig        `yaml:"user-data,omitempty"`
	Shutdown            string              `yaml:"shutdown,omitempty"`
	EarlyCommands       []Command           `yaml:"early-commands,omitempty"`
	LateCommands        []Command           `yaml:"late-commands,omitempty"`
	ErrorCommands       []Command           `yaml:"error-commands,omitempty"`
}

// Keyboard is the keyboard section, the settings of /etc/default/keyboard.
type Keyboard struct {
	Layout  string `yaml:"layout"`
	Variant string `yaml:"variant,omitempty"`
	Toggle  string `yaml:"toggle,omitempty"`
}

// Source is the source section: which of the medium's systems is installed.
type Source struct {
	SearchDrivers *bool          `yaml:"search_drivers,omitempty"`
	ID            string         `yaml:"id,omitempty"`
	Extra         map[string]any `yaml:",inline"`
}

// RefreshInstaller is the refresh-installer section.
type RefreshInstaller struct {
	Update  *bool  `yaml:"update,omitempty"`
	Channel string `yaml:"channel,omitempty"`
}

// Network is the network section: a netplan configuration, version 2, for the
// installer and the installed system.
type Network struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]Ethernet `yaml:"ethernets,omitempty"`
	Bonds     map[string]Bond     `yaml:"bonds,omitempty"`
	VLANs     map[string]VLAN     `yaml:"vlans,omitempty"`
	Extra     map[string]any      `yaml:",inline"`
}

// Ethernet is one of netplan's ethernets, with the keys that are rendered here.
type Ethernet struct {
	Match       *EthernetMatch `yaml:"match,omitempty"`
	DHCP4       *bool          `yaml:"dhcp4,omitempty"`
	Addresses   []any          `yaml:"addresses,omitempty,flow"` // text, or a mapping with a label
	Routes      []Route        `yaml:"routes,omitempty"`
	Nameservers *Nameservers   `yaml:"nameservers,omitempty"`
	MTU         int            `yaml:"mtu,omitempty"` // bytes
	Optional    *bool          `yaml:"optional,omitempty"`
	Extra       map[string]any `yaml:",inline"`
}

// Bond is one of netplan's bonds.
type Bond struct {
	Interfaces []string       `yaml:"interfaces,omitempty,flow"`
	Parameters BondParameters `yaml:"parameters,omitempty"`
	Ethernet   `yaml:",inline"`
}

// BondParameters are the parameters of a bond.
type BondParameters struct {
	Mode       string         `yaml:"mode,omitempty"`
	MIIMonitor int            `yaml:"mii-monitor-interval,omitempty"` // milliseconds
	Extra      map[string]any `yaml:",inline"`
}

// VLAN is one of netplan's VLANs.
type VLAN struct {
	ID       int    `yaml:"id,omitempty"`
	Link     string `yaml:"link,omitempty"`
	Ethernet `yaml:",inline"`
}

// EthernetMatch says which interfaces a netplan definition is for.
type EthernetMatch struct {
	Name       string         `yaml:"name,omitempty"`
	MACAddress string         `yaml:"macaddress,omitempty"`
	Extra      map[string]any `yaml:",inline"`
}

// Route is one of netplan's routes.
type Route struct {
	To    string         `yaml:"to,omitempty"`
	Via   string         `yaml:"via,omitempty"`
	Extra map[string]any `yaml:",inline"`
}

// Nameservers is netplan's nameservers.
type Nameservers struct {
	Addresses []string `yaml:"addresses,omitempty,flow"`
	Search    []string `yaml:"search,omitempty,flow"`
}

// APT is the apt section. Subiquity reads some of it and hands the rest to
// curtin, whose keys are open (curtin documentation, APT Source).
type APT struct {
	PreserveSourcesList *bool                `yaml:"preserve_sources_list,omitempty"`
	Primary             []Mirror             `yaml:"primary,omitempty"`
	MirrorSelection     *MirrorSelection     `yaml:"mirror-selection,omitempty"`
	Security            []Mirror             `yaml:"security,omitempty"`
	Fallback            string               `yaml:"fallback,omitempty"`
	Geoip               *bool                `yaml:"geoip,omitempty"`
	SourcesList         string               `yaml:"sources_list,omitempty"`
	DisableComponents   []string             `yaml:"disable_components,omitempty"`
	DisableSuites       []string             `yaml:"disable_suites,omitempty"`
	Preferences         []Preference         `yaml:"preferences,omitempty"`
	Sources             map[string]APTSource `yaml:"sources,omitempty"`
	Conf                string               `yaml:"conf,omitempty"` // apt.conf(5)
	Extra               map[string]any       `yaml:",inline"`
}

// Mirror is an archive for some architectures, in curtin's form.
type Mirror struct {
	Arches []string       `yaml:"arches,omitempty,flow"`
	URI    string         `yaml:"uri,omitempty"`
	Extra  map[string]any `yaml:",inline"`
}

// MirrorSelection lists candidates for the primary archive.
type MirrorSelection struct {
	Primary MirrorCandidates `yaml:"primary,omitempty"`
}

// MirrorCandidates are mirrors that the installer tries in turn. None at all, other
// than nil, is a list as well: it tries none.
type MirrorCandidates []MirrorCandidate

// IsZero says whether the list is left out.
func (c MirrorCandidates) IsZero() bool { return c == nil }

// Preference is an apt pin.
type Preference struct {
	Package     string `yaml:"package"`
	Pin         string `yaml:"pin"`
	PinPriority int    `yaml:"pin-priority"`
}

// APTSource is one of curtin's further package sources.
type APTSource struct {
	Source    string         `yaml:"source,omitempty"`
	Key       string         `yaml:"key,omitempty"`
	KeyID     string         `yaml:"keyid,omitempty"`
	KeyServer string         `yaml:"keyserver,omitempty"`
	Extra     map[string]any `yaml:",inline"`
}

// Storage is the storage section: a layout, or curtin's list of actions.
type Storage struct {
	Layout *Layout          `yaml:"layout,omitempty"`
	Swap   map[string]any   `yaml:"swap,omitempty"`
	Grub   map[string]any   `yaml:"grub,omitempty"`
	Config []map[string]any `yaml:"config,omitempty"`
	Extra  map[string]any   `yaml:",inline"`
}

// Layout is one of the installer's ready-made storage layouts.
type Layout struct {
	Name               string  `yaml:"name"`
	Match              Matches `yaml:"match,omitempty"`
	Mode               string  `yaml:"mode,omitempty"`
	Ptable             string  `yaml:"ptable,omitempty"`
	SizingPolicy       string  `yaml:"sizing-policy,omitempty"`
	Password           string  `yaml:"password,omitempty"`
	RecoveryKey        any     `yaml:"recovery-key,omitempty"`
	Encrypted          *bool   `yaml:"encrypted,omitempty"`
	ResetPartition     any     `yaml:"reset-partition,omitempty"`
	ResetPartitionOnly *bool   `yaml:"reset-partition-only,omitempty"`
}

// Match says which disk. Text may hold shell patterns; Serial and the like are
// compared with udev's ID_SERIAL and so on.
type Match struct {
	Serial       string `yaml:"serial,omitempty"`
	Model        string `yaml:"model,omitempty"`
	Vendor       string `yaml:"vendor,omitempty"`
	Path         string `yaml:"path,omitempty"`
	IDPath       string `yaml:"id_path,omitempty"`
	DevPath      string `yaml:"devpath,omitempty"`
	SSD          *bool  `yaml:"ssd,omitempty"`
	Size         string `yaml:"size,omitempty"`
	InstallMedia *bool  `yaml:"install-media,omitempty"`
}

// Identity is the identity section: the first user and the host name.
type Identity struct {
	Realname string  `yaml:"realname,omitempty"`
	Username string  `yaml:"username"`
	Hostname string  `yaml:"hostname"`
	Password string  `yaml:"password"` // crypt(3) hash
	Groups   *Groups `yaml:"groups,omitempty"`
}

// ActiveDirectory is the active-directory section.
type ActiveDirectory struct {
	AdminName  string `yaml:"admin-name,omitempty"`
	DomainName string `yaml:"domain-name,omitempty"`
}

// UbuntuPro is the ubuntu-pro section, ubuntu-advantage by its old name.
type UbuntuPro struct {
	Token string         `yaml:"token,omitempty"`
	Extra map[string]any `yaml:",inline"`
}

// SSH is the ssh section.
type SSH struct {
	InstallServer  *bool          `yaml:"install-server,omitempty"`
	AuthorizedKeys []string       `yaml:"authorized-keys,omitempty"`
	AllowPW        *bool          `yaml:"allow-pw,omitempty"`
	Extra          map[string]any `yaml:",inline"`
}

// Kernel is the kernel section: a package or a flavor, not both.
type Kernel struct {
	Package string         `yaml:"package,omitempty"`
	Flavor  string         `yaml:"flavor,omitempty"`
	Extra   map[string]any `yaml:",inline"`
}

// KernelCrashDumps is the kernel-crash-dumps section; nil lets the installer choose.
type KernelCrashDumps struct {
	Enabled *bool `yaml:"enabled"`
}

// OEM is the oem section.
type OEM struct {
	Install any            `yaml:"install"` // a boolean or the text auto
	Extra   map[string]any `yaml:",inline"`
}

// Install is the form of the drivers and codecs sections.
type Install struct {
	Install *bool          `yaml:"install,omitempty"`
	Extra   map[string]any `yaml:",inline"`
}

// Snap is a snap that is installed at the first boot.
type Snap struct {
	Name    string `yaml:"name"`
	Channel string `yaml:"channel,omitempty"`
	Classic *bool  `yaml:"classic,omitempty"`
}

// ZDev is a device of an IBM Z machine.
type ZDev struct {
	ID      string         `yaml:"id,omitempty"`
	Enabled *bool          `yaml:"enabled,omitempty"`
	Extra   map[string]any `yaml:",inline"`
}

// Reporter is one destination of the installer's events.
type Reporter struct {
	Type     string         `yaml:"type"`
	Endpoint string         `yaml:"endpoint,omitempty"`
	Level    string         `yaml:"level,omitempty"`
	Timeout  int            `yaml:"timeout,omitempty"`      // seconds
	Retries  []int          `yaml:"retries,omitempty,flow"` // seconds before each further try
	Extra    map[string]any `yaml:",inline"`
}
