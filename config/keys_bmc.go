package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// The keys of a machine's BMC, a part of the table.

var (
	fingerprintPattern = regexp.MustCompile(`^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})$`)
	bmcUser            = regexp.MustCompile(`^[^\x00-\x20\x7f:]+$`)
)

func bmcForm() mappingForm[bmcKeys, *bmcKeys] {
	return mapping("bmc", []group{{keys: []string{"fingerprint", "ca", "insecure"}}},
		key("url", func(b *bmcKeys) *text { return &b.url },
			textForm{what: "a URL that begins with https:// or http://", example: "https://10.0.1.11", pattern: urlPattern, max: 500, check: checkBMC, secret: true},
			"URL of the BMC's Redfish service: the host alone.", ""),
		key("user", func(b *bmcKeys) *text { return &b.user },
			textForm{what: "a user's name", example: "gpustrap", pattern: bmcUser, max: 128}, "The BMC's user.", ""),
		key("password_file", func(b *bmcKeys) *text { return &b.passwordFile }, pathForm(),
			"File with the user's password, relative to the folder of this file. It is read when the BMC is spoken to, and no sooner.",
			"the environment variable `GPUSTRAP_BMC_PASSWORD`"),
		key("system", func(b *bmcKeys) *text { return &b.system },
			textForm{what: "the machine's Id, UUID or serial number", example: "System.Embedded.1", pattern: oneLine, max: 128},
			"Which of the BMC's machines this is.", "its only one"),
		key("fingerprint", func(b *bmcKeys) *text { return &b.fingerprint },
			textForm{what: "the SHA-256 of a certificate", example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", pattern: fingerprintPattern,
				hint: "colons may stand between the bytes"},
			"The BMC's own certificate, by its SHA-256. `gpustrap install --bmc` tells it when it is not trusted.", ""),
		key("ca", func(b *bmcKeys) *text { return &b.ca }, certificateForm(),
			"Certificate of the authority that the BMC's certificate comes from, in PEM.", "the authorities of this computer"),
		key("insecure", func(b *bmcKeys) *value[bool] { return &b.insecure }, boolForm{onlyTrue: true},
			"Any certificate is taken, and http:// too. Whoever is in between can read the password.", ""),
		key("boot", func(b *bmcKeys) *text { return &b.boot }, enumOf("a kind of firmware", "uefi", "legacy"),
			"How the machine boots the installation medium.", "`uefi`"),
	)
}

func checkBMC(s string) problem {
	const example = "write it like https://10.0.1.11"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return problem{"this is not a URL", example}
	case u.User != nil:
		return problem{"the URL of a BMC holds no credentials", example + ", and give them by user and password_file"}
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "redfish/v1":
		return problem{"the URL of a BMC is its host alone", example}
	}
	return problem{}
}

func mergeBMC(base, over bmcKeys) bmcKeys {
	merged := bmcKeys{
		section:      base.under(over.section),
		url:          latest(base.url, over.url),
		user:         latest(base.user, over.user),
		passwordFile: latest(base.passwordFile, over.passwordFile),
		system:       latest(base.system, over.system),
		fingerprint:  base.fingerprint,
		ca:           base.ca,
		insecure:     base.insecure,
		boot:         latest(base.boot, over.boot),
	}
	if over.fingerprint.set() || over.ca.set() || over.insecure.set() {
		merged.fingerprint, merged.ca, merged.insecure = over.fingerprint, over.ca, over.insecure
	}
	return merged
}

// bmc returns the machine's BMC, or nil where the file gives it no URL: what
// many share of it may stand at the top.
func (r *resolver) bmc(k *bmcKeys, path string) *BMC {
	if k == nil || !k.url.ok() {
		return nil
	}
	if strings.HasPrefix(k.url.v, "http://") && !k.insecure.v && !k.gaps {
		r.error(k.url.at, under(path, "bmc.url"), "http:// sends the BMC's password in the clear", "write https://, or add insecure: true")
	}
	if !k.user.set() && !k.gaps {
		r.error(k.url.at, under(path, "bmc.url"), "the BMC has no user", "add user: to bmc, here or where it is inherited from")
	}
	return &BMC{
		URL: k.url.v, User: k.user.v, PasswordFile: k.passwordFile.v, System: k.system.v,
		Fingerprint: k.fingerprint.v, CA: k.ca.v, Insecure: k.insecure.v, Legacy: k.boot.v == "legacy",
	}
}

// checkBMCs refuses two machines that are one at their BMC.
func (r *resolver) checkBMCs(fleet *Fleet) {
	first := map[string]*Machine{}
	for i := range fleet.Machines {
		m := &fleet.Machines[i]
		if m.BMC == nil {
			continue
		}
		at := strings.ToLower(strings.TrimSuffix(m.BMC.URL, "/") + "\x00" + m.BMC.System)
		other := first[at]
		if other == nil {
			first[at] = m
			continue
		}
		keys := m.origin.keys.settings.bmc
		r.error(keys.url.at, fmt.Sprintf("machines[%d].bmc.url", i), fmt.Sprintf("%s and %s have one BMC", other.Name, m.Name),
			"give each machine the URL of its own, or tell them apart by system", r.related(other.origin.keys.settings.bmc.url.at, fmt.Sprintf("that of %s is here", other.Name)))
	}
}
