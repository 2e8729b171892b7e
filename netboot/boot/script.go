package boot

import (
	"embed"
	"fmt"
	"net"
	"strings"
	"text/template"
	"unicode"

	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

// Start is what starts the installer on a machine.
type Start struct {
	Machine string // its name
	Server  string // address of this server, such as http://10.0.0.2:8080
	// Kernel and Initrd are paths below Server.
	Kernel, Initrd string
	Args           []string // the kernel's, as it is to see them
}

// Place says where the files of a medium are served.
type Place struct {
	Server string // address, such as http://10.0.0.2:8080
	Folder string // path below it, with a slash at the end
	ISO    string // name of the whole medium in the folder
}

// Start returns what starts the installer of a medium on a machine. The kernel is the
// one for new hardware if that is asked for and there; the rest is as for Arguments.
func (m *Medium) Start(machine string, hwe bool, at Place, mac net.HardwareAddr, more ...string) Start {
	k := m.Kernel(hwe)
	return Start{
		Machine: machine, Server: at.Server, Kernel: at.Folder + k.Name, Initrd: at.Folder + k.InitrdName,
		Args: k.Arguments(at.Server+"/"+at.Folder+at.ISO, mac, more...),
	}
}

// Hyphens writes a MAC address as iPXE's ${mac:hexhyp} does, for names of files and
// for addresses.
func Hyphens(mac net.HardwareAddr) string { return strings.ReplaceAll(mac.String(), ":", "-") }

// Arguments returns what the kernel of a medium is to be told. medium is the address
// of the medium, which casper fetches whole; more are the machine's own, its seed's
// address among them. They stand in front of "---", so that the installed system does
// not have them. The network card is the one with the address mac, unless that is nil.
func (k Kernel) Arguments(medium string, mac net.HardwareAddr, more ...string) []string {
	args := append([]string{"ip=dhcp"}, k.Before...)
	if mac != nil {
		// initramfs-tools(7): the card that PXELINUX booted from, 01 is Ethernet.
		args = append(args, "BOOTIF=01-"+Hyphens(mac))
	}
	args = append(args, "url="+medium)
	args = append(args, more...)
	return append(append(args, argumentsEnd), k.After...)
}

//go:embed templates
var templateFiles embed.FS

// scripts returns the templates of the scripts.
func scripts() (*template.Template, error) {
	return template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"ipxe": ipxeWord, "line": ipxeLine, "grub": grubWord,
	}).ParseFS(templateFiles, "templates/*")
}

func execute(name string, data any) (string, error) {
	t, err := scripts()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.ExecuteTemplate(&out, name, data); err != nil {
		return "", fmt.Errorf("cannot write the boot script: %w", err)
	}
	return out.String(), nil
}

// IPXE returns the iPXE script that starts the installer.
func (s Start) IPXE() (string, error) { return execute("install.ipxe", s) }

// GRUB returns the grub.cfg that starts the installer. A GRUB without HTTP fetches
// everything the way that it came itself, by TFTP.
func (s Start) GRUB(http bool) (string, error) {
	base := ""
	if http {
		base = "(http," + strings.TrimPrefix(s.Server, "http://") + ")"
	}
	return execute("install.grub", struct {
		Start
		Base string
	}{s, base})
}

// LocalIPXE returns the iPXE script that starts a machine from its own disk. why is
// shown on its screen.
func LocalIPXE(why string) (string, error) { return execute("local.ipxe", why) }

// LocalGRUB returns the grub.cfg that has the firmware go on to the machine's disk.
func LocalGRUB(why string) (string, error) { return execute("local.grub", why) }

// GRUBMenu returns the grub.cfg that every machine reads first: it leads to that of
// the network card, whose address GRUB puts behind grub.cfg- with colons.
func GRUBMenu() (string, error) { return execute("first.grub", nil) }

// ipxeWord returns a word of an iPXE command. iPXE knows no quotes: it splits at white
// space, replaces ${…}, and takes words such as || for operators.
func ipxeWord(s string) (string, error) {
	operator := s == "||" || s == "&&" || s == ";" || strings.HasPrefix(s, "#")
	if s == "" || operator || strings.Contains(s, "${") || strings.IndexFunc(s, notInWord) >= 0 {
		return "", fmt.Errorf("iPXE cannot take %q as a word", s)
	}
	return s, nil
}

// ipxeLine returns a text for a person in an iPXE script.
func ipxeLine(s string) (string, error) {
	if strings.Contains(s, "${") || strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return "", fmt.Errorf("iPXE cannot show %q", s)
	}
	return strings.NewReplacer("||", "|", "&&", "&", ";", ",", "#", "").Replace(s), nil
}

func notInWord(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }

// grubWord returns a word of a GRUB command.
func grubWord(s string) (string, error) {
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return "", fmt.Errorf("GRUB cannot take %q as a word", s)
	}
	return grubcfg.Quote(s), nil
}
