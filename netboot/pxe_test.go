package netboot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/netboot/dhcp"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
)

// efiProgram is one for amd64, as far as its header says so.
func efiProgram(text string) string {
	b := make([]byte, 0x80)
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00\x64\x86")
	return string(b) + text
}

// bootBench is a bench that boots machines from a small medium.
type bootBench struct {
	*bench
	*PXE
	url    string
	medium *Medium
}

func newBootBench(t testing.TB, yaml string, mode DHCPMode) *bootBench {
	t.Helper()
	b := newBench(t, yaml)
	file := isotest.Medium{Small: true, Files: map[string]string{"EFI/boot/bootx64.efi": efiProgram("shim")}}.Make(t)
	medium, err := OpenMedium(file)
	if err != nil {
		t.Fatal(err)
	}
	var loaders boot.Loaders
	folder := fstest.MapFS{"undionly.kpxe": {Data: []byte("BIOS")}, "snponly.efi": {Data: []byte(efiProgram("iPXE"))}}
	if err := loaders.AddIPXE(folder, "ipxe"); err != nil {
		t.Fatal(err)
	}
	if err := loaders.AddFile("grub", "grubnet.efi", []byte(efiProgram("unsupported HTTP error"))); err != nil {
		t.Fatal(err)
	}
	if err := loaders.AddMedium(medium.Image, medium.Medium); err != nil {
		t.Fatal(err)
	}
	p := NewPXE(b.Server, PXEOptions{
		Media: []*Medium{medium}, Loaders: &loaders, Interface: "eth0", Address: netip.MustParseAddr("10.0.0.2"), DHCP: mode,
	})
	h := httptest.NewServer(p.Handler())
	t.Cleanup(h.Close)
	return &bootBench{bench: b, PXE: p, url: h.URL, medium: medium}
}

func ask(t *testing.T, method, address string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r) // without following redirects
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer, string(body)
}

func hyphened(i int) string { return strings.ReplaceAll(mac(i), ":", "-") }

// TestBootScripts: who gets the installer, and that asking for the head of a script
// begins nothing.
func TestBootScripts(t *testing.T) {
	b := newBootBench(t, fleet(3), DHCPProxy)
	script := func(i int) string {
		_, text := ask(t, http.MethodGet, b.url+"/boot.ipxe?mac="+hyphened(i)+"&uuid=00000000-0000-0000-0000-000000000000&serial=")
		return text
	}
	if got := script(0); !strings.Contains(got, "echo gpustrap: node00000 boots from its own disk: it is not armed\n") || !strings.Contains(got, "sanboot ") {
		t.Errorf("a machine that is not armed gets\n%s", got)
	}
	if got := script(9); !strings.Contains(got, "this machine ("+mac(9)+") is not in the configuration") || len(b.Unknown()) != 1 {
		t.Errorf("an unknown machine gets\n%s", got)
	}
	b.arm(0, ArmOrder{})
	if r, body := ask(t, http.MethodHead, b.url+"/boot.ipxe?mac="+hyphened(0)); r.StatusCode != 200 || body != "" {
		t.Error(r.Status, body)
	}
	b.want(0, state.Armed)
	got := script(0)
	below := fmt.Sprintf("%s/medium/%s/", b.http.URL, b.medium.ID)
	line := fmt.Sprintf("kernel %svmlinuz initrd=initrd ip=dhcp BOOTIF=01-%s url=%smedium.iso autoinstall ds=nocloud;s=%s/s/", below, hyphened(0), below, b.http.URL)
	if !strings.Contains(got, line) || !strings.Contains(got, "\ninitrd --name initrd "+below+"initrd ") {
		t.Errorf("no line %s in\n%s", line, got)
	}
	b.want(0, state.Booting)

	b.arm(1, ArmOrder{})
	if _, text := ask(t, http.MethodGet, b.url+"//grub//grub.cfg"); !strings.Contains(text, "configfile ${prefix}/grub.cfg-${net_default_mac}") {
		t.Errorf("the first grub.cfg is\n%s", text)
	}
	_, text := ask(t, http.MethodGet, b.url+"/grub/grub.cfg-"+mac(1))
	if !strings.Contains(text, "linux '(http,"+strings.TrimPrefix(b.http.URL, "http://")+")/medium/") || !strings.Contains(text, "'ds=nocloud;s=") {
		t.Errorf("GRUB gets\n%s", text)
	}
	b.want(1, state.Booting)
	if r, _ := ask(t, http.MethodGet, b.url+"/grub/grub.cfg-nonsense"); r.StatusCode != 404 {
		t.Error(r.Status)
	}
	if r, _ := ask(t, http.MethodPost, b.url+"/boot.ipxe?mac="+hyphened(2)); r.StatusCode != 405 {
		t.Error(r.Status)
	}
}

// TestNoMedium: a machine whose release is changed after it was armed, to one of which
// there is no medium, is told so, and stays armed.
func TestNoMedium(t *testing.T) {
	b := newBootBench(t, fleet(1), DHCPProxy)
	b.arm(0, ArmOrder{})
	if err := os.WriteFile(b.file, []byte(strings.Replace(fleet(1), `"24.04"`, `"22.04"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Reload(t.Context())
	if _, text := ask(t, http.MethodGet, b.url+"/boot.ipxe?mac="+hyphened(0)); !strings.Contains(text, "no medium of its release") {
		t.Errorf("it gets\n%s", text)
	}
	b.want(0, state.Armed)
	if lines := strings.Join(b.Describe(), "\n"); !strings.Contains(lines, "node00000: no medium that is served fits: node00000 wants Ubuntu 22.04") {
		t.Errorf("the server says at its start\n%s", lines)
	}
}

// TestBootFiles: what is served, in what forms, and nothing else.
func TestBootFiles(t *testing.T) {
	b := newBootBench(t, fleet(1), DHCPProxy)
	whole, err := os.ReadFile(b.medium.Path)
	if err != nil {
		t.Fatal(err)
	}
	below := "/medium/" + b.medium.ID + "/"
	for name, want := range map[string]string{
		below + "vmlinuz": "kernel", below + "initrd": "initrd", below + "medium.iso": string(whole),
		"/shimx64.efi": efiProgram("shim"), "//grubx64.efi": efiProgram("unsupported HTTP error"), "/boot//ipxe-amd64.efi": efiProgram("iPXE"), "/undionly.kpxe": "BIOS",
	} {
		r, got := ask(t, http.MethodGet, b.url+name)
		if r.StatusCode != 200 || got != want {
			t.Errorf("%s: %s, %d bytes, want %d", name, r.Status, len(got), len(want))
		}
		r, got = ask(t, http.MethodHead, b.url+name)
		if r.ContentLength != int64(len(want)) || got != "" || r.Header.Get("Accept-Ranges") != "bytes" {
			t.Errorf("the head of %s: %s, length %d", name, r.Status, r.ContentLength)
		}
		r, got = ask(t, http.MethodGet, b.url+name, "Range", "bytes=1-3")
		if r.StatusCode != 206 || got != want[1:4] {
			t.Errorf("a range of %s: %s %q", name, r.Status, got)
		}
	}
	for _, name := range []string{
		"/", "/boot/", "/medium/", below, below + "md5sum.txt", below + "../" + b.medium.ID + "/vmlinuz", "/medium/0000/vmlinuz", "/boot/../gpustrap.yaml",
		"/..%2f..%2fetc/passwd", "/boot/%2e%2e/%2e%2e/etc/passwd", `/boot\..\x`, "/iso/", "/iso/x", "/revocations_sbat.efi", "/%00",
	} {
		if r, _ := ask(t, http.MethodGet, b.url+name); r.StatusCode != 404 && r.StatusCode != 307 && r.StatusCode != 301 {
			t.Errorf("%s: %s", name, r.Status)
		}
		clean := strings.ReplaceAll(strings.ReplaceAll(name, "%2f", "/"), "%2e", ".")
		if f, err := b.openTFTP(t.Context(), netip.Addr{}, clean); err == nil && !strings.Contains(name, "..") {
			t.Errorf("TFTP has %s: %d bytes", name, f.Size())
		}
	}
	for name, want := range map[string]string{
		"undionly.kpxe": "BIOS", "/undionly.kpxe": "BIOS", `\boot\undionly.kpxe`: "BIOS", below + "initrd": "initrd", "grub/grub.cfg": "", "grub/grub.cfg-" + mac(0): "",
	} {
		f, err := b.openTFTP(t.Context(), netip.Addr{}, name)
		if err != nil {
			t.Errorf("TFTP has no %s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size())); err != nil || want != "" && string(got) != want || len(got) == 0 {
			t.Errorf("TFTP's %s: %q, %v", name, got, err)
		}
	}
	if _, err := b.openTFTP(t.Context(), netip.Addr{}, below+"medium.iso"); err == nil {
		t.Error("TFTP has the whole medium")
	}
}

// TestDHCPLookup: what each firmware is told, and who is not answered.
func TestDHCPLookup(t *testing.T) {
	const machines = fleetHead + `
  - {name: node00000, match: {mac: "52:54:00:00:00:00"}, network: {addresses: [10.0.0.20/24], gateway: 10.0.0.1, nameservers: [10.0.0.3]}}
  - {name: node00001, match: {mac: "52:54:00:00:00:01"}, gpu: {model: h200, secure_boot: required}}
`
	client := func(i int, f dhcp.Firmware, ipxe bool) dhcp.Client {
		return dhcp.Client{MAC: identity(i).MAC, Firmware: f, Arch: "amd64", IPXE: ipxe, UUIDs: []string{"00000000-0000-0000-0000-000000000000"}}
	}
	for _, tt := range []struct {
		name   string
		mode   DHCPMode
		client dhcp.Client
		want   string // empty: not answered
	}{
		{"BIOS", DHCPProxy, client(0, dhcp.FirmwareBIOS, false), "undionly.kpxe from 10.0.0.2"},
		{"UEFI", DHCPProxy, client(0, dhcp.FirmwareUEFI, false), "ipxe-amd64.efi from 10.0.0.2"},
		{"HTTP Boot", DHCPProxy, client(0, dhcp.FirmwareUEFIHTTP, false), "BASE/boot/shimx64.efi from 10.0.0.2"},
		{"Secure Boot", DHCPProxy, client(1, dhcp.FirmwareUEFI, false), "shimx64.efi from 10.0.0.2"},
		{"iPXE", DHCPProxy, client(0, dhcp.FirmwareUEFI, true), "BASE/boot.ipxe?mac=52-54-00-00-00-00&uuid=${uuid}&serial=${serial:uristring} from 10.0.0.2"},
		{"an address alone", DHCPProxy, client(0, dhcp.FirmwareNone, false), ""},
		{"an address alone, reserved", DHCPReservation, client(0, dhcp.FirmwareNone, false), "address 10.0.0.20/24 gateway 10.0.0.1"},
		{"reserved", DHCPReservation, client(0, dhcp.FirmwareBIOS, false), "undionly.kpxe from 10.0.0.2 address 10.0.0.20/24 gateway 10.0.0.1"},
		{"no reservation", DHCPReservation, client(1, dhcp.FirmwareNone, false), ""},
		{"unknown", DHCPReservation, client(7, dhcp.FirmwareBIOS, false), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBootBench(t, machines, tt.mode)
			a, ok := b.lookup(tt.client)
			var got []string
			if ok && a.Boot != nil {
				got = append(got, strings.ReplaceAll(a.Boot.File, b.http.URL, "BASE")+" from "+a.Boot.NextServer.String())
			}
			if ok && a.Lease != nil {
				got = append(got, "address "+a.Lease.Address.String()+" gateway "+a.Lease.Gateway.String())
			}
			if text := strings.Join(got, " "); text != tt.want || ok != (tt.want != "") {
				t.Errorf("%q, %v, want %q", text, ok, tt.want)
			}
		})
	}
}

// TestMachinesMedium compares a machine's image, as it is served, with the same image
// made at once, and verifies it.
func TestMachinesMedium(t *testing.T) {
	b := newBootBench(t, fleet(2), DHCPProxy)
	address := func(i int) string {
		r := b.arm(i, ArmOrder{Via: state.Medium})
		return strings.Replace(b.MediumURL(r), b.http.URL, b.url, 1)
	}
	first, second := address(0), address(1)
	b.want(0, state.Armed)
	answer, image := ask(t, http.MethodGet, first)
	if answer.StatusCode != 200 {
		t.Fatal(answer.Status, image)
	}
	b.want(0, state.Booting)
	data := []byte(image)
	faults, err := iso.Verify(t.Context(), bytes.NewReader(data), int64(len(data)), iso.VerifyOptions{Base: b.medium.Image})
	if faults = slices.DeleteFunc(faults, func(f iso.Fault) bool { return f.Base }); err != nil || len(faults) > 0 {
		t.Errorf("the image: %v %v", faults, err)
	}
	served, err := iso.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	userData, err := fs.ReadFile(served.FS(), "nocloud/user-data")
	if err != nil || !bytes.Contains(userData, []byte("node00000")) || !bytes.Contains(userData, []byte("/report/")) {
		t.Errorf("its seed: %v\n%s", err, userData)
	}
	menu, err := fs.ReadFile(served.FS(), "boot/grub/grub.cfg")
	if err != nil || !bytes.Contains(menu, []byte("autoinstall")) || !bytes.Contains(menu, []byte("timeout=0")) {
		t.Errorf("its menu asks: %v\n%s", err, menu)
	}

	tag := answer.Header.Get("ETag")
	random := rand.New(rand.NewPCG(1, 2))
	var group sync.WaitGroup
	for range 200 {
		from := random.IntN(len(data))
		to := min(len(data)-1, from+random.IntN(70_000))
		group.Go(func() {
			r, got := ask(t, http.MethodGet, first, "Range", fmt.Sprintf("bytes=%d-%d", from, to), "If-Range", tag)
			if r.StatusCode != 206 || got != image[from:to+1] {
				t.Errorf("bytes %d to %d: %s, %d bytes", from, to, r.Status, len(got))
			}
		})
	}
	group.Wait()
	if r, got := ask(t, http.MethodGet, first, "Range", "bytes=0-0", "If-Range", `"other"`); r.StatusCode != 200 || len(got) != len(image) {
		t.Errorf("a range of another image: %s", r.Status)
	}
	if r, _ := ask(t, http.MethodGet, first, "If-None-Match", tag); r.StatusCode != 304 {
		t.Error(r.Status)
	}
	if r, _ := ask(t, http.MethodHead, first); r.ContentLength != int64(len(image)) {
		t.Error(r.ContentLength)
	}
	if r, other := ask(t, http.MethodGet, second); r.Header.Get("ETag") == tag || sha256.Sum256([]byte(other)) == sha256.Sum256(data) {
		t.Error("two machines have the same image")
	}
	for _, wrong := range []string{
		strings.Replace(first, "node00000.iso", "node00001.iso", 1), strings.Replace(first, "/iso/", "/iso/0", 1), b.url + "/iso//node00000.iso",
	} {
		if r, _ := ask(t, http.MethodGet, wrong); r.StatusCode != 404 {
			t.Errorf("%s: %s", wrong, r.Status)
		}
	}
	// The image stays what it is when the configuration changes under it, and opens
	// nothing once the machine is armed again.
	b.arm(0, ArmOrder{Via: state.Medium, Reinstall: true})
	if r, _ := ask(t, http.MethodGet, first); r.StatusCode != 404 {
		t.Errorf("the former generation's image: %s", r.Status)
	}
}

// TestImageCache keeps the images within bounds, a machine's latest alone, and plans
// each once and few at a time.
func TestImageCache(t *testing.T) {
	c := newImageCache()
	var made, planning, most atomic.Int32
	plan := func() (*machineImage, error) {
		made.Add(1)
		if n := planning.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer planning.Add(-1)
		runtime.Gosched()
		return &machineImage{}, nil
	}
	const images = 200
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range images {
				if _, err := c.get(imageKey{fmt.Sprint(i), 1}, plan); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if made.Load() != images || most.Load() > maxPlans || c.order.Len() != images {
		t.Errorf("%d made, %d at a time, %d kept", made.Load(), most.Load(), c.order.Len())
	}
	for i := range maxImages {
		if _, err := c.get(imageKey{fmt.Sprint(-i), 1}, plan); err != nil {
			t.Error(err)
		}
	}
	if c.order.Len() != maxImages || len(c.entries) != maxImages {
		t.Errorf("%d and %d are kept", c.order.Len(), len(c.entries))
	}
	made.Store(0)
	for _, generation := range []uint64{2, 2, 3, 3} {
		if _, err := c.get(imageKey{"0", generation}, plan); err != nil {
			t.Error(err)
		}
	}
	if made.Load() != 2 || c.order.Len() != maxImages || len(c.entries) != maxImages {
		t.Errorf("two generations: %d made, %d kept", made.Load(), c.order.Len())
	}
	failed := errors.New("no")
	for range 2 {
		if _, err := c.get(imageKey{"x", 1}, func() (*machineImage, error) { made.Add(1); return nil, failed }); !errors.Is(err, failed) {
			t.Error(err)
		}
	}
	if made.Load() != 4 {
		t.Error("a failure is remembered")
	}
}

// FuzzRawRequests sends what no client would send, as it comes from the wire: whatever
// it is, nothing breaks, no range has other bytes than the image, and without its token
// no seed goes out.
func FuzzRawRequests(f *testing.F) {
	b := newBootBench(f, fleet(2), DHCPProxy)
	b.arm(0, ArmOrder{})
	seed := strings.TrimPrefix(b.boot(0).Seed, b.http.URL)
	image := strings.TrimPrefix(b.MediumURL(b.arm(1, ArmOrder{Via: state.Medium})), b.http.URL)
	medium := "/medium/" + b.medium.ID + "/" + b.medium.Name
	whole := make([]byte, b.medium.Image.Size())
	if _, err := b.medium.Image.ReadAt(whole, 0); err != nil {
		f.Fatal(err)
	}
	for _, path := range []string{
		"TOKEN/user-data", "//TOKEN//meta-data", "TOKEN/../../healthz", "/s/%2e%2e/x/user-data", "/s//user-data", "/iso//node00001.iso", "IMAGE", "MEDIUM",
		"/boot.ipxe?mac=52-54-00-00-00-00&uuid=%zz&serial=%00", "/grub/grub.cfg-52:54:00:00:00:01", "//grubx64.efi", "/boot/..%2f..%2fetc/passwd", "*", "http://x/healthz", "/report/x/receipt",
	} {
		f.Add([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	for _, value := range []string{"bytes=0-0", "bytes=-1", "bytes=5-2", "bytes=0-,0-,0-,0-", "bytes=18446744073709551615-", "bytes=1-2,9999999999999-", "lines=1", "bytes= 1 - 2"} {
		f.Add([]byte("GET MEDIUM HTTP/1.1\r\nHost: x\r\nRange: " + value + "\r\nIf-Range: \"x\"\r\n\r\n"))
		f.Add([]byte("HEAD IMAGE HTTP/1.0\r\nRange: " + value + "\r\n\r\n"))
	}
	f.Add([]byte("POST /report/x/event HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{"))
	f.Add([]byte("POST /report/x/event HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{}"))
	handler := b.Handler()
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("TOKEN"), []byte(seed)), []byte("IMAGE"), []byte(image)), []byte("MEDIUM"), []byte(medium))
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Skip()
		}
		r.RemoteAddr = "10.0.0.9:1"
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code >= 500 {
			t.Errorf("%q: %d %.200s", raw, answer.Code, answer.Body)
		}
		body := answer.Body.Bytes()
		if bytes.Contains(body, []byte("autoinstall:")) && !bytes.Contains(raw, []byte(strings.Trim(seed, "/"))) && !bytes.Contains(raw, []byte(strings.Trim(image, "/"))) {
			t.Errorf("%q gets a seed", raw)
		}
		var from, to int64
		if n, _ := fmt.Sscanf(answer.Header().Get("Content-Range"), "bytes %d-%d/", &from, &to); n == 2 && r.Method == http.MethodGet && bytes.Contains(raw, []byte(medium)) && answer.Code == http.StatusPartialContent && !bytes.Equal(body, whole[from:to+1]) {
			t.Errorf("%q: bytes %d to %d are others", raw, from, to)
		}
	})
}

func TestOpenMedium(t *testing.T) {
	for name, content := range map[string]string{"text": "no medium", "absent": ""} {
		file := t.TempDir() + "/x.iso"
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := OpenMedium(file); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// TestReservationOfLinks: of several links the card's own gives the address, and none
// that has a tag.
func TestReservationOfLinks(t *testing.T) {
	address := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	mine, other := identity(0).MAC, identity(1).MAC
	bond := config.Link{Name: "bond0", Network: config.Network{Addresses: address("10.0.0.20/24")}}
	card := config.Link{Network: config.Network{MAC: mine, Addresses: address("10.0.1.20/24")}}
	another := config.Link{Network: config.Network{MAC: other, Addresses: address("10.0.2.20/24")}}
	vlan := config.Link{Name: "storage", VLAN: 40, Network: config.Network{Addresses: address("10.0.40.20/24")}}
	for want, links := range map[string][]config.Link{
		"10.0.0.20/24": {vlan, bond}, "10.0.1.20/24": {another, vlan, card}, "none": {vlan, another},
	} {
		m := &plan.Machine{Machine: config.Machine{Network: &config.Network{Links: links}}}
		got := "none"
		if lease := reservation(m, mine); lease != nil {
			got = lease.Address.String()
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestArmNeedsAMedium: what no medium is for is refused before anything is erased, and
// named when the server starts.
func TestArmNeedsAMedium(t *testing.T) {
	b := newBootBench(t, fleetHead+`  - {name: noble, match: {mac: "52:54:00:00:00:01"}}
  - {name: jammy, ubuntu: "22.04", match: {mac: "52:54:00:00:00:02"}}
  - {name: alone, match: {mac: "52:54:00:00:00:03"}, offline: only}
`, DHCPProxy)
	for machine, want := range map[string]string{
		"noble": "", "jammy": "jammy: it cannot be installed from here: no medium that is served fits: ", "alone": "alone takes its packages from its medium alone (offline: only)",
	} {
		for _, via := range []state.Via{state.Network, state.Medium} {
			_, err := b.Arm(t.Context(), machine, ArmOrder{Via: via})
			if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || statusOf(err) != http.StatusUnprocessableEntity) {
				t.Errorf("%s via %s: %v", machine, via, err)
			}
		}
		if said := strings.Join(b.Describe(), "\n"); want != "" && !strings.Contains(said, "not answered: "+machine) {
			t.Errorf("%s is not named in\n%s", machine, said)
		}
	}
}

// TestSerialNumberAlone: what DHCP never answers is not armed for the network, but is for
// its medium, and where another server does the DHCP.
func TestSerialNumberAlone(t *testing.T) {
	for mode, refused := range map[DHCPMode]bool{DHCPProxy: true, DHCPReservation: true, DHCPOff: false} {
		b := newBootBench(t, fleetHead+"  - {name: known, match: {serial: S1, mac: \"52:54:00:00:00:01\"}}\n  - {name: serial, match: {serial: S2}}\n", mode)
		named := strings.Contains(strings.Join(b.Describe(), "\n"), "not answered: serial has no MAC address or UUID in its match")
		_, err := b.Arm(t.Context(), "serial", ArmOrder{Via: state.Network})
		if refused != errors.Is(err, errUnmatched) || refused != named || refused && !strings.Contains(err.Error(), "serial has a serial number alone in its match, which DHCP does not carry") {
			t.Errorf("%s: %v, named %t", mode, err, named)
		}
		if err == nil {
			if _, text := ask(t, http.MethodGet, b.url+"/boot.ipxe?mac="+hyphened(7)+"&serial=S2"); !strings.Contains(text, "/s/") {
				t.Errorf("%s: by its serial number it gets\n%s", mode, text)
			}
		}
		for name, via := range map[string]state.Via{"serial": state.Medium, "known": state.Network} {
			if _, err := b.Arm(t.Context(), name, ArmOrder{Via: via, Reinstall: true}); err != nil {
				t.Errorf("%s: %s via %s: %v", mode, name, via, err)
			}
		}
	}
}
