package autoinstall

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/config"
)

// network returns the netplan configuration, or nil for the installer's own:
// DHCP on every Ethernet interface.
func (b *builder) network() *Network {
	n := b.in.Machine.Network
	if n == nil {
		return nil
	}
	if len(n.Links) > 0 {
		return links(n.Links)
	}
	name := "lan"
	eth := ethernet(n)
	switch mac := b.networkMAC(); {
	case n.Interface != "":
		name = n.Interface
	case mac != "":
		eth.Match = &EthernetMatch{MACAddress: mac}
	default:
		eth.Match = &EthernetMatch{Name: "e*"}
	}
	return &Network{Version: 2, Ethernets: map[string]Ethernet{name: eth}}
}

// ethernet returns netplan's settings of an interface's addresses.
func ethernet(n *config.Network) Ethernet {
	eth := Ethernet{DHCP4: &n.DHCP, MTU: n.MTU}
	if n.Optional {
		eth.Optional = &n.Optional
	}
	for _, a := range n.Addresses {
		eth.Addresses = append(eth.Addresses, a.String())
	}
	if n.Gateway.IsValid() {
		eth.Routes = []Route{{To: "default", Via: n.Gateway.String()}}
	}
	if len(n.Nameservers)+len(n.Search) > 0 {
		eth.Nameservers = &Nameservers{Addresses: addressTexts(n.Nameservers)}
		if len(n.Search) > 0 {
			eth.Nameservers.Search = n.Search
		}
	}
	return eth
}

func addressTexts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// links returns netplan's definitions of several links. An interface that a bond
// or VLAN names and that has no addresses of its own is defined without any.
func links(all []config.Link) *Network {
	out := &Network{Version: 2, Ethernets: map[string]Ethernet{}}
	no := false
	bonds := func(l config.Link) bool { return len(l.Members) > 0 }
	define := func(name string) string {
		if slices.ContainsFunc(all, func(l config.Link) bool { return l.Name == name }) {
			return name
		}
		id, match := ethernetID(name)
		if _, ok := out.Ethernets[id]; !ok {
			out.Ethernets[id] = Ethernet{DHCP4: &no, Match: match}
		}
		return id
	}
	for _, l := range all {
		if l.Name == "" {
			name := l.Interface
			if l.MAC != nil {
				name = l.MAC.String()
			}
			id, match := ethernetID(name)
			eth := ethernet(&l.Network)
			eth.Match = match
			out.Ethernets[id] = eth
		}
	}
	for _, l := range all {
		switch {
		case bonds(l):
			bond := Bond{Ethernet: ethernet(&l.Network), Parameters: BondParameters{Mode: l.Mode, MIIMonitor: 100}}
			for _, m := range l.Members {
				bond.Interfaces = append(bond.Interfaces, define(m))
			}
			if out.Bonds == nil {
				out.Bonds = map[string]Bond{}
			}
			out.Bonds[l.Name] = bond
		case l.VLAN > 0:
			if out.VLANs == nil {
				out.VLANs = map[string]VLAN{}
			}
			out.VLANs[l.Name] = VLAN{Ethernet: ethernet(&l.Network), ID: l.VLAN, Link: define(l.Parent)}
		}
	}
	return out
}

// ethernetID returns netplan's id of an interface: its name, or one made of its
// MAC address, by which it is matched.
func ethernetID(name string) (id string, match *EthernetMatch) {
	mac, err := net.ParseMAC(name)
	if err != nil {
		return name, nil
	}
	return "lan-" + strings.ReplaceAll(fmt.Sprint(mac), ":", ""), &EthernetMatch{MACAddress: mac.String()}
}
