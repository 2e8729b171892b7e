package autoinstall

import (
	"slices"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/templates"
)

// document returns the machine's autoinstall without its raw fragment.
func (b *builder) document() *Document {
	if b.rep.HasErrors() {
		return nil
	}
	m := &b.in.Machine
	doc := &Document{
		Version:  1,
		Locale:   m.Locale,
		Timezone: m.Timezone,
		Network:  b.network(),
		APT:      b.apt(),
		Storage:  b.storage(),
		Updates:  "security",
		Shutdown: string(m.After),
	}
	if m.Keyboard.Layout != "" {
		doc.Keyboard = &Keyboard{Layout: m.Keyboard.Layout, Variant: m.Keyboard.Variant, Toggle: m.Keyboard.Toggle}
	}
	// Without a network the installer has the medium's kernel alone; driver.sh then
	// brings the one that is wanted.
	if b.in.Stack != nil && b.in.Stack.Kernel.Meta != "" && b.in.Offline == nil {
		doc.Kernel = &Kernel{Package: b.in.Stack.Kernel.Meta}
	}
	if m.Ubuntu >= "24.04" {
		// On by default for servers from 26.04; with a kernel of our own that
		// stops the installation on certified hardware.
		doc.OEM = &OEM{Install: false}
	}
	if m.Proxy != nil {
		doc.Proxy = m.Proxy.URL
	}
	if b.in.Report != "" {
		// No retries: the installer stands still while it waits for one, at each
		// of some hundred events when nobody listens.
		doc.Reporting = map[string]Reporter{"gpustrap": {
			Type: "webhook", Endpoint: b.in.Report, Level: "INFO",
		}}
	}
	b.users(doc)
	b.commands(doc)
	return doc
}

// users fills identity, ssh and user-data. The identity section demands a
// password and gives the user sudo; everybody who does not fit it is made by
// cloud-init at the first boot, whose users can do with keys alone.
func (b *builder) users(doc *Document) {
	m := &b.in.Machine
	first := m.Users[0]
	rest := m.Users
	yes := true
	passwords := slices.ContainsFunc(m.Users, func(u config.User) bool { return u.PasswordHash != "" })
	doc.SSH = &SSH{InstallServer: &yes, AllowPW: &passwords}
	cloud := &CloudConfig{}
	if first.PasswordHash != "" && first.Sudo == config.SudoPassword && first.Shell == "" && len(first.Groups) == 0 {
		doc.Identity = &Identity{
			Realname: first.FullName, Username: first.Name, Hostname: m.Hostname, Password: first.PasswordHash,
		}
		if len(first.AuthorizedKeys) > 0 {
			doc.SSH.AuthorizedKeys = first.AuthorizedKeys
		}
		rest = rest[1:]
	} else {
		cloud.Hostname = m.Hostname
		cloud.ManageEtcHosts = "localhost"
	}
	for _, u := range rest {
		cloud.Users = append(cloud.Users, cloudUser(u))
	}
	// The installer tells the text of late-commands to whoever takes its events.
	if m.Ready.Token != "" {
		cloud.WriteFiles = append(cloud.WriteFiles, CloudFile{Path: tokenFile, Permissions: "0600", Content: m.Ready.Token + "\n"})
	}
	if len(rest) > 0 || len(cloud.WriteFiles) > 0 {
		doc.UserData = cloud
	}
}

// networkMAC returns the address of the interface that the network is for.
func (b *builder) networkMAC() string {
	m := &b.in.Machine
	switch {
	case m.Network.MAC != nil:
		return m.Network.MAC.String()
	case len(m.Match.MACs) > 0:
		return m.Match.MACs[0].String()
	}
	return ""
}

// apt returns the apt section. A machine whose installation needs the network
// stops when no mirror answers: the installer would go on without it and fail
// later with a worse message.
func (b *builder) apt() *APT {
	m := &b.in.Machine
	no := false
	out := &APT{Geoip: &no, Conf: b.aptConf()}
	switch {
	case m.Ubuntu < "24.04" || len(b.steps()) == 0:
	case b.in.Offline != nil:
		out.Fallback = "offline-install"
	default:
		out.Fallback = "abort"
	}
	source := m.Sources.Ubuntu
	own := len(source.Key) > 0 || source.Suite != ""
	// Without a candidate the installer goes on as without a network at once. A
	// site's mirror is told to the machine in no other way.
	if b.in.Offline != nil && m.Offline == config.OfflineOnly && m.Ubuntu >= "24.04" && (own || source.URL == "") {
		out.MirrorSelection = &MirrorSelection{Primary: MirrorCandidates{}}
	}
	if source.URL == "" {
		return out
	}
	mirror := []Mirror{{Arches: []string{"default"}, URI: source.URL}}
	out.Security = mirror
	switch {
	case out.MirrorSelection != nil:
	case m.Ubuntu >= "24.04":
		out.MirrorSelection = &MirrorSelection{Primary: []MirrorCandidate{{URI: source.URL}}}
	default:
		out.Primary = mirror
	}
	if own {
		b.ownArchive(out)
	}
	return out
}

// ownArchive describes an archive that is not laid out or signed as Ubuntu's is
// in full. repositories.sh sets it up again, with a keyring of its own.
func (b *builder) ownArchive(out *APT) {
	i := slices.IndexFunc(b.repos, func(r repository) bool { return r.name == "ubuntu" })
	r := b.repos[i]
	if b.in.Machine.Ubuntu >= "24.04" {
		out.SourcesList = r.deb822()
		return
	}
	out.SourcesList = r.oneLine(b.in.Machine.Arch)
	if r.keyData != nil {
		out.Sources = map[string]APTSource{installerKey: {Key: string(r.keyData)}}
	}
}

// commands fills the command lists.
func (b *builder) commands(doc *Document) {
	m := &b.in.Machine
	ownStorage := ownsStorage(m.Autoinstall)
	if len(m.CACerts) > 0 {
		doc.EarlyCommands = append(doc.EarlyCommands, Command{Shell: b.trustInInstaller()})
	}
	b.guards(doc, ownStorage)
	if m.Ubuntu == "22.04" && m.Storage.Layout == "lvm" && b.ownLayout() && !ownStorage {
		b.carry(&doc.LateCommands, growRoot)
		b.run(&doc.LateCommands, "sh", liveFolder+"/"+growRoot)
	}
	if steps := b.steps(); len(steps) > 0 {
		for _, name := range b.scriptNames(steps) {
			b.carry(&doc.LateCommands, name)
		}
		for _, f := range b.dataFiles(steps) {
			if f.path == tokenFile {
				continue // cloud-init writes it
			}
			command := targetCommand(f)
			doc.LateCommands = append(doc.LateCommands, Command{Shell: command})
			if f.path != environmentFile {
				b.shared = append(b.shared, command)
			}
		}
		install := []string{"curtin", "in-target", "--", "bash", scriptFolder + "/install.sh", "--installer"}
		if b.in.Offline != nil {
			b.carry(&doc.LateCommands, withMedium)
			install = append([]string{"bash", liveFolder + "/" + withMedium}, install...)
		}
		if b.tpm() != nil {
			doc.LateCommands = append(doc.LateCommands, Command{Shell: showPassphrase})
		}
		b.run(&doc.LateCommands, install...)
		b.shared = append(b.shared, doc.LateCommands[len(doc.LateCommands)-1].Shell)
		if b.tpm() != nil {
			doc.LateCommands = append(doc.LateCommands, Command{Shell: hidePassphrase})
		}
	}
	b.console(&doc.LateCommands)
	b.carry(&doc.LateCommands, finish)
	finished := []string{"bash", liveFolder + "/" + finish, m.Name}
	if b.in.Stamp != "" {
		finished = append(finished, b.in.Stamp)
	}
	b.run(&doc.LateCommands, finished...)
	b.failure(doc)
}

// carry adds the command that puts a script where it runs.
func (b *builder) carry(list *[]Command, name string) {
	*list = append(*list, Command{Shell: b.scripts[name].command})
}

// run adds a command of these words.
func (b *builder) run(list *[]Command, words ...string) {
	*list = append(*list, Command{Shell: templates.ShellCommand(words...)})
}
