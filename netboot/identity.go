package netboot

import (
	"bytes"
	"net"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/plan"
)

// Identity is what a machine says of itself when it boots. It identifies, it does
// not authenticate. What it did not say is empty.
type Identity struct {
	MAC    net.HardwareAddr
	UUIDs  []string // readings of the system UUID, in lower case: firmware disagrees on the byte order
	Serial string   // of the system
}

// index finds the machines of a configuration by what they say of themselves.
type index struct {
	byMAC    map[string][]*plan.Machine
	byUUID   map[string][]*plan.Machine
	bySerial map[string][]*plan.Machine
	byName   map[string]*plan.Machine
}

func newIndex(machines []plan.Machine) *index {
	x := &index{
		byMAC: map[string][]*plan.Machine{}, byUUID: map[string][]*plan.Machine{}, bySerial: map[string][]*plan.Machine{},
		byName: make(map[string]*plan.Machine, len(machines)),
	}
	for i := range machines {
		m := &machines[i]
		x.byName[m.Name] = m
		for _, mac := range m.Match.MACs {
			x.byMAC[mac.String()] = append(x.byMAC[mac.String()], m)
		}
		if m.Match.UUID != "" {
			x.byUUID[m.Match.UUID] = append(x.byUUID[m.Match.UUID], m)
		}
		if m.Match.Serial != "" {
			x.bySerial[m.Match.Serial] = append(x.bySerial[m.Match.Serial], m)
		}
	}
	return x
}

// find returns the machine that an identity is of: one whose match agrees with it in
// as much as possible and contradicts it nowhere. Where two agree alike it is
// neither.
func (x *index) find(id Identity) *plan.Machine {
	var found *plan.Machine
	best, tied := 0, false
	consider := func(candidates []*plan.Machine) {
		for _, m := range candidates {
			switch n := agreement(m, id); {
			case m == found || n == 0 || n < best:
			case n == best:
				tied = true
			default:
				found, best, tied = m, n, false
			}
		}
	}
	consider(x.byMAC[id.MAC.String()])
	for _, uuid := range id.UUIDs {
		consider(x.byUUID[strings.ToLower(uuid)])
	}
	consider(x.bySerial[id.Serial])
	if tied {
		return nil
	}
	return found
}

// The weight of what a match and an identity agree in: one that only this hardware
// has weighs more than all the others below it.
const (
	weightSerial = 1
	weightUUID   = 2
	weightMAC    = 4
)

// agreement returns how far a machine's match is an identity's: the more, the more
// of it was said and fits. 0: nothing fits, or something contradicts it.
func agreement(m *plan.Machine, id Identity) int {
	total := 0
	if len(m.Match.MACs) > 0 && len(id.MAC) > 0 {
		if !slices.ContainsFunc(m.Match.MACs, func(mac net.HardwareAddr) bool { return bytes.Equal(mac, id.MAC) }) {
			return 0
		}
		total += weightMAC
	}
	if m.Match.UUID != "" && len(id.UUIDs) > 0 {
		if !slices.ContainsFunc(id.UUIDs, func(u string) bool { return strings.EqualFold(u, m.Match.UUID) }) {
			return 0
		}
		total += weightUUID
	}
	if m.Match.Serial != "" && id.Serial != "" {
		if m.Match.Serial != id.Serial {
			return 0
		}
		total += weightSerial
	}
	return total
}
