package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gpustrap/gpustrap/report"
)

const defaultBondMode = "active-backup"

// links returns the interfaces, bonds and VLANs of a network.
func (r *resolver) links(k *networkKeys, path string) []Link {
	r.refuseShortForm(k, path)
	var out []Link
	seen := map[string]mark{} // what is an interface of its own, or part of a bond
	for _, entry := range k.links() {
		l, at := entry.keys, path+"."+entry.path
		n := l.network
		n.section = l.section
		link := Link{Network: networkOf(&n), Members: valuesOf(l.members), VLAN: l.id.v, Parent: strings.ToLower(l.parent.v), Name: l.name.v}
		if link.Parent != "" && !macPattern.MatchString(link.Parent) {
			link.Parent = l.parent.v
		}
		switch {
		case l.id.set():
			link.Name = otherwise(l.name, fmt.Sprintf("%s.%d", l.parent.v, l.id.v))
			if len(link.Name) > 15 || strings.Contains(link.Name, ":") {
				link.Name = fmt.Sprintf("vlan%d", l.id.v)
			}
		case l.members.set():
			link.Mode = otherwise(l.mode, defaultBondMode)
		}
		// A link may carry a VLAN and have no address itself.
		if !n.addresses.bad && !n.gateway.bad && (link.DHCP || len(link.Addresses) > 0 || link.Gateway.IsValid()) {
			identified := link.Network
			identified.Interface = "a link"
			r.checkNetwork(&n, &identified, Match{}, at)
		}
		r.claimNames(l, &link, seen, at)
		out = append(out, link)
	}
	r.checkRoutes(k, out, path)
	return out
}

// linkEntry is a link as it was written, with its path within network.
type linkEntry struct {
	keys *linkKeys
	path string
}

func (k *networkKeys) links() []linkEntry {
	var out []linkEntry
	for _, kind := range []struct {
		name string
		list list[*linkKeys]
	}{{"interfaces", k.interfaces}, {"bonds", k.bonds}, {"vlans", k.vlans}} {
		for i, l := range kind.list.items {
			out = append(out, linkEntry{l, fmt.Sprintf("%s[%d]", kind.name, i)})
		}
	}
	return out
}

// refuseShortForm refuses the keys of one interface beside those of several.
func (r *resolver) refuseShortForm(k *networkKeys, path string) {
	for _, short := range []struct {
		name string
		at   mark
	}{
		{"interface", k.iface.at}, {"mac", k.mac.at}, {"dhcp", k.dhcp.at}, {"addresses", k.addresses.at}, {"gateway", k.gateway.at},
		{"nameservers", k.nameservers.at}, {"search", k.search.at}, {"mtu", k.mtu.at}, {"optional", k.optional.at},
	} {
		if short.at == (mark{}) {
			continue
		}
		var related []report.Related
		if entries := k.links(); len(entries) > 0 {
			related = append(related, r.related(entries[0].keys.at, "one of several interfaces is here"))
		}
		r.error(short.at, under(path, short.name), short.name+" is for a network of one interface", "write it in the entry that it is for, below interfaces, bonds or vlans", related...)
	}
}

// claimNames refuses two links of one name, and an interface in two places.
func (r *resolver) claimNames(l *linkKeys, link *Link, seen map[string]mark, path string) {
	claim := func(name string, at mark, path string) {
		name = strings.ToLower(name)
		if name == "" {
			return
		}
		if other, taken := seen[name]; taken {
			r.error(at, path, fmt.Sprintf("the interface %s stands in two places", name), "an interface is one bond's or has addresses of its own, not both",
				r.related(other, "the other is here"))
			return
		}
		seen[name] = at
	}
	switch {
	case link.Name != "":
		at := l.name.at
		if !l.name.set() {
			at = l.at
		}
		claim(link.Name, at, under(path, "name"))
	case link.MAC != nil:
		claim(link.MAC.String(), l.network.mac.at, under(path, "mac"))
	default:
		claim(link.Interface, l.network.iface.at, under(path, "interface"))
	}
	for i, m := range l.members.items {
		claim(m.v, m.at, fmt.Sprintf("%s.interfaces[%d]", path, i))
	}
}

// checkRoutes refuses two default gateways of one family, and an address that
// two links have, and warns of a machine that reaches nobody.
func (r *resolver) checkRoutes(k *networkKeys, links []Link, path string) {
	gateways, addresses := map[bool]mark{}, map[netip.Addr]mark{}
	static, named := true, false
	for i, entry := range k.links() {
		l, at := entry.keys, path+"."+entry.path
		for j, a := range links[i].Addresses {
			if other, taken := addresses[a.Addr()]; taken && other != l.network.addresses.items[j].at {
				r.error(l.network.addresses.items[j].at, fmt.Sprintf("%s.addresses[%d]", at, j), fmt.Sprintf("%s stands twice", a.Addr()), "remove one", r.related(other, "the other is here"))
			}
			addresses[a.Addr()] = l.network.addresses.items[j].at
		}
		static = static && !links[i].DHCP
		named = named || len(links[i].Nameservers) > 0
		gateway := links[i].Gateway
		if !gateway.IsValid() {
			continue
		}
		if other, taken := gateways[gateway.Is6()]; taken {
			r.error(l.network.gateway.at, under(at, "gateway"), "there are two default gateways", "keep one; a route of its own for a network goes into autoinstall: {network: …}",
				r.related(other, "the other is here"))
		}
		gateways[gateway.Is6()] = l.network.gateway.at
	}
	if !static {
		return
	}
	if len(gateways) == 0 {
		r.warn(k.at, path, "no gateway: the machine reaches its own networks alone", "add gateway: with the router's address to one of the entries")
	}
	if !named {
		r.warn(k.at, path, "no name servers: the names of package repositories cannot be resolved", "add nameservers: [10.0.0.1] to one of the entries")
	}
}
