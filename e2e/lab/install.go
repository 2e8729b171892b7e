package lab

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// InstallConfig returns the configuration of a machine, box, for the stand-in
// installer: its storage layout, the serial number of its disk, and the address of
// an EventLog. The installed system shows the line of a late-command.
func InstallConfig(layout, serial, endpoint string) string {
	return fmt.Sprintf(`version: 1
ubuntu: "24.04"
hostname: box
user: {name: ops, authorized_keys: [%q]}
storage: {layout: %s, disk: {serial: %s}}
docker: false
network: {dhcp: true}
boot: {confirm: none}
report: %q
autoinstall:
  late-commands:
    - "curtin in-target -- sh -c 'test $(stat -c %%i /) = 2 && echo late >/root/late-command'"
    - "d=/target/etc/systemd/system/installed-system-up.service.d; mkdir -p $d; printf '[Service]\\nExecStart=/bin/cat /run/issue.d/50-gpustrap.issue\\n' >$d/issue.conf"
  error-commands: ["echo an error-command"]
`, PublicKey, layout, serial, endpoint)
}

// CheckInstalled holds what a system that was installed by InstallConfig says of
// itself, with the device and the file system of its root.
func CheckInstalled(t *testing.T, report, root string) {
	t.Helper()
	CheckSays(t, report, "hostname box", "root "+root, "failed-units ", "late-command late")
	if !regexp.MustCompile(`(?m)^user uid=1000\(ops\).*\bsudo\b`).MatchString(report) {
		t.Errorf("the installed system has no user ops in the group sudo:\n%s", report)
	}
}

// CheckSays holds that the installed system's report has these lines.
func CheckSays(t *testing.T, report string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !slices.Contains(strings.Split(report, "\n"), want) {
			t.Errorf("the installed system does not say %q; it says:\n%s", want, report)
		}
	}
}
