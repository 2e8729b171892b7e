package apt_test

import (
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/apt"
	"github.com/gpustrap/gpustrap/keys"
)

func TestUbuntu(t *testing.T) {
	s, err := apt.Ubuntu("24.04", "arm64")
	if err != nil || strings.Join(s.Suites, " ") != "noble noble-updates noble-security" || !strings.Contains(s.URL, "ports") || len(s.Components) != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, _ := apt.Ubuntu("26.04", "amd64"); s.Suites[0] != "resolute" || !s.Keyring.Has(keys.UbuntuArchiveFingerprint) {
		t.Errorf("%+v", s)
	}
	if _, err := apt.Ubuntu("20.04", "amd64"); err == nil || !strings.Contains(err.Error(), "none of 22.04") {
		t.Errorf("error %v", err)
	}
	s.Snapshot = "20261123T000000Z"
	if got := apt.UbuntuSnapshot(s); got != "https://snapshot.ubuntu.com/ubuntu/20261123T000000Z/" {
		t.Errorf("the snapshot is at %s", got)
	}
}

// TestPinnedKeyring: a source with Ubuntu's key refuses what another key signed.
func TestPinnedKeyring(t *testing.T) {
	m := newMirror(t)
	m.publish("noble", oneStanza, form{})
	s, err := apt.Ubuntu("24.04", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	s.URL, s.Suites = m.URL, []string{"noble"}
	if _, err := apt.Fetch(t.Context(), []apt.Source{s}, options(t)); err == nil || !strings.Contains(err.Error(), "signature of ubuntu noble") {
		t.Errorf("error %v", err)
	}
	s.Keyring = ringOf(t, m.key)
	s.Components = []string{"main"}
	if _, err := apt.Fetch(t.Context(), []apt.Source{s}, options(t)); err != nil {
		t.Error(err)
	}
}
