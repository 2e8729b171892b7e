package scripts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

const diskPassphrase = "correct horse: #battery"

// sealed is an encrypted disk and the machine that a TPM is to unlock it on.
type sealed struct {
	t         *testing.T
	dir, disk string
	tcti      string
}

func newSealed(t *testing.T, settings string) *sealed {
	t.Helper()
	for _, tool := range []string{"swtpm", "tpm2_pcrextend", "clevis", "cryptsetup", "systemd-cryptenroll"} {
		oracle.Need(t, tool)
	}
	dir := tree(t, map[string]string{
		"etc/gpustrap/machine.env":      settings,
		"bin/apt-get":                   "#!/bin/sh\necho \"$*\" >>\"$DIR/told\"\n",
		"bin/systemctl":                 "#!/bin/sh\necho \"systemctl $*\" >>\"$DIR/told\"\n",
		"bin/update-initramfs":          "#!/bin/sh\necho \"update-initramfs $*\" >>\"$DIR/told\"\n",
		"bin/dracut":                    "#!/bin/sh\necho \"dracut $*\" >>\"$DIR/told\"\n",
		"boot/vmlinuz-7.0.0-10-generic": "",
	})
	s := &sealed{t: t, dir: dir, disk: filepath.Join(dir, "disk")}
	for name, text := range map[string]string{
		"etc/crypttab":            "swap /dev/urandom none swap\nsystem " + s.disk + " none luks\n",
		"run/gpustrap/passphrase": diskPassphrase,
		"disk":                    "",
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(s.disk, 32<<20); err != nil {
		t.Fatal(err)
	}
	s.must("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", s.disk, filepath.Join(dir, "run/gpustrap/passphrase"))
	s.tcti = startTPM(t)
	return s
}

// startTPM starts an emulated TPM 2.0 and returns where it is, as tpm2-tss takes it.
func startTPM(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "tpm")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, data := os.Stat(socket)
		_, control := os.Stat(socket + ".ctrl")
		if data == nil && control == nil {
			break
		}
	}
	return "swtpm:path=" + socket
}

func (s *sealed) run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "PATH="+s.dir+"/bin:"+os.Getenv("PATH"), "DIR="+s.dir, "GPUSTRAP_ROOT="+s.dir,
		"GPUSTRAP_ETC="+s.dir+"/etc/gpustrap", "GPUSTRAP_LOG="+s.dir+"/log", "GPUSTRAP_TPM="+s.tcti, "TPM2TOOLS_TCTI="+s.tcti)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *sealed) must(name string, args ...string) string {
	s.t.Helper()
	out, err := s.run("", name, args...)
	if err != nil {
		log, _ := os.ReadFile(s.dir + "/log")
		s.t.Fatalf("%s %v: %v\n%s%s", name, args, err, out, log)
	}
	return out
}

// measure changes the register 7.
func (s *sealed) measure() {
	s.t.Helper()
	s.must("tpm2_pcrextend", "7:sha256="+strings.Repeat("ab", 32))
}

func (s *sealed) file(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(text)
}

// clevisSlot returns the only slot that clevis opens, and its settings.
func (s *sealed) clevisSlot() (slot, settings string) {
	s.t.Helper()
	list := strings.TrimSpace(s.must("clevis", "luks", "list", "-d", s.disk))
	slot, settings, _ = strings.Cut(list, ": ")
	if strings.Contains(list, "\n") {
		s.t.Errorf("several slots: %s", list)
	}
	return slot, settings
}

func (s *sealed) opensByTPM() bool {
	slot, _ := s.clevisSlot()
	_, err := s.run("", "clevis", "luks", "pass", "-d", s.disk, "-s", slot)
	return err == nil
}

func (s *sealed) opensByPassphrase() bool {
	_, err := s.run(diskPassphrase, "cryptsetup", "open", "--test-passphrase", "--key-file", "-", s.disk)
	return err == nil
}

// TestTPMByClevis binds a real LUKS disk to an emulated TPM as the installer, the
// first boot and a person do.
func TestTPMByClevis(t *testing.T) {
	for _, recovery := range []string{"passphrase", "none"} {
		t.Run(recovery, func(t *testing.T) {
			if recovery == "none" && testing.Short() {
				t.Skip("clevis takes its time")
			}
			t.Parallel()
			s := newSealed(t, "TPM_TOOL=clevis\nTPM_PACKAGES='clevis-luks clevis-tpm2 clevis-initramfs'\nTPM_PCRS=7\nTPM_RECOVERY="+recovery+"\nGPUSTRAP_HOME=installer\n")
			s.must("bash", "tpm.sh")
			if _, settings := s.clevisSlot(); strings.Contains(settings, "pcr_ids") || !s.opensByTPM() {
				t.Errorf("after the installation: %s", settings)
			}
			told := s.file("told")
			for _, want := range []string{"clevis-luks clevis-tpm2 clevis-initramfs", "update-initramfs -u -k all", "systemctl enable gpustrap-tpm.service"} {
				if !strings.Contains(told, want) {
					t.Errorf("no %q among\n%s", want, told)
				}
			}
			if !strings.Contains(s.file("etc/systemd/system/gpustrap-tpm.service"), "tpm.sh --boot") {
				t.Error("there is no unit for the first boot")
			}
			if strings.Contains(s.file("log"), diskPassphrase) {
				t.Error("the passphrase is in the log")
			}

			s.measure() // the installed system's shim is another one
			s.must("bash", "tpm.sh", "--boot")
			if _, settings := s.clevisSlot(); !strings.Contains(settings, `"pcr_ids":"7"`) || !s.opensByTPM() {
				t.Errorf("after the first boot: %s", settings)
			}
			if got := s.opensByPassphrase(); got != (recovery == "passphrase") {
				t.Errorf("the passphrase opens the disk: %t", got)
			}
			if !strings.Contains(s.file("told"), "systemctl disable gpustrap-tpm.service") {
				t.Error("the unit would run again")
			}

			s.measure() // the firmware has new keys
			if s.opensByTPM() {
				t.Error("the TPM opens the disk whatever was measured")
			}
			if recovery == "none" {
				return
			}
			if out, err := s.run("wrong\n", "bash", "tpm.sh", "--again"); err == nil || s.opensByTPM() {
				t.Errorf("a wrong passphrase binds the disk: %s", out)
			}
			if out, err := s.run(diskPassphrase+"\n", "bash", "tpm.sh", "--again"); err != nil || !s.opensByTPM() {
				t.Errorf("%v\n%s\n%s", err, out, s.file("log"))
			}
			s.tcti = startTPM(t)
			if s.opensByTPM() {
				t.Error("another TPM opens the disk")
			}
		})
	}
}

// TestTPMBySystemd does the same as far as this system's systemd goes: a disk that
// the TPM opens is bound anew from systemd 256 on.
func TestTPMBySystemd(t *testing.T) {
	t.Parallel()
	s := newSealed(t, "TPM_TOOL=systemd-cryptenroll\nTPM_PACKAGES='systemd-cryptsetup tpm2-tools'\nTPM_PCRS=4,7\nTPM_RECOVERY=none\nGPUSTRAP_HOME=installer\n")
	slots := func() string {
		var kinds []string
		for line := range strings.Lines(s.must("systemd-cryptenroll", s.disk)) {
			if fields := strings.Fields(line); len(fields) == 2 && fields[0] != "SLOT" {
				kinds = append(kinds, fields[1])
			}
		}
		return strings.Join(kinds, " ")
	}
	s.must("bash", "tpm.sh")
	if got := slots(); got != "password tpm2" {
		t.Errorf("after the installation the slots are %q", got)
	}
	if got := s.file("etc/crypttab"); got != fmt.Sprintf("swap /dev/urandom none swap\nsystem %s none luks,tpm2-device=auto\n", s.disk) {
		t.Errorf("crypttab is\n%s", got)
	}
	const want = "dracut --force %s/boot/initrd.img-7.0.0-10-generic 7.0.0-10-generic\n"
	if told := s.file("told"); !strings.Contains(told, fmt.Sprintf(want, s.dir)) || !strings.Contains(s.file("etc/dracut.conf.d/gpustrap-tpm.conf"), "tpm2-tss") {
		t.Errorf("dracut was not told: %s", told)
	}
	if out, err := s.run(diskPassphrase+"\n", "bash", "tpm.sh", "--again"); err != nil || slots() != "password tpm2" {
		t.Errorf("%v, the slots are %q\n%s\n%s", err, slots(), out, s.file("log"))
	}
	if dump := s.must("cryptsetup", "luksDump", s.disk); !strings.Contains(dump, "tpm2-hash-pcrs:   4+7") && !strings.Contains(dump, "tpm2-pcrs:") {
		t.Errorf("the token is\n%s", dump)
	}
	if out := s.must("systemd-cryptenroll", "--help"); !strings.Contains(out, "--unlock-tpm2-device") {
		t.Log("this systemd-cryptenroll does not unlock by the TPM: the first boot was not tried")
		return
	}
	s.must("bash", "tpm.sh", "--boot")
	if got := slots(); got != "tpm2" {
		t.Errorf("after the first boot the slots are %q", got)
	}
}
