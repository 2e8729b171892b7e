package boot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// efi is a program for a machine, as far as its header says so.
func efi(machine uint16, text string) []byte {
	b := make([]byte, 0x80)
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00")
	b[0x44], b[0x45] = byte(machine), byte(machine>>8)
	return append(b, text...)
}

const (
	forAMD64 = 0x8664
	forARM64 = 0xaa64
)

// debian packs a Debian package of one file, its data compressed with zstd as
// Ubuntu's are.
func debian(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	var out, packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, err := range []error{
		w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}),
		ignoreCount(w.Write(data)), w.Close(), z.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out.WriteString(arMagic)
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.zst", []byte("odd")}, {"data.tar.zst", packed.Bytes()}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func ignoreCount(_ int, err error) error { return err }

func TestDebFile(t *testing.T) {
	const name = "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"
	pack := debian(t, name, []byte("a GRUB"))
	got, err := debFile(bytes.NewReader(pack), name)
	if string(got) != "a GRUB" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := debFile(bytes.NewReader(pack), "usr/lib/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := debFile(strings.NewReader("PK\x03\x04 something else"), name); err == nil || err.Error() != "this is not a Debian package" {
		t.Errorf("no package: %v", err)
	}
	if _, err := debFile(bytes.NewReader(pack[:100]), name); err == nil {
		t.Error("a package that is cut short was taken")
	}
	deb := filepath.Join(t.TempDir(), "p.deb")
	if err := os.WriteFile(deb, pack, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(oracle.Need(t, "ar"), "p", deb, "debian-binary").Output()
	if err != nil || string(out) != "2.0\n" {
		t.Errorf("ar reads the package otherwise: %q, %v", out, err)
	}
}

func FuzzDebFile(f *testing.F) {
	f.Add(debian(f, "usr/lib/x", []byte("x")))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := debFile(bytes.NewReader(data), "usr/lib/x"); err != nil && got != nil {
			t.Errorf("%d bytes with the error %v", len(got), err)
		}
	})
}

const hweMenu = isotest.GrubCfg + `menuentry "Ubuntu Server with the HWE kernel" {
	linux	/casper/hwe-vmlinuz  $cmdline quiet --- console=tty0
	initrd	/casper/hwe-initrd
}
`

// openMedium makes a medium with a network GRUB in its pool.
func openMedium(t *testing.T) (*iso.Image, []byte) {
	t.Helper()
	path := isotest.Medium{Small: true, Files: map[string]string{
		"boot/grub/grub.cfg": hweMenu, "casper/hwe-vmlinuz": "newer kernel", "casper/hwe-initrd": "newer initrd",
		"EFI/boot/bootx64.efi": string(efi(forAMD64, "shim")),
		"pool/main/g/grub2-signed/grub-efi-amd64-signed_1.202.5_amd64.deb": string(
			debian(t, "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", efi(forAMD64, httpModule))),
	}}.Make(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := iso.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return image, data
}

func TestReadMedium(t *testing.T) {
	image, data := openMedium(t)
	m, err := ReadMedium(image)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.ID) != 16 || m.Description.Architecture != "amd64" {
		t.Errorf("the medium is %q for %s", m.ID, m.Description.Architecture)
	}
	for name, want := range map[string]string{
		"vmlinuz": "kernel", "initrd": "initrd", "hwe-vmlinuz": "newer kernel", "hwe-initrd": "newer initrd",
	} {
		file, ok := m.File(name)
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		got, err := io.ReadAll(io.NewSectionReader(file, 0, file.Size()))
		if string(got) != want || err != nil {
			t.Errorf("%s is %q, %v", name, got, err)
		}
		at, length, ok := file.Base(3)
		if !ok || string(data[at:at+length]) != want[3:] {
			t.Errorf("%s lies elsewhere than at %d", name, at)
		}
		if _, _, ok := file.Base(file.Size()); ok {
			t.Errorf("%s goes on behind its end", name)
		}
	}
	if _, ok := m.File("md5sum.txt"); ok {
		t.Error("another file of the medium is a boot file")
	}
	if m.Kernel(false).Name != "vmlinuz" || m.Kernel(true).Name != "hwe-vmlinuz" {
		t.Error("the kernels are mistaken for each other")
	}
	mac := net.HardwareAddr{0xb8, 0xce, 0xf6, 0, 0, 1}
	got := strings.Join(m.Kernel(true).Arguments("http://10.0.0.2/m.iso", mac, "autoinstall"), " ")
	const want = "ip=dhcp quiet BOOTIF=01-b8-ce-f6-00-00-01 url=http://10.0.0.2/m.iso autoinstall --- console=tty0"
	if got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
}

// TestExtents reads a file that lies in pieces.
func TestExtents(t *testing.T) {
	medium := strings.NewReader("0123456789abcdefghij")
	e := NewExtents(medium, iso.Range{Offset: 10, Length: 3}, iso.Range{Offset: 2, Length: 4})
	const want = "abc2345"
	if e.Size() != int64(len(want)) {
		t.Errorf("%d bytes", e.Size())
	}
	for from := range len(want) {
		for to := from; to <= len(want); to++ {
			p := make([]byte, to-from)
			if n, err := e.ReadAt(p, int64(from)); string(p[:n]) != want[from:to] || err != nil {
				t.Errorf("bytes %d to %d are %q, %v", from, to, p[:n], err)
			}
		}
	}
	if n, err := e.ReadAt(make([]byte, 4), 5); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
}

func TestFirst(t *testing.T) {
	type set struct{ bios, ipxe, shim, grub, http bool }
	for _, tt := range []struct {
		has                      set
		firmware, arch, required string
		want                     string // of an error how it begins
	}{
		{set{bios: true}, FirmwareBIOS, "amd64", "auto", "undionly.kpxe"},
		{set{}, FirmwareBIOS, "amd64", "auto", "a BIOS machine needs iPXE's undionly.kpxe"},
		{set{ipxe: true, shim: true, grub: true}, FirmwareUEFI, "amd64", "auto", "ipxe-amd64.efi"},
		{set{ipxe: true, shim: true, grub: true}, FirmwareUEFI, "amd64", "off", "ipxe-amd64.efi"},
		{set{ipxe: true, shim: true, grub: true}, FirmwareUEFI, "amd64", "required", "shimx64.efi"},
		{set{shim: true, grub: true}, FirmwareUEFI, "amd64", "auto", "shimx64.efi"},
		{set{ipxe: true, shim: true}, FirmwareUEFI, "amd64", "required", "a machine with Secure Boot needs a signed shim"},
		{set{}, FirmwareUEFI, "amd64", "", "a UEFI machine of architecture amd64 needs iPXE"},
		{set{ipxe: true}, FirmwareUEFI, "arm64", "auto", "ipxe-arm64.efi"},
		{set{shim: true, grub: true}, FirmwareUEFI, "arm64", "required", "shimaa64.efi"},
		{set{ipxe: true, shim: true, grub: true, http: true}, FirmwareUEFIHTTP, "amd64", "auto", "shimx64.efi"},
		{set{ipxe: true, shim: true, grub: true}, FirmwareUEFIHTTP, "amd64", "auto", "ipxe-amd64.efi"},
		{set{ipxe: true, shim: true, grub: true}, FirmwareUEFIHTTP, "amd64", "required", "the network GRUB at hand has no module for HTTP"},
		{set{shim: true, grub: true}, FirmwareUEFIHTTP, "amd64", "auto", "a UEFI machine of architecture amd64 needs iPXE"},
		{set{ipxe: true}, FirmwareUEFI, "", "auto", "no machine of this architecture is known"},
	} {
		var l Loaders
		machine := uint16(forAMD64)
		if tt.arch == "arm64" {
			machine = forARM64
		}
		folder := fstest.MapFS{}
		if tt.has.bios {
			folder["undionly.kpxe"] = &fstest.MapFile{Data: []byte("BIOS")}
		}
		if tt.has.ipxe {
			folder["ipxe.efi"] = &fstest.MapFile{Data: efi(machine, "iPXE")}
		}
		if err := l.AddIPXE(folder, "/usr/lib/ipxe"); err != nil && (len(folder) > 0 || !errors.Is(err, ErrNoIPXE)) {
			t.Fatal(err)
		}
		text := ""
		if tt.has.http {
			text = httpModule
		}
		if tt.has.shim {
			if err := l.AddFile("shim", "shim.efi", efi(machine, "")); err != nil {
				t.Fatal(err)
			}
		}
		if tt.has.grub {
			if err := l.AddFile("grub", "grub.efi", efi(machine, text)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := l.First(tt.firmware, tt.arch, tt.required)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) || err == nil && got != tt.want {
			t.Errorf("%+v %s %s %s: %q, want %q", tt.has, tt.firmware, tt.arch, tt.required, got, tt.want)
		}
	}
}

func TestLoaders(t *testing.T) {
	image, _ := openMedium(t)
	m, err := ReadMedium(image)
	if err != nil {
		t.Fatal(err)
	}
	var l Loaders
	folder := fstest.MapFS{
		"undionly.kpxe": {Data: []byte("BIOS")}, "ipxe.efi": {Data: efi(forAMD64, "ipxe")},
		"snponly.efi": {Data: efi(forAMD64, "snponly")}, "arm64-efi/ipxe.efi": {Data: efi(forARM64, "")},
	}
	if err := l.AddIPXE(folder, "ipxe"); err != nil {
		t.Fatal(err)
	}
	if err := l.AddFile("grub", "own.efi", efi(forARM64, "")); err != nil {
		t.Fatal(err)
	}
	if err := l.AddMedium(image, m); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range l.List() {
		got = append(got, f.Name+" from "+f.From)
	}
	want := []string{
		"grubaa64.efi from own.efi",
		"grubx64.efi from the medium's pool/main/g/grub2-signed/grub-efi-amd64-signed_1.202.5_amd64.deb",
		"ipxe-amd64.efi from ipxe/snponly.efi", "ipxe-arm64.efi from ipxe/arm64-efi/ipxe.efi",
		"shimx64.efi from the medium's EFI/boot/bootx64.efi", "undionly.kpxe from ipxe/undionly.kpxe",
	}
	if !slices.Equal(got, want) {
		t.Errorf("loaders:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !l.GRUBHasHTTP("amd64") || l.GRUBHasHTTP("arm64") {
		t.Error("which GRUB has HTTP is mistaken")
	}
	for _, name := range []string{"shimx64.efi", "boot/shimx64.efi"} {
		f, ok := l.Open(name)
		if p := make([]byte, 2); !ok || f.Size() == 0 || ignoreCount(f.ReadAt(p, 0)) != nil || string(p) != "MZ" {
			t.Errorf("%s is not served", name)
		}
	}
	for _, name := range []string{"", "boot", "boot/", "etc/shimx64.efi", "boot/boot/shimx64.efi", "revocations_sbat.efi"} {
		if _, ok := l.Open(name); ok {
			t.Errorf("%q is served", name)
		}
	}
	if err := l.AddFile("shim", "x.txt", []byte("text")); err == nil || err.Error() != "x.txt: this is not an EFI program for amd64 or arm64" {
		t.Errorf("a text as a boot loader: %v", err)
	}
}

var start = Start{
	Machine: "node01", Server: "http://10.77.0.2:8080", Kernel: "medium/1234/vmlinuz", Initrd: "medium/1234/initrd",
	Args: []string{"ip=dhcp", "url=http://10.77.0.2:8080/medium/1234/ubuntu.iso", "autoinstall", "ds=nocloud;s=http://10.77.0.2:8080/s/T/", "---"},
}

func TestIPXE(t *testing.T) {
	got, err := start.IPXE()
	if err != nil {
		t.Fatal(err)
	}
	const want = `#!ipxe
echo gpustrap: installing node01
kernel http://10.77.0.2:8080/medium/1234/vmlinuz initrd=initrd ip=dhcp url=http://10.77.0.2:8080/medium/1234/ubuntu.iso autoinstall ds=nocloud;s=http://10.77.0.2:8080/s/T/ --- || goto failed
initrd --name initrd http://10.77.0.2:8080/medium/1234/initrd || goto failed
boot || goto failed
`
	if !strings.HasPrefix(got, want) {
		t.Errorf("the script is\n%s\nwant\n%s", got, want)
	}
	for _, bad := range []string{"a b", "${net0/mac}", "||", "#x", "", "a\nboot"} {
		s := start
		s.Args = []string{bad}
		if text, err := s.IPXE(); err == nil {
			t.Errorf("the argument %q was taken:\n%s", bad, text)
		}
	}
	local, err := LocalIPXE("node01 is installed || reboot; it starts from its disk")
	if err != nil || !strings.Contains(local, "\nsanboot --no-describe --drive 0x80 ") || strings.Contains(local, "installed ||") {
		t.Errorf("the script for the local disk: %v\n%s", err, local)
	}
}

// TestGRUB holds GRUB's scripts against GRUB's own parser, and the kernel line
// against what GRUB makes of it.
func TestGRUB(t *testing.T) {
	check := func(name, text string) {
		t.Helper()
		cmd := exec.Command(oracle.Need(t, "grub-script-check"))
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: GRUB does not read it: %s\n%s", name, out, text)
		}
	}
	byHTTP, err := start.GRUB(true)
	if err != nil {
		t.Fatal(err)
	}
	check("by HTTP", byHTTP)
	const line = `if linux '(http,10.77.0.2:8080)/medium/1234/vmlinuz' ip=dhcp url=http://10.77.0.2:8080/medium/1234/ubuntu.iso autoinstall 'ds=nocloud;s=http://10.77.0.2:8080/s/T/' ---; then`
	if !strings.Contains(byHTTP, line) {
		t.Errorf("no line %s in\n%s", line, byHTTP)
	}
	byTFTP, err := start.GRUB(false)
	if err != nil || !strings.Contains(byTFTP, "if linux /medium/1234/vmlinuz ") || !strings.Contains(byTFTP, "if initrd /medium/1234/initrd;") {
		t.Errorf("by TFTP: %v\n%s", err, byTFTP)
	}
	check("by TFTP", byTFTP)
	odd := start
	odd.Machine, odd.Args = "it's; reboot", []string{"a=it's", "b=$c;d", "e=\"f\"", "&&"}
	text, err := odd.GRUB(true)
	if err != nil {
		t.Fatal(err)
	}
	check("odd arguments", text)
	for _, f := range []func() (string, error){GRUBMenu, func() (string, error) { return LocalGRUB("it's; installed\\") }} {
		text, err := f()
		if err != nil {
			t.Fatal(err)
		}
		check("menu", text)
	}
	odd.Args = []string{"a\nreboot"}
	if _, err := odd.GRUB(true); err == nil {
		t.Error("an argument of two lines was taken")
	}
}

func TestClean(t *testing.T) {
	for name, want := range map[string]string{
		"undionly.kpxe": "undionly.kpxe", "/undionly.kpxe": "undionly.kpxe", "//grubx64.efi": "grubx64.efi",
		`\boot\shimx64.efi`: "boot/shimx64.efi", "/grub//grub.cfg": "grub/grub.cfg", "grub/grub.cfg-52:54:00:00:00:01": "grub/grub.cfg-52:54:00:00:00:01",
		"": "", "/": "", ".": "", "..": "", "../etc/passwd": "", "boot/../../etc/passwd": "", `..\..\x`: "", "a\x00b": "", "a/./b": "", "a\nb": "",
	} {
		got, ok := Clean(name)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("Clean(%q) = %q, want %q", name, got, want)
		}
	}
}

// FuzzClean holds that nothing above the root can be named.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"/a//b", `..\a`, "a/../b", "%2e%2e/x", "a\x00", "//grubx64.efi", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := Clean(name)
		if !ok {
			return
		}
		if !fs.ValidPath(got) || got == "." || strings.ContainsAny(got, "\\\x00\n") || !filepath.IsLocal(got) {
			t.Errorf("Clean(%q) = %q", name, got)
		}
		if again, ok := Clean("//" + got); !ok || again != got {
			t.Errorf("Clean is not stable: %q, %q", got, again)
		}
	})
}
