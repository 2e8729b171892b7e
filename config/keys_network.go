package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The keys of network, a part of the table.

// interfaceOrMAC is the name of an interface, or a MAC address.
var interfaceOrMAC = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$`)

func networkForm() mappingForm[networkKeys, *networkKeys] {
	badLink := func(l *linkKeys) bool { return l.bad }
	fields := append(interfaceFields(), addressFields()...)
	fields = append(fields,
		key("interfaces", func(n *networkKeys) *list[*linkKeys] { return &n.interfaces },
			listForm[*linkKeys]{item: mapping("network_interface", []group{{keys: []string{"interface", "mac"}, one: true}},
				lift(append(interfaceFields(), addressFields()...), func(l *linkKeys) *networkKeys { return &l.network })...), bad: badLink},
			"Several interfaces, each with its addresses, in place of the keys above.", "none"),
		key("bonds", func(n *networkKeys) *list[*linkKeys] { return &n.bonds },
			listForm[*linkKeys]{item: bondForm(), bad: badLink}, "Interfaces that work as one.", "none"),
		key("vlans", func(n *networkKeys) *list[*linkKeys] { return &n.vlans },
			listForm[*linkKeys]{item: vlanForm(), bad: badLink}, "VLANs, each on an interface or a bond.", "none"),
	)
	return mapping("network", []group{{keys: []string{"interface", "mac"}}}, fields...)
}

// nameForm is the name of a network interface, which a bond or VLAN gives itself.
func nameForm(example string) textForm {
	return textForm{what: "the name of a network interface", example: example, pattern: interfaceRE, max: 15, check: checkWired}
}

func interfaceFields() []field[networkKeys] {
	return []field[networkKeys]{
		key("interface", func(n *networkKeys) *text { return &n.iface }, nameForm("eno1"), "The interface, by name.", "the one of `match.mac`"),
		key("mac", func(n *networkKeys) *text { return &n.mac }, macForm(), "The interface, by MAC address.", "the first of `match.mac`"),
	}
}

func addressFields() []field[networkKeys] {
	address := textForm{what: "an IP address", example: "10.0.0.1", pattern: addressPattern, max: 45, check: checkAddress}
	return []field[networkKeys]{
		key("dhcp", func(n *networkKeys) *value[bool] { return &n.dhcp }, boolForm{}, "Whether addresses come from DHCP.", "`true` without `addresses`"),
		key("addresses", func(n *networkKeys) *list[text] { return &n.addresses },
			texts(textForm{what: "an address with its prefix length", example: "10.0.0.11/24", pattern: prefixPattern, max: 49, check: checkInterfaceAddress}),
			"Static addresses, each with its prefix length.", "none"),
		key("gateway", func(n *networkKeys) *text { return &n.gateway }, address, "Default gateway, an address within one of `addresses`' networks.", "none"),
		key("nameservers", func(n *networkKeys) *list[text] { return &n.nameservers }, texts(address), "Addresses of name servers.", "DHCP's"),
		key("search", func(n *networkKeys) *list[text] { return &n.search },
			texts(textForm{what: "a domain", example: "lab.example.org", pattern: hostnamePattern, max: 253}), "Search domains.", "none"),
		key("mtu", func(n *networkKeys) *value[int] { return &n.mtu }, intForm{min: 576, max: 65535, what: "a number of bytes"}, "Largest packet, in bytes.", "the interface's own"),
		key("optional", func(n *networkKeys) *value[bool] { return &n.optional }, boolForm{}, "Whether the machine starts without waiting for it.", "`false`"),
	}
}

// bondModes are the kernel's (Documentation/networking/bonding.rst).
func bondModes() []string {
	return []string{"802.3ad", "active-backup", "balance-rr", "balance-xor", "broadcast", "balance-tlb", "balance-alb"}
}

func bondForm() mappingForm[linkKeys, *linkKeys] {
	own := []field[linkKeys]{
		key("name", func(l *linkKeys) *text { return &l.name }, nameForm("bond0"), "Name of the bond.", "").must(),
		key("interfaces", func(l *linkKeys) *list[text] { return &l.members },
			listForm[text]{item: textForm{what: "the name of a network interface, or a MAC address", example: "eno1", pattern: interfaceOrMAC, max: 17, check: checkWired}, bad: badText, min: 1},
			"Its interfaces, each by name or by MAC address.", "").must(),
		key("mode", func(l *linkKeys) *text { return &l.mode }, enumOf("a mode of bonding", bondModes()...), "How the interfaces share the work.", "`active-backup`"),
	}
	return mapping("bond", nil, append(own, lift(addressFields(), func(l *linkKeys) *networkKeys { return &l.network })...)...)
}

func vlanForm() mappingForm[linkKeys, *linkKeys] {
	own := []field[linkKeys]{
		key("name", func(l *linkKeys) *text { return &l.name }, nameForm("vlan100"), "Name of the VLAN's interface.", "`link` and `id` with a dot between"),
		key("id", func(l *linkKeys) *value[int] { return &l.id }, intForm{min: 1, max: 4094, what: "a VLAN's number"}, "Number of the VLAN.", "").must(),
		key("link", func(l *linkKeys) *text { return &l.parent },
			textForm{what: "the name of a network interface or bond, or a MAC address", example: "bond0", pattern: interfaceOrMAC, max: 17, check: checkWired},
			"The interface or bond that it is on.", "").must(),
	}
	return mapping("vlan", nil, append(own, lift(addressFields(), func(l *linkKeys) *networkKeys { return &l.network })...)...)
}

// noWiFi says why a network without a cable is refused.
const noWiFi = "a machine is installed over a cable: connect one, and set Wi-Fi up afterwards, as a file below /etc/netplan in files:"

// checkWired refuses interfaces that systemd or the kernel names as Wi-Fi's.
func checkWired(s string) problem {
	if !macPattern.MatchString(s) && slices.ContainsFunc([]string{"wl", "ath", "wwan"}, func(p string) bool { return strings.HasPrefix(s, p) }) {
		return problem{fmt.Sprintf("%s is a Wi-Fi interface", s), noWiFi}
	}
	return problem{}
}
