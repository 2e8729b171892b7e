package netboot

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/netboot/dhcp"
	"github.com/gpustrap/gpustrap/netboot/tftp"
	"github.com/gpustrap/gpustrap/plan"
)

// DHCPMode says how the server takes part in DHCP.
type DHCPMode string

// The modes.
const (
	DHCPProxy       DHCPMode = "proxy"       // says what to boot, beside a server that gives addresses
	DHCPReservation DHCPMode = "reservation" // gives the machines their configured addresses, too
	DHCPOff         DHCPMode = "off"         // another server names the boot files
)

// DHCPModes are all of them.
func DHCPModes() []DHCPMode { return []DHCPMode{DHCPProxy, DHCPReservation, DHCPOff} }

// PXEOptions are the options of a PXE.
type PXEOptions struct {
	Media     []*Medium
	Loaders   *boot.Loaders
	Interface string     // of the provisioning network
	Address   netip.Addr // the server's own there
	DHCP      DHCPMode
}

// PXE boots machines over the network: DHCP, TFTP and what they fetch by HTTP. What a
// machine gets is the Server's decision.
type PXE struct {
	s      *Server
	o      PXEOptions
	images *imageCache
	heard  *heard
}

// NewPXE returns a PXE of a server, which arms from then on only what the media are for.
func NewPXE(s *Server, o PXEOptions) *PXE {
	s.media, s.dhcp = o.Media, o.DHCP
	return &PXE{s: s, o: o, images: newImageCache(), heard: newHeard()}
}

// Serve answers DHCP and TFTP on the provisioning network until the context is done.
// It needs ports 67, 4011 and 69.
func (p *PXE) Serve(ctx context.Context) error {
	var conns []net.PacketConn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	open := func(port int) (net.PacketConn, error) {
		c, err := listenUDP(ctx, p.o.Interface, port)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on UDP port %d of %s: %w", port, p.o.Interface, err)
		}
		conns = append(conns, c)
		return c, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	failed := make(chan error, 3)
	run := func(serve func() error) {
		group.Go(func() {
			if err := serve(); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	if p.o.DHCP != DHCPOff {
		server := &dhcp.Server{Address: p.o.Address, Lookup: p.lookup, Replied: p.replied}
		for _, port := range []int{dhcp.Port, dhcp.ProxyPort} {
			conn, err := open(port)
			if err != nil {
				return err
			}
			run(func() error { return server.Serve(ctx, conn, port == dhcp.ProxyPort) })
		}
	}
	conn, err := open(69)
	if err != nil {
		return err
	}
	files := &tftp.Server{Open: p.openTFTP, Done: p.sentTFTP}
	run(func() error { return files.Serve(ctx, conn.(*net.UDPConn)) })
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// Describe says in words what the PXE will answer to: a line each.
func (p *PXE) Describe() []string {
	project, _ := p.s.Config()
	known := 0
	for i := range project.Machines {
		if match := project.Machines[i].Match; len(match.MACs) > 0 || match.UUID != "" {
			known++
		}
	}
	lines := []string{}
	who := fmt.Sprintf("%d of %d machines, by MAC address or UUID", known, len(project.Machines))
	switch p.o.DHCP {
	case DHCPProxy:
		lines = append(lines, fmt.Sprintf("DHCP on %s, beside the site's own server (UDP 67 and 4011): what to boot, for %s", p.o.Interface, who))
	case DHCPReservation:
		lines = append(lines, fmt.Sprintf("DHCP on %s (UDP 67 and 4011): addresses and what to boot, for %s", p.o.Interface, who))
	case DHCPOff:
		lines = append(lines, fmt.Sprintf("no DHCP: the site's server must name %s as next-server, and the boot files", p.o.Address))
	}
	lines = append(lines, fmt.Sprintf("TFTP on %s (UDP 69), HTTP on %s", p.o.Interface, p.s.o.Base))
	for _, m := range p.o.Media {
		lines = append(lines, fmt.Sprintf("medium %s: %s, at %s/%s%s/", m.Name, m.Description.Info, p.s.o.Base, pathMedium, m.ID))
	}
	for _, f := range p.o.Loaders.List() {
		lines = append(lines, fmt.Sprintf("boot loader %s: %s", f.Name, f.From))
	}
	for _, m := range p.unmatched(project) {
		lines = append(lines, "not answered: "+m)
	}
	return lines
}

// unmatched says which machines cannot be booted over the network, and why.
func (p *PXE) unmatched(project *plan.Project) []string {
	const most = 5
	var out []string
	for i := range project.Machines {
		m := &project.Machines[i]
		if err := p.s.answered(m); err != nil {
			out = append(out, m.Name+" has no MAC address or UUID in its match")
		} else if rep := project.Unserved(m); rep.HasErrors() {
			out = append(out, rep.Diagnostics[0].Summary)
		} else if _, err := mediumFor(p.o.Media, m); err != nil {
			out = append(out, m.Name+": "+strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

// lookup decides what a machine that asks by DHCP gets.
func (p *PXE) lookup(c dhcp.Client) (dhcp.Answer, bool) {
	uuids := realUUIDs(c.UUIDs)
	d, known := p.s.Decide(Identity{MAC: c.MAC, UUIDs: uuids})
	if !known {
		return dhcp.Answer{}, false
	}
	answer := dhcp.Answer{}
	if p.o.DHCP == DHCPReservation {
		answer.Lease = reservation(d.Machine, c.MAC)
	}
	if c.Firmware == dhcp.FirmwareNone {
		return answer, answer.Lease != nil
	}
	p.heard.put(c.MAC, uuids)
	name := "iPXE"
	if !c.IPXE {
		var err error
		if name, err = p.o.Loaders.First(string(c.Firmware), c.Arch, secureBoot(d.Machine)); err != nil {
			p.s.Saw(d.Machine.Name, Sighting{Kind: SawDHCP, Detail: fmt.Sprintf("%s, and has nothing to boot: %v", c.Firmware, err)})
			p.s.o.Log.Error("cannot boot a machine", "machine", d.Machine.Name, "firmware", c.Firmware, "why", err)
			return answer, answer.Lease != nil
		}
	}
	p.s.Saw(d.Machine.Name, Sighting{Kind: SawDHCP, Detail: string(c.Firmware) + ", gets " + name})
	answer.Boot = &dhcp.Boot{NextServer: p.o.Address, File: name}
	switch {
	case c.IPXE:
		// iPXE puts its own settings in; the rest the request says already.
		answer.Boot.File = p.s.o.Base + "/boot.ipxe?mac=" + boot.Hyphens(c.MAC) + "&uuid=${uuid}&serial=${serial:uristring}"
	case c.Firmware == dhcp.FirmwareUEFIHTTP:
		answer.Boot.File = p.s.o.Base + "/boot/" + name
	}
	return answer, true
}

func (p *PXE) replied(c dhcp.Client, r dhcp.Reply) {
	file := ""
	if r.Boot != nil {
		file = r.Boot.File
	}
	p.s.o.Log.Debug("DHCP", "mac", c.MAC.String(), "firmware", c.Firmware, "reply", r.Type, "file", file, "address", r.Address)
}

// leaseTime is how long a reserved address is given for: it is the machine's anyway.
const leaseTime = time.Hour

// reservation returns the address that the configuration has for a network card, or
// nil. A VLAN's is none: what is asked there comes without a tag.
func reservation(m *plan.Machine, mac net.HardwareAddr) *dhcp.Lease {
	if m.Network == nil {
		return nil
	}
	networks := []config.Network{*m.Network}
	for _, l := range m.Network.Links {
		if l.VLAN == 0 {
			networks = append(networks, l.Network)
		}
	}
	for _, n := range networks {
		if n.MAC != nil && !bytes.Equal(n.MAC, mac) {
			continue
		}
		for _, a := range n.Addresses {
			if a.Addr().Is4() {
				return &dhcp.Lease{Address: a, Gateway: only4(n.Gateway), DNS: n.Nameservers, Time: leaseTime}
			}
		}
	}
	return nil
}

func only4(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	return netip.Addr{}
}

// secureBoot returns what the configuration says of a machine's Secure Boot.
func secureBoot(m *plan.Machine) string {
	if m.GPU == nil {
		return ""
	}
	return m.GPU.SecureBoot
}

// realUUIDs leaves out those that stand for none: SMBIOS says "not there" and "not set"
// with all bits clear and all bits set (specification 3.7, section 7.2.1).
func realUUIDs(uuids []string) []string {
	return slices.DeleteFunc(slices.Clone(uuids), func(u string) bool {
		return strings.Trim(u, "0-") == "" || strings.Trim(u, "f-") == ""
	})
}

// maxHeard bounds the machines whose UUIDs are remembered.
const maxHeard = 20000

// heard remembers the UUIDs that came with a MAC address by DHCP, for what knows the
// address alone later: GRUB.
type heard struct {
	mu    sync.Mutex
	uuids map[string][]string
}

func newHeard() *heard { return &heard{uuids: map[string][]string{}} }

func (h *heard) put(mac net.HardwareAddr, uuids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.uuids) >= maxHeard {
		clear(h.uuids)
	}
	h.uuids[mac.String()] = uuids
}

// identity returns what is known of the machine with a MAC address.
func (h *heard) identity(mac net.HardwareAddr) Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Identity{MAC: mac, UUIDs: h.uuids[mac.String()]}
}
