package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/e2e/vm"
)

// TestExport boots machines from an exported tree, which nginx and dnsmasq serve beside
// a site's DHCP server: up to the installer that has fetched its seed. A machine that is
// not in the tree boots from its disk.
func TestExport(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	nginx, dnsmasq := oracle.Need(t, "nginx"), oracle.Need(t, "dnsmasq")
	medium := lab.SampleMedium(t, "24.04", "light")
	n := newNetwork(t, 3)
	n.siteDHCP(t)
	config := lab.WriteConfig(t, strings.Replace(configOf("", ""), "docker: false\n", "docker: false\nboot: {confirm: none}\n", 1))
	tree := filepath.Join(t.TempDir(), "tree")
	for _, dir := range []string{filepath.Dir(tree), filepath.Dir(filepath.Dir(tree))} {
		if err := os.Chmod(dir, 0o755); err != nil { // dnsmasq gives its rights away
			t.Fatal(err)
		}
	}
	lab.Gpustrap(t, "export", "-c", config, "--format", "nginx,dnsmasq", "--url", base, "--iso", medium, "-o", tree)
	// As the tree's owner, who alone may read it.
	n.background(t, "boot", nginx, "-c", filepath.Join(tree, "nginx.conf"), "-g", "daemon off; user root;")
	n.background(t, "boot", dnsmasq, "--keep-in-foreground", "--log-facility=-", "-C", filepath.Join(tree, "dnsmasq.conf"))
	n.answers(t, base+"/boot.ipxe")

	var machines []*vm.VM
	for i, firmware := range []vm.Firmware{vm.BIOS, vm.UEFI, vm.BIOS} {
		c := n.lightMachine(t, i, firmware, medium)
		c.Reboot = i == 2
		machines = append(machines, lab.StartNow(t, c))
	}
	for i, want := range []string{installed, installed, localDisk} {
		if err := machines[i].WaitFor(lab.Within(t, lab.BootLimit), want); err != nil {
			t.Errorf("machine %d: %v", i, err)
		}
	}
	for i, m := range machines {
		m.Close()
		if got := strings.Contains(m.Serial(), fmt.Sprintf("GPUSTRAP-NETINSTALL seed \"node%d-", i)); got != (i < 2) {
			t.Errorf("machine %d: asked for a seed: %v", i, got)
		}
	}
}
