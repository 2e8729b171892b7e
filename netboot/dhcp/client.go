// Package dhcp answers network booting firmware by DHCP: as a ProxyDHCP server beside
// a site's own (Preboot Execution Environment Specification 2.1; UEFI Specification
// 2.10, section 24.7, HTTP Boot), or with reservations of its own.
package dhcp

import (
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Client is a machine that asks, by its own words: they identify, they do not
// authenticate.
type Client struct {
	MAC net.HardwareAddr
	// UUIDs are the readings of the client's system UUID, in lower case: by the byte
	// order of SMBIOS 2.6, which dmidecode shows, and as it was sent. Firmware does not
	// agree on which one it sends. Empty: it sent none.
	UUIDs []string
	// Firmware is what boots; FirmwareNone when the client only wants an address.
	Firmware Firmware
	Arch     string // Debian architecture: amd64, arm64, or empty for others
	IPXE     bool   // the client is iPXE, whatever started it
}

// Firmware is a way in which a machine boots from the network.
type Firmware string

// The kinds of firmware.
const (
	FirmwareNone     Firmware = ""
	FirmwareBIOS     Firmware = "BIOS"           // loads by TFTP
	FirmwareUEFI     Firmware = "UEFI PXE"       // loads by TFTP
	FirmwareUEFIHTTP Firmware = "UEFI HTTP Boot" // loads by HTTP
)

// Class identifiers (option 60) of firmware, without the architecture that follows.
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// clientOf describes who sent a message.
func clientOf(m *dhcpv4.DHCPv4) Client {
	c := Client{
		MAC:   slices.Clone(m.ClientHWAddr),
		UUIDs: uuids(m.Options.Get(dhcpv4.OptionClientMachineIdentifier)),
		IPXE:  slices.Contains(m.UserClass(), "iPXE") || m.Options.Has(dhcpv4.OptionEtherboot),
	}
	class, _, _ := strings.Cut(m.ClassIdentifier(), ":")
	archs := m.ClientArch()
	if class != classPXE && class != classHTTP || len(archs) == 0 {
		return c
	}
	switch archs[0] {
	case iana.INTEL_X86PC:
		c.Firmware, c.Arch = FirmwareBIOS, "amd64"
	case iana.EFI_X86_64, iana.EFI_BC:
		c.Firmware, c.Arch = FirmwareUEFI, "amd64"
	case iana.EFI_ARM64:
		c.Firmware, c.Arch = FirmwareUEFI, "arm64"
	case iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP:
		c.Firmware, c.Arch = FirmwareUEFIHTTP, "amd64"
	case iana.EFI_ARM64_HTTP:
		c.Firmware, c.Arch = FirmwareUEFIHTTP, "arm64"
	default:
		c.Firmware = FirmwareUEFI
	}
	return c
}

// uuids reads option 97: a zero and the 16 bytes of the UUID (RFC 4578, section 2.3).
func uuids(option []byte) []string {
	if len(option) != 17 || option[0] != 0 {
		return nil
	}
	sent := option[1:]
	smbios := slices.Clone(sent)
	slices.Reverse(smbios[0:4])
	slices.Reverse(smbios[4:6])
	slices.Reverse(smbios[6:8])
	if slices.Equal(smbios, sent) {
		return []string{formatUUID(sent)}
	}
	return []string{formatUUID(smbios), formatUUID(sent)}
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
