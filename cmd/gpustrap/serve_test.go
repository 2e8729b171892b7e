package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/isotest"
	"github.com/gpustrap/gpustrap/netboot"
)

// said is what a command says, which may be read while it runs.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await polls for something that a command says.
func (s *said) await(t *testing.T, what string) string {
	t.Helper()
	re := regexp.MustCompile(what)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if found := re.FindStringSubmatch(s.String()); found != nil {
			return found[len(found)-1]
		}
	}
	t.Fatalf("%q was not said in\n%s", what, s)
	return ""
}

func TestServe(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TFTP's port takes root")
	}
	medium := isotest.Medium{Small: true}.Make(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "gpustrap.yaml")
	yaml := `version: 1
ubuntu: "24.04"
user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops"]}
machines:
  - {name: node01, match: {mac: "52:54:00:00:00:01"}}
  - {name: node02, match: {mac: "52:54:00:00:00:02"}}
`
	if err := os.WriteFile(config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var log said
	ended := make(chan int, 1)
	go func() {
		w := newWorld(strings.NewReader(""), &log, &log, func(string) string { return "" })
		ended <- run(ctx, w, []string{"serve", "-c", config, "--interface", "lo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--iso", medium, "--dhcp", "off"})
	}()
	admin := log.await(t, `administrators: (https://\S+),`)
	call := func(input string, args ...string) (string, int) {
		var out said
		w := newWorld(strings.NewReader(input), &out, &out, func(string) string { return "" })
		code := run(t.Context(), w, append(args, "-c", config, "--server", admin))
		return out.String(), code
	}
	for _, tt := range []struct {
		name, input string
		args        []string
		code        int
		want        string
	}{
		{"status before", "", []string{"status"}, 0, `node01 +- +- +it is not armed`},
		{"arm without an answer", "", []string{"arm", "node01"}, 1, `node01: ERASE the only disk\nto arm 1 machine, type node01: gpustrap: not confirmed; nothing was armed`},
		{"arm", "node01\n", []string{"arm", "node01"}, 0, `node01: armed until \S+ \S+, generation 1`},
		{"arm all for a medium", "", []string{"arm", "--yes", "--via", "medium", "--expires", "2h", "node*"}, 0, `node02: armed .* medium http://127.0.0.1:\d+/iso/[0-9a-f]{32}/node02.iso`},
		{"a machine that is not there", "", []string{"arm", "--yes", "node09"}, 2, `the server has no machine "node09"`},
		{"an unknown way", "", []string{"arm", "--yes", "--via", "post", "node01"}, 2, `must be network or medium`},
		{"status", "", []string{"status", "node01"}, 0, `node01 +armed +\ds +start it from its medium, until`},
		{"disarm", "", []string{"disarm", "node02"}, 0, `node02: disarmed, generation 1`},
		{"disarm all", "", []string{"disarm", "node*"}, 0, `node01: disarmed, generation 2\nnode02: it was not armed`},
		{"status after it", "", []string{"status", "node01"}, 0, `node01 +disarmed +\ds +somebody disarmed it: it boots from its own disk`},
		{"arm it again", "", []string{"arm", "--yes", "node01"}, 0, `generation 3`},
		{"status as JSON", "", []string{"status", "--json"}, 0, `"phase":"armed"`},
	} {
		out, code := call(tt.input, tt.args...)
		if code != tt.code || !regexp.MustCompile(tt.want).MatchString(out) {
			t.Errorf("%s: %d, want %d %q\n%s", tt.name, code, tt.code, tt.want, out)
		}
	}
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert := filepath.Join(dir, dataFolderName, certName)
	if out, code := call("", "status", "--token-file", wrong, "--cert", cert); code != 1 || !strings.Contains(out, "hint: "+wrong+" is not it") {
		t.Errorf("a wrong token: %d %s", code, out)
	}
	if out, code := call("", "status", "--token-file", wrong); code != 1 || !regexp.MustCompile(`cannot trust the server at \S+: x509: .*\nhint: --cert names`).MatchString(out) {
		t.Errorf("no certificate: %d %s", code, out)
	}
	var views []netboot.View
	out, _ := call("", "status", "--json")
	if err := json.Unmarshal([]byte(out), &views); err != nil || len(views) != 2 || views[0].Record.Generation != 3 {
		t.Error(err, out)
	}
	var second said
	w := newWorld(strings.NewReader(""), &second, &second, func(string) string { return "" })
	code := run(t.Context(), w, []string{"serve", "-c", config, "--interface", "lo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--iso", medium, "--dhcp", "off"})
	if code != exitFailed || !regexp.MustCompile(`another server uses this state\nhint: end the other server, or give this one a folder`).MatchString(second.String()) {
		t.Errorf("a second server with the same data folder: %d %s", code, &second)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(yaml, "node02", "node03", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	log.await(t, "the configuration has changed")
	stop()
	select {
	case code := <-ended:
		if code != exitDone {
			t.Errorf("it ended with %d\n%s", code, &log)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it does not end")
	}
	token, err := os.ReadFile(filepath.Join(dir, dataFolderName, adminTokenName))
	if err != nil || strings.Contains(log.String(), strings.TrimSpace(string(token))) {
		t.Error("the token is in the log", err)
	}
	if audit, err := os.ReadFile(filepath.Join(dir, dataFolderName, auditName)); err != nil || strings.Count(string(audit), `"msg":"arm"`) != 4 || strings.Count(string(audit), `"msg":"disarm"`) != 2 {
		t.Errorf("%v\n%s", err, audit)
	}
}

// TestServeRefuses: what was asked for wrongly is said in one line, and nothing is
// written.
func TestServeRefuses(t *testing.T) {
	medium := isotest.Medium{Small: true}.Make(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no interface", nil, 2, "--interface is needed"},
		{"an interface that is not there", []string{"--interface", "nope0", "--iso", medium}, 1, "there is no network interface nope0\nhint: ip address lists them"},
		{"no medium named", []string{"--interface", "lo"}, 2, "^gpustrap: --iso is needed: the installation medium"},
		{"a certificate without a key", []string{"--interface", "lo", "--tls-cert", "x"}, 2, "^gpustrap: --tls-cert and --tls-key are needed together"},
		{"a key without a certificate", []string{"--interface", "lo", "--etcd-key", "x"}, 2, "^gpustrap: --etcd-cert and --etcd-key are needed together"},
		{"a folder without iPXE", []string{"--interface", "lo", "--iso", medium, "--ipxe", "testdata"}, 1, "testdata holds none of undionly.kpxe, snponly.efi, ipxe.efi"},
		{"no medium there", []string{"--interface", "lo", "--iso", "nope.iso"}, 1, "cannot read the installation medium: open nope.iso: no such file"},
		{"no medium", []string{"--interface", "lo", "--iso", "serve_test.go"}, 1, "cannot serve serve_test.go: this is not an ISO 9660 image"},
		{"no mode", []string{"--interface", "lo", "--iso", medium, "--dhcp", "on"}, 2, `--dhcp is "on"`},
		{"no port", []string{"--interface", "lo", "--iso", medium, "--listen", "127.0.0.1"}, 2, `--listen is "127.0.0.1"`},
		{"no port for administrators", []string{"--interface", "lo", "--iso", medium, "--listen", "127.0.0.1:0", "--admin", "foo"}, 2, `--admin is "foo"`},
		{"a port that is taken", []string{"--interface", "lo", "--iso", medium, "--listen", taken.Addr().String()}, 1, "address already in use\nhint: another program has the port"},
		{"the other port is taken", []string{"--interface", "lo", "--iso", medium, "--listen", "127.0.0.1:0", "--admin", taken.Addr().String()}, 1, "administrators: .*address already in use\nhint: another"},
		{"another computer's address", []string{"--interface", "lo", "--iso", medium, "--listen", "192.0.2.77:0"}, 1, "cannot assign requested address\nhint: this computer has no such address"},
	} {
		dir := t.TempDir()
		config := filepath.Join(dir, "gpustrap.yaml")
		if err := os.WriteFile(config, []byte("version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZvb2Jh ops\"]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out said
		w := newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" })
		code := run(t.Context(), w, append([]string{"serve", "-c", config}, tt.args...))
		if code != tt.code || !regexp.MustCompile(tt.want).MatchString(out.String()) {
			t.Errorf("%s: %d, want %d %q\n%s", tt.name, code, tt.code, tt.want, &out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s: %v is left, %v", tt.name, left, err)
		}
	}
}

// TestPortsOfBootsTaken: --listen and --admin are no help where DHCP's port is taken.
func TestPortsOfBootsTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = net.ListenPacket("udp4", taken.LocalAddr().String())
	var out said
	newWorld(strings.NewReader(""), &out, &out, func(string) string { return "" }).complain(listenError(fmt.Errorf("cannot listen: %w", err)))
	if !strings.Contains(out.String(), "address already in use\nhint: another program here has DHCP or TFTP") {
		t.Error(out.String())
	}
}

func TestServeUnit(t *testing.T) {
	oracle.Need(t, "systemd-analyze")
	unit := filepath.Join(t.TempDir(), "gpustrap.service")
	text := strings.Replace(serveUnit, "/usr/local/bin/gpustrap", "/bin/true", 1) // it must be there
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
