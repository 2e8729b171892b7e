package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gpustrap/gpustrap/report"
)

// checkFleet refuses machines that get in each other's way.
func (r *resolver) checkFleet(fleet *Fleet) {
	r.checkNames(fleet)
	r.checkMatches(fleet)
	r.checkAddresses(fleet)
	r.checkDisks(fleet)
	r.checkBMCs(fleet)
}

// checkNames compares names and hostnames without case: they become names of
// files, on file systems that may not tell it apart.
func (r *resolver) checkNames(fleet *Fleet) {
	names, hostnames := map[string]*Machine{}, map[string]*Machine{}
	for i := range fleet.Machines {
		m := &fleet.Machines[i]
		keys := m.origin.keys
		path := fmt.Sprintf("machines[%d]", i)
		if name := strings.ToLower(m.Name); name != "" {
			if first := names[name]; first != nil {
				r.error(keys.name.at, path+".name", fmt.Sprintf("there are two machines named %q", m.Name), "rename one, or remove it",
					r.related(first.origin.keys.name.at, "the other is here"))
				continue
			}
			names[name] = m
		}
		if hostname := strings.ToLower(m.Hostname); hostname != "" {
			if first := hostnames[hostname]; first != nil {
				r.error(m.hostnameMark(), path+".hostname", fmt.Sprintf("%s and %s have one hostname, %q", first.Name, m.Name, m.Hostname),
					"leave hostname out, so that each takes its name, or set it in each machine",
					r.related(first.hostnameMark(), fmt.Sprintf("the hostname of %s is here", first.Name)))
				continue
			}
			hostnames[hostname] = m
		}
	}
}

func (m *Machine) hostnameMark() mark {
	if keys := m.origin.keys; keys.settings.hostname.set() {
		return keys.settings.hostname.at
	}
	return m.origin.keys.name.at
}

// identity is a value of match that a machine claims, with what tells machines
// apart that claim the same: hardware has many MAC addresses, so that two of
// them tell nothing, but one serial number and one UUID.
type identity struct {
	value        string
	serial, uuid string
}

// checkMatches refuses two machines that could match the same hardware: they
// name one MAC address, serial number or UUID, and neither serial numbers nor
// UUIDs tell them apart.
func (r *resolver) checkMatches(fleet *Fleet) {
	c := claims{exact: map[identity]int{}, bySerial: map[identity]int{}, byUUID: map[identity]int{}, byValue: map[identity]int{}}
	for i := range fleet.Machines {
		m := &fleet.Machines[i]
		keys := m.origin.keys
		if len(m.Match.MACs) == 0 && m.Match.Serial == "" && m.Match.UUID == "" {
			if len(fleet.Machines) > 1 && !matchRefused(keys.match) {
				other := &fleet.Machines[otherOf(i)]
				r.lack(keys, fmt.Sprintf("machines[%d]", i), "match", "add match: {mac: …}, or serial or uuid: of several machines, each must be known by its hardware",
					r.related(other.origin.keys.at, "without one it fits the hardware of this machine as well"))
			}
			continue
		}
		serial, uuid := strings.ToLower(m.Match.Serial), m.Match.UUID
		for j, mac := range m.Match.MACs {
			r.claim(fleet, c, i, identity{"MAC address " + mac.String(), serial, uuid}, keys.match.mac.items[j].at, "mac")
		}
		if serial != "" {
			r.claim(fleet, c, i, identity{"serial number " + m.Match.Serial, serial, uuid}, keys.match.serial.at, "serial")
		}
		if uuid != "" {
			r.claim(fleet, c, i, identity{"UUID " + uuid, serial, uuid}, keys.match.uuid.at, "uuid")
		}
	}
}

func otherOf(i int) int {
	if i == 0 {
		return 1
	}
	return 0
}

func matchRefused(m *matchKeys) bool {
	return m != nil && (m.bad || m.mac.bad || m.serial.bad || m.uuid.bad)
}

// claims finds, in constant time, an earlier machine that claims a value and is
// not told apart. The numbers are indexes of machines plus 1.
type claims struct {
	exact, bySerial, byUUID, byValue map[identity]int
}

func (c claims) find(id identity) int {
	folded := strings.ToLower(id.value)
	at := func(m map[identity]int, serial, uuid string) int { return m[identity{folded, serial, uuid}] }
	switch {
	case id.serial == "" && id.uuid == "":
		return at(c.byValue, "", "")
	case id.uuid == "":
		return firstOf(at(c.bySerial, id.serial, ""), at(c.bySerial, "", ""))
	case id.serial == "":
		return firstOf(at(c.byUUID, "", id.uuid), at(c.byUUID, "", ""))
	}
	return firstOf(at(c.exact, id.serial, id.uuid), at(c.exact, id.serial, ""), at(c.exact, "", id.uuid), at(c.exact, "", ""))
}

func firstOf(candidates ...int) int {
	for _, c := range candidates {
		if c != 0 {
			return c
		}
	}
	return 0
}

func (c claims) add(id identity, machine int) {
	folded := strings.ToLower(id.value)
	put := func(m map[identity]int, serial, uuid string) {
		if k := (identity{folded, serial, uuid}); m[k] == 0 {
			m[k] = machine
		}
	}
	put(c.exact, id.serial, id.uuid)
	put(c.bySerial, id.serial, "")
	put(c.byUUID, "", id.uuid)
	put(c.byValue, "", "")
}

func (r *resolver) claim(fleet *Fleet, c claims, i int, id identity, at mark, key string) {
	if found := c.find(id); found != 0 && found != i+1 {
		first := &fleet.Machines[found-1]
		r.error(at, fmt.Sprintf("machines[%d].match.%s", i, key), fmt.Sprintf("%s and %s could match the same hardware: both name the %s", first.Name, fleet.Machines[i].Name, id.value),
			"correct one of them, or tell them apart by serial or uuid", r.related(first.matchMark(id.value, key), fmt.Sprintf("%s is here", first.Name)))
		return
	}
	c.add(id, i+1)
}

// matchMark is where a machine names a value of match.
func (m *Machine) matchMark(value, key string) mark {
	keys := m.origin.keys.match
	switch key {
	case "serial":
		return keys.serial.at
	case "uuid":
		return keys.uuid.at
	}
	for i, mac := range m.Match.MACs {
		if strings.HasSuffix(value, mac.String()) {
			return keys.mac.items[i].at
		}
	}
	return keys.at
}

// checkAddresses refuses two machines with one static address.
func (r *resolver) checkAddresses(fleet *Fleet) {
	type owner struct {
		machine int
		at      mark
	}
	owners := map[netip.Addr]owner{}
	for i := range fleet.Machines {
		m := &fleet.Machines[i]
		for _, a := range m.staticAddresses() {
			first, taken := owners[a.addr]
			if !taken {
				owners[a.addr] = owner{i, a.at}
				continue
			}
			if first.machine == i {
				continue // checkNetwork has said so
			}
			r.error(a.at, fmt.Sprintf("machines[%d].network.%s", i, a.path),
				fmt.Sprintf("%s and %s have one address, %s", fleet.Machines[first.machine].Name, m.Name, a.addr), "give each machine its own",
				r.related(first.at, fmt.Sprintf("the address of %s is here", fleet.Machines[first.machine].Name)))
		}
	}
}

// staticAddress is an address as it was written, with its path within network.
type staticAddress struct {
	addr netip.Addr
	at   mark
	path string
}

func (m *Machine) staticAddresses() []staticAddress {
	if m.Network == nil {
		return nil
	}
	keys := m.origin.keys.settings.network
	var out []staticAddress
	add := func(n *Network, k *networkKeys, path string) {
		for j, p := range n.Addresses {
			out = append(out, staticAddress{p.Addr(), k.addresses.items[j].at, fmt.Sprintf("%saddresses[%d]", path, j)})
		}
	}
	add(m.Network, keys, "")
	for i, entry := range keys.links() {
		if i < len(m.Network.Links) {
			add(&m.Network.Links[i].Network, &entry.keys.network, entry.path+".")
		}
	}
	return out
}

// checkDisks warns of a disk that several machines name: it can be in one.
func (r *resolver) checkDisks(fleet *Fleet) {
	type owner struct {
		machine int
		at      mark
	}
	first := map[string]owner{}
	for i := range fleet.Machines {
		m := &fleet.Machines[i]
		for _, disk := range m.diskKeys() {
			key, value := "serial", disk.keys.serial
			if disk.keys.wwn.ok() {
				key, value = "wwn", disk.keys.wwn
			}
			if !value.ok() {
				continue
			}
			name := key + " " + strings.ToLower(value.v)
			other, taken := first[name]
			if !taken {
				first[name] = owner{i, value.at}
				continue
			}
			if other.machine == i {
				continue // checkDiskRules has said so
			}
			var related []report.Related
			if other.at != value.at {
				related = append(related, r.related(other.at, fmt.Sprintf("the disk of %s is here", fleet.Machines[other.machine].Name)))
			}
			r.warn(value.at, fmt.Sprintf("machines[%d].storage.%s.%s", i, disk.path, key), "several machines are installed on the disk with this "+key,
				"give each machine its own disk, or a rule such as size: largest", related...)
		}
	}
}

// diskRule is a rule as it was written, with its path within storage.
type diskRule struct {
	keys *diskKeys
	path string
}

func (m *Machine) diskKeys() []diskRule {
	if k := m.origin.keys.settings.storage; k != nil {
		return k.rules()
	}
	return nil
}

// rules returns the rules that name disks.
func (k *storageKeys) rules() []diskRule {
	var out []diskRule
	if k.disk != nil {
		out = append(out, diskRule{k.disk, "disk"})
	}
	for i, d := range k.disks.items {
		out = append(out, diskRule{d, fmt.Sprintf("disks[%d]", i)})
	}
	for i, d := range k.data.items {
		if d.disk != nil {
			out = append(out, diskRule{d.disk, fmt.Sprintf("data[%d].disk", i)})
		}
	}
	return out
}
