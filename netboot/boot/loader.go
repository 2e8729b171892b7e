package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/iso"
)

// Firmware that boots from the network, in the words of package dhcp.
const (
	FirmwareBIOS     = "BIOS"
	FirmwareUEFI     = "UEFI PXE"
	FirmwareUEFIHTTP = "UEFI HTTP Boot"
)

// secureBootRequired is the value of gpu.secure_boot of a machine that starts nothing
// unsigned.
const secureBootRequired = "required"

// Names under which loaders are served. shim looks for a GRUB named so beside itself.
const biosLoader = "undionly.kpxe"

var efiSuffix = map[string]string{"amd64": "x64", "arm64": "aa64"}

func shimName(arch string) string { return "shim" + efiSuffix[arch] + ".efi" }
func grubName(arch string) string { return "grub" + efiSuffix[arch] + ".efi" }
func ipxeName(arch string) string { return "ipxe-" + arch + ".efi" }

// Loader is a boot loader.
type Loader struct {
	Name string // under which it is served
	From string // where it comes from, for people
	data []byte
}

// Size returns the loader's length in bytes.
func (l Loader) Size() int64 { return int64(len(l.data)) }

// ReadAt reads the loader.
func (l Loader) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(l.data).ReadAt(p, off)
}

// Loaders are the boot loaders at hand.
type Loaders struct{ files map[string]Loader }

// AddFile takes a loader from a file that the operator names: shim or GRUB, for the
// architecture that it is for. role is "shim" or "grub".
func (l *Loaders) AddFile(role, name string, data []byte) error {
	arch, err := efiArch(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	served := shimName(arch)
	if role == "grub" {
		served = grubName(arch)
	}
	l.add(served, name, data)
	return nil
}

// add takes a loader, unless there is one of that name.
func (l *Loaders) add(name, from string, data []byte) {
	if l.files == nil {
		l.files = map[string]Loader{}
	}
	if _, there := l.files[name]; !there {
		l.files[name] = Loader{Name: name, From: from, data: data}
	}
}

// ipxeFiles are the names of iPXE's EFI programs in the folders that distributions
// and ipxe.org's releases have, the better one first: snponly.efi uses the firmware's
// own driver of the network card that it was loaded by.
var ipxeFiles = []string{
	"snponly.efi", "ipxe.efi", "snponly-arm64.efi", "ipxe-arm64.efi",
	"x86_64/snponly.efi", "x86_64/ipxe.efi", "arm64/snponly.efi", "arm64/ipxe.efi",
	"arm64-efi/snponly.efi", "arm64-efi/ipxe.efi",
}

// ErrNoIPXE: a folder holds nothing of iPXE.
var ErrNoIPXE = errors.New("there is no iPXE")

// AddIPXE takes iPXE from a folder; what is not in it is left out. It fails with
// ErrNoIPXE where nothing is. from names the
// folder.
func (l *Loaders) AddIPXE(folder fs.FS, from string) error {
	found, names := false, append([]string{biosLoader}, ipxeFiles...)
	for _, name := range names {
		data, err := fs.ReadFile(folder, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read iPXE: %w", err)
		}
		served := name
		if name != biosLoader {
			arch, err := efiArch(data)
			if err != nil {
				return fmt.Errorf("%s: %w", path.Join(from, name), err)
			}
			served = ipxeName(arch)
		}
		l.add(served, path.Join(from, name), data)
		found = true
	}
	if !found {
		return fmt.Errorf("%w: %s holds none of %s", ErrNoIPXE, from, strings.Join(names, ", "))
	}
	return nil
}

// AddMedium takes shim and the network GRUB from a medium: its own shim, and the GRUB
// in the package of signed GRUBs in its pool. The GRUB that a medium starts with has
// no network. Media of flavours without the package have no GRUB to give.
func (l *Loaders) AddMedium(image *iso.Image, m *Medium) error {
	suffix, known := efiSuffix[m.Description.Architecture]
	if !known {
		return nil
	}
	for _, f := range image.Files() {
		name := strings.ToLower(f.Path)
		switch {
		case name == "efi/boot/boot"+suffix+".efi":
			read := func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxLoader)) }
			if err := l.addFrom(image, f, shimName(m.Description.Architecture), read); err != nil {
				return err
			}
		case strings.HasPrefix(name, "pool/") && strings.HasPrefix(path.Base(name), "grub-efi-"+m.Description.Architecture+"-signed_"):
			inside := "usr/lib/grub/" + grubPlatform[m.Description.Architecture] + "-signed/grubnet" + suffix + ".efi.signed"
			read := func(r io.Reader) ([]byte, error) { return debFile(r, inside) }
			if err := l.addFrom(image, f, grubName(m.Description.Architecture), read); err != nil {
				return err
			}
		}
	}
	return nil
}

var grubPlatform = map[string]string{"amd64": "x86_64-efi", "arm64": "arm64-efi"}

// addFrom takes a loader from a file of the medium. What is no EFI program is left out:
// First says what a machine lacks then.
func (l *Loaders) addFrom(image *iso.Image, f iso.FileInfo, name string, read func(io.Reader) ([]byte, error)) error {
	content := NewExtents(image, f.Ranges...)
	data, err := read(io.NewSectionReader(content, 0, content.Size()))
	if err != nil {
		return fmt.Errorf("cannot take %s from the medium's %s: %w", name, f.Path, err)
	}
	if _, err := efiArch(data); err == nil {
		l.add(name, "the medium's "+f.Path, data)
	}
	return nil
}

// efiArch returns the Debian architecture that an EFI program is for, by the machine
// in its PE header (Microsoft Portable Executable specification, COFF file header).
func efiArch(data []byte) (string, error) {
	const peOffset, machineOffset = 0x3c, 4
	if len(data) >= peOffset+4 && string(data[:2]) == "MZ" {
		at := int64(binary.LittleEndian.Uint32(data[peOffset:]))
		if at+machineOffset+2 <= int64(len(data)) && string(data[at:at+machineOffset]) == "PE\x00\x00" {
			switch binary.LittleEndian.Uint16(data[at+machineOffset:]) {
			case 0x8664:
				return "amd64", nil
			case 0xaa64:
				return "arm64", nil
			}
		}
	}
	return "", errors.New("this is not an EFI program for amd64 or arm64")
}

// Open returns a loader by the path that a machine asks for. Loaders ask for the next
// one beside themselves, or at the root (shim does both): so its folder does not count.
func (l *Loaders) Open(name string) (Loader, bool) {
	dir, base := path.Split(name)
	if dir != "" && dir != "boot/" {
		return Loader{}, false
	}
	f, ok := l.files[base]
	return f, ok
}

// List returns the loaders by name.
func (l *Loaders) List() []Loader {
	var out []Loader
	for _, f := range l.files {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Loader) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// httpModule stands in a GRUB that has its module for HTTP built in: a message of
// grub-core/net/http.c. With Secure Boot no module can be loaded later.
const httpModule = "unsupported HTTP error"

// GRUBHasHTTP reports whether the network GRUB can fetch by HTTP: Ubuntu's signed one
// is said to, Debian's cannot.
func (l *Loaders) GRUBHasHTTP(arch string) bool {
	return bytes.Contains(l.files[grubName(arch)].data, []byte(httpModule))
}

// First returns the name of the loader that a machine's firmware loads first.
// secureBoot is the machine's gpu.secure_boot: auto, required or off. The error says
// what is missing.
//
// Signed shim and GRUB boot with and without Secure Boot, but by TFTP GRUB finds only
// the server that the site's DHCP names as next-server, and reads large files slowly.
// So by TFTP they are for machines that need them, by HTTP for all.
func (l *Loaders) First(firmware, arch, secureBoot string) (string, error) {
	has := func(name string) bool {
		_, ok := l.files[name]
		return ok
	}
	shim := has(shimName(arch)) && has(grubName(arch))
	ipxe := has(ipxeName(arch))
	required := secureBoot == secureBootRequired
	switch {
	case firmware == FirmwareBIOS && has(biosLoader):
		return biosLoader, nil
	case firmware == FirmwareBIOS:
		return "", errors.New("a BIOS machine needs iPXE's " + biosLoader + ": name the folder that holds it with --ipxe")
	case efiSuffix[arch] == "":
		return "", errors.New("no machine of this architecture is known")
	case firmware == FirmwareUEFIHTTP && shim && l.GRUBHasHTTP(arch):
		return shimName(arch), nil
	case firmware == FirmwareUEFIHTTP && required && shim:
		return "", errors.New("the network GRUB at hand has no module for HTTP, which Secure Boot by HTTP needs: " +
			"give one with --grub, or boot the machine by PXE")
	case required && shim, !required && !ipxe && shim && firmware == FirmwareUEFI:
		return shimName(arch), nil
	case required:
		return "", errors.New("a machine with Secure Boot needs a signed shim and the signed network GRUB, which the medium does not have: give them with --shim and --grub")
	case ipxe:
		return ipxeName(arch), nil
	}
	return "", fmt.Errorf("a UEFI machine of architecture %s needs iPXE (name the folder that holds it with --ipxe), or shim and GRUB (--shim, --grub)", arch)
}
