package autoinstall

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gpustrap/gpustrap/config"
)

// tpm returns how the TPM unlocks the system; nil: it does not.
func (b *builder) tpm() *config.TPM {
	m := &b.in.Machine
	if m.Storage.Encryption == nil || ownsStorage(m.Autoinstall) {
		return nil
	}
	return m.Storage.Encryption.TPM
}

// tpmTool returns what binds the disk on a release, and the packages that bring it.
// systemd's way needs an initramfs with systemd, which Ubuntu has since dracut makes
// it (25.10).
func tpmTool(release string) (tool string, packages []string) {
	if release < "26.04" {
		return "clevis", []string{"clevis-luks", "clevis-tpm2", "clevis-initramfs"}
	}
	return "systemd-cryptenroll", []string{"systemd-cryptsetup", "tpm2-tools"}
}

// tpmSettings returns the lines of machine.env that tpm.sh reads.
func (b *builder) tpmSettings() string {
	t := b.tpm()
	if t == nil {
		return ""
	}
	tool, packages := tpmTool(b.in.Machine.Ubuntu)
	registers := make([]string, len(t.PCRs))
	for i, pcr := range t.PCRs {
		registers[i] = strconv.Itoa(pcr)
	}
	recovery := "none"
	if t.Recovery {
		recovery = "passphrase"
	}
	return assignment("TPM_TOOL", tool) + assignment("TPM_PACKAGES", strings.Join(packages, " ")) +
		assignment("TPM_PCRS", strings.Join(registers, ",")) + assignment("TPM_RECOVERY", recovery)
}

// withUniverse appends the component universe, unless it is there.
func withUniverse(components []string) []string {
	if slices.Contains(components, "universe") {
		return components
	}
	return append(components, "universe")
}

// The disk's passphrase, where tpm.sh finds it. It is taken from the autoinstall and
// lies in the installer's memory alone; the seed says it once.
const (
	showPassphrase = `(
    umask 077
    mkdir -p ` + liveFolder + `
    python3 -c '
import yaml
with open("/autoinstall.yaml") as f:
    document = yaml.safe_load(f)
actions = document.get("autoinstall", document)["storage"]["config"]
print(next(a["key"] for a in actions if a["id"] == "crypt"), end="")
' >` + liveFolder + `/passphrase
)
`
	hidePassphrase = "rm -f " + liveFolder + "/passphrase\n"
)
