package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	_ "embed"
)

// Forms of texts. The patterns stay within what Go and ECMA-262 read alike,
// since the JSON Schema carries them.
var (
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	// accountPattern is what useradd and Subiquity take for users and groups.
	accountPattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]*$`)
	oneLine        = regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`)
	gecosPattern   = regexp.MustCompile(`^[^:,=\x00-\x1f\x7f]+$`)
	absolutePath   = regexp.MustCompile(`^/[^\x00-\x1f\x7f]*$`)
	localePattern  = regexp.MustCompile(`^(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?$`)
	layoutPattern  = regexp.MustCompile(`^[a-z]+(,[a-z]+)*$`)
	variantPattern = regexp.MustCompile(`^[A-Za-z0-9_-]*(,[A-Za-z0-9_-]*)*$`)
	togglePattern  = regexp.MustCompile(`^[a-z0-9_]+$`)
	macPattern     = regexp.MustCompile(`^([0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2})$`)
	uuidPattern    = regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)
	modelPattern   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	pciPattern     = regexp.MustCompile(`^10[dD][eE]:[0-9A-Fa-f]{4}$`)
	migPattern     = regexp.MustCompile(`^[1-9]g\.[1-9][0-9]*gb([+-][a-z]+(\.[a-z]+)?)?$`)
	driverPattern  = regexp.MustCompile(`^(auto|[1-9][0-9]{2}(-server)?)$`)
	versionPattern = regexp.MustCompile(`^([0-9]+:)?[0-9][A-Za-z0-9.+~-]*$`)
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(=[0-9][A-Za-z0-9.+:~-]*)?$`)
	sizePattern    = regexp.MustCompile(`^[1-9][0-9]*[kmg]$`)
	addressPattern = regexp.MustCompile(`^[0-9A-Fa-f.:]+$`)
	prefixPattern  = regexp.MustCompile(`^[0-9A-Fa-f.:]+/[0-9]{1,3}$`)
	urlPattern     = regexp.MustCompile(`^https?://[^\s\x00-\x1f\x7f]+$`)
	suitePattern   = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*/?|\./|/)$`)
	fingerprintRE  = regexp.MustCompile(`^[0-9A-Fa-f]{4}( ?[0-9A-Fa-f]{4}){4} {0,2}[0-9A-Fa-f]{4}( ?[0-9A-Fa-f]{4}){4}$`)
	interfaceRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	wwnPattern     = regexp.MustCompile(`^(0x[0-9A-Fa-f]{16}([0-9A-Fa-f]{16})?|(naa|eui|nvme|t10)\.[!-~]+)$`)
	devicePattern  = regexp.MustCompile(`^/dev/[A-Za-z0-9._:+@/-]+$`)
)

//go:embed timezones.txt
var timezones string

//go:embed keyboards.txt
var keyboards string

// keyboardVariants returns the variants of a keyboard layout that Ubuntu's installer
// knows. An unknown layout or variant ends an installation (Subiquity,
// models/keyboard.py).
func keyboardVariants(layout string) (variants []string, known bool) {
	for line := range strings.Lines(keyboards) {
		if words := strings.Fields(line); words[0] == layout {
			return words[1:], true
		}
	}
	return nil, false
}

// reservedNames are accounts that Ubuntu or its packages have, as listed by
// Subiquity (reserved-usernames) from base-passwd, and those of Docker and
// systemd. From 26.04 the installer refuses them; before, the install fails.
const reservedNames = `root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody
adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users nogroup
netplan ftn mysql tac-plus alias qmail qmaild qmails qmailr qmailq qmaill qmailp asterisk vpopmail vchkpw slurm hacluster haclient
grsec-tpe grsec-sock-all grsec-sock-clt grsec-sock-srv grsec-proc ceph opensrf libvirt-qemu admin
bind crontab cupsys dcc dhcp dictd dnsmasq dovecot fetchmail firebird ftp fuse gdm haldaemon hplilp identd input jwhois klog kvm lpadmin maas
messagebus mythtv netdev powerdev radvd render saned sbuild scanner sgx slocate ssh sshd ssl-cert sslwrap statd syslog telnetd tftpd
docker _apt lxd uuidd tcpdump tss landscape fwupd-refresh usbmux dhcpcd polkitd pollinate
systemd-network systemd-resolve systemd-timesync systemd-journal systemd-coredump systemd-oom`

func wordIn(words, word string) bool { return slices.Contains(strings.Fields(words), word) }

func checkUserName(s string) problem {
	if wordIn(reservedNames, s) {
		return problem{fmt.Sprintf("the user name %q is reserved by the system", s), "choose another name, such as ops"}
	}
	return problem{}
}

func checkUserGroup(s string) problem {
	switch s {
	case "sudo", "admin":
		return problem{fmt.Sprintf("membership of %q is not set here", s), "write sudo: password or sudo: nopassword"}
	case "docker":
		return problem{`membership of "docker" is not set here`, "write docker: true, which is the default"}
	}
	return problem{}
}

func checkHostname(s string) problem {
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 {
			return problem{fmt.Sprintf("%q has a part of %d characters, more than 63", shorten(s), len(label)), "shorten it (RFC 1123)"}
		}
	}
	if strings.EqualFold(s, "localhost") || strings.HasPrefix(strings.ToLower(s), "localhost.") {
		return problem{"localhost is the name of every machine", "write a name of its own, such as gpu01"}
	}
	return problem{}
}

func checkTimezone(s string) problem {
	zones := strings.Fields(timezones)
	if slices.Contains(zones, s) {
		return problem{}
	}
	detail := "write a zone of the tz database, such as Europe/Berlin or Etc/UTC (`timedatectl list-timezones` lists them)"
	city := slices.IndexFunc(zones, func(zone string) bool { return strings.HasSuffix(strings.ToLower(zone), "/"+strings.ToLower(s)) })
	if near := nearest(s, zones); near != "" {
		detail = "did you mean " + near + "? " + detail
	} else if city >= 0 {
		detail = "did you mean " + zones[city] + "? " + detail
	}
	return problem{fmt.Sprintf("there is no time zone %q", shorten(s)), detail}
}

func checkLayout(s string) problem {
	for layout := range strings.SplitSeq(s, ",") {
		if _, known := keyboardVariants(layout); known {
			continue
		}
		detail := "write a layout of console-setup, such as us, gb, de, fr or latam"
		if layout == "uk" {
			detail = "the layout of the United Kingdom is gb; Ukraine's is ua"
		}
		return problem{fmt.Sprintf("there is no keyboard layout %q", shorten(layout)), detail}
	}
	return problem{}
}

// checkVariants holds variants against their layouts, which are as many.
func checkVariants(layouts, variants string) problem {
	layout := strings.Split(layouts, ",")
	for i, variant := range strings.Split(variants, ",") {
		known, found := keyboardVariants(layout[i])
		if !found || variant == "" || slices.Contains(known, variant) {
			continue // an unknown layout is told by checkLayout
		}
		detail := "the layout has no variants: leave the variant out"
		if len(known) > 0 {
			detail = "its variants are " + strings.Join(known, " ") + "; without one it is the plain layout"
		}
		return problem{fmt.Sprintf("the keyboard layout %s has no variant %q", layout[i], shorten(variant)), detail}
	}
	return problem{}
}

func checkMAC(s string) problem {
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return problem{fmt.Sprintf("%q is not a MAC address", shorten(s)), "write it like b8:ce:f6:00:00:01"}
	case mac.String() == "00:00:00:00:00:00":
		return problem{"the MAC address is all zeros", "`ip link` on the machine, or its label, shows the real one"}
	case mac[0]&1 != 0:
		return problem{fmt.Sprintf("%s is a multicast address, which no interface has", mac), "`ip link` on the machine, or its label, shows the real one"}
	}
	return problem{}
}

// placeholderSerials are what boards report whose maker set no serial number.
const placeholderSerials = "|default string|to be filled by o.e.m.|not specified|not applicable|none|system serial number|serial number|chassis serial number|0|00000000|0123456789|123456789|1234567890|unknown|invalid|n/a|empty|xxxxxxxx|"

func checkSerial(s string) problem {
	if strings.Contains(placeholderSerials, "|"+strings.ToLower(strings.TrimSpace(s))+"|") {
		return problem{fmt.Sprintf("%q is what boards say whose maker set no serial number", s), "many machines would match: use mac or uuid"}
	}
	if strings.TrimSpace(s) != s {
		return problem{"the text begins or ends with a space", "remove it"}
	}
	return problem{}
}

func checkUUID(s string) problem {
	switch strings.ToLower(s) {
	case "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
		"03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc":
		return problem{fmt.Sprintf("%q is what boards say whose maker set no UUID", s), "many machines would match: use mac or serial"}
	}
	return problem{}
}

func checkAbsolute(s string) problem {
	if s == "/" || path.Clean(s) != s {
		return problem{fmt.Sprintf("%q is not a clean path", shorten(s)), "write it without .., // and a slash at the end, such as /srv/docker"}
	}
	return problem{}
}

func checkAddress(s string) problem {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return problem{fmt.Sprintf("%q is not an IP address", shorten(s)), "write it like 10.0.0.1 or fd00::1"}
	}
	return refuseAddress(a)
}

func refuseAddress(a netip.Addr) problem {
	if a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return problem{fmt.Sprintf("%s is no address of a machine", a), "write it like 10.0.0.1 or fd00::1"}
	}
	return problem{}
}

// checkListener checks an address that something listens on: also the machine
// itself, and all of its addresses.
func checkListener(s string) problem {
	a, err := netip.ParseAddr(s)
	if err == nil && (a.IsLoopback() || a.IsUnspecified()) && !a.Is4In6() {
		return problem{}
	}
	return checkAddress(s)
}

func checkInterfaceAddress(s string) problem {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return problem{fmt.Sprintf("%q is not an address with its prefix length", shorten(s)), "write it like 10.0.0.11/24 or fd00::11/64"}
	}
	if bad := refuseAddress(p.Addr()); bad.summary != "" {
		return bad
	}
	if p.Addr().Is4() && p.Bits() < 31 {
		switch p.Addr() {
		case p.Masked().Addr():
			return problem{fmt.Sprintf("%s is the network's own address", p), "write the machine's address within it, such as " + p.Addr().Next().String() + fmt.Sprintf("/%d", p.Bits())}
		case lastAddr(p):
			return problem{fmt.Sprintf("%s is the network's broadcast address", p), "write the machine's address within it"}
		}
	}
	if p.Bits() == 0 {
		return problem{fmt.Sprintf("%s has a prefix length of 0", p), "write the length of the network's prefix, such as /24"}
	}
	return problem{}
}

// lastAddr returns the highest IPv4 address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func checkPoolBase(s string) problem {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Bits() == 0 {
		return problem{fmt.Sprintf("%q is not a network", shorten(s)), "write it like 172.30.0.0/16"}
	}
	if p != p.Masked() {
		return problem{fmt.Sprintf("%s has bits set behind its prefix", p), "write " + p.Masked().String()}
	}
	return problem{}
}

func checkURL(s string) problem {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return problem{"this is not a URL", "write it like https://mirror.example.org/ubuntu"}
	}
	if u.Fragment != "" || u.RawQuery != "" {
		return problem{"the URL of a repository has no ? and no #", "write it like https://mirror.example.org/ubuntu"}
	}
	return problem{}
}

// checkReport refuses what would be readable in the machine's settings.
func checkReport(s string) problem {
	const example = "write it like https://fleet.example.org/receipts"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return problem{"this is not a URL", example}
	case u.User != nil:
		return problem{"the URL holds credentials, which every user of the machine could read", example + ", and let token_file sign the receipt"}
	case u.Fragment != "":
		return problem{"a URL that is posted to has no #", example}
	}
	return problem{}
}

// checkMirror holds what dockerd demands of registry-mirrors (moby,
// registry/config.go, ValidateMirror).
func checkMirror(s string) problem {
	if bad := checkURL(s); bad.summary != "" {
		return problem{bad.summary, "write it like https://registry.example.org"}
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Path != "" && u.Path != "/" {
		return problem{"a registry mirror is a host alone, without a path or credentials", "write it like https://registry.example.org"}
	}
	return problem{}
}

// fingerprintOf returns a fingerprint as 40 upper-case digits.
func fingerprintOf(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, " ", ""))
}

func checkFingerprint(s string) problem {
	if b, err := hex.DecodeString(fingerprintOf(s)); err != nil || len(b) != 20 {
		return problem{"this is not a key fingerprint", "write 40 hexadecimal digits; `gpg --show-keys FILE` prints them"}
	}
	return problem{}
}

// checkDataRoot leaves out what a systemd unit (RequiresMountsFor), a TOML string or a
// shell would take for more than a part of the name.
func checkDataRoot(s string) problem {
	if i := strings.IndexAny(s, " \\\"'%$"); i >= 0 {
		return problem{fmt.Sprintf("%q has the character %q", shorten(s), s[i]), "write a path without, such as /srv/docker"}
	}
	return checkAbsolute(s)
}

func checkDevice(s string) problem {
	if path.Clean(s) != s || s == "/dev" {
		return problem{fmt.Sprintf("%q is not a clean path", shorten(s)), "write it like /dev/disk/by-id/nvme-eui.0025388c01b2c3d4 or /dev/nvme0n1"}
	}
	return problem{}
}

// refuseModel has the words for a GPU name of the wrong form.
func refuseModel(s string) problem {
	detail := "write it like h100-sxm; `gpustrap explain --models` lists them"
	name := strings.TrimPrefix(strings.Join(strings.Fields(strings.ToLower(strings.ReplaceAll(s, "_", " "))), "-"), "nvidia-")
	if modelPattern.MatchString(name) {
		detail = "did you mean " + name + "? names are in lower case, with hyphens; `gpustrap explain --models` lists them"
	}
	return problem{fmt.Sprintf("%q is not the name of a GPU", shorten(s)), detail}
}
