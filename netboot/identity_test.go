package netboot

import (
	"net"
	"testing"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/plan"
)

func hardware(t *testing.T, addresses ...string) (macs []net.HardwareAddr) {
	t.Helper()
	for _, a := range addresses {
		m, err := net.ParseMAC(a)
		if err != nil {
			t.Fatal(err)
		}
		macs = append(macs, m)
	}
	return macs
}

func TestFind(t *testing.T) {
	const uuid, swapped = "00112233-4455-6677-8899-aabbccddeeff", "33221100-5544-7766-8899-aabbccddeeff"
	machine := func(name string, match config.Match) plan.Machine {
		return plan.Machine{Machine: config.Machine{Name: name, Match: match}}
	}
	x := newIndex([]plan.Machine{
		machine("by-mac", config.Match{MACs: hardware(t, "52:54:00:00:00:01", "52:54:00:00:00:02")}),
		machine("by-uuid", config.Match{UUID: uuid}),
		machine("by-serial", config.Match{Serial: "S1"}),
		machine("by-all", config.Match{MACs: hardware(t, "52:54:00:00:00:03"), UUID: "00000000-0000-0000-0000-000000000003", Serial: "S3"}),
		machine("twin-a", config.Match{Serial: "Default string"}),
		machine("twin-b", config.Match{Serial: "Default string"}),
		machine("special", config.Match{Serial: "Default string", MACs: hardware(t, "52:54:00:00:00:04")}),
		machine("none", config.Match{}),
	})
	mac := func(a string) net.HardwareAddr { return hardware(t, a)[0] }
	for _, tt := range []struct {
		name string
		id   Identity
		want string
	}{
		{"nothing", Identity{}, ""},
		{"a MAC address", Identity{MAC: mac("52:54:00:00:00:02")}, "by-mac"},
		{"a UUID", Identity{MAC: mac("52:54:00:00:00:99"), UUIDs: []string{swapped, uuid}}, "by-uuid"},
		{"a UUID in capitals", Identity{UUIDs: []string{"00112233-4455-6677-8899-AABBCCDDEEFF"}}, "by-uuid"},
		{"a serial number", Identity{Serial: "S1"}, "by-serial"},
		{"a serial number in another case", Identity{Serial: "s1"}, ""},
		{"the MAC address before the others", Identity{MAC: mac("52:54:00:00:00:01"), UUIDs: []string{uuid}, Serial: "S1"}, "by-mac"},
		{"the UUID before the serial number", Identity{UUIDs: []string{uuid}, Serial: "S1"}, "by-uuid"},
		{"all that it has", Identity{MAC: mac("52:54:00:00:00:03"), UUIDs: []string{"00000000-0000-0000-0000-000000000003"}, Serial: "S3"}, "by-all"},
		{"DHCP knows no serial number", Identity{MAC: mac("52:54:00:00:00:03")}, "by-all"},
		{"a serial number that contradicts", Identity{MAC: mac("52:54:00:00:00:03"), Serial: "S4"}, ""},
		{"a UUID that contradicts", Identity{MAC: mac("52:54:00:00:00:03"), UUIDs: []string{uuid}}, "by-uuid"},
		{"a serial number that two have", Identity{Serial: "Default string", MAC: mac("52:54:00:00:00:98")}, ""},
		{"one of them by more", Identity{Serial: "Default string", MAC: mac("52:54:00:00:00:04")}, "special"},
		{"nobody", Identity{MAC: mac("52:54:00:00:00:77"), Serial: "S9"}, ""},
	} {
		got := ""
		if m := x.find(tt.id); m != nil {
			got = m.Name
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
