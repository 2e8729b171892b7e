// Package engine_test runs the container apps' scripts with a real Docker engine.
package engine_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/scripts"
)

// machine is a system with an engine, in namespaces of its own.
type machine struct {
	t   *testing.T
	dir string
	pid string // of a process in its namespaces
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a Docker engine")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	oracle.Need(t, "mmdebstrap")
	cache := os.Getenv("GPUSTRAP_CACHE")
	if cache == "" {
		cache = filepath.Join("..", "..", "build", "cache")
	}
	base, err := filepath.Abs(filepath.Join(cache, "engine-trixie"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("./base", base).CombinedOutput(); err != nil {
		t.Fatalf("base: %v\n%s", err, out)
	}
	m := &machine{t: t, dir: t.TempDir()}
	cmd := exec.Command("./machine", base, m.dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // --kill-child: nothing stays behind
	})
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		if os.Getenv("CI") == "" {
			t.Skip("no Docker engine starts here")
		}
		t.Fatal("no Docker engine starts here")
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m.pid = strings.Fields(string(children))[0]
	return m
}

func (m *machine) write(path, content string, mode os.FileMode) {
	m.t.Helper()
	// Through its mount namespace: an overlay does not see what is written below it.
	at := filepath.Join("/proc", m.pid, "root", path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
}

// try runs a shell command in the machine and returns what it prints.
func (m *machine) try(command string) (string, error) {
	out, err := exec.Command("nsenter", "--target", m.pid, "--mount", "--net", "--pid",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "sh", "-c", command).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run is try for what must not fail.
func (m *machine) run(command string) string {
	m.t.Helper()
	out, err := m.try(command)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// as runs a command as a user who logged in by SSH.
func (m *machine) as(user, command string) (string, error) {
	return m.try("cd ~" + user + " && runuser -u " + user + " -- env HOME=$(echo ~" + user + ") SSH_CONNECTION='10.0.0.9 50000 10.0.0.1 22' sh -c '" + command + "' 2>&1")
}

// install lays the scripts and every app where the late-commands do, and runs the
// step that installs the apps.
func (m *machine) install(table string) {
	m.t.Helper()
	const lib = "/usr/local/lib/gpustrap/"
	for _, name := range []string{"steps.sh", "apps.sh", "app.sh", "gpustrap-app@.service", "gpustrap-app@.timer"} {
		text, err := scripts.Read(name)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write(lib+name, text, 0o755)
	}
	for _, name := range apps.Names() {
		app, err := apps.Read(name)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, f := range app.Files {
			m.write(lib+"apps/"+name+"/"+f.Name, f.Content, 0o644)
		}
	}
	m.write("/etc/gpustrap/machine.env", "APPS='"+strings.Join(apps.Names(), " ")+"'\n", 0o644)
	m.write("/etc/gpustrap/apps", table, 0o644)
	m.run("bash " + lib + "apps.sh")
}

// standIn is the image that stands in for that of fastbook, which no test can
// make: its base is in a registry. It serves its token to whoever has it, and
// keeps the interface that compose.yaml relies on.
const standIn = `
set -eu
mkdir -p /tmp/image/bin /tmp/image/usr/local/bin /tmp/image/tmp
cp /bin/busybox /tmp/image/bin/
for c in sh httpd cat mkdir wget id ls sleep grep df awk; do ln -sf busybox /tmp/image/bin/$c; done
cat >/tmp/image/usr/local/bin/start <<'S'
#!/bin/sh
mkdir -p /tmp/www/cgi-bin
echo '{}' >/tmp/www/api
cat >/tmp/www/cgi-bin/lab <<'C'
#!/bin/sh
if [ "$QUERY_STRING" = "token=$(cat "$JUPYTER_TOKEN_FILE")" ]; then printf 'Status: 200\r\n\r\nwelcome %s\n' "$(id -u)"
else printf 'Status: 403\r\n\r\n'; fi
C
chmod +x /tmp/www/cgi-bin/lab
df -m /dev/shm | awk 'NR == 2 { print "shm", $2 }'
id -u >"$HOME/was-here"
exec httpd -f -p 8888 -h /tmp/www
S
printf '#!/bin/sh\nexec wget -q -O /dev/null http://127.0.0.1:8888/api\n' >/tmp/image/usr/local/bin/python3
chmod -R a+rX /tmp/image && chmod +x /tmp/image/usr/local/bin/* && chmod 1777 /tmp/image/tmp
tar -C /tmp/image -c . | docker import -c 'ENV PATH=/usr/local/bin:/bin' -c 'CMD ["start"]' - localhost/fastbook:1
`
