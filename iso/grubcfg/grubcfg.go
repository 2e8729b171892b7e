// Package grubcfg reads and edits the boot menus of an Ubuntu installation
// medium: grub.cfg and loopback.cfg.
//
// A menu is a GRUB script, so the reader follows GRUB's own lexer and grammar
// (grub-core/script/yylex.l and parser.y of GRUB 2.06 and 2.12): quotes,
// backslashes, variables, blocks, conditionals, continuation lines, and the
// rules of GRUB's configuration reader, which drops every carriage return and
// every line that begins with "#". What the kernel finally sees of a linux
// command is worked out as GRUB's loader (grub-core/lib/cmdline.c) and the
// kernel's parser (lib/cmdline.c, next_arg) do it.
//
// The editor only inserts text; what the menu held before stays, byte for byte.
package grubcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxSize is the largest menu that is read, in bytes. Ubuntu's menus have less
// than 4 KiB; the limit keeps a hostile medium from costing memory.
const maxSize = 1 << 20

// ErrEdited is returned by Edit for a menu that this package edited before.
var ErrEdited = errors.New("this boot menu was already edited by gpustrap: restore the medium first")

// ErrNoInstaller is returned by Edit for a menu in which nothing starts
// Ubuntu's installer.
var ErrNoInstaller = errors.New("no entry of this boot menu starts Ubuntu's installer (no linux command with a /casper/ kernel): " +
	"this is not the menu of an Ubuntu Server installation medium")

// SyntaxError says where a menu is not a script that GRUB can read.
type SyntaxError struct {
	Line, Column int // from 1; the column in bytes
	Message      string
}

// Error returns the message with its place.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("cannot read the boot menu: line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// RefusedError says why a menu, though readable, is not edited.
type RefusedError struct {
	Line   int // from 1; 0 when it is about no particular line
	Reason string
}

// Error returns the reason with its line.
func (e *RefusedError) Error() string {
	if e.Line == 0 {
		return "cannot edit the boot menu: " + e.Reason
	}
	return fmt.Sprintf("cannot edit the boot menu: line %d: %s", e.Line, e.Reason)
}

// MenuError says what is wrong with the wanted Menu.
type MenuError struct {
	Field, Value, Reason string
}

// Error names the field, its value and the reason.
func (e *MenuError) Error() string {
	return fmt.Sprintf("%s %q cannot stand in a boot menu: %s", e.Field, e.Value, e.Reason)
}

// Entry is what one linux command of a menu entry boots, or a menu entry that
// boots no Linux kernel (Kernel is empty then).
type Entry struct {
	Title   string
	ID      string   // value of --id; empty when there is none
	Submenu []string // titles of the submenus around the entry, outermost first
	Line    int      // of the menuentry command, from 1

	// Kernel is the path given to the linux command, as GRUB sees it. Variables
	// stay as they are written: ${iso_path}.
	Kernel string
	// Initrds are the paths given to the initrd command that follows.
	Initrds []string
	// Args are the kernel's arguments as the kernel splits them, with "---" and
	// what follows it. Variables stay as they are written.
	Args []string
	// CommandLine is the text that GRUB hands to the kernel, without the
	// BOOT_IMAGE= that GRUB puts before it.
	CommandLine string

	Installer bool // starts Ubuntu's installer
	Automated bool // inserted by Edit
}

// Entries returns the entries of a menu in the order of the file, those in
// submenus and in every branch of a conditional too. It returns a *SyntaxError
// for a text that GRUB could not read.
func Entries(cfg []byte) ([]Entry, error) {
	script, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, m := range script.menuEntries() {
		entries = append(entries, m.entries()...)
	}
	return entries, nil
}

// Settings are the menu's settings: the last assignment of each variable that
// stands in no entry, or "" when there is none.
type Settings struct {
	Default      string
	Timeout      string
	TimeoutStyle string
}

// ReadSettings returns the menu's settings. Conditions are not evaluated. It
// returns a *SyntaxError for a text that GRUB could not read.
func ReadSettings(cfg []byte) (Settings, error) {
	script, err := parse(cfg)
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	walk(script.body, func(st *statement) bool {
		name, value, ok := st.assignment()
		if !ok {
			return !st.isMenu()
		}
		switch name {
		case "default":
			s.Default = value
		case "timeout":
			s.Timeout = value
		case "timeout_style":
			s.TimeoutStyle = value
		}
		return true
	})
	return s, nil
}

// menuEntry is a menuentry command and where it stands.
type menuEntry struct {
	header  header
	stmt    *statement
	list    *list      // the list of statements that it is one of
	submenu []*header  // submenus around it, outermost first
	notEFI  bool       // can be reached where the platform is not EFI
	linux   []linuxCmd // linux commands of its block
}

// linuxCmd is a linux command in an entry's block.
type linuxCmd struct {
	stmt    *statement
	kernel  word
	args    []word
	initrds []word // of the initrd command that follows
}

// menuEntries returns every menuentry of the script with what is around it.
func (s *script) menuEntries() []menuEntry {
	var found []menuEntry
	var visit func(l *list, submenu []*header, notEFI bool)
	visit = func(l *list, submenu []*header, notEFI bool) {
		for i := range l.stmts {
			st := &l.stmts[i]
			switch {
			case st.is("menuentry") && st.block != nil:
				found = append(found, menuEntry{
					header: parseHeader(st), stmt: st, list: l, submenu: submenu,
					notEFI: notEFI, linux: linuxCommands(st.block),
				})
			case st.is("submenu") && st.block != nil:
				h := parseHeader(st)
				visit(st.block, append(slices.Clone(submenu), &h), notEFI)
			case st.block != nil:
				visit(st.block, submenu, notEFI)
			}
			efi := notEFI
			for j := range st.branches {
				b := &st.branches[j]
				// In if [ "$grub_platform" = "efi" ] the first branch is
				// reached with EFI alone.
				visit(&b.body, submenu, efi && !isEFITest(b.cond))
			}
		}
	}
	visit(s.body, nil, true)
	return found
}

// isEFITest reports whether a condition is [ "$grub_platform" = "efi" ].
func isEFITest(cond list) bool {
	if len(cond.stmts) != 1 || cond.stmts[0].keyword != "" {
		return false
	}
	texts := make([]string, 0, 5)
	for _, w := range cond.stmts[0].words {
		texts = append(texts, w.text)
	}
	got := strings.Join(texts, " ")
	return slices.Contains([]string{
		"[ $grub_platform = efi ]", "[ ${grub_platform} = efi ]",
		"[ $grub_platform == efi ]", "[ ${grub_platform} == efi ]",
		"[ x$grub_platform = xefi ]", "[ x${grub_platform} = xefi ]",
	}, got)
}

func linuxCommands(block *list) []linuxCmd {
	var found []linuxCmd
	walk(block, func(st *statement) bool {
		if (st.is("linux") || st.is("linux16") || st.is("linuxefi")) && len(st.words) > 1 {
			found = append(found, linuxCmd{stmt: st, kernel: st.words[1], args: st.words[2:]})
		}
		if (st.is("initrd") || st.is("initrd16") || st.is("initrdefi")) && len(found) > 0 {
			found[len(found)-1].initrds = st.words[1:]
		}
		return true
	})
	return found
}

// isInstaller reports whether the command boots casper's kernel: /casper/vmlinuz,
// /casper/hwe-vmlinuz, /casper/vmlinux (riscv64, ppc64el), with or without a
// device before it.
func (c linuxCmd) isInstaller() bool {
	_, base, ok := strings.Cut(c.kernel.text, "/casper/")
	return ok && (strings.Contains(base, "vmlinuz") || strings.Contains(base, "vmlinux"))
}

func (m menuEntry) isInstaller() bool { return slices.ContainsFunc(m.linux, linuxCmd.isInstaller) }

func (m menuEntry) entries() []Entry {
	var submenu []string
	for _, h := range m.submenu {
		submenu = append(submenu, h.title.text)
	}
	e := Entry{
		Title: m.header.title.text, ID: m.header.id.text, Submenu: submenu,
		Line: m.stmt.line, Automated: isOurID(m.header.id.text),
	}
	if len(m.linux) == 0 {
		return []Entry{e}
	}
	entries := make([]Entry, 0, len(m.linux))
	for _, c := range m.linux {
		e.Kernel, e.Initrds = c.kernel.text, texts(c.initrds)
		e.CommandLine = loaderCommandLine(texts(c.args))
		e.Args = kernelArgs(e.CommandLine)
		e.Installer = c.isInstaller()
		entries = append(entries, e)
	}
	return entries
}

func texts(words []word) []string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = w.text
	}
	return s
}

// header is the command line of a menuentry or submenu: its title, its id, and
// the other words that a copy of it keeps.
type header struct {
	title word
	id    word
	keep  []word // --class and its value, --users, --unrestricted, further arguments
}

// parseHeader splits the words of a menuentry as GRUB's option parser does
// (commands/menuentry.c): --class, --hotkey, --source and --id take the next word
// as their value, --users only one after "=".
func parseHeader(st *statement) header {
	var h header
	words := st.words[1:]
	for i := 0; i < len(words); i++ {
		name, value, hasValue := strings.Cut(words[i].text, "=")
		if !strings.HasPrefix(name, "-") && name != "$menuentry_id_option" && name != "${menuentry_id_option}" {
			if h.title.end == 0 {
				h.title = words[i]
			} else {
				h.keep = append(h.keep, words[i])
			}
			continue
		}
		next := word{start: words[i].start, end: words[i].end, text: value, static: words[i].static}
		takesNext := !hasValue && i+1 < len(words)
		switch name {
		case "--class":
			h.keep = append(h.keep, words[i])
			if takesNext {
				i++
				h.keep = append(h.keep, words[i])
			}
		case "--hotkey", "--source":
			if takesNext {
				i++
			}
		case "--id", "$menuentry_id_option", "${menuentry_id_option}":
			if takesNext {
				i++
				next = words[i]
			}
			h.id = next
		default:
			h.keep = append(h.keep, words[i])
		}
	}
	return h
}
