package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// The keys of what surrounds a machine and of the way out, a part of the table.

var (
	hostOrAddress = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`)
	// kernelArgument is what neither the shell, nor GRUB, nor the kernel takes
	// apart.
	kernelArgument = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.,:=/@%+-]*$`)
	proxyURL       = regexp.MustCompile(`^http://[A-Za-z0-9._:@%+,=\[\]-]+/?$`)
	proxyExcept    = regexp.MustCompile(`^[A-Za-z0-9.*:/_-]+$`)
	fileMode       = regexp.MustCompile(`^0?[0-7]{3}$`)
	fileOwner      = regexp.MustCompile(`^[a-z_][a-z0-9_-]*(:[a-z_][a-z0-9_-]*)?$`)
	commandText    = regexp.MustCompile(`^[^\x00-\x20\x7f][^\x00-\x08\x0b-\x1f\x7f]*$`)
)

func proxyForm() switchForm[proxyKeys, *proxyKeys] {
	keys := mapping("proxy", nil,
		key("url", func(k *proxyKeys) *text { return &k.url },
			textForm{what: "the URL of an HTTP proxy", example: "http://proxy.example.org:3128", pattern: proxyURL, max: 500, secret: true, check: checkProxy}, "URL of the proxy.", "").must(),
		key("except", func(k *proxyKeys) *list[text] { return &k.except },
			texts(textForm{what: "a host, a domain with a dot before it, or a network", example: ".example.org", pattern: proxyExcept, max: 253}),
			"What is reached without the proxy, besides the machine itself. apt heeds whole host names alone.", "none"),
	)
	return switchForm[proxyKeys, *proxyKeys]{keys, func(k *proxyKeys) *value[bool] { return &k.on }, "{url: http://proxy.example.org:3128}"}
}

func checkProxy(s string) problem {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return problem{"this is not the URL of a proxy", "write it like http://proxy.example.org:3128"}
	}
	return problem{}
}

// checkKernelArgument refuses what the installer or gpustrap sets.
func checkKernelArgument(s string) problem {
	name, _, _ := strings.Cut(s, "=")
	switch name {
	case "autoinstall", "ds", "root", "boot", "initrd", "BOOT_IMAGE", "ip", "nopersistent", "cloud-config-url":
		return problem{fmt.Sprintf("the kernel argument %s is set by the installer or by gpustrap", name), "remove it"}
	}
	return problem{}
}

func fileEntryForm() mappingForm[fileEntryKeys, *fileEntryKeys] {
	return mapping("file_entry", nil,
		key("path", func(k *fileEntryKeys) *text { return &k.path },
			textForm{what: "an absolute path", example: "/etc/motd", pattern: absolutePath, max: 1000, check: checkFilePath}, "Where the file lies on the machine.", "").must(),
		key("content", func(k *fileEntryKeys) *text { return &k.content }, contentForm(), "What is in it. A last line that does not end gets its end.", "").must(),
		key("mode", func(k *fileEntryKeys) *text { return &k.mode },
			textForm{what: "a mode of three octal digits", example: `"0644"`, pattern: fileMode, hint: "in quotes"}, "Its permissions, in quotes.", "`0644`"),
		key("owner", func(k *fileEntryKeys) *text { return &k.owner },
			textForm{what: "a user, or a user and a group", example: "ops:ops", pattern: fileOwner, max: 65}, "Who owns it. A user who exists only after the first boot gets it then.", "`root:root`"),
	)
}

func checkFilePath(s string) problem {
	if bad := checkAbsolute(s); bad.summary != "" {
		return problem{bad.summary, "write it like /etc/motd, without .., // and a slash at the end"}
	}
	for _, folder := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/etc/gpustrap", "/usr/local/lib/gpustrap"} {
		if s == folder || strings.HasPrefix(s, folder+"/") {
			return problem{fmt.Sprintf("%s would not last", shorten(s)), "write the file somewhere else than below " + folder}
		}
	}
	return problem{}
}

func commandForm() textForm {
	return textForm{what: "a shell command", example: "sysctl --system", pattern: commandText, max: 10000}
}

func contentForm() textOrFileForm[text] {
	return textOrFileForm[text]{
		what: "the content of a file",
		accept: func(d *decoder, n *yaml.Node, path, content, file string) (text, bool) {
			const most = 64 << 10
			switch {
			case len(content) > most:
				d.errorAt(n, path, fmt.Sprintf("the content has %d bytes, more than %d", len(content), most), "put it into a package, or fetch it in first_boot")
			case !isPlainText(content):
				d.errorAt(n, path, "the content is no text", "files holds text alone: put other data into a package, or fetch it in first_boot")
			default:
				return text{v: content, at: markOf(n)}, true
			}
			return text{}, false
		},
		refuse: func(at mark) text { return text{at: at, bad: true} },
		place:  func(t text) mark { return t.at },
	}
}

// isPlainText reports whether YAML and a here-document carry the text as it is.
func isPlainText(s string) bool {
	return strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(c rune) bool {
		return c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c >= 0x80 && c <= 0x9f || c == 0x2028 || c == 0x2029 || c == 0xfeff
	})
}

func certificateForm() textOrFileForm[text] {
	return textOrFileForm[text]{
		what:   "a certificate in PEM",
		accept: acceptCertificates,
		refuse: func(at mark) text { return text{at: at, bad: true} },
		place:  func(t text) mark { return t.at },
	}
}

// acceptCertificates takes a text of certificates and nothing else, and keeps
// them in their plainest form.
func acceptCertificates(d *decoder, n *yaml.Node, path, content, file string) (text, bool) {
	var plain strings.Builder
	rest := []byte(content)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			d.errorAt(n, path, "this is a private key, not a certificate", "give the authority's certificate, and keep its key where it is")
			return text{}, false
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			d.errorAt(n, path, "a certificate cannot be read", "`openssl x509 -noout -text` says whether it is one")
			return text{}, false
		}
		if err := pem.Encode(&plain, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			d.errorAt(n, path, "a certificate cannot be written", "give it again in PEM")
			return text{}, false
		}
	}
	if plain.Len() == 0 {
		d.errorAt(n, path, "there is no certificate in PEM", "it begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der` makes one of another form")
		return text{}, false
	}
	return text{v: plain.String(), at: markOf(n)}, true
}

// wholeHosts returns those of the exceptions of a proxy that name one host.
func wholeHosts(except []string) []string {
	var out []string
	for _, e := range except {
		if _, err := netip.ParseAddr(e); err == nil || hostnamePattern.MatchString(e) {
			out = append(out, e)
		}
	}
	return out
}
