package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/gpustrap/gpustrap/report"
)

func (r *resolver) network(k *networkKeys, match Match, path string) *Network {
	if k == nil || k.bad {
		return nil
	}
	path = under(path, "network")
	out := networkOf(k)
	if k.interfaces.set() || k.bonds.set() || k.vlans.set() {
		out.Links = r.links(k, path)
		return &Network{Links: out.Links}
	}
	if !k.addresses.bad && !k.gateway.bad {
		r.checkNetwork(k, &out, match, path)
		r.warnAlone(k, &out, path)
	}
	return &out
}

// networkOf returns the addresses of one interface.
func networkOf(k *networkKeys) Network {
	out := Network{
		Interface:   k.iface.v,
		Addresses:   parsed(k.addresses, netip.ParsePrefix),
		Nameservers: parsed(k.nameservers, netip.ParseAddr),
		Search:      valuesOf(k.search),
		MTU:         k.mtu.v,
		Optional:    k.optional.v,
	}
	out.DHCP = otherwise(k.dhcp, len(out.Addresses) == 0)
	if k.mac.ok() {
		out.MAC, _ = net.ParseMAC(k.mac.v) // checked when it was decoded
	}
	if k.gateway.ok() {
		out.Gateway, _ = netip.ParseAddr(k.gateway.v) // checked when it was decoded
	}
	return out
}

func (r *resolver) checkNetwork(k *networkKeys, n *Network, match Match, path string) {
	if len(n.Addresses) == 0 {
		if !n.DHCP {
			r.error(k.dhcp.at, under(path, "dhcp"), "the machine would have no address", "add addresses: [10.0.0.11/24], or write dhcp: true")
		}
		if n.Gateway.IsValid() {
			r.error(k.gateway.at, under(path, "gateway"), "a gateway without addresses", "add addresses: with the machine's address in the gateway's network, or remove gateway: DHCP names it")
		}
		return
	}
	if n.Interface == "" && n.MAC == nil && len(match.MACs) == 0 {
		r.error(k.addresses.at, under(path, "addresses"), "static addresses, and no interface to put them on", "add mac: or interface: to network, or mac: to the machine's match")
	}
	for i, a := range n.Addresses {
		for _, b := range n.Addresses[:i] {
			if a.Addr() == b.Addr() {
				r.error(k.addresses.items[i].at, fmt.Sprintf("%s.addresses[%d]", path, i), fmt.Sprintf("%s stands twice", a.Addr()), "remove one")
			}
		}
		if a.Addr().Is6() && n.MTU != 0 && n.MTU < 1280 {
			r.error(k.mtu.at, under(path, "mtu"), fmt.Sprintf("an MTU of %d is too small for IPv6", n.MTU), "write at least 1280 (RFC 8200)",
				r.related(k.addresses.items[i].at, "the IPv6 address is here"))
		}
	}
	r.checkGateway(k, n, path)
}

// warnAlone warns of a machine that reaches nobody, or nobody by name.
func (r *resolver) warnAlone(k *networkKeys, n *Network, path string) {
	if n.DHCP || len(n.Addresses) == 0 {
		return
	}
	if !n.Gateway.IsValid() {
		r.warn(k.at, path, "no gateway: the machine reaches its own network alone", "add gateway: with the router's address")
	}
	if len(n.Nameservers) == 0 && !k.nameservers.bad {
		r.warn(k.at, path, "no name servers: the names of package repositories cannot be resolved", "add nameservers: [10.0.0.1]")
	}
}

func (r *resolver) checkGateway(k *networkKeys, n *Network, path string) {
	if !n.Gateway.IsValid() {
		return
	}
	own := slices.IndexFunc(n.Addresses, func(p netip.Prefix) bool { return p.Addr() == n.Gateway })
	if own >= 0 {
		r.error(k.gateway.at, under(path, "gateway"), fmt.Sprintf("%s is the machine's own address", n.Gateway), "write the router's address",
			r.related(k.addresses.items[own].at, "the address is here"))
		return
	}
	inside := slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return p.Contains(n.Gateway) })
	if inside || n.Gateway.Is6() && n.Gateway.IsLinkLocalUnicast() {
		return
	}
	var related []report.Related
	for i, a := range n.Addresses {
		related = append(related, r.related(k.addresses.items[i].at, fmt.Sprintf("%s spans %s", a, a.Masked())))
	}
	r.error(k.gateway.at, under(path, "gateway"), fmt.Sprintf("%s lies in none of the machine's networks", n.Gateway),
		"correct the gateway, or the prefix length of the address", related...)
}
