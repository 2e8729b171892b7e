package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
	"github.com/gpustrap/gpustrap/netboot/state"
	"github.com/gpustrap/gpustrap/plan"
	"github.com/gpustrap/gpustrap/report"
)

// The files in the data folder of a server.
const (
	dataFolderName = "gpustrap.state"
	adminTokenName = "admin-token"
	tokenKeyName   = "token-key"
	certName       = "tls.crt"
	certKeyName    = "tls.key"
	auditName      = "audit.log"
	stateName      = "state"
	eventsName     = "events"
)

// The addresses that the server listens on unless it is told others.
const (
	defaultListen = ":80"
	defaultAdmin  = "127.0.0.1:8443"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	iface   string
	listen  string
	admin   string
	data    string
	etcd    []string
	etcdCA  string
	etcdCrt string
	etcdKey string
	tlsCert string
	tlsKey  string
	unit    bool
	pxe     pxeFlags
}

func newServe(w *world) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --interface NAME --iso FILE",
		Short: "Install machines over the network, each once",
		Long: `Serves each machine of the configuration its own seed, hears what its installer
reports, and says why one is stuck. A machine is installed only after "gpustrap
arm", and once for each time; any other boots from its own disk. The
configuration is followed: a changed file is read again, one with errors is
refused and the last good one stays.

The machines boot from here: by DHCP beside the site's own server, TFTP, HTTP
Boot, or an image of their own that a BMC reads. It says at its start what it
answers to. Kernel, initrd, shim and the network GRUB come out of the medium
(--iso), iPXE out of --ipxe.

Machines are answered by plain HTTP on the interface, administrators by TLS on
--admin, with the token in the data folder. What must survive a power failure
lies there, in an embedded etcd; --etcd uses a cluster of your own instead.`,
		Example: `  gpustrap serve --interface eth1 --iso ubuntu-24.04.3-live-server-amd64.iso
  gpustrap serve --interface eth1 --iso noble.iso --data /var/lib/gpustrap
  gpustrap serve --print-unit > /etc/systemd/system/gpustrap.service`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.unit {
				return w.print("%s", serveUnit)
			}
			return runServe(cmd.Context(), w, cmd, f)
		},
	}
	cmd.Flags().StringVar(&f.iface, "interface", "", "network `interface` that machines are answered on")
	cmd.Flags().StringVar(&f.listen, "listen", defaultListen, "`address` for machines; without a host that of the interface")
	cmd.Flags().StringVar(&f.admin, "admin", defaultAdmin, "`address` for administrators, by TLS")
	cmd.Flags().StringVar(&f.data, "data", "", "`folder` of the state (default "+dataFolderName+" beside the configuration)")
	cmd.Flags().StringSliceVar(&f.etcd, "etcd", nil, "`URL`s of an etcd cluster, instead of the embedded one")
	cmd.Flags().StringVar(&f.etcdCA, "etcd-ca", "", "certificates in PEM that the cluster is checked by (`file`)")
	cmd.Flags().StringVar(&f.etcdCrt, "etcd-cert", "", "certificate in PEM to show to the cluster (`file`)")
	cmd.Flags().StringVar(&f.etcdKey, "etcd-key", "", "its key (`file`)")
	cmd.Flags().StringVar(&f.tlsCert, "tls-cert", "", "certificate for --admin in PEM (`file`; default: one is made)")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "its key, RSA or ECDSA (`file`)")
	f.pxe.flags(cmd)
	cmd.Flags().BoolVar(&f.unit, "print-unit", false, "print a systemd unit and end")
	return cmd
}

// runServe serves until the context is done.
func runServe(ctx context.Context, w *world, cmd *cobra.Command, f serveFlags) error {
	if f.iface == "" {
		return usagef("--interface is needed: the network that machines boot from")
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return usagef("--tls-cert and --tls-key are needed together: a certificate and its key")
	}
	if (f.etcdCrt == "") != (f.etcdKey == "") {
		return usagef("--etcd-cert and --etcd-key are needed together: a certificate and its key")
	}
	if len(f.pxe.media) == 0 {
		return usagef("--iso is needed: the installation medium that machines are installed from")
	}
	if _, err := loadProject(w, cmd); err != nil {
		return err
	}
	// What was asked for wrongly is said before anything is written.
	boots, err := f.pxe.read(f.iface)
	if err != nil {
		return err
	}
	listeners, err := openListeners(f)
	if err != nil {
		return err
	}
	defer listeners.close()
	if f.data == "" {
		f.data = filepath.Join(filepath.Dir(configName(cmd)), dataFolderName)
	}
	if err := os.MkdirAll(f.data, 0o700); err != nil {
		return fmt.Errorf("cannot make the data folder: %w", err)
	}
	secrets, err := readServeSecrets(f.data)
	if err != nil {
		return err
	}
	cert, err := serveCertificate(w, f, listeners)
	if err != nil {
		return err
	}
	audit, err := os.OpenFile(filepath.Join(f.data, auditName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	defer func() { _ = audit.Close() }() // each line is written as it comes
	store, err := openStore(ctx, w, f)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			w.complain(fmt.Errorf("cannot close the state: %w", err))
		}
	}()
	log := slog.New(slog.NewTextHandler(w.stderr, nil))
	server, err := netboot.New(ctx, netboot.Options{
		Source: projectSource(cmd), Store: store, Key: secrets.key, AdminToken: secrets.admin, PublicPages: isLoopback(listeners.admin.Addr()),
		Events: filepath.Join(f.data, eventsName), Base: "http://" + listeners.machines.Addr().String(),
		Now: w.now, Log: log, Audit: slog.New(slog.NewJSONHandler(audit, nil)),
	})
	if err != nil {
		return err
	}
	pxe := netboot.NewPXE(server, *boots)
	project, _ := server.Config()
	w.say("%s of the configuration; any other is not answered", count(len(project.Machines), "machine"))
	w.say("machines: http://%s", listeners.machines.Addr())
	w.say("administrators: https://%s, with the token in %s", listeners.admin.Addr(), filepath.Join(f.data, adminTokenName))
	for _, line := range pxe.Describe() {
		w.say("%s", line)
	}
	return serveAll(ctx, server, pxe, listeners, cert, log)
}

// serveListeners are the sockets of a server.
type serveListeners struct{ machines, admin net.Listener }

func (l serveListeners) close() {
	_ = l.machines.Close() // closed by its server before
	_ = l.admin.Close()
}

// openListeners opens them before anything else: a second server with the same
// addresses ends here.
func openListeners(f serveFlags) (serveListeners, error) {
	host, port, err := net.SplitHostPort(f.listen)
	if err != nil {
		return serveListeners{}, usagef("--listen is %q, and must be ADDRESS:PORT or :PORT", f.listen)
	}
	if _, _, err := net.SplitHostPort(f.admin); err != nil {
		return serveListeners{}, usagef("--admin is %q, and must be ADDRESS:PORT", f.admin)
	}
	if host == "" {
		if host, err = interfaceAddress(f.iface); err != nil {
			return serveListeners{}, err
		}
	}
	machines, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return serveListeners{}, listenError(fmt.Errorf("cannot listen for machines: %w", err))
	}
	admin, err := net.Listen("tcp", f.admin)
	if err != nil {
		_ = machines.Close() // nothing came yet
		return serveListeners{}, listenError(fmt.Errorf("cannot listen for administrators: %w", err))
	}
	return serveListeners{machines, admin}, nil
}

// listenError says what to do about a port that cannot be had.
func listenError(err error) error {
	var failed *net.OpError
	boots := errors.As(err, &failed) && strings.HasPrefix(failed.Net, "udp")
	switch {
	case boots && errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program here has DHCP or TFTP (ss -lnup says which): end it, or leave DHCP to it with --dhcp off")
	case errors.Is(err, fs.ErrPermission):
		return withHint(err, "low ports are for root or CAP_NET_BIND_SERVICE; gpustrap serve --print-unit has a unit with it")
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program has the port (ss -lntup says which): end it, or take another by --listen or --admin")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return withHint(err, "this computer has no such address; ip address lists those that it has")
	}
	return err
}

// isLoopback reports whether only this computer reaches an address: who is on it may
// read the page.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// interfaceAddress returns the first IPv4 address of an interface.
func interfaceAddress(name string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", withHint(fmt.Errorf("there is no network interface %s", name), "ip address lists them")
	}
	addresses, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("cannot read the addresses of %s: %w", name, err)
	}
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok && network.IP.To4() != nil {
			return network.IP.String(), nil
		}
	}
	return "", fmt.Errorf("the network interface %s has no IPv4 address", name)
}

// serveSecrets are what a server has of its own, made at its first start.
type serveSecrets struct {
	admin string
	key   state.Key
}

func readServeSecrets(data string) (serveSecrets, error) {
	admin, err := readSecret(filepath.Join(data, adminTokenName))
	if err != nil {
		return serveSecrets{}, err
	}
	key, err := readSecret(filepath.Join(data, tokenKeyName))
	return serveSecrets{admin, state.Key(key)}, err
}

// secretLength is the length of a secret that is made, in bytes.
const secretLength = 32

// readSecret reads a file with a secret, which is made where there is none.
func readSecret(name string) (string, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		secret := make([]byte, secretLength)
		if _, err := rand.Read(secret); err != nil {
			return "", fmt.Errorf("cannot make a secret: %w", err)
		}
		data = []byte(hex.EncodeToString(secret) + "\n")
		err = replaceFile(name, secretFile, func(f io.Writer) error {
			_, err := f.Write(data)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("cannot write %s: %w", name, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w", err)
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", withHint(fmt.Errorf("%s is empty", name), "remove it: another one is made")
	}
	return secret, nil
}

// serveCertificate returns the certificate that was given, or the one that is made
// once and kept.
func serveCertificate(w *world, f serveFlags, l serveListeners) (tls.Certificate, error) {
	cert, key := f.tlsCert, f.tlsKey
	if cert != "" {
		if _, err := os.Stat(cert); err != nil {
			return tls.Certificate{}, fmt.Errorf("cannot read the certificate: %w", err)
		}
	} else {
		cert, key = filepath.Join(f.data, certName), filepath.Join(f.data, certKeyName)
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, address := range []net.Addr{l.machines.Addr(), l.admin.Addr()} {
		if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() && !tcp.IP.IsLoopback() {
			hosts = append(hosts, tcp.IP.String())
		}
	}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	return netboot.Certificate(cert, key, hosts, w.now())
}

// openStore opens the state.
func openStore(ctx context.Context, w *world, f serveFlags) (*state.Store, error) {
	if len(f.etcd) == 0 {
		folder := filepath.Join(f.data, stateName)
		store, err := state.Embedded(ctx, folder, func(why string) {
			w.complain(withHint(fmt.Errorf("the state cannot be written any more, and the server ends: %s", why),
				"make room under %s and start it again: what was acknowledged is there", folder))
		})
		if errors.Is(err, state.ErrInUse) {
			err = withHint(err, "end the other server, or give this one a folder of its own with --data")
		}
		return store, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.etcdCA != "" {
		pool, err := certPool(f.etcdCA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if f.etcdCrt != "" {
		cert, err := tls.LoadX509KeyPair(f.etcdCrt, f.etcdKey)
		if err != nil {
			return nil, fmt.Errorf("cannot use the certificate for etcd: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return state.Dial(ctx, f.etcd, config)
}

// certPool reads certificates in PEM.
func certPool(name string) (*x509.CertPool, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", name)
	}
	return pool, nil
}

// projectSource reads the configuration for a server, with the lock and the signing
// key that lie beside it.
func projectSource(cmd *cobra.Command) netboot.Source {
	return func(readFile func(string) ([]byte, error)) (*plan.Project, report.Report, error) {
		// Lock and key are read by their own names elsewhere, and followed from here.
		follow := func(name string) error {
			_, err := readFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if err := follow(lockName(cmd)); err != nil {
			return nil, report.Report{}, err
		}
		project, rep, _, err := readProjectBy(cmd, readFile)
		if err == nil && project != nil {
			err = follow(keyName(cmd, project))
		}
		return project, rep, err
	}
}

// stopTime is how long requests have to come to their end when the server stops.
const stopTime = 10 * time.Second

// serveAll serves until the context is done, or a socket fails.
func serveAll(ctx context.Context, server *netboot.Server, pxe *netboot.PXE, l serveListeners, cert tls.Certificate, log *slog.Logger) error {
	machines := netboot.NewHTTP(pxe.Handler(), log)
	admin := netboot.NewHTTP(server.Admin(), log)
	admin.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	failed := make(chan error, 3)
	var group sync.WaitGroup
	// What the machines still report while the requests end is written down, so this
	// ends after them.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() { server.Run(running) })
	booting, stopBooting := context.WithCancel(ctx)
	defer stopBooting()
	group.Go(func() {
		if err := pxe.Serve(booting); err != nil {
			failed <- listenError(err)
		}
	})
	go func() { failed <- machines.Serve(l.machines) }()
	go func() { failed <- admin.ServeTLS(l.admin, "", "") }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("cannot serve any more: %w", err)
	}
	log.Info("stopping")
	stopBooting()
	server.EndWatches()
	ending, ended := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer ended()
	for _, s := range []*http.Server{machines, admin} {
		if s.Shutdown(ending) != nil {
			_ = s.Close() // it had its time
		}
	}
	stop()
	group.Wait()
	return err
}
