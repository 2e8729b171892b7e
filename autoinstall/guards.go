package autoinstall

import (
	"fmt"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/templates"
)

// guards fills the early-commands, each of which can stop the installation
// before anything is written: the hardware, the disk rules, what is installed
// already. For a fragment's own storage.config there are no disk rules.
func (b *builder) guards(doc *Document, ownStorage bool) {
	m := &b.in.Machine
	b.carry(&doc.EarlyCommands, guard)
	script := liveFolder + "/" + guard
	if ids := hardware(m.Match); len(ids) > 0 {
		b.run(&doc.EarlyCommands, append([]string{"bash", script, "hardware", m.Name}, ids...)...)
	}
	if b.tpm() != nil {
		b.run(&doc.EarlyCommands, "bash", script, "tpm")
	}
	if !ownStorage {
		b.carry(&doc.EarlyCommands, chooseDisk)
		b.run(&doc.EarlyCommands, append([]string{"bash", liveFolder + "/" + chooseDisk}, diskRules(&m.Storage)...)...)
	}
	installed := []string{"bash", script, "installed", m.Name}
	if m.Reinstall {
		installed = append(installed, "reinstall")
	}
	if b.in.Stamp != "" {
		installed = append(installed, "stamp", b.in.Stamp)
	}
	b.run(&doc.EarlyCommands, installed...)
	if keep := keepRules(&m.Storage); len(keep) > 0 && !ownStorage {
		b.carry(&doc.EarlyCommands, keepData)
		b.run(&doc.EarlyCommands, append([]string{"bash", liveFolder + "/" + keepData}, keep...)...)
	}
}

// hardware returns a match as arguments of guard.sh.
func hardware(match config.Match) []string {
	var out []string
	if match.Serial != "" {
		out = append(out, "serial", match.Serial)
	}
	if match.UUID != "" {
		out = append(out, "uuid", match.UUID)
	}
	for _, mac := range match.MACs {
		out = append(out, "mac", mac.String())
	}
	return out
}

// failure fills the error-commands.
func (b *builder) failure(doc *Document) {
	b.carry(&doc.ErrorCommands, failed)
	doc.ErrorCommands = append(doc.ErrorCommands, b.failedCommand(b.in.Machine.Name, b.in.Report, rootKeys(&b.in.Machine)))
}

// failedCommand returns the command that runs failed.sh. An empty report is none.
func (b *builder) failedCommand(name, report string, keys []string) Command {
	words := []string{"bash", liveFolder + "/" + failed, name}
	if report != "" {
		words = append(words, report)
	}
	text := ""
	for _, key := range keys {
		text += key + "\n"
	}
	if err := fitsHeredoc(text); err != nil {
		b.rep.Add(internal(b.in, fmt.Errorf("cannot carry the SSH keys: %w", err)))
	}
	return Command{Shell: fmt.Sprintf("%s <<'%s'\n%s%s\n", templates.ShellCommand(words...), endOfFile, text, endOfFile)}
}

// rootKeys returns the SSH keys of those who may become root on the machine: they
// may have a look at its installer too.
func rootKeys(m *config.Machine) []string {
	var keys []string
	for _, u := range m.Users {
		if u.Sudo != config.SudoNo {
			keys = append(keys, u.AuthorizedKeys...)
		}
	}
	return keys
}

// console installs the unit that shows on the machine's consoles who it is and what
// it is doing.
func (b *builder) console(list *[]Command) {
	b.carry(list, console)
	b.carry(list, consoleUnit)
	const folder = "/etc/systemd/system"
	command := targetCommand(file{dataFolder + "/console", "0644", b.in.Machine.Users[0].Name}) +
		fmt.Sprintf("mkdir -p \"$TARGET_MOUNT_POINT%[1]s/multi-user.target.wants\"\n"+
			"ln -sfn %[2]s/%[3]s \"$TARGET_MOUNT_POINT%[1]s/%[3]s\"\n"+
			"ln -sfn ../%[3]s \"$TARGET_MOUNT_POINT%[1]s/multi-user.target.wants/%[3]s\"\n", folder, scriptFolder, consoleUnit)
	*list = append(*list, Command{Shell: command})
	b.shared = append(b.shared, command)
}
