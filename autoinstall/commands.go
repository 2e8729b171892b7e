package autoinstall

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/scripts"
	"github.com/gpustrap/gpustrap/templates"
)

// Places on the machine.
const (
	scriptFolder = "/usr/local/lib/gpustrap"
	dataFolder   = "/etc/gpustrap"
)

// The steps of the installation, in their order. Each is a script.
const (
	stepAccounts     = "accounts"
	stepSurroundings = "surroundings"
	stepOffline      = "offline"
	stepRepositories = "repositories"
	stepDriver       = "driver"
	stepDocker       = "docker"
	stepToolkit      = "toolkit"
	stepPackages     = "packages"
	stepTPM          = "tpm"
	stepUsers        = "users"
	stepSettings     = "settings"
	stepRootless     = "rootless"
	stepPrune        = "prune"
	stepApps         = "apps"
	stepUpgrades     = "upgrades"
	stepReady        = "ready"
	stepUnlock       = "unlock"
	stepFiles        = "files"
	stepFirstBoot    = "first-boot"
	stepCommands     = "commands"
)

// appsFolder is where the apps' folders lie beside the scripts.
const appsFolder = "apps"

// Scripts that run in the installer, not on the machine.
const (
	guard      = "guard.sh"
	chooseDisk = "choose-disk.sh"
	keepData   = "keep-data.sh"
	growRoot   = "grow-root.sh"
	finish     = "finish.sh"
	failed     = "failed.sh"
	pick       = "pick-machine.sh"
	withMedium = "with-medium.sh"
)

// The unit that shows who the machine is, and its script.
const (
	console     = "console.sh"
	consoleUnit = "gpustrap-console.service"
)

// liveScripts names them.
var liveScripts = []string{guard, chooseDisk, keepData, growRoot, finish, failed, pick, withMedium}

// filesOf names the files that a step takes.
var filesOf = map[string][]string{
	stepAccounts:     {"accounts.sh"},
	stepSurroundings: {"surroundings.sh"},
	stepOffline:      {"offline.sh"},
	stepRepositories: {"repositories.sh"},
	stepDriver:       {"driver.sh", "choose-stack.sh"},
	stepDocker:       {"docker.sh"},
	stepToolkit:      {"toolkit.sh"},
	stepPackages:     {"packages.sh"},
	stepTPM:          {"tpm.sh", "gpustrap-tpm.service"},
	stepUsers:        {"users.sh", "gpustrap-users.service"},
	stepSettings:     {"settings.sh", "gpu-settings.service"},
	stepUpgrades:     {"upgrades.sh", "gpu-upgrade.sh"},
	stepRootless:     {"rootless.sh", "docker-rootless.service", "gpustrap-rootless.service", "var-lib-gpustrap-cdi.mount"},
	stepPrune:        {"prune.sh", "docker-prune.sh"},
	stepApps:         {"apps.sh", "app.sh", "gpustrap-app@.service", "gpustrap-app@.timer"},
	stepReady:        {"ready.sh", "gpu-ready.sh", "gpu-ready.service", "gpu-who.sh"},
	stepUnlock:       {"unlock.sh"},
	stepFiles:        {"files.sh"},
	stepFirstBoot:    {"first-boot.sh", "gpustrap-first-boot.service"},
	stepCommands:     {"commands.sh"},
}

// script is a script's text and the command that puts it where it runs.
type script struct {
	text    string
	command string
}

// scriptSet is the scripts by file name.
type scriptSet map[string]script

func readScripts() (scriptSet, error) {
	set := scriptSet{}
	names := append([]string{"steps.sh", "install.sh", console, consoleUnit}, liveScripts...)
	for _, files := range filesOf {
		names = append(names, files...)
	}
	for _, name := range names {
		text, err := scripts.Read(name)
		if err != nil {
			return nil, err
		}
		if err := fitsHeredoc(text); err != nil {
			return nil, fmt.Errorf("cannot carry the script %s: %w", name, err)
		}
		set[name] = script{text: text}
		command := targetCommand(set.file(name))
		if slices.Contains(liveScripts, name) {
			command = writeCommand("", file{path.Join(liveFolder, name), "0755", text})
		}
		set[name] = script{text, command}
	}
	return set, set.readApps()
}

// readApps adds the files of every container app.
func (s scriptSet) readApps() error {
	for _, name := range apps.Names() {
		app, err := apps.Read(name)
		if err != nil {
			return err
		}
		for _, f := range app.Files {
			at := path.Join(appsFolder, name, f.Name)
			if err := fitsHeredoc(f.Content); err != nil {
				return fmt.Errorf("cannot carry %s: %w", at, err)
			}
			s[at] = script{text: f.Content}
			s[at] = script{f.Content, targetCommand(s.file(at))}
		}
	}
	return nil
}

// file is a file on the machine.
type file struct {
	path    string
	mode    string // octal
	content string
}

// scriptNames returns the files that some steps take.
func (b *builder) scriptNames(steps []string) []string {
	out := []string{"steps.sh", "install.sh"}
	for _, step := range steps {
		out = append(out, filesOf[step]...)
	}
	for _, a := range b.apps {
		for _, f := range a.Files {
			out = append(out, path.Join(appsFolder, a.Name, f.Name))
		}
	}
	return out
}

// scriptFiles returns the same with their content.
func (b *builder) scriptFiles(steps []string) []file {
	var out []file
	for _, name := range b.scriptNames(steps) {
		out = append(out, b.scripts.file(name))
	}
	return out
}

func (s scriptSet) file(name string) file {
	mode := "0644"
	if strings.HasPrefix(s[name].text, "#!") {
		mode = "0755"
	}
	return file{path.Join(scriptFolder, name), mode, s[name].text}
}

// liveFolder is where scripts lie that run in the live system.
const liveFolder = "/run/gpustrap"

// targetCommand puts a file into the system that is being installed.
// TARGET_MOUNT_POINT is set by the installer.
func targetCommand(f file) string { return writeCommand("$TARGET_MOUNT_POINT", f) }

const endOfFile = "GPUSTRAP_END"

// writeCommand returns the shell that writes a file, its content as it is, so
// that a person can read it in the seed.
func writeCommand(root string, f file) string {
	at := `"` + root + f.path + `"`
	return fmt.Sprintf("mkdir -p \"%s%s\"\ncat >%s <<'%s'\n%s%s\nchmod %s %s\n",
		root, path.Dir(f.path), at, endOfFile, withNewline(f.content), endOfFile, f.mode, at)
}

func withNewline(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

// fitsHeredoc reports why a text cannot stand in a shell's here-document.
func fitsHeredoc(text string) error {
	switch {
	case strings.ContainsRune(text, 0):
		return fmt.Errorf("it holds a NUL byte")
	case slices.Contains(strings.Split(text, "\n"), endOfFile):
		return fmt.Errorf("it holds the line %s", endOfFile)
	}
	return nil
}

// assignment returns a shell assignment, whatever the value holds.
func assignment(name, value string) string {
	return name + "=" + templates.QuoteShell(value) + "\n"
}
