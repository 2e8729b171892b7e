// Package netboot boots virtual machines over a network from gpustrap serve, from the
// firmware's first DHCP request on. The networks are namespaces that the tests make
// and remove; it takes root.
package netboot

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// Addresses of the networks: each is in namespaces of its own, so they are all alike.
const (
	siteAddress   = "10.77.0.1"
	serverAddress = "10.77.0.2"
	listen        = serverAddress + ":8080"
	base          = "http://" + listen
	admin         = "127.0.0.1:8443"
)

// network is a bridge with the site's DHCP server and ours, each in its namespace, and
// tap devices for machines.
type network struct{ prefix string }

var networks atomic.Int32

// newNetwork makes a network with some tap devices, tap0 and on.
func newNetwork(t *testing.T, taps int) network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	oracle.Need(t, "ip")
	n := network{fmt.Sprintf("gs%d-%d-", os.Getpid(), networks.Add(1))}
	lan := n.prefix + "lan"
	for _, name := range []string{"lan", "site", "boot"} {
		lab.Run(t, "ip", "netns", "add", n.prefix+name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.prefix+name).Run() }) // gone with its devices
		lab.Run(t, "ip", "-n", n.prefix+name, "link", "set", "lo", "up")
	}
	lab.Run(t, "ip", "-n", lan, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
	lab.Run(t, "ip", "-n", lan, "link", "set", "br0", "up")
	for name, address := range map[string]string{"site": siteAddress, "boot": serverAddress} {
		lab.Run(t, "ip", "-n", lan, "link", "add", "p-"+name, "type", "veth", "peer", "name", "eth0", "netns", n.prefix+name)
		lab.Run(t, "ip", "-n", lan, "link", "set", "p-"+name, "master", "br0", "up")
		lab.Run(t, "ip", "-n", n.prefix+name, "addr", "add", address+"/24", "dev", "eth0")
		lab.Run(t, "ip", "-n", n.prefix+name, "link", "set", "eth0", "up")
	}
	for i := range taps {
		tap := fmt.Sprintf("tap%d", i)
		lab.Run(t, "ip", "-n", lan, "tuntap", "add", tap, "mode", "tap")
		lab.Run(t, "ip", "-n", lan, "link", "set", tap, "master", "br0", "up")
	}
	return n
}

// background runs a program in a namespace until the test ends, and shows what it said
// when the test has failed.
func (n network) background(t *testing.T, namespace, name string, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.prefix + namespace, name}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", filepath.Base(name), text)
		}
	})
	return cmd
}

// siteDHCP runs a site's own DHCP server, which gives addresses.
func (n network) siteDHCP(t *testing.T, args ...string) {
	t.Helper()
	n.background(t, "site", oracle.Need(t, "dnsmasq"), append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--leasefile-ro",
		// Without --no-ping it tries each address for three seconds, and iPXE gives up.
		"--no-ping", "--dhcp-authoritative", "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,1h", "--dhcp-option=3",
	}, args...)...)
}

// server is gpustrap serve on a network.
type server struct {
	n      network
	config string
	data   string
}

// serve starts gpustrap serve with a configuration and the files that it names, and
// waits until it answers.
func (n network) serve(t *testing.T, config, medium string, args []string, files map[string][]byte) *server {
	t.Helper()
	s := &server{n: n, config: lab.WriteConfig(t, config), data: filepath.Join(t.TempDir(), "data")}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.background(t, "boot", lab.Program(t), append([]string{
		"serve", "-c", s.config, "--iso", medium, "--interface", "eth0", "--listen", listen, "--admin", admin, "--data", s.data,
	}, args...)...)
	n.answers(t, base+"/healthz")
	return s
}

// answers waits until an address answers in the server's namespace.
func (n network) answers(t *testing.T, address string) {
	t.Helper()
	curl := oracle.Need(t, "curl")
	poll(t, address+" to answer", func() bool {
		return exec.Command("ip", "netns", "exec", n.prefix+"boot", curl, "-fs", "-o", os.DevNull, address).Run() == nil
	})
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(lab.BootLimit); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// command runs gpustrap against the server.
func (s *server) command(t *testing.T, args ...string) string {
	t.Helper()
	return lab.Run(t, "ip", append([]string{"netns", "exec", s.n.prefix + "boot", lab.Program(t)}, s.connect(args...)...)...)
}

func (s *server) connect(args ...string) []string {
	return append(args, "--server", "https://"+admin, "--token-file", filepath.Join(s.data, "admin-token"))
}

// armMedium arms a machine and returns the address of its own image.
func (s *server) armMedium(t *testing.T, machine string) string {
	t.Helper()
	for _, word := range strings.Fields(s.command(t, "arm", "--yes", "--via", "medium", machine)) {
		if strings.HasPrefix(word, base+"/iso/") && strings.HasSuffix(word, "/"+machine+".iso") {
			return word
		}
	}
	t.Fatal("arm told no address of a medium")
	return ""
}

// phase returns where a machine stands.
func (s *server) phase(t *testing.T, machine string) string {
	t.Helper()
	var views []struct {
		Machine string `json:"machine"`
		Record  struct {
			Phase string `json:"phase"`
		} `json:"record"`
	}
	if err := json.Unmarshal([]byte(s.command(t, "status", "--json", machine)), &views); err != nil || len(views) != 1 {
		t.Fatalf("status of %s: %v, %d machines", machine, err, len(views))
	}
	return views[0].Record.Phase
}
