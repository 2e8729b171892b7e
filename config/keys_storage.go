package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// The keys of storage, a part of the table.

var (
	storageSizePattern = regexp.MustCompile(`^([1-9][0-9]{0,6}[MGT]|off)$`)
	bootSizePattern    = regexp.MustCompile(`^[1-9][0-9]{0,6}[MGT]$`)
)

func storageForm() mappingForm[storageKeys, *storageKeys] {
	disk := diskForm()
	return mapping("storage", []group{{keys: []string{"disk", "disks"}}, {keys: []string{"layout", "config"}}},
		key("layout", func(s *storageKeys) *text { return &s.layout }, enumOf("a layout", "lvm", "direct", "zfs", "raid1"),
			"Layout: logical volumes that take all of the space, plain partitions, ZFS, or a mirror of two disks.", "`lvm`"),
		key("disk", func(s *storageKeys) **diskKeys { return &s.disk }, disk,
			"The disk that is erased: exactly one of `serial`, `wwn`, `path` and `size`.", "the only disk besides the installation medium; where there are several, the installation stops"),
		key("disks", func(s *storageKeys) *list[*diskKeys] { return &s.disks },
			listForm[*diskKeys]{item: disk, bad: func(k *diskKeys) bool { return k.bad }, min: 1},
			"The disks that are erased, for `raid1`, which takes two, and for `config`.", "for `raid1` the only two disks besides the installation medium"),
		key("encryption", func(s *storageKeys) **encryptionKeys { return &s.encryption }, encryptionForm(),
			"Encrypts the system with LUKS, all but /boot.", "`off`"),
		key("boot", func(s *storageKeys) *text { return &s.boot },
			textForm{what: "a size", example: "2G", pattern: bootSizePattern, hint: "a whole number and M, G or T"},
			"Size of a partition of its own for /boot.", "the layout's own"),
		key("swap", func(s *storageKeys) *text { return &s.swap },
			textForm{what: "a size, or off", example: "16G", pattern: storageSizePattern, hint: "a whole number and M, G or T; or off"},
			"Size of the swap file.", "the installer's own, by the machine's memory"),
		key("data", func(s *storageKeys) *list[*dataKeys] { return &s.data },
			listForm[*dataKeys]{item: dataForm(disk), bad: func(k *dataKeys) bool { return k.bad }},
			"Disks of their own, each mounted at one place.", "none"),
		key("config", func(s *storageKeys) *value[*yaml.Node] { return &s.config }, actionsForm{},
			"A list of actions of curtin's storage configuration, in place of a layout. Its disks have the ids `disk-0`, `disk-1` and so on, "+
				"in the order of `disks`, and the installer puts their paths in.", "none"),
	)
}

func diskForm() mappingForm[diskKeys, *diskKeys] {
	return mapping("disk", []group{{keys: []string{"serial", "wwn", "path", "size"}, one: true}},
		key("serial", func(k *diskKeys) *text { return &k.serial },
			textForm{what: "a serial number", example: `"S6ESNX0W123456"`, pattern: oneLine, max: 128, check: checkSerial}, "Serial number, as `lsblk -o NAME,SERIAL` prints it.", ""),
		key("wwn", func(k *diskKeys) *text { return &k.wwn },
			textForm{what: "a World Wide Name", example: "eui.0025388c01b2c3d4", pattern: wwnPattern, max: 200, hint: "`lsblk -o NAME,WWN` prints it; quote one that begins with 0x"},
			"World Wide Name, as `lsblk -o NAME,WWN` prints it.", ""),
		key("path", func(k *diskKeys) *text { return &k.path },
			textForm{what: "the path of a device", example: "/dev/nvme0n1", pattern: devicePattern, max: 200, check: checkDevice},
			"Device file. A kernel name such as /dev/sda can change between boots; /dev/disk/by-id/… does not.", ""),
		key("size", func(k *diskKeys) *text { return &k.size }, enumOf("a rule", "largest", "smallest"), "The largest or the smallest disk.", ""),
	)
}

func encryptionForm() switchForm[encryptionKeys, *encryptionKeys] {
	keys := mapping("encryption", nil,
		key("key_file", func(k *encryptionKeys) *text { return &k.key }, keyFileForm{pathForm()},
			"File with the passphrase, one line, relative to the folder of this file. The seed carries it.", "**required**, here or in a profile"),
		key("tpm", func(k *encryptionKeys) **tpmKeys { return &k.tpm }, tpmForm(),
			"Lets the machine's TPM 2.0 unlock the system at boot, so that nobody is asked.", "`off`"),
	)
	return switchForm[encryptionKeys, *encryptionKeys]{keys, func(k *encryptionKeys) *value[bool] { return &k.on }, "{key_file: secrets/disk.key}"}
}

func tpmForm() switchForm[tpmKeys, *tpmKeys] {
	keys := mapping("tpm", nil,
		key("pcrs", func(k *tpmKeys) *list[value[int]] { return &k.pcrs },
			listOf(intForm{min: 0, max: 15, what: "the number of a PCR"}, func(v value[int]) bool { return v.bad }),
			"Registers of the TPM that must hold what they held at the first boot. An empty list: the TPM unlocks whatever starts on the machine.", "`[7]`, Secure Boot's state and keys"),
		key("recovery", func(k *tpmKeys) *text { return &k.recovery }, enumOf("a way of recovery", byPassphrase, "none"),
			"What unlocks the system where the TPM does not. With `none` the first boot takes the passphrase off the disk, and the system is lost with the TPM, or when a register changes.", "`passphrase`"),
	)
	return switchForm[tpmKeys, *tpmKeys]{keys, func(k *tpmKeys) *value[bool] { return &k.on }, "{} for the defaults"}
}

func dataForm(disk mappingForm[diskKeys, *diskKeys]) mappingForm[dataKeys, *dataKeys] {
	return mapping("data", nil,
		key("disk", func(k *dataKeys) **diskKeys { return &k.disk }, disk, "The disk: exactly one of `serial`, `wwn`, `path` and `size`.", "").must(),
		key("mount", func(k *dataKeys) *text { return &k.mount },
			textForm{what: "an absolute path", example: "/srv", pattern: absolutePath, max: 1000, check: checkMountPoint}, "Where it is mounted.", "").must(),
		key("preserve", func(k *dataKeys) *value[bool] { return &k.preserve }, boolForm{},
			"Whether the file system that is on the disk stays. With `true` only an empty disk gets a new one, and the installation stops "+
				"where something is on the disk that cannot be mounted. With `false` the disk is erased.", "`true`"),
		key("filesystem", func(k *dataKeys) *text { return &k.filesystem }, enumOf("a file system", "ext4", "xfs", "btrfs"),
			"File system that is made.", "`ext4`"),
		key("partition", func(k *dataKeys) *value[int] { return &k.partition }, intForm{min: 1, max: 128, what: "the number of a partition"},
			"Which partition is mounted, where the disk has several file systems that stay.", "the one with a file system"),
	)
}

// systemFolders are where a file system of data would cover what is installed.
const systemFolders = "/ /boot /dev /etc /proc /run /sys /tmp /usr /bin /lib /sbin /cdrom /var"

func checkMountPoint(s string) problem {
	if bad := checkAbsolute(s); bad.summary != "" && s != "/" {
		return problem{bad.summary, "write it like /srv, without .., // and a slash at the end"}
	}
	for folder := range strings.FieldsSeq(systemFolders) {
		if s == folder || folder != "/" && folder != "/var" && strings.HasPrefix(s, folder+"/") {
			return problem{fmt.Sprintf("a disk of data cannot be mounted at %s", shorten(s)), "the system's own files lie there; write /srv, /data, /home or a folder below /var"}
		}
	}
	if strings.ContainsAny(s, " \\") {
		return problem{fmt.Sprintf("%q has a space or a backslash", shorten(s)), "write a path without, such as /srv"}
	}
	return problem{}
}

// keyFileForm is the path of a file that holds a passphrase; its value is the
// passphrase.
type keyFileForm struct{ textForm }

func (f keyFileForm) decode(d *decoder, n *yaml.Node, path string) text {
	out := f.textForm.decode(d, n, path)
	if !out.ok() {
		return out
	}
	name := out.v
	out.v, out.bad = "", true
	content, ok := d.readFile(n, path, name, "write the passphrase into it, one line; `openssl rand -hex 32 > "+name+"` makes one")
	if !ok {
		return out
	}
	key := strings.TrimSuffix(strings.TrimSuffix(content, "\n"), "\r")
	printable := func(c rune) bool { return c >= ' ' && c <= '~' }
	switch {
	case len(key) < 8 || len(key) > 512:
		d.errorAt(n, path, fmt.Sprintf("%s holds a passphrase of %d characters", shorten(name), len(key)), "write 8 to 512 characters on one line")
	case strings.ContainsFunc(key, func(c rune) bool { return !printable(c) }):
		d.errorAt(n, path, shorten(name)+" holds more than one line, or characters that not every keyboard has at boot", "write one line of ASCII characters")
	default:
		return text{v: key, at: out.at}
	}
	return out
}

// bytesOf returns the number of bytes of a size such as 2G, which the pattern
// has let through; off is 0.
func bytesOf(size string) int64 {
	if size == "" || size == "off" {
		return 0
	}
	n, _ := strconv.ParseInt(size[:len(size)-1], 10, 64) // digits, by the pattern
	return n << map[byte]int{'M': 20, 'G': 30, 'T': 40}[size[len(size)-1]]
}

// actionsForm is a list of curtin's storage actions, kept as they stand.
type actionsForm struct{}

func (actionsForm) words() string    { return "list of mappings, kept as they stand" }
func (actionsForm) entries() []entry { return nil }

func (actionsForm) decode(d *decoder, n *yaml.Node, path string) value[*yaml.Node] {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, path, "a list", "write curtin's storage actions, each a mapping with id: and type:")
		return value[*yaml.Node]{at: markOf(n), bad: true}
	}
	out := value[*yaml.Node]{v: n, at: markOf(n)}
	for i, c := range n.Content {
		if c.Kind != yaml.MappingNode {
			d.wrongType(c, fmt.Sprintf("%s[%d]", path, i), "a mapping", "write a storage action, with id: and type:")
			out.bad = true
		}
	}
	return out
}

func (actionsForm) marks(v value[*yaml.Node], path string, visit visitor) {
	rawForm{}.marks(v, path, visit)
}

func (actionsForm) schema(*schemaWriter) map[string]any {
	return map[string]any{"type": "array", "items": map[string]any{"type": "object"}}
}
