package autoinstall

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/report"
	"github.com/gpustrap/gpustrap/templates"
)

// RenderCloudInit returns a plain cloud-config that turns a cloud image or a VM
// into the machine at its first boot: users, the same scripts as the seed
// carries, one command that runs them, and a reboot into the driver. Storage is
// the image's own.
func (r *Renderer) RenderCloudInit(in Input) ([]byte, report.Report) {
	in.Machine.Storage = config.Storage{}
	b := newBuilder(&in, r.scripts)
	if b.rep.HasErrors() {
		return nil, b.rep
	}
	b.warnFragment("cloud-init")
	doc := b.cloudConfig()
	data, err := marshal(doc)
	if err != nil {
		b.rep.Add(internal(&in, err))
		return nil, b.rep
	}
	out := append([]byte(header), data...)
	b.checkCloudConfig(out, doc)
	if b.rep.HasErrors() {
		return nil, b.rep
	}
	return out, b.rep
}

func (b *builder) cloudConfig() *CloudConfig {
	m := &b.in.Machine
	passwords := false
	doc := &CloudConfig{Hostname: m.Hostname, ManageEtcHosts: "localhost", Locale: m.Locale, Timezone: m.Timezone}
	for _, u := range m.Users {
		doc.Users = append(doc.Users, cloudUser(u))
		passwords = passwords || u.PasswordHash != ""
	}
	doc.SSHPwauth = passwords
	if k := m.Keyboard; k.Layout != "" && k != (config.Keyboard{Layout: "us"}) {
		doc.Keyboard = &CloudKeyboard{Layout: k.Layout, Variant: k.Variant}
		if k.Toggle != "" {
			doc.Keyboard.Options = "grp:" + k.Toggle
		}
	}
	if network := b.network(); network != nil {
		netplan, err := marshal(map[string]*Network{"network": network})
		if err != nil {
			b.rep.Add(internal(b.in, err))
		}
		doc.WriteFiles = append(doc.WriteFiles, cloudFile(file{"/etc/netplan/90-gpustrap.yaml", "0600", string(netplan)}))
		doc.RunCmd = append(doc.RunCmd, Command{Args: []string{"netplan", "apply"}})
	}
	steps := b.steps()
	if len(steps) == 0 {
		return doc
	}
	for _, f := range append(b.scriptFiles(steps), b.dataFiles(steps)...) {
		doc.WriteFiles = append(doc.WriteFiles, cloudFile(f))
	}
	const done = "/run/gpustrap-installed"
	install := templates.ShellCommand("bash", scriptFolder+"/install.sh")
	if b.in.Stack != nil {
		install += " && touch " + done
		doc.PowerState = &PowerState{
			Mode: "reboot", Message: "gpustrap: reboot into the NVIDIA driver", Condition: "test -e " + done,
		}
	}
	doc.RunCmd = append(doc.RunCmd, Command{Shell: install})
	return doc
}

// cloudFile returns a file as cloud-init writes it. YAML's blocks cannot begin
// with white space that every reader takes alike.
func cloudFile(f file) CloudFile {
	if f.content != "" && strings.TrimLeft(f.content[:1], " \t\n") == "" {
		return CloudFile{Path: f.path, Permissions: f.mode, Encoding: "b64", Content: base64.StdEncoding.EncodeToString([]byte(f.content))}
	}
	return CloudFile{Path: f.path, Permissions: f.mode, Content: f.content}
}

// warnFragment says that the raw fragment speaks to the installer alone.
func (b *builder) warnFragment(form string) {
	if b.in.Machine.Autoinstall == nil {
		return
	}
	b.rep.Add(report.Diagnostic{
		Severity: report.Warning, Path: "autoinstall", Pos: b.in.Machine.Origin("autoinstall"),
		Summary: fmt.Sprintf("the autoinstall fragment has no part in the %s form", form),
		Detail:  "it speaks to Ubuntu's installer, which does not run there",
	})
}

// checkCloudConfig reads a cloud-config back and compares it with what it was
// made from.
func (b *builder) checkCloudConfig(data []byte, want *CloudConfig) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		b.rep.Add(internal(b.in, err))
		return
	}
	c := checker{release: b.in.Machine.Ubuntu, place: func(node *yaml.Node, _ string) report.Position {
		return report.Position{File: userDataName, Line: node.Line, Column: node.Column}
	}}
	c.check(root.Content[0], cloudConfigShape(), "user-data")
	for _, d := range c.rep.Diagnostics {
		b.rep.Add(internal(b.in, fmt.Errorf("the rendered %s", d)))
	}
	back := new(CloudConfig)
	if err := root.Decode(back); err != nil {
		b.rep.Add(internal(b.in, err))
	} else if !reflect.DeepEqual(back, want) {
		b.rep.Add(internal(b.in, fmt.Errorf("the rendered cloud-config does not read back as it was made")))
	}
}

// accounts returns the users as accounts.sh reads them, and their keys.
func (b *builder) accounts() []file {
	var lines strings.Builder
	var files []file
	for i, u := range b.in.Machine.Users {
		if strings.ContainsAny(u.FullName+u.Shell, ":\n") {
			b.complain(fmt.Sprintf("users[%d]", i), "a full name or shell with a colon cannot be an account's", "leave the colon out")
		}
		lines.WriteString(strings.Join([]string{
			u.Name, u.PasswordHash, string(u.Sudo), u.Shell, strings.Join(u.Groups, ","), u.FullName,
		}, ":") + "\n")
		if len(u.AuthorizedKeys) > 0 {
			files = append(files, file{
				dataFolder + "/authorized_keys/" + u.Name, "0644", strings.Join(u.AuthorizedKeys, "\n") + "\n",
			})
		}
	}
	return append(files, file{dataFolder + "/accounts", "0600", lines.String()})
}
