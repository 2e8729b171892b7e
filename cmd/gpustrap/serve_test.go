package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
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
		ended <- run(ctx, w, []string{"serve", "-c", config, "--interface", "lo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"})
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
		{"an unknown way", "", []string{"arm", "--yes", "--via", "post", "node01"}, 1, `must be network or medium`},
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
	var views []netboot.View
	out, _ := call("", "status", "--json")
	if err := json.Unmarshal([]byte(out), &views); err != nil || len(views) != 2 || views[0].Record.Generation != 3 {
		t.Error(err, out)
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
