package autoinstall

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/config"
)

// drawMachine draws a machine with odd but possible values.
func drawMachine(t *rapid.T) Input {
	release := rapid.SampledFrom(releases).Draw(t, "release")
	name := rapid.SampledFrom([]string{"workstation", "lab", "hgx", "plain", "mirrored"}).Draw(t, "fixture")
	in := fixtures[name](release)
	m := &in.Machine
	word := rapid.StringMatching(`[a-z][a-z0-9-]{0,20}`)
	text := rapid.StringMatching(`[ -~éß\t]{0,30}`)
	m.Name, m.Hostname = word.Draw(t, "name"), word.Draw(t, "hostname")
	m.Timezone = text.Draw(t, "timezone")
	for i := range m.Users {
		m.Users[i].FullName = text.Draw(t, "full name")
		m.Users[i].AuthorizedKeys = rapid.SliceOfN(text, 0, 3).Draw(t, "keys")
		m.Users[i].Groups = rapid.SliceOfN(word, 0, 3).Draw(t, "groups")
		m.Users[i].Sudo = rapid.SampledFrom([]config.Sudo{config.SudoNo, config.SudoPassword, config.SudoNoPassword}).Draw(t, "sudo")
	}
	m.Packages = rapid.SliceOfN(word, 0, 3).Draw(t, "packages")
	switch rapid.IntRange(0, 3).Draw(t, "disk") {
	case 0:
		m.Storage.Disk = config.Disk{Serial: rapid.StringMatching(`[ -~]{1,20}`).Draw(t, "serial")}
	case 1:
		m.Storage.Disk = config.Disk{Size: "largest"}
	case 2:
		m.Storage.Disk = config.Disk{}
	}
	if rapid.Bool().Draw(t, "network") {
		m.Network = &config.Network{
			MAC: net.HardwareAddr(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac")), DHCP: rapid.Bool().Draw(t, "dhcp"),
			Addresses: []netip.Prefix{netip.MustParsePrefix("fd00::1/64")}, MTU: rapid.IntRange(0, 9000).Draw(t, "mtu"),
		}
	}
	return in
}

// TestRenderIsPure renders the same machine side by side with others, and with
// another renderer, in another environment.
func TestRenderIsPure(t *testing.T) {
	shared := newTestRenderer(t)
	rapid.Check(t, func(t *rapid.T) {
		inputs := rapid.SliceOfN(rapid.Custom(drawMachine), 1, 4).Draw(t, "machines")
		first := make([]Seed, len(inputs))
		var wg sync.WaitGroup
		for i := range inputs {
			wg.Go(func() {
				seed, rep := shared.Render(inputs[i])
				if err := rep.Err(); err != nil {
					panic(fmt.Sprintf("%v", err))
				}
				first[i] = seed
			})
		}
		wg.Wait()
		own, err := NewRenderer()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Setenv("TZ", rapid.SampledFrom([]string{"UTC", "Asia/Tokyo"}).Draw(t, "TZ")); err != nil {
			t.Fatal(err)
		}
		for i := range inputs {
			again, rep := own.Render(inputs[i])
			if err := rep.Err(); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(first[i], again) {
				t.Fatalf("two renders of %s differ", inputs[i].Machine.Name)
			}
			if !bytes.HasPrefix(again.UserData, []byte("#cloud-config\n")) {
				t.Fatal("user-data lacks its first line")
			}
		}
	})
}

// fleet returns n machines that differ as a fleet's machines do.
func fleet(n int) []Input {
	out := make([]Input, n)
	for i := range out {
		in := hgx("24.04")
		m := &in.Machine
		m.Name = fmt.Sprintf("node%05d", i)
		m.Hostname = m.Name
		m.Match.MACs = []net.HardwareAddr{{0xb8, 0xce, 0xf6, byte(i >> 16), byte(i >> 8), byte(i)}}
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		m.Network.Addresses = []netip.Prefix{netip.PrefixFrom(address, 8)}
		out[i] = in
	}
	return out
}

// BenchmarkRender10000 renders ten thousand machines' seeds and writes them, as
// gpustrap render does, on as many goroutines as there are processors.
func BenchmarkRender10000(b *testing.B) {
	const n = 10_000
	machines := fleet(n)
	for b.Loop() {
		dir := b.TempDir()
		r := newTestRenderer(b)
		var size int
		var wg sync.WaitGroup
		work := make(chan Input)
		for range 2 {
			wg.Go(func() {
				for in := range work {
					seed, rep := r.Render(in)
					if err := rep.Err(); err != nil {
						b.Error(err)
						continue
					}
					if err := writeSeed(filepath.Join(dir, in.Machine.Name), seed); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, in := range machines {
			work <- in
		}
		close(work)
		wg.Wait()
		seed, _ := r.Render(machines[0])
		size = len(seed.UserData)
		b.ReportMetric(float64(size), "bytes/seed")
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "seeds/s")
	}
}

func writeSeed(dir string, seed Seed) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"user-data": seed.UserData, "meta-data": seed.MetaData, "vendor-data": seed.VendorData} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
