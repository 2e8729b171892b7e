package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/plan"
)

// The programs that an exported tree is for.
const (
	formatNginx   = "nginx"
	formatDnsmasq = "dnsmasq"
)

// exportFlags are the flags of export.
type exportFlags struct {
	formats []string
	dir     string
	url     string
	iso     string
	ipxe    string
}

func newExport(w *world) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export -o FOLDER [MACHINE...]",
		Short: "Write files by which nginx and dnsmasq install machines",
		Long: `Writes a tree with the machines' seeds, iPXE and its scripts, kernel and initrd
of the medium and a link to it, and the configurations of nginx (HTTP) and
dnsmasq (ProxyDHCP and TFTP beside a DHCP server that is there), which serve it
without gpustrap: for machines that are known by match.mac, without Secure Boot.

Files know nothing of what was installed: a machine of the tree that starts from
the network starts the installer, each time. What stops it then is the check on
the machine, which refuses a disk that is installed, unless the configuration
says reinstall: true. "gpustrap serve" installs once, hears how it goes, and
closes the seed; here whoever reaches the port reads every seed.`,
		Example: `  gpustrap export --format nginx,dnsmasq --url http://10.0.0.2 \
    --iso ubuntu.iso -o boot/`,
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir == "" || f.iso == "" || len(f.formats) == 0 {
				return usagef("export needs --format, --url, --iso and -o")
			}
			for _, name := range f.formats {
				if name != formatNginx && name != formatDnsmasq {
					return usagef("there is no format %q; --format takes nginx, dnsmasq, or both with a comma between", name)
				}
			}
			base, err := url.Parse(f.url)
			if err != nil || base.Scheme != "http" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
				return usagef("--url is %q, and must be where machines reach nginx, such as http://10.0.0.2:8080", f.url)
			}
			if address, err := netip.ParseAddr(base.Hostname()); slices.Contains(f.formats, formatDnsmasq) && (err != nil || !address.Is4()) {
				return usagef("dnsmasq needs an IPv4 address in --url, and it has %q", base.Hostname())
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			machines, err := project.Select(args)
			if err != nil {
				return usageError{err}
			}
			return export(cmd.Context(), w, cmd, project, machines, f, base)
		},
	}
	cmd.Flags().StringSliceVar(&f.formats, "format", nil, "`programs` to write configurations for: nginx, dnsmasq")
	cmd.Flags().StringVar(&f.url, "url", "", "`URL` by which machines reach nginx")
	cmd.Flags().StringVar(&f.iso, "iso", "", "stock ISO: a `file`, or a release to fetch")
	cmd.Flags().StringVar(&f.ipxe, "ipxe", defaultIPXE, "`folder` with iPXE")
	cmd.Flags().StringVarP(&f.dir, "output", "o", "", "`folder` to write")
	return cmd
}

// exportTree is what is written.
type exportTree struct {
	f      exportFlags
	base   string // URL, without a slash at the end
	root   string // absolute path of what is served
	medium *boot.Medium
	iso    string // absolute path
}

func export(ctx context.Context, w *world, cmd *cobra.Command, project *plan.Project, machines []*plan.Machine, f exportFlags, base *url.URL) error {
	if _, err := rendered(w, cmd, f, project.Validate()); err != nil {
		return err
	}
	for _, m := range machines {
		if _, err := rendered(w, cmd, m, project.Unserved(m)); err != nil {
			return err
		}
		if len(m.Match.MACs) == 0 {
			return withHint(fmt.Errorf("%s has no match.mac, by which files know a machine", m.Name), "add one, or name the machines to export")
		}
		if m.Arch != machines[0].Arch {
			return withHint(fmt.Errorf("%s and %s have different architectures, and a tree has one medium", machines[0].Name, m.Name), "name the machines of one architecture")
		}
	}
	stock, err := openISO(ctx, w, f.iso, machines[0].Arch)
	if err != nil {
		return err
	}
	defer func() { _ = stock.Close() }() // read only
	t := exportTree{f: f, base: "http://" + base.Host}
	if t.medium, err = boot.ReadMedium(stock.Image); err != nil {
		return fmt.Errorf("%s: %w", stock.name, err)
	}
	for _, m := range machines {
		if err := plan.CheckMedium(m, t.medium.Description); err != nil {
			return err
		}
	}
	if t.iso, err = filepath.Abs(stock.name); err != nil {
		return err
	}
	if t.root, err = filepath.Abs(filepath.Join(f.dir, "www")); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder: %w", err)
	}
	steps := []func() error{
		func() error { return t.writeMedium(ctx) },
		func() error { return t.writeMachines(project, machines) },
		func() error { return t.writeConfigs(base, machines) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("cannot write the tree: %w", err)
		}
	}
	return w.print("%s: %s, %s\n", f.dir, count(len(machines), "machine"), strings.Join(f.formats, " and "))
}

// write writes a file that nginx serves. Only the seeds are secret, but they are of
// one folder with the others: all is for its owner alone.
func (t *exportTree) write(name string, data io.Reader) error {
	return writeInto(filepath.Join(t.root, filepath.FromSlash(name)), data, 0o700, secretFile)
}

// writeInto writes a file and the folder that it lies in.
func writeInto(path string, data io.Reader, folder, file fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), folder); err != nil {
		return err
	}
	return replaceFile(path, file, func(out io.Writer) error {
		_, err := io.Copy(out, data)
		return err
	})
}

// below is the folder of the medium's files.
func (t *exportTree) below() string { return "medium/" + t.medium.ID + "/" }

// isoName is the medium's name in the tree: it needs no quotes anywhere.
const isoName = "medium.iso"

// writeMedium copies kernel and initrd out of the medium, and links to it: casper
// fetches it whole.
func (t *exportTree) writeMedium(ctx context.Context) error {
	for _, k := range t.medium.Kernels {
		for name, extents := range map[string]*boot.Extents{k.Name: k.Kernel, k.InitrdName: k.Initrd} {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := t.write(t.below()+name, io.NewSectionReader(extents, 0, extents.Size())); err != nil {
				return err
			}
		}
	}
	link := filepath.Join(t.root, filepath.FromSlash(t.below()+isoName))
	// Whoever reads it meanwhile finds the one or the other.
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(t.iso, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}

// writeMachines writes each machine's seed and its boot script, and the scripts that
// lead there.
func (t *exportTree) writeMachines(project *plan.Project, machines []*plan.Machine) error {
	for _, m := range machines {
		seed, rep := project.Render(m)
		if err := rep.Err(); err != nil {
			return err
		}
		if _, err := plan.WriteFolder(filepath.Join(t.root, "seeds", m.Name), seed.FS()); err != nil {
			return err
		}
		// Where it is not there, cloud-init asks ten times.
		if err := t.write("seeds/"+m.Name+"/network-config", strings.NewReader("")); err != nil {
			return err
		}
		for _, mac := range m.Match.MACs {
			script, err := t.script(m, mac)
			if err != nil {
				return err
			}
			if err := t.write("machine/"+boot.Hyphens(mac)+".ipxe", strings.NewReader(script)); err != nil {
				return err
			}
		}
	}
	local, err := boot.LocalIPXE("this machine is not one of those to install")
	if err != nil {
		return err
	}
	if err := t.write("local.ipxe", strings.NewReader(local)); err != nil {
		return err
	}
	first := "#!ipxe\nchain " + t.base + "/machine/${netX/mac:hexhyp}.ipxe || chain " + t.base + "/local.ipxe\n"
	return t.write("boot.ipxe", strings.NewReader(first))
}

func (t *exportTree) script(m *plan.Machine, mac net.HardwareAddr) (string, error) {
	args := plan.ServedArgs(m, t.base+"/seeds/"+m.Name+"/")
	if !slices.Contains(plan.Menu(m).KernelArgs, "autoinstall") {
		// Nobody armed this machine: the installer asks, as from a stick.
		args = slices.DeleteFunc(args, func(a string) bool { return a == "autoinstall" })
	}
	at := boot.Place{Server: t.base, Folder: t.below(), ISO: isoName}
	return t.medium.Start(m.Name, plan.WantsHWE(m), at, mac, args...).IPXE()
}

// exportTemplates are the configurations of the programs, which run as they stand:
// nginx -c FOLDER/nginx.conf, dnsmasq -C FOLDER/dnsmasq.conf.
//
//go:embed templates
var exportTemplates embed.FS

type exportService struct{ Kind, File string }

// writeConfigs writes the programs' configurations and, for dnsmasq, iPXE.
func (t *exportTree) writeConfigs(base *url.URL, machines []*plan.Machine) error {
	dir := filepath.Dir(t.root)
	if strings.ContainsAny(dir, "\"\\\n$") {
		return fmt.Errorf("the folder's name %q cannot stand in a configuration: take another", dir)
	}
	port := base.Port()
	if port == "" {
		port = "80"
	}
	values := struct {
		Dir, Root, Listen, Base, Host, Network string
		MACs                                   []net.HardwareAddr
		Services                               []exportService
	}{Dir: dir, Root: t.root, Base: t.base, Host: base.Hostname(), Listen: net.JoinHostPort(base.Hostname(), port)}
	for _, m := range machines {
		values.MACs = append(values.MACs, m.Match.MACs...)
	}
	texts, err := template.New("").Option("missingkey=error").ParseFS(exportTemplates, "templates/*.conf")
	if err != nil {
		return err
	}
	for _, name := range t.f.formats {
		if name == formatDnsmasq {
			values.Network = values.Host // dnsmasq finds the network of its own address
			if values.Services, err = t.writeLoaders(machines[0].Arch); err != nil {
				return err
			}
		}
		var out bytes.Buffer
		if err := texts.ExecuteTemplate(&out, name+".conf", values); err != nil {
			return err
		}
		if err := writeInto(filepath.Join(dir, name+".conf"), &out, 0o755, secretFile); err != nil {
			return err
		}
	}
	return nil
}

// writeLoaders writes the iPXE of an architecture, and says for which clients it is.
func (t *exportTree) writeLoaders(arch string) ([]exportService, error) {
	var loaders boot.Loaders
	if _, err := fs.Stat(os.DirFS(t.f.ipxe), "."); err != nil {
		return nil, withHint(fmt.Errorf("there is no iPXE in %s", t.f.ipxe), "apt-get install ipxe, or name a folder with --ipxe")
	}
	if err := loaders.AddIPXE(os.DirFS(t.f.ipxe), t.f.ipxe); err != nil {
		return nil, err
	}
	kinds := map[string][]string{boot.FirmwareBIOS: {"x86PC"}, boot.FirmwareUEFI: {"X86-64_EFI", "BC_EFI"}}
	if arch == "arm64" {
		kinds = map[string][]string{boot.FirmwareUEFI: {"ARM64_EFI"}}
	}
	var services []exportService
	for _, firmware := range []string{boot.FirmwareBIOS, boot.FirmwareUEFI} {
		if len(kinds[firmware]) == 0 {
			continue
		}
		name, err := loaders.First(firmware, arch, "off")
		if err != nil {
			return nil, err
		}
		loader, ok := loaders.Open(name)
		if !ok {
			return nil, fmt.Errorf("%s is not at hand", name)
		}
		// dnsmasq gives out only what everybody may read.
		if err := writeInto(filepath.Join(filepath.Dir(t.root), "tftp", name), io.NewSectionReader(loader, 0, loader.Size()), 0o755, 0o644); err != nil {
			return nil, err
		}
		for _, kind := range kinds[firmware] {
			services = append(services, exportService{kind, name})
		}
	}
	return services, nil
}
