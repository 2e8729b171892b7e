package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

var (
	known   = net.HardwareAddr{0xb8, 0xce, 0xf6, 0, 0, 1}
	unknown = net.HardwareAddr{0xb8, 0xce, 0xf6, 0, 0, 2}
	here    = netip.MustParseAddr("10.77.0.2")
)

// message is a client's message with the options that firmware sends.
func message(t testing.TB, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(known), dhcpv4.WithMessageType(kind),
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}),
	}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func firmware(class string, arch iana.Arch) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		m.UpdateOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("%s:Arch:%05d:UNDI:003016", class, arch)))
		m.UpdateOption(dhcpv4.OptClientArch(arch))
	}
}

func withUUID(first byte, b []byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{first}, b...))
}

var uuid = []byte{0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x37, 0x32}

// asProxy answers the known machine with what is bootable for its firmware.
func asProxy(c Client) (Answer, bool) {
	if c.MAC.String() != known.String() {
		return Answer{}, false
	}
	file := map[Firmware]string{
		FirmwareBIOS: "undionly.kpxe", FirmwareUEFI: "snponly-" + c.Arch + ".efi",
		FirmwareUEFIHTTP: "http://10.77.0.2/boot/" + c.Arch + "/shim.efi",
	}[c.Firmware]
	if c.IPXE {
		file = "http://10.77.0.2/boot.ipxe?mac=${net0/mac:hexhyp}"
	}
	return Answer{Boot: &Boot{File: file, NextServer: here}}, true
}

// withReservation does the same, and gives the machine its address.
func withReservation(c Client) (Answer, bool) {
	a, ok := asProxy(c)
	a.Lease = &Lease{
		Address: netip.MustParsePrefix("10.77.0.11/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		DNS: []netip.Addr{netip.MustParseAddr("10.77.0.3")}, Time: time.Hour,
	}
	return a, ok
}

func TestAnswer(t *testing.T) {
	asIPXE := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE"))
	wants := func(address string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(address)))
	}
	from := func(server string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
	}
	discover, request := dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	for _, tt := range []struct {
		name    string
		lookup  func(Client) (Answer, bool)
		message *dhcpv4.DHCPv4
		proxy   bool   // on the proxy's port
		want    string // empty: silence
	}{
		{"BIOS", asProxy, message(t, discover, firmware("PXEClient", iana.INTEL_X86PC)), false, "OFFER 0.0.0.0 PXEClient undionly.kpxe 10.77.0.2"},
		{"UEFI", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_X86_64)), false, "OFFER 0.0.0.0 PXEClient snponly-amd64.efi 10.77.0.2"},
		{"UEFI, as older ones call themselves", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_BC)), false, "OFFER 0.0.0.0 PXEClient snponly-amd64.efi 10.77.0.2"},
		{"UEFI arm64", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_ARM64)), false, "OFFER 0.0.0.0 PXEClient snponly-arm64.efi 10.77.0.2"},
		{"HTTP Boot", asProxy, message(t, discover, firmware("HTTPClient", iana.EFI_X86_64_HTTP)), false, "OFFER 0.0.0.0 HTTPClient http://10.77.0.2/boot/amd64/shim.efi 10.77.0.2"},
		{"HTTP Boot arm64", asProxy, message(t, discover, firmware("HTTPClient", iana.EFI_ARM64_HTTP)), false, "OFFER 0.0.0.0 HTTPClient http://10.77.0.2/boot/arm64/shim.efi 10.77.0.2"},
		{"iPXE", asProxy, message(t, discover, firmware("PXEClient", iana.INTEL_X86PC), asIPXE), false, "OFFER 0.0.0.0 PXEClient http://10.77.0.2/boot.ipxe?mac=${net0/mac:hexhyp} 10.77.0.2"},
		{"the proxy's port", asProxy, message(t, request, firmware("PXEClient", iana.EFI_X86_64)), true, "ACK 0.0.0.0 PXEClient snponly-amd64.efi 10.77.0.2"},
		{"the proxy's port, and the other server's name", asProxy, message(t, request, firmware("PXEClient", iana.EFI_X86_64), from("10.77.0.1")), true, "ACK 0.0.0.0 PXEClient snponly-amd64.efi 10.77.0.2"},
		{"a discovery on the proxy's port", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_X86_64)), true, ""},
		{"the request to the site's server", asProxy, message(t, request, firmware("PXEClient", iana.EFI_X86_64), from("10.77.0.1")), false, ""},
		{"a request to nobody", asProxy, message(t, request, firmware("PXEClient", iana.EFI_X86_64)), false, ""},
		{"an operating system", asProxy, message(t, discover), false, ""},
		{"a stranger", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_X86_64), dhcpv4.WithHwAddr(unknown)), false, ""},
		{"a release", asProxy, message(t, dhcpv4.MessageTypeRelease, firmware("PXEClient", iana.EFI_X86_64)), false, ""},
		{"no Ethernet address", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_X86_64), dhcpv4.WithHwAddr(net.HardwareAddr{1, 2})), false, ""},
		{"an answer", asProxy, message(t, discover, firmware("PXEClient", iana.EFI_X86_64), func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }), false, ""},
		{"reserved: BIOS", withReservation, message(t, discover, firmware("PXEClient", iana.INTEL_X86PC)), false, "OFFER 10.77.0.11/24 via 10.77.0.1 PXEClient undionly.kpxe 10.77.0.2"},
		{"reserved: an operating system", withReservation, message(t, discover), false, "OFFER 10.77.0.11/24 via 10.77.0.1"},
		{"reserved: the request", withReservation, message(t, request, wants("10.77.0.11"), from("10.77.0.2")), false, "ACK 10.77.0.11/24 via 10.77.0.1"},
		{"reserved: a renewal", withReservation, message(t, request, dhcpv4.WithClientIP(net.ParseIP("10.77.0.11"))), false, "ACK 10.77.0.11/24 via 10.77.0.1"},
		{"reserved: another address", withReservation, message(t, request, wants("10.77.0.12")), false, "NAK 0.0.0.0"},
		{"reserved: another server's", withReservation, message(t, request, wants("10.77.0.11"), from("10.77.0.1")), false, ""},
		{"reserved: a stranger", withReservation, message(t, discover, dhcpv4.WithHwAddr(unknown)), false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Address: here, Lookup: tt.lookup}
			_, reply, ok := s.answer(tt.message, tt.proxy)
			got := ""
			if ok {
				got = describe(t, reply)
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if ok && (reply.TransactionID != tt.message.TransactionID || !reply.ServerIdentifier().Equal(here.AsSlice())) {
				t.Errorf("not an answer to the message: %s", reply.Summary())
			}
		})
	}
}

// describe reads an answer as a client does, from its bytes.
func describe(t *testing.T, reply *dhcpv4.DHCPv4) string {
	t.Helper()
	m, err := dhcpv4.FromBytes(reply.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s", m.MessageType(), m.YourIPAddr)
	if mask := m.SubnetMask(); mask != nil {
		ones, _ := mask.Size()
		got += fmt.Sprintf("/%d via %s", ones, m.Router()[0])
	}
	if class := m.ClassIdentifier(); class != "" {
		got += " " + class + " " + m.BootFileNameOption() + " " + m.ServerIPAddr.String()
		if m.BootFileName != m.BootFileNameOption() {
			t.Errorf("the header names the file %q, the option %q", m.BootFileName, m.BootFileNameOption())
		}
		direct := string(m.Options.Get(dhcpv4.OptionVendorSpecificInformation)) == string(pxeBootDirectly)
		if direct != (class == "PXEClient") {
			t.Error("PXE's discovery control is wrong for the class")
		}
	}
	return got
}

// TestLongFile: a URL that the header has no room for stands in the option alone.
func TestLongFile(t *testing.T) {
	long := "http://10.77.0.2/" + strings.Repeat("x", 200)
	s := &Server{Address: here, Lookup: func(Client) (Answer, bool) { return Answer{Boot: &Boot{File: long}}, true }}
	_, reply, ok := s.answer(message(t, dhcpv4.MessageTypeDiscover, firmware("HTTPClient", iana.EFI_X86_64_HTTP)), false)
	if !ok {
		t.Fatal("no answer")
	}
	if m, err := dhcpv4.FromBytes(reply.ToBytes()); err != nil || m.BootFileNameOption() != long || m.BootFileName != "" {
		t.Errorf("%v %v", err, m)
	}
}

func TestUUIDs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		option dhcpv4.Modifier
		want   string
	}{
		{"both orders", withUUID(0, uuid), "44454c4c-4200-1035-8052-b4c04f4e3732 4c4c4544-0042-3510-8052-b4c04f4e3732"},
		{"one", withUUID(0, make([]byte, 16)), "00000000-0000-0000-0000-000000000000"},
		{"of another type", withUUID(1, uuid), ""},
		{"too short", withUUID(0, uuid[:15]), ""},
		{"none", func(*dhcpv4.DHCPv4) {}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message(t, dhcpv4.MessageTypeDiscover, tt.option)
			if got := strings.Join(clientOf(m).UUIDs, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	s := &Server{Address: here, Lookup: asProxy}
	_, reply, _ := s.answer(message(t, dhcpv4.MessageTypeDiscover, firmware("PXEClient", iana.EFI_X86_64), withUUID(0, uuid)), false)
	if got := reply.Options.Get(dhcpv4.OptionClientMachineIdentifier); string(got) != "\x00"+string(uuid) {
		t.Errorf("the answer has the machine identifier %x", got)
	}
}

func TestDestination(t *testing.T) {
	sender := &net.UDPAddr{IP: net.IPv4(10, 77, 0, 50), Port: 4011}
	ack, nak := message(t, dhcpv4.MessageTypeAck), message(t, dhcpv4.MessageTypeNak)
	relayed := dhcpv4.WithGatewayIP(net.IPv4(10, 78, 0, 1))
	renewal := dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 11))
	for _, tt := range []struct {
		name    string
		request *dhcpv4.DHCPv4
		reply   *dhcpv4.DHCPv4
		proxy   bool
		want    string
	}{
		{"no address yet", message(t, dhcpv4.MessageTypeDiscover), ack, false, "255.255.255.255:68"},
		{"a renewal", message(t, dhcpv4.MessageTypeRequest, renewal), ack, false, "10.77.0.11:68"},
		{"a renewal that is refused", message(t, dhcpv4.MessageTypeRequest, renewal), nak, false, "255.255.255.255:68"},
		{"through a relay", message(t, dhcpv4.MessageTypeDiscover, relayed), ack, false, "10.78.0.1:67"},
		{"the proxy's port", message(t, dhcpv4.MessageTypeRequest), ack, true, "10.77.0.50:4011"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := destination(tt.request, tt.reply, sender, tt.proxy).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestForeignClient has busybox's DHCP client take a reserved address in a network
// namespace of its own.
func TestForeignClient(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("makes a network namespace: needs root, and not -short")
	}
	if os.Getenv("GPUSTRAP_IN_NAMESPACE") == "" {
		cmd := exec.Command(oracle.Need(t, "unshare"), "--net", os.Args[0], "-test.run=^TestForeignClient$", "-test.v")
		cmd.Env = append(os.Environ(), "GPUSTRAP_IN_NAMESPACE=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	ip, busybox := oracle.Need(t, "ip"), oracle.Need(t, "busybox")
	for _, args := range []string{
		"link set lo up", "link add server type veth peer name client address " + known.String(),
		"address add 10.77.0.2/24 dev server", "link set server up", "link set client up",
	} {
		if out, err := exec.Command(ip, strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", args, err, out)
		}
	}
	conn, err := server4.NewIPv4UDPConn("server", &net.UDPAddr{Port: Port})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	replies := make(chan Reply, 10)
	s := &Server{Address: here, Lookup: withReservation, Replied: func(_ Client, r Reply) { replies <- r }}
	done := make(chan error)
	go func() { done <- s.Serve(ctx, conn, false) }()
	out, err := exec.Command(busybox, "udhcpc", "-i", "client", "-n", "-q", "-f", "-s", "/bin/true").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lease of 10.77.0.11 obtained from 10.77.0.2, lease time 3600") {
		t.Errorf("%v %s", err, out)
	}
	for _, want := range []string{"OFFER 10.77.0.11", "ACK 10.77.0.11"} {
		r := <-replies
		if got := r.Type + " " + r.Address.String(); got != want {
			t.Errorf("the server says %s, want %s", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(message(f, dhcpv4.MessageTypeDiscover, firmware("PXEClient", iana.EFI_X86_64), withUUID(0, uuid)).ToBytes(), false)
	f.Add(message(f, dhcpv4.MessageTypeRequest, firmware("HTTPClient", iana.EFI_X86_64_HTTP)).ToBytes(), true)
	f.Fuzz(func(t *testing.T, packet []byte, proxyPort bool) {
		m, err := dhcpv4.FromBytes(packet)
		if err != nil {
			return
		}
		s := &Server{Address: here, Lookup: withReservation}
		_, reply, ok := s.answer(m, proxyPort)
		if !ok {
			return
		}
		if m.ClientHWAddr.String() != known.String() {
			t.Errorf("%s is answered", m.ClientHWAddr)
		}
		if _, err := dhcpv4.FromBytes(reply.ToBytes()); err != nil {
			t.Error(err)
		}
	})
}
