package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/gpustrap/gpustrap/netboot/boot"
	"github.com/gpustrap/gpustrap/netboot/image"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/netboot/tftp"
	"github.com/gpustrap/gpustrap/plan"
)

// Paths that a PXE serves. Loaders are served at the root, too: shim asks there for
// the GRUB that follows it.
const (
	pathIPXE   = "boot.ipxe"
	pathGRUB   = "grub/grub.cfg"
	pathMedium = "medium/"
	pathISO    = "iso/"
)

// Handler answers machines as the Server's does, and serves what they boot.
func (p *PXE) Handler() http.Handler { return p.s.handler(p) }

// ServeHTTP answers what machines fetch to boot: loaders, scripts, kernels, media.
func (p *PXE) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this is only to be read", http.StatusMethodNotAllowed)
		return
	}
	name, ok := boot.Clean(r.URL.Path)
	switch {
	case !ok:
		http.NotFound(w, r)
	case name == pathIPXE:
		p.serveScript(w, r, p.ipxeScript(r))
	case name == pathGRUB:
		p.serveScript(w, r, func(context.Context) (string, error) { return boot.GRUBMenu() })
	case strings.HasPrefix(name, pathGRUB+"-"):
		p.serveScript(w, r, p.grubScript(strings.TrimPrefix(name, pathGRUB+"-")))
	case strings.HasPrefix(name, pathMedium):
		p.serveMedium(w, r, strings.TrimPrefix(name, pathMedium))
	case strings.HasPrefix(name, pathISO):
		p.serveISO(w, r, strings.TrimPrefix(name, pathISO))
	default:
		p.serveLoader(w, r, name)
	}
}

// serveScript answers with a boot script. Only a GET has it written: it may begin an
// installation.
func (p *PXE) serveScript(w http.ResponseWriter, r *http.Request, write func(context.Context) (string, error)) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	text, err := write(r.Context())
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		p.s.o.Log.Error("cannot write a boot script", "why", err)
		http.Error(w, "the boot script cannot be written; the server's log says why", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, text) // a client that is gone asks again
}

// ipxeScript writes the script of a machine that says who it is in the request.
func (p *PXE) ipxeScript(r *http.Request) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		q := r.URL.Query()
		id := Identity{Serial: q.Get("serial")}
		if mac, err := net.ParseMAC(q.Get("mac")); err == nil {
			id = p.heard.identity(mac)
			id.Serial = q.Get("serial")
		}
		if uuid := strings.ToLower(q.Get("uuid")); uuid != "" {
			id.UUIDs = realUUIDs(append([]string{uuid}, id.UUIDs...))
		}
		start, why, err := p.start(ctx, id)
		switch {
		case err != nil:
			return "", err
		case start == nil:
			return boot.LocalIPXE(why)
		}
		return start.IPXE()
	}
}

// grubScript writes the grub.cfg of the machine with a MAC address.
func (p *PXE) grubScript(address string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		mac, err := net.ParseMAC(address)
		if err != nil {
			return "", fs.ErrNotExist
		}
		start, why, err := p.start(ctx, p.heard.identity(mac))
		switch {
		case err != nil:
			return "", err
		case start == nil:
			return boot.LocalGRUB(why)
		}
		m := p.s.Machine(start.Machine)
		return start.GRUB(m != nil && p.o.Loaders.GRUBHasHTTP(m.Arch))
	}
}

// start returns what starts the installation of a machine, or why it boots from its
// own disk. A machine for which there is no medium is not claimed.
func (p *PXE) start(ctx context.Context, id Identity) (*boot.Start, string, error) {
	d, known := p.s.Decide(id)
	if !known {
		return nil, strings.Replace(fmt.Sprintf("this machine (%s) is not in the configuration", id.MAC), " ()", "", 1), nil
	}
	name := d.Machine.Name
	var medium *Medium
	if d.Install {
		var err error
		if medium, err = mediumFor(p.o.Media, d.Machine); err != nil {
			p.s.o.Log.Error("cannot install a machine", "machine", name, "why", err)
			return nil, name + " cannot be installed: no medium of its release and architecture is served", nil
		}
	}
	if d, known = p.s.Claim(ctx, id); !known || !d.Install {
		return nil, name + " boots from its own disk: " + strings.ReplaceAll(d.Why, "\n", " "), nil
	}
	if medium == nil {
		return nil, name + " was armed just now: start it again", nil
	}
	at := boot.Place{Server: p.s.o.Base, Folder: pathMedium + medium.ID + "/", ISO: medium.Name}
	start := medium.Start(name, plan.WantsHWE(d.Machine), at, id.MAC, d.Args...)
	return &start, "", nil
}

// find returns a file of a medium by ID/NAME.
func (p *PXE) find(name string) (*Medium, string, *boot.Extents, bool) {
	id, file, _ := strings.Cut(name, "/")
	for _, m := range p.o.Media {
		if m.ID == id {
			content, ok := m.file(file)
			return m, file, content, ok
		}
	}
	return nil, "", nil, false
}

func (p *PXE) serveMedium(w http.ResponseWriter, r *http.Request, name string) {
	m, file, content, ok := p.find(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	kind := SawImage
	switch {
	case strings.HasSuffix(file, "vmlinuz"):
		kind = SawKernel
	case file != m.Name:
		kind = SawInitrd
	}
	counted := p.watch(w, r, kind, file, content.Size())
	defer counted.end()
	if err := m.serveFile(counted, r, file, content); err != nil {
		p.s.o.Log.Error("cannot serve the medium", "file", name, "why", err)
	}
}

// serveISO answers for TOKEN/MACHINE.iso, the image of one machine.
func (p *PXE) serveISO(w http.ResponseWriter, r *http.Request, name string) {
	token, file, _ := strings.Cut(name, "/")
	m, record, err := p.claimed(r.Context(), state.Token(token), addressOf(r))
	if err == nil && file != m.Name+".iso" {
		err = state.ErrUnknown
	}
	if err != nil {
		p.s.refuse(w, err)
		return
	}
	made, err := p.images.get(imageKey{m.Name, record.Generation}, func() (*machineImage, error) { return p.plan(m, record) })
	if err != nil {
		p.s.o.Log.Error("cannot make a machine's medium", "machine", m.Name, "why", err)
		http.Error(w, "the medium cannot be made; the server's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	counted := &counter{ResponseWriter: w}
	defer func() {
		p.s.Saw(m.Name, Sighting{Kind: SawImage, Detail: "virtual medium", Bytes: counted.sent, Size: made.Size()})
	}()
	if err := image.Serve(counted, r, made, made.medium.Path, made.Tag(), time.Time{}); err != nil {
		p.s.o.Log.Error("cannot serve a machine's medium", "machine", m.Name, "why", err)
	}
}

// claimed returns the machine whose medium a token opens. A BMC reads by thousands of
// ranges: once the machine is known to boot, what the store told last will do for them.
func (p *PXE) claimed(ctx context.Context, token state.Token, address string) (*plan.Machine, *state.Record, error) {
	if name, ok := p.s.board.byToken(token); ok {
		m, r := p.s.Machine(name), p.s.board.record(name)
		begun := m != nil && r != nil && r.Phase != state.Armed
		if begun && r.Via == state.Medium && r.Hash(state.ForMedium).Is(token) && r.Live(p.s.o.Now()) {
			return m, r, nil
		}
	}
	return p.s.ClaimMedium(ctx, token, address)
}

// plan plans a machine's image. Its seed is in there and nowhere else.
func (p *PXE) plan(m *plan.Machine, r *state.Record) (*machineImage, error) {
	medium, err := mediumFor(p.o.Media, m)
	if err != nil {
		return nil, err
	}
	seed, err := p.s.renderSeed(m, r)
	if err != nil {
		return nil, err
	}
	overlay, err := mediumOverlay(m, r, seed)
	if err != nil {
		return nil, err
	}
	return newMachineImage(medium, overlay)
}

func (p *PXE) serveLoader(w http.ResponseWriter, r *http.Request, name string) {
	f, ok := p.o.Loaders.Open(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	counted := p.watch(w, r, SawLoader, f.Name, f.Size())
	defer counted.end()
	w.Header().Set("Content-Type", "application/efi")
	http.ServeContent(counted, r, "", time.Time{}, io.NewSectionReader(f, 0, f.Size()))
}

// openTFTP opens what TFTP serves: loaders, GRUB's menus, and kernels for a GRUB that
// has no HTTP.
func (p *PXE) openTFTP(ctx context.Context, client netip.Addr, asked string) (tftp.File, error) {
	name, ok := boot.Clean(asked)
	if !ok {
		return nil, fs.ErrNotExist
	}
	switch {
	case name == pathGRUB:
		text, err := boot.GRUBMenu()
		return scriptFile(text, err)
	case strings.HasPrefix(name, pathGRUB+"-"):
		text, err := p.grubScript(strings.TrimPrefix(name, pathGRUB+"-"))(ctx)
		return scriptFile(text, err)
	case strings.HasPrefix(name, pathMedium):
		_, file, content, ok := p.find(strings.TrimPrefix(name, pathMedium))
		if !ok || strings.HasSuffix(file, ".iso") {
			return nil, fs.ErrNotExist
		}
		return content, nil
	}
	f, ok := p.o.Loaders.Open(name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// scriptFile is a script as TFTP sends it.
func scriptFile(text string, err error) (tftp.File, error) {
	if err != nil {
		return nil, err
	}
	return strings.NewReader(text), nil
}

func (p *PXE) sentTFTP(t tftp.Transfer) {
	p.s.o.Log.Debug("TFTP", "client", t.Client, "file", t.Name, "sent", t.Sent, "of", t.Size,
		"blksize", t.BlockSize, "window", t.Window, "took", t.Duration, "why", t.Err)
	name, _ := boot.Clean(t.Name)
	kind := SawLoader
	switch {
	case t.Err != nil || t.Sent < t.Size || strings.HasPrefix(name, "grub/"):
		return
	case strings.HasPrefix(name, pathMedium) && strings.HasSuffix(name, "vmlinuz"):
		kind = SawKernel
	case strings.HasPrefix(name, pathMedium):
		kind = SawInitrd
	}
	if machine := p.at(t.Client.Addr()); machine != "" {
		p.s.Saw(machine, Sighting{Kind: kind, Detail: path.Base(name) + " by TFTP", Bytes: t.Sent, Size: t.Size})
	}
}

// at returns the name of the machine at an address of the provisioning network, as far
// as the kernel's neighbour table knows its MAC address; or "". It is for the page
// alone: nothing is given away or refused by it.
func (p *PXE) at(address netip.Addr) string {
	table, err := os.ReadFile("/proc/net/arp") // proc_net(5); elsewhere there is none
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != address.Unmap().String() {
			continue
		}
		mac, err := net.ParseMAC(fields[3])
		if err != nil {
			return ""
		}
		good, _ := p.s.loader.current()
		if m := good.index.find(p.heard.identity(mac)); m != nil {
			return m.Name
		}
	}
	return ""
}

// counter counts the bytes of an answer. It keeps the connection's own ReadFrom, which
// sends files inside the kernel.
type counter struct {
	http.ResponseWriter
	sent int64
	done func(sent int64)
}

// watch tells of a transfer when it begins and when it ends.
func (p *PXE) watch(w http.ResponseWriter, r *http.Request, kind Kind, detail string, size int64) *counter {
	c := &counter{ResponseWriter: w}
	host, err := netip.ParseAddr(addressOf(r))
	if err != nil || r.Method == http.MethodHead {
		return c
	}
	machine := p.at(host)
	if machine == "" {
		return c
	}
	p.s.Saw(machine, Sighting{Kind: kind, Detail: detail, Size: size})
	c.done = func(sent int64) { p.s.Saw(machine, Sighting{Kind: kind, Detail: detail, Bytes: sent, Size: size}) }
	return c
}

func (c *counter) end() {
	if c.done != nil {
		c.done(c.sent)
	}
}

// Write writes a part of the answer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent += int64(n)
	return n, err
}

// ReadFrom writes what a reader has.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.sent += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
