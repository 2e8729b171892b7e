package engine_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apps"
)

var url = regexp.MustCompile(`http://localhost:(\d+)/lab\?token=([0-9a-f]{48})`)

// started reads what app start printed.
func started(t *testing.T, out string, err error) (port, token string) {
	t.Helper()
	found := url.FindStringSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("the app did not start: %v\n%s", err, out)
	}
	if want := "ssh -N -L " + found[1] + ":localhost:" + found[1]; !strings.Contains(out, want) {
		t.Errorf("the output does not say %q:\n%s", want, out)
	}
	return found[1], found[2]
}

func TestAppsOfSeveralUsers(t *testing.T) {
	m := newMachine(t)
	m.install("fastbook yes 127.0.0.1 9000 1g\ncuda-dev no 127.0.0.1 - -\n")
	m.run(standIn)
	m.run("useradd -m -G docker ada && useradd -m -G docker lin && useradd -m eve")

	outAda, err := m.as("ada", "app start --gpus none fastbook")
	portA, tokenA := started(t, outAda, err)
	outLin, err := m.as("lin", "app start --gpus none fastbook")
	portL, tokenL := started(t, outLin, err)
	if portA == portL || tokenA == tokenL {
		t.Errorf("ada has port %s and token %s, lin %s and %s", portA, tokenA, portL, tokenL)
	}
	if !strings.Contains(outAda, "ada@10.0.0.1") {
		t.Errorf("the ssh line does not name the address that ada came to:\n%s", outAda)
	}
	get := func(port, token string) string {
		return "curl -sf 'http://127.0.0.1:" + port + "/cgi-bin/lab?token=" + token + "'"
	}
	if got, want := m.run(get(portA, tokenA)), "welcome "+m.run("id -u ada"); got != want {
		t.Errorf("ada's instance says %q, want %q", got, want)
	}
	if out, err := m.try(get(portL, tokenA)); err == nil {
		t.Errorf("ada's token opens lin's instance: %s", out)
	}
	if out, err := m.as("ada", "cat ~lin/.local/state/apps/fastbook/token"); err == nil {
		t.Errorf("ada can read lin's token: %s", out)
	}
	if owner := m.run("stat -c %U ~ada/fastbook/was-here"); owner != "ada" {
		t.Errorf("what ada's instance writes belongs to %s", owner)
	}
	for _, line := range strings.Split(m.run("docker ps --format '{{.Ports}}'"), "\n") {
		if !strings.HasPrefix(line, "127.0.0.1:") {
			t.Errorf("an instance listens on %s", line)
		}
	}

	// It runs on when it is started again, and comes back where it was.
	before := m.run("docker ps -q --filter label=gpustrap.user=ada")
	again, err := m.as("ada", "app start fastbook")
	started(t, again, err)
	if after := m.run("docker ps -q --filter label=gpustrap.user=ada"); after != before {
		t.Error("starting a second time made another container")
	}
	if out, err := m.as("lin", "app start --port "+portA+" fastbook"); err == nil || !strings.Contains(out, "something else listens on port "+portA) {
		t.Errorf("error %v, output\n%s", err, out)
	}
	if out, err := m.as("ada", "app stop fastbook && app status && app start fastbook"); err != nil || strings.Contains(out, "Up ") || !strings.Contains(out, ":"+portA+"/lab?token="+tokenA) {
		t.Errorf("after a stop: %v\n%s", err, out)
	}
	if out, _ := m.as("lin", "app status"); strings.Contains(out, "ada") || !strings.Contains(out, "lin") {
		t.Errorf("lin's status is\n%s", out)
	}
	if out, _ := m.as("lin", "app status --all"); !strings.Contains(out, "ada") {
		t.Errorf("everybody's status is\n%s", out)
	}

	if out, err := m.as("eve", "app start fastbook"); err == nil || !strings.Contains(out, "eve may not use this machine") || !strings.Contains(out, "docker: rootless") {
		t.Errorf("error %v, output\n%s", err, out)
	}
	// There is no GPU here, and Docker says so.
	if out, err := m.as("lin", "app start --gpus 0,1 fastbook"); err == nil || !strings.Contains(out, "Docker cannot give fastbook the GPUs 0,1") {
		t.Errorf("error %v, output\n%s", err, out)
	}
}

func TestMachinesOwnApp(t *testing.T) {
	m := newMachine(t)
	m.install("fastbook yes 127.0.0.1 9000 1g\ncuda-dev no 127.0.0.1 - -\n")
	if out, err := m.try("app prepare fastbook"); err == nil || !strings.Contains(out, "the image of fastbook is not here and cannot be got") {
		t.Errorf("error %v, output\n%s", err, out)
	}
	m.run(standIn)
	m.run("docker save localhost/fastbook:1 >/opt/apps/fastbook/image.tar && docker rmi localhost/fastbook:1")
	m.run("app prepare fastbook && docker image inspect localhost/fastbook:1")
	out, err := m.try("app start --gpus none fastbook")
	port, _ := started(t, out, err)
	if port != "9000" {
		t.Errorf("the port is %s", port)
	}
	if out := m.run("app logs fastbook"); !strings.Contains(out, "shm 1024") {
		t.Errorf("the log is\n%s", out)
	}
	if got, want := m.run("cat /var/lib/gpustrap/apps/fastbook/files/was-here"), m.run("id -u gpustrap-app"); got != want {
		t.Errorf("it runs as user %s, want %s", got, want)
	}
	if mode := m.run("stat -c %a /var/lib/gpustrap/apps/fastbook/token"); mode != "400" {
		t.Errorf("the token has mode %s", mode)
	}
	m.run("useradd ada && ! runuser -u ada -- cat /var/lib/gpustrap/apps/fastbook/token")
	m.run("app stop fastbook && test -z \"$(docker ps -aq)\"")

	// Users start their own of what the machine does not.
	m.write("/etc/gpustrap/apps", "fastbook no 127.0.0.1 - -\n", 0o644)
	m.run("app boot fastbook && test -z \"$(docker ps -aq)\"")

	m.run("docker tag localhost/fastbook:1 localhost/cuda-dev:12.9.1")
	if got := m.run("cd /opt/apps && app run --gpus none cuda-dev ls /work"); got != strings.Join(apps.Names(), "\n") {
		t.Errorf("/work of a command is %q", got)
	}
}

// The units and compose projects are such as systemd and compose take.
func TestFilesAreTaken(t *testing.T) {
	m := newMachine(t)
	m.install("")
	if out := m.run("systemd-analyze verify --man=no /etc/systemd/system/gpustrap-app@fastbook.timer /etc/systemd/system/gpustrap-app@fastbook.service 2>&1 | grep gpustrap || true"); out != "" {
		t.Errorf("systemd-analyze says\n%s", out)
	}
	if got := m.run("ls /etc/systemd/system/timers.target.wants | grep gpustrap-app"); got != "gpustrap-app@fastbook.timer" {
		t.Errorf("enabled are %s", got)
	}
	for _, name := range apps.Names() {
		app, err := apps.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if !app.Service() {
			continue
		}
		config := m.run("cd /opt/apps/" + name + " && APP_PROJECT=p APP_OWNER=o APP_USER=1:1 APP_IMAGE=i APP_PORT=9 APP_FOLDER=/f APP_TOKEN=/t docker compose config")
		for _, want := range []string{"    image: i\n", "host_ip: 127.0.0.1", "nvidia.com/gpu=all", "driver: cdi", "gpustrap.user: o", "source: /f", "shm_size:", "file: /t"} {
			if !strings.Contains(config, want) {
				t.Errorf("%s: the compose project lacks %q:\n%s", name, want, config)
			}
		}
		if services := m.run("cd /opt/apps/" + name + " && APP_PROJECT=p APP_PORT=9 APP_IMAGE=i APP_USER=1 APP_OWNER=o APP_FOLDER=/f APP_TOKEN=/t docker compose config --services"); services != name {
			t.Errorf("%s: the services are %s", name, services)
		}
	}
	// Once more changes nothing.
	before := m.run("ls -lR --full-time /opt/apps /etc/systemd/system /usr/local/bin | cksum")
	m.run("bash /usr/local/lib/gpustrap/apps.sh")
	if after := m.run("ls -lR --full-time /opt/apps /etc/systemd/system /usr/local/bin | cksum"); after != before {
		t.Error("the second run changed something")
	}
}
