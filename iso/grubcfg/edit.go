package grubcfg

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Menu is what Edit makes of a boot menu.
type Menu struct {
	// KernelArgs are added to every linux command that starts the installer,
	// before "---", in this order: "autoinstall", "ds=nocloud;s=/cdrom/nocloud/".
	// They stand here as the kernel is to see them; Edit quotes them for GRUB.
	KernelArgs []string
	// Title is the text of the default entry: what will happen.
	Title string
	// Choices are further entries, which only a person at the menu starts.
	Choices []Choice
	// Timeout is how long the menu counts down, in seconds. A key stops it.
	// 0 boots at once, -1 waits for a person.
	Timeout int
}

// Choice is an entry that starts what the default one does, with more said to
// the kernel.
type Choice struct {
	Title      string
	KernelArgs []string // after those of the Menu
}

const (
	// entryID is the --id of the entry that is booted by default. Further
	// automated entries have a number behind it: gpustrap-2.
	entryID = "gpustrap"

	startComment = "# gpustrap: automated installation"
	endComment   = "# gpustrap: the last assignment counts"
)

// isOurID reports whether an entry's id was given by Edit.
func isOurID(id string) bool { return id == entryID || strings.HasPrefix(id, entryID+"-") }

// localDisk boots the first disk that is not the one GRUB came from, where the
// firmware is a BIOS. Started from USB the medium is hd0, and $root names it or
// a partition of it; started from CD no hd is the medium. drivemap lets the disk's
// boot loader find itself as the first disk. With EFI, Ubuntu's own entry leaves
// to the next boot option.
var localDisk = []string{
	`if [ "$grub_platform" = "pc" ]; then`,
	`menuentry 'Boot from the local disk' {`,
	`	set medium=$root`,
	`	for disk in hd0 hd1 hd2 hd3 hd4 hd5 hd6 hd7; do`,
	`		if regexp "^$disk,?" "$medium"; then continue; fi`,
	`		set root=$disk`,
	`		drivemap -s hd0 $disk`,
	`		if chainloader +1; then break; fi`,
	`		drivemap -r`,
	`	done`,
	`}`,
	`fi`,
}

// Edit returns the menu with, for every entry that starts the installer, an
// automated variant of it before the untouched one: the same commands with
// Menu.KernelArgs. The first of them has Menu.Title and is the default; the
// others say in brackets what differs. Menu.Choices follow, as variants of the
// first. The menu is shown and counts down. Where
// the medium is started by a BIOS and the menu has no entry for the local disk,
// one is added.
//
// It returns ErrEdited for a menu that was edited before, ErrNoInstaller for one
// that starts no installer, a *SyntaxError for a text that is no GRUB script, a
// *RefusedError for a menu that it does not know how to edit, and a *MenuError
// for a title or an argument that GRUB cannot carry.
func Edit(cfg []byte, m Menu) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	script, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	entries := script.menuEntries()
	groups, err := installerGroups(entries)
	if err != nil {
		return nil, err
	}
	e := &editor{script: script, menu: m, primary: primarySubmenu(groups), eol: lineEnd(cfg)}
	for _, g := range groups {
		e.addVariants(g)
	}
	if err := e.addTail(entries); err != nil {
		return nil, err
	}
	out := e.apply()
	if err := check(out, m); err != nil {
		return nil, err
	}
	return out, nil
}

// Quote returns the text as one word of a GRUB command, in single quotes where
// it needs them.
func Quote(text string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.,:/=+%@", c)
	}
	if text != "" && strings.IndexFunc(text, func(c rune) bool { return !plain(c) }) < 0 && !slices.Contains(reserved, text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// validate refuses what GRUB cannot carry unchanged.
func (m Menu) validate() error {
	titles, args := []string{m.Title}, m.KernelArgs
	for _, c := range m.Choices {
		titles, args = append(titles, c.Title), slices.Concat(args, c.KernelArgs)
	}
	for _, title := range titles {
		if err := validateTitle(title); err != nil {
			return err
		}
	}
	switch {
	case m.Timeout < -1:
		return &MenuError{"the timeout", strconv.Itoa(m.Timeout), "write the seconds, 0 to boot at once, or -1 to wait"}
	case len(m.KernelArgs) == 0:
		return &MenuError{"the list of kernel arguments", "", "it is empty, so the entry would install nothing by itself"}
	}
	for _, a := range args {
		if err := validateArg(a); err != nil {
			return err
		}
	}
	return nil
}

func validateTitle(title string) error {
	switch {
	case title == "":
		return &MenuError{"the title", title, "it is empty"}
	case strings.HasPrefix(title, "-"):
		return &MenuError{"the title", title, "GRUB takes a text that begins with - for an option"}
	case !isLine(title):
		return &MenuError{"the title", title, "it must be one line of UTF-8 without control characters"}
	}
	return nil
}

func validateArg(a string) error {
	const name = "the kernel argument"
	switch {
	case !isLine(a):
		return &MenuError{name, a, "it must be one line of UTF-8 without control characters"}
	case a == "--" || a == "---":
		return &MenuError{name, a, "it ends the list of arguments"}
	case strings.ContainsAny(a, `\'"`):
		return &MenuError{name, a, "GRUB puts a backslash before every quote and backslash, so the kernel would see another text"}
	case !slices.Equal(kernelArgs(loaderCommandLine([]string{a})), []string{a}):
		return &MenuError{name, a, "the kernel would not see it as one argument"}
	}
	return nil
}

// isLine reports whether the text is valid UTF-8 without control characters.
func isLine(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// lineEnd returns how the lines of the file end.
func lineEnd(cfg []byte) string {
	if i := bytes.IndexByte(cfg, '\n'); i > 0 && cfg[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// group is the installer's entries among the statements of one list.
type group []menuEntry

// installerGroups returns the entries that start the installer, by the list in
// which they stand, in the order of the file.
func installerGroups(entries []menuEntry) ([]group, error) {
	var groups []group
	for _, m := range entries {
		if isOurID(m.header.id.text) {
			return nil, ErrEdited
		}
		if !m.isInstaller() {
			continue
		}
		for _, c := range m.linux {
			if slices.ContainsFunc(c.args, func(w word) bool { return w.text == "autoinstall" }) {
				return nil, &RefusedError{c.stmt.line, "this entry has the argument autoinstall already: " +
					"the medium was made by another tool; use the genuine one"}
			}
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g[0].list == m.list })
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], m)
	}
	if len(groups) == 0 {
		return nil, ErrNoInstaller
	}
	return groups, nil
}

// primarySubmenu returns the submenus around the default entry: none when any
// installer entry stands outside submenus, else those of the first.
func primarySubmenu(groups []group) []*header {
	for _, g := range groups {
		if len(g[0].submenu) == 0 {
			return nil
		}
	}
	return groups[0][0].submenu
}

type editor struct {
	script     *script
	menu       Menu
	primary    []*header
	eol        string
	variants   int // made so far
	insertions []insertion
}

// insertion is a text that is put before an offset of the file.
type insertion struct {
	offset int
	text   string
}

// addVariants puts the automated variants of a group before its first entry. The
// first of a group on the default's level is the default: groups on one level
// stand in different branches of a conditional.
func (e *editor) addVariants(g group) {
	at := g[0].stmt.start
	indent := e.indent(at)
	var b strings.Builder
	b.WriteString(startComment + e.eol + indent)
	for i, m := range g {
		e.variants++
		id, title := fmt.Sprintf("%s-%d", entryID, e.variants), e.menu.Title
		if i == 0 && slices.Equal(m.submenu, e.primary) {
			id = entryID
		} else {
			title += " (" + m.difference() + ")"
		}
		b.WriteString(e.variant(m, id, title, nil) + e.eol + indent)
	}
	if slices.Equal(g[0].submenu, e.primary) {
		for _, c := range e.menu.Choices {
			e.variants++
			b.WriteString(e.variant(g[0], fmt.Sprintf("%s-%d", entryID, e.variants), c.Title, c.KernelArgs) + e.eol + indent)
		}
	}
	e.insertions = append(e.insertions, insertion{at, b.String()})
}

// difference says in a few words what an installer entry is besides the first.
func (m menuEntry) difference() string {
	for _, c := range m.linux {
		if strings.Contains(c.kernel.text, "/casper/hwe-") || strings.HasSuffix(c.kernel.text, "-hwe") {
			return "with the HWE kernel"
		}
	}
	return m.header.title.text
}

// variant returns the text of an entry with the menu's kernel arguments added,
// and more behind them.
func (e *editor) variant(m menuEntry, id, title string, more []string) string {
	raw := e.script.source.raw
	var b strings.Builder
	fmt.Fprintf(&b, "menuentry %s --id %s", Quote(title), id)
	for _, w := range m.header.keep {
		b.WriteString(" ")
		b.Write(raw[w.start:w.end])
	}
	b.WriteString(" ")
	args := slices.Concat(e.menu.KernelArgs, more)
	for i, a := range args {
		args[i] = Quote(a)
	}
	added := strings.Join(args, " ")
	from := m.stmt.blockStart
	for _, c := range m.linux {
		if !c.isInstaller() {
			continue
		}
		at, text := c.kernel.end, " "+added
		if len(c.args) > 0 {
			at = c.args[len(c.args)-1].end
		}
		if i := slices.IndexFunc(c.args, func(w word) bool { return w.text == "---" || w.text == "--" }); i >= 0 {
			at, text = c.args[i].start, added+" "
		}
		b.Write(raw[from:at])
		b.WriteString(text)
		from = at
	}
	b.Write(raw[from:m.stmt.blockEnd])
	return b.String()
}

// indent returns the white space between the start of the line and the offset, or
// "" when something else stands there.
func (e *editor) indent(offset int) string {
	raw := e.script.source.raw
	line := raw[bytes.LastIndexByte(raw[:offset], '\n')+1 : offset]
	if len(bytes.Trim(line, " \t")) > 0 {
		return ""
	}
	return string(line)
}

// addTail puts the entry for the local disk and the settings at the end of the
// file, where no other assignment comes after them.
func (e *editor) addTail(entries []menuEntry) error {
	raw := e.script.source.raw
	var lines []string
	if !hasLocalDisk(entries) && !isLoopback(entries) {
		lines = append(lines, localDisk...)
	}
	id := entryID
	for i := len(e.primary) - 1; i >= 0; i-- {
		name := e.primary[i].id
		if name.end == 0 {
			name = e.primary[i].title
		}
		if !name.static || name.text == "" {
			return &RefusedError{e.script.source.line(name.start), "the installer stands in a submenu whose title has a variable, so it cannot be made the default"}
		}
		// normal/menu.c: ">" separates the menus of a path, ">>" is the sign.
		id = strings.ReplaceAll(name.text, ">", ">>") + ">" + id
	}
	lines = append(lines, endComment,
		"set default="+Quote(id),
		"set timeout="+strconv.Itoa(e.menu.Timeout),
		"set timeout_style=menu")
	text := strings.Join(lines, e.eol) + e.eol
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		text = e.eol + text
	}
	e.insertions = append(e.insertions, insertion{len(raw), text})
	return nil
}

// hasLocalDisk reports whether an entry that a BIOS machine sees leaves GRUB for
// the next boot device.
func hasLocalDisk(entries []menuEntry) bool {
	return slices.ContainsFunc(entries, func(m menuEntry) bool {
		found := false
		walk(m.stmt.block, func(st *statement) bool {
			found = found || m.notEFI && (st.is("exit") || st.is("chainloader"))
			return true
		})
		return found
	})
}

// isLoopback reports whether the menu is a loopback.cfg: another GRUB reads it
// from an image file on a disk, and has its own way to that disk.
func isLoopback(entries []menuEntry) bool {
	return slices.ContainsFunc(entries, func(m menuEntry) bool {
		return slices.ContainsFunc(m.linux, func(c linuxCmd) bool {
			return slices.ContainsFunc(c.args, func(w word) bool { return strings.HasPrefix(w.text, "iso-scan/filename=") })
		})
	})
}

// apply returns the file with the insertions.
func (e *editor) apply() []byte {
	slices.SortStableFunc(e.insertions, func(a, b insertion) int { return a.offset - b.offset })
	var out []byte
	from := 0
	for _, in := range e.insertions {
		out = append(out, e.script.source.raw[from:in.offset]...)
		out = append(out, in.text...)
		from = in.offset
	}
	return append(out, e.script.source.raw[from:]...)
}

// check reads an edited menu again and holds it to what was asked for.
func check(out []byte, m Menu) error {
	entries, err := Entries(out)
	if err != nil {
		return fmt.Errorf("the edited boot menu is not readable, so it is not used: %w", err)
	}
	found := false
	for _, c := range m.Choices {
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Automated && e.Title == c.Title })
		if i < 0 || !hasArgs(entries[i], slices.Concat(m.KernelArgs, c.KernelArgs)) {
			return &RefusedError{0, fmt.Sprintf("the entry %q did not become what it should", c.Title)}
		}
	}
	for _, entry := range entries {
		if !entry.Automated || !entry.Installer {
			continue
		}
		found = found || entry.ID == entryID && entry.Title == m.Title
		if !hasArgs(entry, m.KernelArgs) {
			return &RefusedError{entry.Line, fmt.Sprintf("the kernel would see %q", entry.CommandLine)}
		}
		if n := len("BOOT_IMAGE=") + len(entry.Kernel) + 1 + len(entry.CommandLine); n > maxCommandLine {
			return &RefusedError{entry.Line, fmt.Sprintf("the kernel command line would have %d bytes, and kernels read %d", n, maxCommandLine)}
		}
	}
	settings, err := ReadSettings(out)
	isDefault := settings.Default == entryID || strings.HasSuffix(settings.Default, ">"+entryID)
	if err != nil || !found || !isDefault || settings.Timeout != strconv.Itoa(m.Timeout) {
		return &RefusedError{0, "the automated entry did not become the default"}
	}
	return nil
}

// hasArgs reports whether the kernel of an entry sees the arguments, in a row.
func hasArgs(entry Entry, args []string) bool {
	i := slices.Index(entry.Args, args[0])
	return i >= 0 && i+len(args) <= len(entry.Args) && slices.Equal(entry.Args[i:i+len(args)], args)
}
