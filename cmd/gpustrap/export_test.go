package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// exported writes a tree for two machines.
func exported(t *testing.T, address string) (dir, medium string) {
	t.Helper()
	top := t.TempDir()
	dir, medium = filepath.Join(top, "tree"), isotest.Medium{Small: true}.Make(t)
	ipxe := filepath.Join(top, "ipxe")
	if err := os.Mkdir(ipxe, 0o755); err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 0x80)
	copy(header, "MZ")
	header[0x3c] = 0x40
	copy(header[0x40:], "PE\x00\x00\x64\x86")
	files := map[string]string{
		filepath.Join(ipxe, "undionly.kpxe"): "not iPXE", filepath.Join(ipxe, "ipxe.efi"): string(header) + "not iPXE", filepath.Join(ipxe, "snponly.efi"): string(header) + "not iPXE",
		filepath.Join(top, "gpustrap.yaml"): `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops"]}
machines:
  - {name: node01, match: {mac: "52:54:00:00:00:01"}, storage: {disk: {serial: S1}}}
  - {name: node02, match: {mac: ["52:54:00:00:00:02", "52:54:00:00:00:03"]}}
`,
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out said
	w := newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" })
	args := []string{"export", "-c", filepath.Join(top, "gpustrap.yaml"), "--format", "nginx,dnsmasq", "--url", "http://" + address, "--iso", medium, "--ipxe", ipxe, "-o", dir}
	for range 2 { // the second time over the first
		if code := run(t.Context(), w, args); code != exitDone {
			t.Fatalf("exit %d\n%s", code, &out)
		}
	}
	if code := run(t.Context(), w, []string{"render", "-c", filepath.Join(top, "gpustrap.yaml"), "-o", filepath.Join(top, "seeds")}); code != exitDone {
		t.Fatalf("exit %d\n%s", code, &out)
	}
	return dir, medium
}

// TestExportRefuses: what cannot be exported is said before anything is written.
func TestExportRefuses(t *testing.T) {
	medium := isotest.Medium{Small: true}.Make(t)
	for _, tt := range []struct {
		name, machine string
		args          []string
		code          int
		want          string
	}{
		{"another release", `ubuntu: "22.04", match: {mac: "52:54:00:00:00:01"}`, nil, 1, "node01 wants Ubuntu 22.04, and the medium is"},
		{"no address", `match: {serial: S1}`, nil, 1, "node01 has no match.mac"},
		{"its medium alone", `match: {mac: "52:54:00:00:00:01"}, docker: {}, offline: only`, nil, 2, "takes its packages from its medium alone"},
		{"a name for dnsmasq", `match: {mac: "52:54:00:00:00:01"}`, []string{"--format", "dnsmasq", "--url", "http://boot"}, 2, "dnsmasq needs an IPv4 address"},
	} {
		dir := t.TempDir()
		config := filepath.Join(dir, "gpustrap.yaml")
		yaml := "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops\"]}\nmachines:\n  - {name: node01, " + tt.machine + "}\n"
		if err := os.WriteFile(config, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		var out said
		w := newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" })
		args := append([]string{"export", "-c", config, "--format", "nginx", "--url", "http://10.0.0.2", "--iso", medium, "-o", filepath.Join(dir, "tree")}, tt.args...)
		if code := run(t.Context(), w, args); code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: %d, want %d %q\n%s", tt.name, code, tt.code, tt.want, &out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s: %v is left, %v", tt.name, left, err)
		}
	}
}

// nginx serves the rendered seeds, the boot scripts and the medium, ranges of it too.
func TestExportNginx(t *testing.T) {
	nginx := oracle.Need(t, "nginx")
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := port.Addr().String()
	dir, medium := exported(t, address)
	_ = port.Close()
	args := []string{"-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;"}
	if os.Getuid() == 0 {
		args[3] += " user root;" // the tree's owner
	}
	cmd := exec.CommandContext(t.Context(), nginx, args...)
	var log said
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	get := func(path, ranges string) []byte {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ranges != "" {
			r.Header.Set("Range", ranges)
		}
		for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				if time.Now().Before(end) {
					continue
				}
				t.Fatalf("%v\n%s", err, &log)
			}
			data, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || answer.StatusCode >= 300 {
				t.Fatalf("%s: %s %v\n%s", path, answer.Status, err, &log)
			}
			return data
		}
	}
	for _, name := range []string{"node01/user-data", "node01/meta-data", "node01/vendor-data", "node02/user-data"} {
		want, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "seeds", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := get("/seeds/"+name, ""); !bytes.Equal(got, want) {
			t.Errorf("%s differs from what is rendered", name)
		}
	}
	if got := get("/seeds/node01/network-config", ""); len(got) > 0 {
		t.Errorf("network-config is %q", got)
	}
	script := string(get("/machine/52-54-00-00-00-01.ipxe", ""))
	var kernel, initrd, image string
	for _, word := range strings.Fields(script) {
		switch {
		case strings.HasPrefix(word, "url="):
			image = strings.TrimPrefix(word, "url=http://"+address)
		case strings.HasSuffix(word, "/vmlinuz"):
			kernel = strings.TrimPrefix(word, "http://"+address)
		case strings.HasSuffix(word, "/initrd"):
			initrd = strings.TrimPrefix(word, "http://"+address)
		}
	}
	if !strings.Contains(script, "autoinstall ds=nocloud;s=http://"+address+"/seeds/node01/ ") || kernel == "" || initrd == "" || image == "" {
		t.Fatalf("the script is\n%s", script)
	}
	if other := string(get("//machine//52-54-00-00-00-03.ipxe", "")); strings.Contains(other, " autoinstall ") || !strings.Contains(other, "/seeds/node02/") {
		t.Errorf("node02's disk is not named, and the installer does not ask:\n%s", other)
	}
	whole, err := os.ReadFile(medium)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(whole, get(kernel, "")) || !bytes.Contains(whole, get(initrd, "")) {
		t.Error("kernel or initrd are not the medium's")
	}
	if got := get(image, "bytes=32768-36863"); !bytes.Equal(got, whole[32768:36864]) {
		t.Error("a range of the medium differs")
	}
}

// dnsmasq takes its configuration, and gives iPXE out by TFTP.
func TestExportDnsmasq(t *testing.T) {
	dnsmasq := oracle.Need(t, "dnsmasq")
	dir, _ := exported(t, "127.0.0.1:8080")
	conf := filepath.Join(dir, "dnsmasq.conf")
	if out, err := exec.Command(dnsmasq, "--test", "-C", conf).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(conf)
	if err != nil || strings.Count(string(text), "dhcp-host=52:54:00:00:00:0") != 3 || !strings.Contains(string(text), "dhcp-ignore=tag:!gpustrap") {
		t.Fatalf("%v\n%s", err, text)
	}
	if os.Getuid() != 0 {
		t.Skip("a network of its own needs root")
	}
	unshare, curl := oracle.Need(t, "unshare"), oracle.Need(t, "curl")
	script := fmt.Sprintf(`ip link set lo up
%s --keep-in-foreground -C %s --user=root --log-facility=- --pid-file= &
for i in $(seq 100); do
	%s -s --max-time 5 tftp://127.0.0.1/undionly.kpxe && break
	sleep 0.1
done
kill $!`, dnsmasq, conf, curl)
	cmd := exec.CommandContext(t.Context(), unshare, "--net", "sh", "-c", script)
	var log said
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil || string(out) != "not iPXE" {
		t.Errorf("%v: %q\n%s", err, out, &log)
	}
}
