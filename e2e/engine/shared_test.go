package engine_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/scripts"
)

// lay puts scripts where the late-commands do.
func (m *machine) lay(names ...string) {
	m.t.Helper()
	for _, name := range names {
		text, err := scripts.Read(name)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write("/usr/local/lib/gpustrap/"+name, text, 0o755)
	}
}

// A user's own engine runs as they do: what rootless.sh leaves is enough for
// Docker's own start script, the command docker and the apps.
func TestRootless(t *testing.T) {
	m := newMachine(t)
	m.install("fastbook no 127.0.0.1 - -\n")
	m.run(standIn)
	m.run("docker save localhost/fastbook:1 >/opt/apps/fastbook/image.tar")
	m.lay("rootless.sh", "docker-rootless.service", "gpustrap-rootless.service", "var-lib-gpustrap-cdi.mount")
	m.write("/etc/gpustrap/machine.env", "ROOTLESS_USERS='mia zoe'\nDOCKER_VERSION=''\nDOCKER_DATA_ROOT=/home/disk/docker\n", 0o644)
	m.write("/etc/gpustrap/daemon-rootless.json", `{"ip": "127.0.0.1", "default-network-opts": {"bridge": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}},
		"features": {"cdi": true}, "cdi-spec-dirs": ["/var/lib/gpustrap/cdi"], "log-driver": "json-file", "log-opts": {"max-size": "20m"}}`, 0o644)
	// The packages are Debian's, and there.
	m.write("/usr/local/sbin/apt-get", "#!/bin/sh\necho \"$*\" >>/var/log/asked\n", 0o755)
	m.run("cp /usr/share/docker.io/contrib/dockerd-rootless.sh /usr/bin/")
	m.run("useradd -m -s /bin/bash mia && mkdir /home/disk && bash /usr/local/lib/gpustrap/rootless.sh")
	if asked := m.run("cat /var/log/asked"); !strings.Contains(asked, "docker-ce-rootless-extras uidmap slirp4netns dbus-user-session iptables") {
		t.Errorf("asked apt for %s", asked)
	}
	m.run("test -e /etc/systemd/system/multi-user.target.wants/gpustrap-rootless.service && test -e /var/lib/systemd/linger/mia")
	if out := m.run("systemd-analyze verify --user --man=no /etc/systemd/user/docker.service 2>&1 | grep -F docker.service; systemd-analyze verify --man=no /etc/systemd/system/var-lib-gpustrap-cdi.mount 2>&1 | grep -F gpustrap || true"); out != "" {
		t.Errorf("systemd-analyze says\n%s", out)
	}
	// zoe comes later; whoever is there keeps what they have.
	m.run("useradd -m zoe && bash /usr/local/lib/gpustrap/rootless.sh --boot && test -e /var/lib/systemd/linger/zoe && test ! -e /etc/systemd/system/multi-user.target.wants/gpustrap-rootless.service")
	if got := m.run("sort -u -t : -k 2,2 /etc/subuid | cut -d : -f 3"); got != "65536\n65536" {
		t.Errorf("subordinate ids: %s", m.run("cat /etc/subuid"))
	}

	// In place of the user's service manager, with what the unit says.
	m.run("uid=$(id -u mia) && mkdir -p /run/user/$uid /run/cdi && chown mia /run/user/$uid && chmod 700 /run/user/$uid")
	m.run("unit=/etc/systemd/system/var-lib-gpustrap-cdi.mount; mkdir -p $(sed -n s/^Where=//p $unit) && mount --bind $(sed -n s/^What=//p $unit) $(sed -n s/^Where=//p $unit)")
	start := "setsid env XDG_RUNTIME_DIR=/run/user/$(id -u) $(sed -n s/^Environment=//p /etc/systemd/user/docker.service) $(sed -n s/^ExecStart=//p /etc/systemd/user/docker.service) >~/engine.log 2>&1 </dev/null &"
	if out, err := m.as("mia", start+" for i in $(seq 60); do docker version >/dev/null 2>&1 && break; sleep 0.3; done; docker info"); err != nil || !strings.Contains(out, "rootless") || !strings.Contains(out, "Docker Root Dir: /home/disk/docker-rootless/mia") {
		t.Fatalf("mia's engine: %v\n%s\n%s", err, out, m.run("tail -n 20 ~mia/engine.log"))
	}
	if out, err := m.as("mia", "DOCKER_HOST=unix:///var/run/docker.sock docker ps"); err == nil {
		t.Errorf("mia reaches the machine's engine: %s", out)
	}

	out, err := m.as("mia", "app start --gpus none fastbook")
	port, token := started(t, out, err)
	if got := m.run("curl -sf 'http://127.0.0.1:" + port + "/cgi-bin/lab?token=" + token + "'"); got != "welcome 0" {
		t.Errorf("mia's instance says %q", got)
	}
	if owner := m.run("stat -c %U ~mia/fastbook/was-here"); owner != "mia" {
		t.Errorf("what root in mia's container writes belongs to %s", owner)
	}
	if owner := m.run("ps -o user= -C httpd"); owner != "mia" {
		t.Errorf("the container's process runs as %s", owner)
	}
	// Ports without an address stay on the machine, on either kind of network.
	for i, network := range []string{"bridge", "$(docker network create --driver bridge own)"} {
		port := strconv.Itoa(18080 + i)
		if out, err := m.as("mia", "docker run -d --network "+network+" -p "+port+":80 localhost/fastbook:1 sleep 300"); err != nil {
			t.Errorf("a container with a port on %s: %v\n%s", network, err, out)
		}
		if at := m.run("ss -Hltn sport = :" + port + " | awk '{ print $4 }'"); at != "127.0.0.1:"+port {
			t.Errorf("port %s of a container on %s is open at %q", port, network, at)
		}
	}
	// A device that is described after the engine started is found. It is none of
	// NVIDIA's.
	m.write("/run/cdi/example.yaml", "cdiVersion: 0.5.0\nkind: example.com/note\ndevices:\n- name: one\n  containerEdits:\n    env: [NOTE=given]\n", 0o644)
	if out, err := m.as("mia", "docker run --rm --device example.com/note=one localhost/fastbook:1 sh -c \"echo \\$NOTE\""); err != nil || out != "given" {
		t.Errorf("a CDI device in mia's engine: %v\n%s", err, out)
	}
}

// Images go when nobody used them for long, and no sooner.
func TestPrune(t *testing.T) {
	m := newMachine(t)
	m.install("fastbook no 127.0.0.1 - -\n")
	m.run(standIn)
	m.lay("prune.sh", "docker-prune.sh")
	m.write("/etc/gpustrap/machine.env", "PRUNE_EVERY=weekly\nPRUNE_DAYS=30\n", 0o644)
	m.run("bash /usr/local/lib/gpustrap/prune.sh")
	if out := m.run("systemd-analyze verify --man=no /etc/systemd/system/gpustrap-prune.timer 2>&1 | grep gpustrap || true"); out != "" {
		t.Errorf("systemd-analyze says\n%s", out)
	}
	// Images of their own, the last one without a name.
	m.run("for n in used idle; do tar -C /tmp/image -c . | docker import -m $n - $n:1; done")
	m.run("tar -C /tmp/image -c . | docker import -m nameless -")
	m.run("docker create --name keeps used:1 sh")
	images := func() string {
		return m.run("docker image ls --format '{{.Repository}}' | sort | paste -s -d ' '")
	}
	const all = "<none> idle localhost/fastbook used"
	if got := images(); got != all {
		t.Fatalf("the images are %s", got)
	}
	run := func(days string) string { return m.run("bash /usr/local/lib/gpustrap/docker-prune.sh " + days) }
	if out := run("30"); out != "" || images() != all {
		t.Errorf("young images went: %s", out)
	}
	// Tomorrow, as the script sees it.
	m.write("/usr/local/bin/date", "#!/bin/sh\ncase $* in *ago*) exec /usr/bin/date -u -d tomorrow +%s ;; *) exec /usr/bin/date \"$@\" ;; esac\n", 0o755)
	out := run("30")
	if got := images(); got != "localhost/fastbook used" || !strings.Contains(out, "removed idle:1, unused for more than 30 days") {
		t.Errorf("there are %s left; it said\n%s", got, out)
	}
}
