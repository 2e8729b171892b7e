package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Answer is what a machine gets. Without a Boot it is not told to boot from the
// network; without a Lease it gets no address.
type Answer struct {
	Boot  *Boot
	Lease *Lease
}

// Boot is what the firmware loads.
type Boot struct {
	// File is a path for TFTP, or a URL for HTTP Boot and iPXE. iPXE replaces settings
	// such as ${net0/mac:hexhyp} in it.
	File string
	// NextServer is where TFTP and GRUB find their files.
	NextServer netip.Addr
}

// Lease is an address that is reserved for a machine.
type Lease struct {
	Address netip.Prefix // with the network's prefix length
	Gateway netip.Addr   // zero: none
	DNS     []netip.Addr
	Time    time.Duration // how long it is valid, whole seconds
}

// Ports that firmware sends to.
const (
	Port      = 67
	ProxyPort = 4011
	replyPort = 68
)

// Server answers machines. Its fields are set before Serve.
type Server struct {
	// Address is the server's own, on the network that it serves.
	Address netip.Addr
	// Lookup returns what a client gets, and false for one that is not answered at all.
	Lookup func(Client) (Answer, bool)
	// Replied is called after each answer, unless it is nil.
	Replied func(Client, Reply)
}

// Reply is an answer that was sent.
type Reply struct {
	Type    string // OFFER, ACK or NAK
	Boot    *Boot
	Address netip.Addr // the one that was given; zero: none
}

// Serve answers what comes to conn, until the context is done or the socket fails.
// proxyPort says that conn is on ProxyPort and not on Port. conn must be allowed to
// broadcast; it stays open.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn, proxyPort bool) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("cannot take DHCP requests: %w", err)
		}
		request, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue // not DHCP
		}
		client, reply, ok := s.answer(request, proxyPort)
		if !ok {
			continue
		}
		if _, err := conn.WriteTo(reply.ToBytes(), destination(request, reply, from, proxyPort)); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("cannot answer DHCP requests: %w", err)
			}
			continue // the network is away for a moment; the client asks again
		}
		if s.Replied != nil {
			s.Replied(client, replied(reply))
		}
	}
}

func replied(m *dhcpv4.DHCPv4) Reply {
	r := Reply{Type: m.MessageType().String()}
	if a, ok := netip.AddrFromSlice(m.YourIPAddr.To4()); ok && !a.IsUnspecified() {
		r.Address = a
	}
	if file := m.BootFileNameOption(); file != "" {
		next, _ := netip.AddrFromSlice(m.ServerIPAddr.To4())
		r.Boot = &Boot{File: file, NextServer: next}
	}
	return r
}

// destination is where an answer goes: to the relay that the request came through, to
// the client itself where it has an address, else to everybody (RFC 2131, section 4.1).
func destination(request, reply *dhcpv4.DHCPv4, from net.Addr, proxyPort bool) net.Addr {
	switch {
	case proxyPort:
		return from
	case request.GatewayIPAddr != nil && !request.GatewayIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: request.GatewayIPAddr, Port: Port}
	case reply.MessageType() == dhcpv4.MessageTypeNak: // the address is not the client's
	case request.ClientIPAddr != nil && !request.ClientIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: request.ClientIPAddr, Port: replyPort}
	}
	return &net.UDPAddr{IP: net.IPv4bcast, Port: replyPort}
}

// answer returns the answer to a message, and false when there is none.
func (s *Server) answer(m *dhcpv4.DHCPv4, proxyPort bool) (Client, *dhcpv4.DHCPv4, bool) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || len(m.ClientHWAddr) != 6 {
		return Client{}, nil, false
	}
	client := clientOf(m)
	kind := m.MessageType()
	wanted := kind == dhcpv4.MessageTypeDiscover && !proxyPort || kind == dhcpv4.MessageTypeRequest
	if !wanted {
		return client, nil, false
	}
	if asked := m.ServerIdentifier(); !proxyPort && asked != nil && !asked.Equal(s.Address.AsSlice()) {
		return client, nil, false // it takes another server's offer
	}
	got, ok := s.Lookup(client)
	if !ok {
		return client, nil, false
	}
	if client.Firmware == FirmwareNone {
		got.Boot = nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.Address.AsSlice())),
		dhcpv4.WithOptionCopied(m, dhcpv4.OptionClientMachineIdentifier))
	if err != nil {
		return client, nil, false
	}
	switch {
	case got.Lease != nil && !proxyPort:
		lease(reply, m, got.Lease)
	case got.Boot == nil || kind == dhcpv4.MessageTypeRequest && !proxyPort:
		// A proxy has nothing to say to those who only want an address, nor to a
		// request that goes to the server of the address.
		return client, nil, false
	case kind == dhcpv4.MessageTypeDiscover:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	default:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	}
	if got.Boot != nil && reply.MessageType() != dhcpv4.MessageTypeNak {
		boot(reply, client, got.Boot)
	}
	return client, reply, true
}

// lease puts an address into an answer, or refuses the one that the client wants.
func lease(reply, m *dhcpv4.DHCPv4, l *Lease) {
	address := net.IP(l.Address.Addr().AsSlice())
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		wanted := m.RequestedIPAddress()
		if wanted == nil || wanted.IsUnspecified() {
			wanted = m.ClientIPAddr
		}
		if !wanted.Equal(address) {
			reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
			return
		}
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	} else {
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	}
	reply.YourIPAddr = address
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(l.Address.Bits(), 32)))
	reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(l.Time))
	if l.Gateway.IsValid() {
		reply.UpdateOption(dhcpv4.OptRouter(l.Gateway.AsSlice()))
	}
	if len(l.DNS) > 0 {
		var servers []net.IP
		for _, a := range l.DNS {
			servers = append(servers, a.AsSlice())
		}
		reply.UpdateOption(dhcpv4.OptDNS(servers...))
	}
}

// pxeBootDirectly is PXE_DISCOVERY_CONTROL with bit 3 and the end of the options: the
// client takes the file of this answer, asks nobody else and shows no menu (PXE 2.1,
// table 2-2).
var pxeBootDirectly = []byte{6, 1, 8, 255}

// boot puts the file to load into an answer. iPXE and PXE want it together with the
// server's address; the header's field has room for 127 bytes, the option for more.
func boot(reply *dhcpv4.DHCPv4, client Client, b *Boot) {
	class := classPXE
	if client.Firmware == FirmwareUEFIHTTP {
		class = classHTTP
	}
	reply.UpdateOption(dhcpv4.OptClassIdentifier(class))
	reply.UpdateOption(dhcpv4.OptBootFileName(b.File))
	if len(b.File) < 128 {
		reply.BootFileName = b.File
	}
	if b.NextServer.IsValid() {
		reply.ServerIPAddr = b.NextServer.AsSlice()
		if class == classPXE {
			reply.UpdateOption(dhcpv4.OptTFTPServerName(b.NextServer.String()))
		}
	}
	if class == classPXE {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, pxeBootDirectly))
	}
}
