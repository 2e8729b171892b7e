package autoinstall

import (
	"fmt"
	"strings"

	"github.com/gpustrap/gpustrap/config"
)

// Data files of the step surroundings.
const (
	proxyFile        = dataFolder + "/proxy.env"
	surroundingsFile = dataFolder + "/surroundings.env"
	certificates     = dataFolder + "/ca-certificates"
)

// hasSurroundings reports whether the machine needs the step surroundings.
func (b *builder) hasSurroundings() bool {
	m := &b.in.Machine
	return m.Proxy != nil || len(m.CACerts)+len(m.NTP)+len(m.KernelArgs) > 0
}

// ownData returns the data files of what the person wrote by hand.
func (b *builder) ownData() []file {
	m := &b.in.Machine
	var out []file
	if b.hasSurroundings() {
		out = b.surroundings()
	}
	if len(m.Files) > 0 {
		out = append(out, b.ownFiles()...)
	}
	out = append(out, ownCommands("late", m.LateCommands)...)
	return append(out, ownCommands("first", m.FirstBoot)...)
}

// surroundings returns the data files of the step surroundings.
func (b *builder) surroundings() []file {
	m := &b.in.Machine
	var out []file
	if m.Proxy != nil {
		out = append(out, file{proxyFile, "0644", proxyEnvironment(m.Proxy)})
	}
	for i, text := range m.CACerts {
		out = append(out, file{fmt.Sprintf("%s/gpustrap-%d.crt", certificates, i), "0644", text})
	}
	return append(out, file{surroundingsFile, "0644",
		assignment("NTP_SERVERS", strings.Join(m.NTP, " ")) + assignment("KERNEL_ARGS", strings.Join(m.KernelArgs, " "))})
}

// noProxy returns what is reached without the proxy, the machine itself first.
func noProxy(p *config.Proxy) string {
	return strings.Join(append([]string{"localhost", "127.0.0.1", "::1"}, p.Except...), ",")
}

// proxyEnvironment returns the variables that programs look for, in both ways
// in which they are written: curl heeds http_proxy in lower case alone, others
// the upper case.
func proxyEnvironment(p *config.Proxy) string {
	var out strings.Builder
	for _, v := range [][2]string{{"http_proxy", p.URL}, {"https_proxy", p.URL}, {"no_proxy", noProxy(p)}} {
		out.WriteString(v[0] + "=" + v[1] + "\n" + strings.ToUpper(v[0]) + "=" + v[1] + "\n")
	}
	return out.String()
}

// aptConf returns apt's configuration for the installation: hosts that are
// reached without the proxy, and the authorities that the installer trusts. The
// file of the latter lies in /run, which the installer's chroots share.
func (b *builder) aptConf() string {
	m := &b.in.Machine
	var out strings.Builder
	if m.Proxy != nil {
		for _, host := range m.Proxy.Hosts {
			fmt.Fprintf(&out, "Acquire::http::Proxy::%s \"DIRECT\";\nAcquire::https::Proxy::%s \"DIRECT\";\n", host, host)
		}
	}
	if len(m.CACerts) > 0 {
		fmt.Fprintf(&out, "Acquire::https::CaInfo \"%s\";\n", liveFolder+"/ca-certificates.crt")
	}
	return out.String()
}

// trustInInstaller returns the command that makes the live system trust the
// machine's authorities.
func (b *builder) trustInInstaller() string {
	var out strings.Builder
	for i, text := range b.in.Machine.CACerts {
		out.WriteString(writeCommand("", file{fmt.Sprintf("/usr/local/share/ca-certificates/gpustrap-%d.crt", i), "0644", text}))
	}
	return out.String() + "update-ca-certificates\nmkdir -p " + liveFolder +
		"\ncp /etc/ssl/certs/ca-certificates.crt " + liveFolder + "/ca-certificates.crt\n"
}

// proxies returns Docker's own setting, from Docker 23 on.
func proxies(p *config.Proxy) map[string]string {
	if p == nil {
		return nil
	}
	return map[string]string{"http-proxy": p.URL, "https-proxy": p.URL, "no-proxy": noProxy(p)}
}

// ownFiles returns the person's files, as files.sh reads them: their list, one a
// line with mode, owner and path, and their content by number. Only root may
// read the copies.
func (b *builder) ownFiles() []file {
	var out []file
	var lines strings.Builder
	for i, f := range b.in.Machine.Files {
		fmt.Fprintf(&lines, "%s %s %s\n", f.Mode, f.Owner, f.Path)
		out = append(out, file{fmt.Sprintf("%s/files/%d", dataFolder, i), "0600", withNewline(f.Content)})
	}
	return append(out, file{dataFolder + "/files/list", "0600", lines.String()})
}

// ownCommands returns commands as a script each, in their order.
func ownCommands(kind string, commands []string) []file {
	var out []file
	for i, c := range commands {
		out = append(out, file{fmt.Sprintf("%s/commands/%s-%03d", dataFolder, kind, i), "0600", withNewline(c)})
	}
	return out
}

// needsFirstBoot reports whether something is left to do at the first boot.
func (b *builder) needsFirstBoot() bool {
	m := &b.in.Machine
	for _, f := range m.Files {
		user, _, _ := strings.Cut(f.Owner, ":")
		for _, u := range m.Users {
			if u.Name == user {
				return true
			}
		}
	}
	return len(m.FirstBoot) > 0
}
