package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/gpu"
	"github.com/gpustrap/gpustrap/plan"
)

func newExplain(w *world) *cobra.Command {
	var asJSON, models bool
	cmd := &cobra.Command{
		Use:   "explain [MACHINE...]",
		Short: "Say which driver, packages and disk a machine gets, and why",
		Long: `Prints what gpustrap worked out for each machine: driver branch, module flavour,
packages, what is erased, who may log in, each choice with its reason.`,
		Example:           "  gpustrap explain node01\n  gpustrap explain --models",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: machineNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if models {
				return explainModels(w)
			}
			project, err := loadProject(w, cmd)
			if err != nil {
				return err
			}
			machines, err := project.Select(args)
			if err != nil {
				return usageError{err}
			}
			if asJSON {
				return explainJSON(w.stdout, machines)
			}
			for i, m := range machines {
				if i > 0 {
					if err := w.print("\n"); err != nil {
						return err
					}
				}
				if err := explainMachine(w.stdout, m, lockedVersions(project, m)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.Flags().BoolVar(&models, "models", false, "list the GPU models that the configuration may name")
	return cmd
}

func explainModels(w *world) error {
	tables, err := gpu.Load()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w.stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "MODEL\tPRODUCT\tARCHITECTURE\tPCI")
	for _, d := range tables.Models() {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Model, d.Product, d.Architecture, strings.Join(d.PCI, " "))
	}
	return t.Flush()
}

// explanation is what explain --json prints of a machine.
type explanation struct {
	Name    string     `json:"name"`
	Ubuntu  string     `json:"ubuntu"`
	Arch    string     `json:"arch"`
	Erases  string     `json:"erases"`
	Keeps   []string   `json:"keeps,omitempty"`
	Publish string     `json:"publish,omitempty"` // where published ports can be reached: any or localhost
	Users   []string   `json:"users"`
	Apps    []string   `json:"apps,omitempty"`
	Stack   *gpu.Stack `json:"stack,omitempty"`
}

func explainJSON(out io.Writer, machines []*plan.Machine) error {
	all := []explanation{}
	for _, m := range machines {
		e := explanation{
			Name: m.Name, Ubuntu: m.Ubuntu, Arch: m.Arch,
			Erases: plan.ErasedText(m.Storage), Stack: m.Stack,
		}
		for _, d := range m.Storage.Data {
			if d.Preserve {
				e.Keeps = append(e.Keeps, plan.DiskText(d.Disk)+" at "+d.Mount)
			}
		}
		if m.Docker != nil {
			e.Publish = m.Docker.Publish
		}
		for _, u := range m.Users {
			e.Users = append(e.Users, u.Name)
		}
		for _, a := range m.Apps {
			e.Apps = append(e.Apps, a.Name)
		}
		all = append(all, e)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

// lockedVersions are the versions that the lock gives a machine's packages, by name;
// none without a lock.
func lockedVersions(project *plan.Project, m *plan.Machine) map[string]string {
	if project.Lock() == nil {
		return nil
	}
	return project.Lock().Versions(m.Class)
}

// explainMachine prints one machine as a person would want to read it. Locked are the
// versions that a lock gives its packages.
func explainMachine(out io.Writer, m *plan.Machine, locked map[string]string) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	_, _ = fmt.Fprintf(t, "%s: Ubuntu %s, %s\n", m.Name, m.Ubuntu, m.Arch)
	for _, text := range storageTexts(m.Storage) {
		line(text.what, "%s", text.words)
	}
	line("asks", "%s", confirmText(m.Boot))
	for _, u := range m.Users {
		line("user", "%s", userText(u))
	}
	if s := m.Stack; s != nil {
		line("driver", "%s", driverText(s))
		line("kernel", "%s", s.Kernel.Meta)
		what := "packages"
		for _, name := range s.Packages {
			line(what, "%s", strings.TrimSpace(name+" "+locked[name]))
			what = ""
		}
	}
	if m.Stack != nil {
		line("at boot", "%s", settingsText(m.GPU))
	}
	if m.Docker != nil {
		line("docker", "%s", dockerText(m.Docker, chosenVersion(m.Docker.Version, locked["docker-ce"])))
		line("ports", "%s", portsText(m.Docker))
	}
	if m.Toolkit != nil {
		line("toolkit", "NVIDIA Container Toolkit %s", chosenVersion(m.Toolkit.Version, locked["nvidia-container-toolkit"]))
	}
	if m.Offline != config.OfflineOff {
		line("from", "%s", offlineTexts[m.Offline])
	}
	for _, a := range m.Apps {
		line("app", "%s", appText(a))
	}
	for _, text := range ownTexts(&m.Machine) {
		line(text.what, "%s", text.words)
	}
	if m.Ready.Report != "" {
		line("receipt", "%s", receiptText(m.Ready))
	}
	line("afterwards", "%s", afterTexts[m.After])
	if err := t.Flush(); err != nil || m.Stack == nil {
		return err
	}
	var why strings.Builder
	why.WriteString("  why\n")
	for _, r := range m.Stack.Reasons {
		why.WriteString(wrap(r.Choice+": "+r.Why, "    ", "      "))
		why.WriteString(wrap("("+r.Source+")", "      ", "      "))
	}
	_, err := io.WriteString(out, why.String())
	return err
}

// explainedLine is a line of an explanation.
type explainedLine struct{ what, words string }

// storageTexts says what is wiped and what stays.
func storageTexts(s config.Storage) []explainedLine {
	system := s
	system.Data = nil
	layout := "layout " + s.Layout
	if s.Config != nil {
		layout = fmt.Sprintf("by the %d actions of storage.config", len(s.Config.Content))
	}
	if s.Encryption != nil {
		layout += ", encrypted"
	}
	if t := tpmOf(s); t != nil {
		layout += ", unlocked by the machine's TPM"
	}
	texts := []explainedLine{{"erases", plan.ErasedText(system) + ", " + layout}}
	for _, d := range s.Data {
		if !d.Preserve {
			texts = append(texts, explainedLine{"erases", fmt.Sprintf("%s, %s at %s", plan.DiskText(d.Disk), d.Filesystem, d.Mount)})
		}
	}
	if t := tpmOf(s); t != nil && !t.Recovery {
		texts = append(texts, explainedLine{"erases", "the passphrase, at the first boot: what is on the disk is lost with the TPM"})
	}
	for _, d := range s.Data {
		if d.Preserve {
			texts = append(texts, explainedLine{"keeps", fmt.Sprintf("what is on %s, at %s; only if it is empty, it gets %s", plan.DiskText(d.Disk), d.Mount, d.Filesystem)})
		}
	}
	return append(texts, explainedLine{"keeps", "every other disk, untouched"})
}

func tpmOf(s config.Storage) *config.TPM {
	if s.Encryption == nil {
		return nil
	}
	return s.Encryption.TPM
}

// ownTexts says what a machine has that its GPUs do not ask for: its
// surroundings, and what the person wrote by hand.
func ownTexts(m *config.Machine) []explainedLine {
	var texts []explainedLine
	add := func(what, words string, wanted bool) {
		if wanted {
			texts = append(texts, explainedLine{what, words})
		}
	}
	if m.Proxy != nil {
		reached := "everything but the machine itself"
		if len(m.Proxy.Except) > 0 {
			reached = "everything but " + strings.Join(m.Proxy.Except, ", ")
		}
		add("proxy", "for "+reached, true)
	}
	add("trusts", count(len(m.CACerts), "text")+" of certificates besides Ubuntu's", len(m.CACerts) > 0)
	add("time", strings.Join(m.NTP, ", "), len(m.NTP) > 0)
	add("kernel args", strings.Join(m.KernelArgs, " "), len(m.KernelArgs) > 0)
	add("further", strings.Join(m.Packages, " "), len(m.Packages) > 0)
	for _, f := range m.Files {
		add("file", fmt.Sprintf("%s, mode %s, owner %s", f.Path, f.Mode, f.Owner), true)
	}
	for _, c := range m.LateCommands {
		add("late command", firstLine(c), true)
	}
	for _, c := range m.FirstBoot {
		add("first boot", firstLine(c), true)
	}
	if m.Autoinstall != nil {
		var sections []string
		for i := 0; i+1 < len(m.Autoinstall.Content); i += 2 {
			sections = append(sections, m.Autoinstall.Content[i].Value)
		}
		add("fragment", "autoinstall: "+strings.Join(sections, ", "), len(sections) > 0)
	}
	return texts
}

// firstLine returns the first line of a text, and says that there are more.
func firstLine(s string) string {
	line, more, _ := strings.Cut(s, "\n")
	if strings.TrimSpace(more) != "" {
		line += " …"
	}
	return line
}

// driverText says which driver a Stack has.
func driverText(s *gpu.Stack) string {
	if s.Branch.Name == "" {
		return "chosen on the machine, by its GPUs"
	}
	var about []string
	if s.Branch.Status != "" {
		about = append(about, s.Branch.Status)
	}
	if s.Branch.EOL != "" {
		about = append(about, "end of life "+s.Branch.EOL)
	}
	text := s.Branch.Name
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	archive := "Ubuntu's archive"
	if s.Source == "cuda" {
		archive = "NVIDIA's CUDA repository"
	}
	return fmt.Sprintf("%s, %s modules from %s", text, s.Flavour, archive)
}

// wrap breaks a text into lines of at most 80 columns.
func wrap(text, first, rest string) string {
	const columns = 80
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		if i > 0 && len([]rune(line))+1+len([]rune(word)) > columns {
			b.WriteString(line + "\n")
			line = rest + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}

// chosenVersion says which version is installed: the one that the configuration asks
// for, the lock's, or the newest.
func chosenVersion(asked, locked string) string {
	switch {
	case asked != "":
		return asked
	case locked != "":
		return locked + " (locked)"
	}
	return "(the newest)"
}
