package autoinstall

// kind is a set of YAML kinds that a value may have.
type kind int

const (
	isMapping kind = 1 << iota
	isList
	isText
	isInteger
	isBoolean
	isNull
	isAny kind = isMapping | isList | isText | isInteger | isBoolean | isNull
)

// shape is what a value of the autoinstall must look like.
type shape struct {
	kinds  kind
	fields []field  // of a mapping
	each   *shape   // every value of a mapping without fixed keys
	items  *shape   // of a list
	open   bool     // of a mapping: further keys are curtin's, netplan's or cloud-init's affair
	values []string // the words that a text may be; nil: any
	one    []string // of a mapping: exactly one of these keys stands there
}

// field is a key of a mapping.
type field struct {
	name     string
	since    string // first release whose installer knows it; "": 22.04
	required bool
	shape
}

var (
	text     = shape{kinds: isText}
	boolean  = shape{kinds: isBoolean}
	integer  = shape{kinds: isInteger}
	anything = shape{kinds: isAny}
	texts    = shape{kinds: isList, items: &text}
	object   = shape{kinds: isMapping, open: true}
	objects  = shape{kinds: isList, items: &object}
	commands = shape{kinds: isList, items: &shape{kinds: isText | isList, items: &text}}
)

func words(values ...string) shape { return shape{kinds: isText, values: values} }

func mapping(fields ...field) shape { return shape{kinds: isMapping, fields: fields} }

func openMapping(fields ...field) shape {
	return shape{kinds: isMapping, fields: fields, open: true}
}

func list(item shape) shape { return shape{kinds: isList, items: &item} }

// sections is the table of what the installers know. Its sources are
// Subiquity's JSON schemas and loaders at the tags 22.04.2 (the installer of
// the first 22.04 images: later ones know more, and a seed must suit all),
// 24.04.1 to 24.04.4.1 and 26.04.1, read 2026-11-23.
func sections() shape {
	return mapping(
		field{name: "version", required: true, shape: integer},
		field{name: "interactive-sections", since: "24.04", shape: texts},
		field{name: "locale", shape: text},
		field{name: "keyboard", shape: mapping(
			field{name: "layout", required: true, shape: text},
			field{name: "variant", shape: text},
			field{name: "toggle", shape: shape{kinds: isText | isNull}},
		)},
		field{name: "timezone", shape: text},
		field{name: "source", since: "24.04", shape: openMapping(
			field{name: "search_drivers", shape: boolean},
			field{name: "id", shape: text},
		)},
		field{name: "refresh-installer", shape: mapping(
			field{name: "update", shape: boolean},
			field{name: "channel", shape: text},
		)},
		field{name: "network", shape: networkShape()},
		field{name: "proxy", shape: shape{kinds: isText | isNull}},
		field{name: "apt", shape: aptShape()},
		field{name: "storage", shape: storageShape()},
		field{name: "identity", shape: mapping(
			field{name: "realname", shape: text},
			field{name: "username", required: true, shape: text},
			field{name: "hostname", required: true, shape: text},
			field{name: "password", required: true, shape: text},
			field{name: "groups", since: "26.04", shape: shape{kinds: isList | isMapping, items: &text, fields: []field{
				{name: "override", shape: texts},
				{name: "append", shape: texts},
			}}},
		)},
		field{name: "active-directory", since: "24.04", shape: mapping(
			field{name: "admin-name", shape: text},
			field{name: "domain-name", shape: text},
		)},
		field{name: "ubuntu-pro", since: "24.04", shape: openMapping(field{name: "token", shape: text})},
		field{name: "ubuntu-advantage", shape: openMapping(field{name: "token", shape: text})},
		field{name: "ssh", shape: openMapping(
			field{name: "install-server", shape: boolean},
			field{name: "authorized-keys", shape: texts},
			field{name: "allow-pw", shape: boolean},
		)},
		field{name: "kernel", shape: shape{kinds: isMapping, open: true, one: []string{"package", "flavor"}, fields: []field{
			{name: "package", shape: text},
			{name: "flavor", shape: text},
		}}},
		field{name: "kernel-crash-dumps", since: "26.04", shape: mapping(
			field{name: "enabled", required: true, shape: shape{kinds: isBoolean | isNull}},
		)},
		field{name: "oem", since: "24.04", shape: openMapping(
			field{name: "install", required: true, shape: shape{kinds: isBoolean | isText, values: []string{"auto"}}},
		)},
		field{name: "drivers", shape: openMapping(field{name: "install", shape: boolean})},
		field{name: "codecs", since: "24.04", shape: openMapping(field{name: "install", shape: boolean})},
		field{name: "snaps", shape: list(mapping(
			field{name: "name", required: true, shape: text},
			field{name: "channel", shape: text},
			field{name: "classic", shape: boolean},
		))},
		field{name: "zdevs", since: "26.04", shape: list(openMapping(
			field{name: "id", shape: text},
			field{name: "enabled", shape: boolean},
		))},
		field{name: "debconf-selections", shape: text},
		field{name: "packages", shape: texts},
		field{name: "updates", shape: words("security", "all")},
		field{name: "reporting", shape: reportingShape()},
		field{name: "user-data", shape: cloudConfigShape()},
		field{name: "shutdown", shape: words("reboot", "poweroff")},
		field{name: "early-commands", shape: commands},
		field{name: "late-commands", shape: commands},
		field{name: "error-commands", shape: commands},
	)
}

func networkShape() shape {
	addresses := []field{
		{name: "match", shape: object},
		{name: "dhcp4", shape: boolean},
		{name: "addresses", shape: list(anything)},
		{name: "routes", shape: objects},
		{name: "nameservers", shape: mapping(
			field{name: "addresses", shape: texts},
			field{name: "search", shape: texts},
		)},
		{name: "mtu", shape: integer},
		{name: "optional", shape: boolean},
	}
	each := func(further ...field) shape {
		return shape{kinds: isMapping, each: &shape{kinds: isMapping, open: true, fields: append(further, addresses...)}}
	}
	netplan := []field{
		{name: "version", shape: integer},
		{name: "ethernets", shape: each()},
		{name: "bonds", shape: each(
			field{name: "interfaces", shape: texts},
			field{name: "parameters", shape: object},
		)},
		{name: "vlans", shape: each(
			field{name: "id", shape: integer},
			field{name: "link", shape: text},
		)},
	}
	wrapped := field{name: "network", shape: shape{kinds: isMapping, fields: netplan, open: true, one: []string{"version"}}}
	return shape{kinds: isMapping, fields: append(netplan, wrapped), open: true, one: []string{"version", "network"}}
}

func aptShape() shape {
	mirrors := list(openMapping(
		field{name: "arches", shape: texts},
		field{name: "uri", shape: text},
	))
	return openMapping(
		field{name: "preserve_sources_list", shape: boolean},
		field{name: "primary", shape: mirrors},
		field{name: "mirror-selection", since: "24.04", shape: mapping(
			field{name: "primary", shape: list(shape{
				kinds: isText | isMapping, values: []string{countryMirror}, fields: []field{
					{name: "uri", required: true, shape: text},
					{name: "arches", shape: texts},
				}})},
		)},
		field{name: "security", shape: mirrors},
		field{name: "fallback", since: "24.04", shape: words("abort", "continue-anyway", "offline-install")},
		field{name: "geoip", shape: boolean},
		field{name: "sources_list", shape: text},
		field{name: "conf", shape: text},
		field{name: "disable_components", shape: list(words("universe", "multiverse", "restricted", "contrib", "non-free"))},
		field{name: "disable_suites", shape: texts},
		field{name: "preferences", shape: list(mapping(
			field{name: "package", required: true, shape: text},
			field{name: "pin", required: true, shape: text},
			field{name: "pin-priority", required: true, shape: integer},
		))},
		field{name: "sources", shape: shape{kinds: isMapping, each: &shape{kinds: isMapping, open: true, fields: []field{
			{name: "source", shape: text},
			{name: "key", shape: text},
			{name: "keyid", shape: text},
			{name: "keyserver", shape: text},
		}}}},
	)
}

// storageShape closes what Subiquity leaves open in layout: an unknown name is
// silently direct, an unknown key silently nothing.
func storageShape() shape {
	match := mapping(
		field{name: "serial", shape: text},
		field{name: "model", shape: text},
		field{name: "vendor", shape: text},
		field{name: "path", shape: text},
		field{name: "id_path", shape: text},
		field{name: "devpath", shape: text},
		field{name: "ssd", shape: boolean},
		field{name: "size", shape: words("largest", "smallest")},
		field{name: "install-media", shape: boolean},
	)
	eitherMatch := match
	eitherMatch.kinds |= isList
	eitherMatch.items = &match
	return openMapping(
		field{name: "layout", shape: mapping(
			field{name: "name", required: true, shape: words("direct", "lvm", "zfs", "hybrid")},
			field{name: "match", shape: eitherMatch},
			field{name: "mode", shape: words("reformat_disk", "use_gap")},
			field{name: "ptable", shape: words("gpt", "msdos", "vtoc")},
			field{name: "sizing-policy", shape: words("scaled", "all")},
			field{name: "password", shape: text},
			field{name: "recovery-key", shape: anything},
			field{name: "encrypted", shape: boolean},
			field{name: "reset-partition", shape: anything},
			field{name: "reset-partition-only", shape: boolean},
		)},
		field{name: "swap", shape: object},
		field{name: "grub", shape: object},
		field{name: "config", shape: objects},
	)
}

func reportingShape() shape {
	return shape{kinds: isMapping, each: &shape{kinds: isMapping, open: true, fields: []field{
		{name: "type", required: true, shape: text},
		{name: "endpoint", shape: text},
		{name: "level", shape: text},
		{name: "timeout", shape: integer},
		// curtin sleeps for each of the numbers in turn; a single number breaks it.
		{name: "retries", shape: list(integer)},
	}}}
}

func cloudConfigShape() shape {
	return openMapping(
		field{name: "hostname", shape: text},
		field{name: "locale", shape: text},
		field{name: "timezone", shape: text},
		field{name: "keyboard", shape: openMapping(field{name: "layout", required: true, shape: text})},
		field{name: "users", shape: list(shape{kinds: isText | isMapping, open: true, fields: []field{
			{name: "name", shape: text},
			{name: "gecos", shape: text},
			{name: "shell", shape: text},
			{name: "lock_passwd", shape: boolean},
			{name: "passwd", shape: text},
			{name: "ssh_authorized_keys", shape: texts},
		}})},
		field{name: "write_files", shape: list(openMapping(
			field{name: "path", required: true, shape: text},
			field{name: "permissions", shape: text},
			field{name: "content", shape: text},
		))},
		field{name: "runcmd", shape: commands},
		field{name: "power_state", shape: openMapping(field{name: "mode", required: true, shape: text})},
	)
}
