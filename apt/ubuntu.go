package apt

import (
	"fmt"

	"github.com/gpustrap/gpustrap/keys"
)

// Where Ubuntu publishes its archive, by architecture, and all its earlier states
// (https://snapshot.ubuntu.com).
const (
	ubuntuURL      = "http://archive.ubuntu.com/ubuntu"
	ubuntuPortsURL = "http://ports.ubuntu.com/ubuntu-ports"
	snapshotURL    = "https://snapshot.ubuntu.com/ubuntu/"
)

// Ubuntu returns Ubuntu's own archive as the source of a release, such as 24.04:
// the release, its updates and its security updates, of all four components. A
// site's mirror is the same with another URL.
func Ubuntu(release, arch string) (Source, error) {
	name := map[string]string{"22.04": "jammy", "24.04": "noble", "26.04": "resolute"}[release]
	if name == "" {
		return Source{}, &Error{Summary: fmt.Sprintf("cannot name the archive of Ubuntu %s: it is none of 22.04, 24.04 and 26.04", release)}
	}
	url := ubuntuPortsURL
	if arch == "amd64" {
		url = ubuntuURL
	}
	return Source{
		Name: "ubuntu", URL: url, Suites: []string{name, name + "-updates", name + "-security"},
		Components: []string{"main", "restricted", "universe", "multiverse"},
		Keyring:    keys.UbuntuArchive(), Fingerprints: []string{keys.UbuntuArchiveFingerprint},
	}, nil
}

// UbuntuSnapshot returns the address of Ubuntu's archive at the source's Snapshot,
// an id such as 20261123T000000Z. It is Options.SnapshotURL for Ubuntu.
func UbuntuSnapshot(s Source) string { return snapshotURL + s.Snapshot + "/" }
