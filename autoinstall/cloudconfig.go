package autoinstall

import (
	"gopkg.in/yaml.v3"
)

// CloudConfig is cloud-init's #cloud-config: the user-data section of an
// autoinstall, which the installed system reads at its first boot, or a whole
// user-data for a cloud image. Keys that gpustrap does not write are kept as
// they are.
type CloudConfig struct {
	Hostname       string         `yaml:"hostname,omitempty"`
	ManageEtcHosts any            `yaml:"manage_etc_hosts,omitempty"` // a boolean or the text localhost
	Locale         string         `yaml:"locale,omitempty"`
	Timezone       string         `yaml:"timezone,omitempty"`
	Keyboard       *CloudKeyboard `yaml:"keyboard,omitempty"`
	SSHPwauth      any            `yaml:"ssh_pwauth,omitempty"` // a boolean or text
	Users          []CloudUser    `yaml:"users,omitempty"`
	WriteFiles     []CloudFile    `yaml:"write_files,omitempty"`
	RunCmd         []Command      `yaml:"runcmd,omitempty"`
	PowerState     *PowerState    `yaml:"power_state,omitempty"`
	Extra          map[string]any `yaml:",inline"`
}

// CloudKeyboard is cloud-init's keyboard module.
type CloudKeyboard struct {
	Layout  string         `yaml:"layout"`
	Variant string         `yaml:"variant,omitempty"`
	Options string         `yaml:"options,omitempty"`
	Extra   map[string]any `yaml:",inline"`
}

// CloudUser is an entry of users; one with Name alone is written as a word,
// such as default, which stands for the image's own user.
type CloudUser struct {
	Word              string         `yaml:"-"`
	Name              string         `yaml:"name,omitempty"`
	Gecos             string         `yaml:"gecos,omitempty"`
	Groups            any            `yaml:"groups,omitempty"` // a list, or text with commas
	Shell             string         `yaml:"shell,omitempty"`
	Sudo              any            `yaml:"sudo,omitempty"` // a rule or several
	LockPasswd        *bool          `yaml:"lock_passwd,omitempty"`
	Passwd            string         `yaml:"passwd,omitempty"` // crypt(3) hash
	SSHAuthorizedKeys []string       `yaml:"ssh_authorized_keys,omitempty"`
	Extra             map[string]any `yaml:",inline"`
}

// MarshalYAML writes a user.
func (u CloudUser) MarshalYAML() (any, error) {
	if u.Word != "" {
		return u.Word, nil
	}
	type plain CloudUser
	return plain(u), nil
}

// UnmarshalYAML reads a user.
func (u *CloudUser) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&u.Word)
	}
	type plain CloudUser
	return node.Decode((*plain)(u))
}

// CloudFile is an entry of write_files.
type CloudFile struct {
	Path        string         `yaml:"path"`
	Permissions string         `yaml:"permissions,omitempty"` // octal, as text
	Encoding    string         `yaml:"encoding,omitempty"`
	Content     string         `yaml:"content,omitempty"`
	Extra       map[string]any `yaml:",inline"`
}

// PowerState is what cloud-init does when it has finished.
type PowerState struct {
	Mode      string         `yaml:"mode"`
	Message   string         `yaml:"message,omitempty"`
	Condition any            `yaml:"condition,omitempty"`
	Extra     map[string]any `yaml:",inline"`
}
