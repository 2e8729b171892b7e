package grubcfg_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

var update = flag.Bool("update", false, "write the .edited files of testdata anew")

var menu = grubcfg.Menu{
	KernelArgs: []string{"autoinstall", "ds=nocloud;s=/cdrom/nocloud/"},
	Title:      "ERASE disk SERIAL S6ESNX0W123456 and install node01",
	Timeout:    30,
}

// menus returns the boot menus of testdata by name.
func menus(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(names) == 0 {
		t.Fatalf("no menus in testdata: %v", err)
	}
	found := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(name)] = text
	}
	return found
}

func edit(t testing.TB, cfg []byte, m grubcfg.Menu) []byte {
	t.Helper()
	out, err := grubcfg.Edit(cfg, m)
	if err != nil {
		t.Fatalf("Edit: %v", err)
	}
	return out
}

func entries(t testing.TB, cfg []byte) []grubcfg.Entry {
	t.Helper()
	found, err := grubcfg.Entries(cfg)
	if err != nil {
		t.Fatalf("Entries: %v\n%s", err, cfg)
	}
	return found
}

// TestInitrds reads which initrd each entry gives its kernel.
func TestInitrds(t *testing.T) {
	var got []string
	for _, e := range entries(t, menus(t)["24.04.2-grub.cfg"]) {
		got = append(got, e.Kernel+" "+strings.Join(e.Initrds, " "))
	}
	want := []string{"/casper/vmlinuz /casper/initrd", "/casper/hwe-vmlinuz /casper/hwe-initrd", " ", " ", "/boot/memtest86+x64.bin "}
	if !slices.Equal(got, want) {
		t.Errorf("kernels and initrds %q, want %q", got, want)
	}
}

// scriptCheck asks GRUB's own parser whether it can read the menu.
func scriptCheck(t testing.TB, cfg []byte) error {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, "grub-script-check"))
	cmd.Stdin = bytes.NewReader(cfg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
}

func TestGolden(t *testing.T) {
	for name, cfg := range menus(t) {
		t.Run(name, func(t *testing.T) {
			got := edit(t, cfg, menu)
			golden := filepath.Join("testdata", name+".edited")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("edited menu differs (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}

func TestGoldenIsReadByGRUB(t *testing.T) {
	for name, cfg := range menus(t) {
		t.Run(name, func(t *testing.T) {
			if err := scriptCheck(t, cfg); err != nil {
				t.Fatalf("grub-script-check of the original: %v", err)
			}
			if err := scriptCheck(t, edit(t, cfg, menu)); err != nil {
				t.Errorf("grub-script-check of the edited menu: %v", err)
			}
		})
	}
}

func TestEditedEntries(t *testing.T) {
	args := []string{"autoinstall", "ds=nocloud;s=/cdrom/nocloud/", "---"}
	hwe := menu.Title + " (with the HWE kernel)"
	tests := map[string][]grubcfg.Entry{
		"22.04-grub.cfg": {
			{Title: menu.Title, ID: "gpustrap", Kernel: "/casper/vmlinuz", Args: args, Installer: true, Automated: true},
			{Title: "Try or Install Ubuntu Server", Kernel: "/casper/vmlinuz", Args: []string{"---"}, Installer: true},
			{Title: "Boot from next volume"},
			{Title: "UEFI Firmware Settings"},
			{Title: "Test memory", Kernel: "/boot/memtest86+.bin"},
			{Title: "Boot from the local disk"},
		},
		"24.04.2-grub.cfg": {
			{Title: menu.Title, ID: "gpustrap", Kernel: "/casper/vmlinuz", Args: args, Installer: true, Automated: true},
			{Title: hwe, ID: "gpustrap-2", Kernel: "/casper/hwe-vmlinuz", Args: args, Installer: true, Automated: true},
			{Title: "Try or Install Ubuntu Server", Kernel: "/casper/vmlinuz", Args: []string{"---"}, Installer: true},
			{Title: "Ubuntu Server with the HWE kernel", Kernel: "/casper/hwe-vmlinuz", Args: []string{"---"}, Installer: true},
			{Title: "Boot from next volume"},
			{Title: "UEFI Firmware Settings"},
			{Title: "Test memory", Kernel: "/boot/memtest86+x64.bin"},
			{Title: "Boot from the local disk"},
		},
		"24.04-loopback.cfg": {
			{Title: menu.Title, ID: "gpustrap", Kernel: "/casper/vmlinuz", Args: append([]string{"iso-scan/filename=${iso_path}"}, args...), Installer: true, Automated: true},
			{Title: "Try or Install Ubuntu Server", Kernel: "/casper/vmlinuz", Args: []string{"iso-scan/filename=${iso_path}", "---"}, Installer: true},
		},
		"26.04-arm64-grub.cfg": {
			{Title: menu.Title, ID: "gpustrap", Kernel: "/casper/vmlinuz", Args: slices.Concat([]string{"$cmdline"}, args, []string{"console=tty0"}), Installer: true, Automated: true},
			{Title: hwe, ID: "gpustrap-2", Kernel: "/casper/hwe-vmlinuz", Args: slices.Concat([]string{"$cmdline"}, args, []string{"console=tty0"}), Installer: true, Automated: true},
			{Title: "Try or Install Ubuntu Server", Kernel: "/casper/vmlinuz", Args: []string{"$cmdline", "---", "console=tty0"}, Installer: true},
			{Title: "Ubuntu Server with the HWE kernel", Kernel: "/casper/hwe-vmlinuz", Args: []string{"$cmdline", "---", "console=tty0"}, Installer: true},
			{Title: "Boot from next volume"},
			{Title: "UEFI Firmware Settings"},
		},
		"submenu-grub.cfg": {
			{Title: menu.Title, ID: "gpustrap", Submenu: []string{"Install > now"}, Kernel: "($root)/casper/vmlinuz", Args: []string{"quiet", args[0], args[1]}, Installer: true, Automated: true},
			{Title: hwe, ID: "gpustrap-2", Submenu: []string{"Install > now"}, Kernel: "/casper/hwe-vmlinuz", Args: append([]string{"nomodeset"}, args...), Installer: true, Automated: true},
			{Title: hwe, ID: "gpustrap-2", Submenu: []string{"Install > now"}, Kernel: "/casper/vmlinuz", Args: append([]string{"nomodeset"}, args...), Installer: true, Automated: true},
			{Title: "Ubuntu Server", ID: "stock", Submenu: []string{"Install > now"}, Kernel: "($root)/casper/vmlinuz", Args: []string{"quiet"}, Installer: true},
			{Title: "Ubuntu Server (safe graphics)", Submenu: []string{"Install > now"}, Kernel: "/casper/hwe-vmlinuz", Args: []string{"nomodeset", "---"}, Installer: true},
			{Title: "Ubuntu Server (safe graphics)", Submenu: []string{"Install > now"}, Kernel: "/casper/vmlinuz", Args: []string{"nomodeset", "---"}, Installer: true},
			{Title: "Next"},
			{Title: "Boot from the local disk"},
		},
	}
	all := menus(t)
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			got := entries(t, edit(t, all[name], menu))
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(grubcfg.Entry{}, "Line", "CommandLine", "Initrds"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

// TestChoices: a further entry is the first one with more arguments, in every menu.
func TestChoices(t *testing.T) {
	m := menu
	m.Choices = []grubcfg.Choice{{Title: "Again; it's 'really' so", KernelArgs: []string{"gpustrap.again", "a;b"}}}
	for name, cfg := range menus(t) {
		t.Run(name, func(t *testing.T) {
			out := edit(t, cfg, m)
			if err := scriptCheck(t, out); err != nil {
				t.Errorf("grub-script-check: %v", err)
			}
			all := entries(t, out)
			i := slices.IndexFunc(all, func(e grubcfg.Entry) bool { return e.Title == m.Title })
			j := slices.IndexFunc(all, func(e grubcfg.Entry) bool { return e.Title == m.Choices[0].Title })
			if i < 0 || j < i {
				t.Fatalf("entries %d and %d of %+v", i, j, all)
			}
			want := slices.Insert(slices.Clone(all[i].Args), slices.Index(all[i].Args, menu.KernelArgs[1])+1, m.Choices[0].KernelArgs...)
			if diff := cmp.Diff(want, all[j].Args); diff != "" || all[j].Kernel != all[i].Kernel || !all[j].Automated {
				t.Errorf("%+v\n%s", all[j], diff)
			}
			settings, err := grubcfg.ReadSettings(out)
			if err != nil || !strings.HasSuffix(settings.Default, "gpustrap") {
				t.Errorf("the default is %q, %v", settings.Default, err)
			}
		})
	}
	m.Choices[0].Title = "-x"
	if _, err := grubcfg.Edit([]byte("menuentry a { linux /casper/vmlinuz --- }\n"), m); err == nil {
		t.Error("a title like an option was taken")
	}
}

func TestSettings(t *testing.T) {
	wantDefault := map[string]string{"submenu-grub.cfg": "install>gpustrap"}
	for name, cfg := range menus(t) {
		for _, timeout := range []int{30, 0, -1} {
			m := menu
			m.Timeout = timeout
			got, err := grubcfg.ReadSettings(edit(t, cfg, m))
			if err != nil {
				t.Fatal(err)
			}
			want := grubcfg.Settings{Default: "gpustrap", Timeout: map[int]string{30: "30", 0: "0", -1: "-1"}[timeout], TimeoutStyle: "menu"}
			if d := wantDefault[name]; d != "" {
				want.Default = d
			}
			if got != want {
				t.Errorf("%s: settings are %+v, want %+v", name, got, want)
			}
		}
	}
}

// installer is the smallest menu that starts the installer.
const installer = "menuentry \"Install\" {\n\tlinux /casper/vmlinuz ---\n}\n"

func TestEditShapes(t *testing.T) {
	tests := []struct{ name, cfg, want string }{
		{"branches of a conditional are both the default", `if [ -e /a ]; then
	menuentry a { linux /casper/vmlinuz a ---; }
else
	menuentry b { linux /casper/vmlinuz b ---; }
fi
`, "gpustrap:a gpustrap:b"},
		{"a submenu below a plain entry is not", installer + `submenu more { menuentry "safe" { linux /casper/vmlinuz x ---; }; }
`, "gpustrap: gpustrap-2:x"},
		{"CRLF", strings.ReplaceAll(installer, "\n", "\r\n"), "gpustrap:"},
		{"no newline at the end", strings.TrimSuffix(installer, "\n"), "gpustrap:"},
		{"a comment without newline at the end", installer + "# end", "gpustrap:"},
		{"arguments without a separator", `menuentry a { linux "/casper/vmlinuz" quiet; }`, "gpustrap:quiet"},
		{"no arguments", `menuentry a { linux /casper/vmlinuz; }`, "gpustrap:"},
		{"a quoted separator", `menuentry a { linux /casper/vmlinuz a '---' b; }`, "gpustrap:a"},
		{"a dropped line within the command", "menuentry a {\n linux /casper/vmlinuz \\\n#x\nquiet ---\n}", "gpustrap:quiet"},
		{"a title with a variable", `menuentry "$t" { linux /casper/vmlinuz ---; }`, "gpustrap:"},
		{"the variable for --id", installer + `menuentry a $menuentry_id_option 'foo' { linux /casper/vmlinuz y ---; }`, "gpustrap: gpustrap-2:y"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := edit(t, []byte(tt.cfg), menu)
			var got []string
			for _, e := range entries(t, out) {
				if e.Automated {
					before, _, _ := strings.Cut(strings.Join(e.Args, " "), "autoinstall")
					got = append(got, e.ID+":"+strings.TrimSpace(before))
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("automated entries %q, want %q, in\n%s", s, tt.want, out)
			}
			if strings.Contains(tt.cfg, "\r") != strings.Contains(string(out), "\r") || strings.Count(string(out), "\r") > 0 && strings.Count(string(out), "\r") != strings.Count(string(out), "\n") {
				t.Errorf("line ends are mixed in %q", out)
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	arg := func(a string) grubcfg.Menu { return grubcfg.Menu{Title: "t", KernelArgs: []string{a}} }
	long := make([]string, 0, 100)
	for range 100 {
		long = append(long, strings.Repeat("x", 30))
	}
	tests := []struct {
		name, cfg string
		menu      grubcfg.Menu
		want      string
	}{
		{"no installer", "menuentry 'Test memory' {\n\tlinux16 /boot/memtest86+.bin\n}\n", menu, "no entry of this boot menu starts Ubuntu's installer"},
		{"empty file", "", menu, "no entry of this boot menu starts Ubuntu's installer"},
		{"another kernel", "menuentry a { linux /live/vmlinuz; }\n", menu, "no entry of this boot menu starts Ubuntu's installer"},
		{"made by another tool", "menuentry a {\n\tlinux /casper/vmlinuz autoinstall ---\n}\n", menu, "line 2: this entry has the argument autoinstall already"},
		{"unbalanced", "menuentry a {\n\tlinux /casper/vmlinuz ---\n", menu, "line 3, column 1: the end of the file"},
		{"an unclosed quote", "set a=1\nmenuentry \"a {\n}\n", menu, "line 2, column 11: a \" that is never closed"},
		{"an operator", "set a=1 && set b=2\n", menu, "line 1, column 9: '&' outside quotes"},
		{"a closing brace", "}\n", menu, "line 1, column 1: \"}\" where a command must stand"},
		{"a lone then", "then\n", menu, "line 1, column 1: \"then\" where a command must stand"},
		{"an empty block", "menuentry a { }\n", menu, "line 1, column 15: \"}\" where a command must stand"},
		{"a lone dollar", "echo a $\n", menu, "line 1, column 8: a $ that no variable's name follows"},
		{"not text", "\x7fELF\x00", menu, "line 1, column 5: a NUL byte"},
		{"a trailing backslash", installer + "echo \\", menu, "line 4, column 6: a backslash continues the last line"},
		{"too large", strings.Repeat("#", 1<<20+1), menu, "a boot menu has at most"},
		{"nested too deep", strings.Repeat("submenu a { ", 60), menu, "nested more than 50 deep"},
		{"a submenu without a fixed title", "submenu \"$x\" {\n" + installer + "}\n", menu, "title has a variable"},
		{"no arguments", installer, grubcfg.Menu{Title: "t"}, "the list of kernel arguments"},
		{"no title", installer, grubcfg.Menu{KernelArgs: menu.KernelArgs}, "the title \"\""},
		{"a title of two lines", installer, grubcfg.Menu{Title: "a\nb", KernelArgs: menu.KernelArgs}, "must be one line"},
		{"a NUL in the title", installer, grubcfg.Menu{Title: "a\x00b", KernelArgs: menu.KernelArgs}, "must be one line"},
		{"a title like an option", installer, grubcfg.Menu{Title: "--id", KernelArgs: menu.KernelArgs}, "for an option"},
		{"a timeout below -1", installer, grubcfg.Menu{Title: "t", KernelArgs: menu.KernelArgs, Timeout: -2}, "the timeout \"-2\""},
		{"an argument of two lines", installer, arg("a\nb"), "must be one line"},
		{"a NUL in an argument", installer, arg("a\x00"), "must be one line"},
		{"not UTF-8", installer, arg("a\xff"), "must be one line"},
		{"an empty argument", installer, arg(""), "would not see it as one argument"},
		{"a quote", installer, arg(`a="b c"`), "a backslash before every quote"},
		{"an apostrophe", installer, arg(`it's`), "a backslash before every quote"},
		{"a backslash", installer, arg(`a\b`), "a backslash before every quote"},
		{"a separator", installer, arg("---"), "ends the list of arguments"},
		{"a byte that the kernel splits at", installer, arg("citt\u00e0"), "would not see it as one argument"},
		{"too long", installer, grubcfg.Menu{Title: "t", KernelArgs: long}, "kernels read 2047"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := grubcfg.Edit([]byte(tt.cfg), tt.menu)
			if err == nil || !strings.Contains(err.Error(), tt.want) || out != nil {
				t.Errorf("Edit returned %q, %v; want no text and an error with %q", out, err, tt.want)
			}
		})
	}
}

func TestEditTwice(t *testing.T) {
	for name, cfg := range menus(t) {
		if _, err := grubcfg.Edit(edit(t, cfg, menu), menu); !errors.Is(err, grubcfg.ErrEdited) {
			t.Errorf("%s: a second Edit returned %v, want ErrEdited", name, err)
		}
	}
}

func TestQuote(t *testing.T) {
	tests := map[string]string{
		"autoinstall":                  "autoinstall",
		"ds=nocloud;s=/cdrom/nocloud/": "'ds=nocloud;s=/cdrom/nocloud/'",
		"it's":                         `'it'\''s'`,
		"":                             "''",
		"$x":                           "'$x'",
		"#a":                           "'#a'",
		"fi":                           "'fi'",
		"console=ttyS0,115200n8":       "console=ttyS0,115200n8",
	}
	for text, want := range tests {
		if got := grubcfg.Quote(text); got != want {
			t.Errorf("Quote(%q) = %s, want %s", text, got, want)
		}
	}
}

// line generates one line of text, rich in what GRUB gives a meaning.
func line(extra string) *rapid.Generator[string] {
	runes := []rune("ab1=/-_.,:;{}$#&|<>()[]*?!~^%@+`éĲ☃ " + extra)
	return rapid.StringOfN(rapid.OneOf(rapid.SampledFrom(runes), rapid.RuneFrom(nil, unicode.L)), 1, 40, 200)
}

// TestEditProperties: whatever title and arguments Edit accepts, GRUB's entry
// and the kernel see them unchanged, and every other entry is what it was.
func TestEditProperties(t *testing.T) {
	all := menus(t)
	names := []string{}
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		cfg := all[rapid.SampledFrom(names).Draw(t, "menu")]
		m := grubcfg.Menu{
			Title:      line(`\'"`).Draw(t, "title"),
			KernelArgs: rapid.SliceOfN(line(""), 1, 4).Draw(t, "args"),
			Timeout:    rapid.IntRange(-1, 1000).Draw(t, "timeout"),
		}
		out, err := grubcfg.Edit(cfg, m)
		var refused *grubcfg.MenuError
		if errors.As(err, &refused) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		before, err := grubcfg.Entries(cfg)
		if err != nil {
			t.Fatal(err)
		}
		after, err := grubcfg.Entries(out)
		if err != nil {
			t.Fatal(err)
		}
		var automated, rest []grubcfg.Entry
		for _, e := range after {
			switch {
			case e.Automated:
				automated = append(automated, e)
			case e.Title != "Boot from the local disk":
				rest = append(rest, e)
			}
		}
		if diff := cmp.Diff(before, rest, cmpopts.IgnoreFields(grubcfg.Entry{}, "Line")); diff != "" {
			t.Fatalf("other entries changed:\n%s", diff)
		}
		before = slices.DeleteFunc(before, func(e grubcfg.Entry) bool { return !e.Installer })
		if len(before) != len(automated) {
			t.Fatalf("%d automated entries for %d", len(automated), len(before))
		}
		for i, e := range automated {
			at := slices.Index(before[i].Args, "---")
			if at < 0 {
				at = len(before[i].Args)
			}
			if want := slices.Insert(slices.Clone(before[i].Args), at, m.KernelArgs...); !slices.Equal(e.Args, want) {
				t.Fatalf("arguments %q, want %q", e.Args, want)
			}
			if !strings.HasPrefix(e.Title, m.Title) {
				t.Fatalf("title %q, want %q", e.Title, m.Title)
			}
		}
	})
}

func FuzzEdit(f *testing.F) {
	for _, cfg := range menus(f) {
		f.Add(cfg, menu.Title, menu.KernelArgs[1], 30)
	}
	f.Add([]byte(installer), "t'$;{", "a*?[", -1)
	f.Add([]byte("if a; then b;fi\nfunction f {\n c\n}\nfor x in 1 2; do\n d\ndone\nwhile e; do f; done"), "t", "a", 0)
	f.Fuzz(func(t *testing.T, cfg []byte, title, arg string, timeout int) {
		m := grubcfg.Menu{Title: title, KernelArgs: []string{arg}, Timeout: timeout}
		before, parseErr := grubcfg.Entries(cfg)
		out, err := grubcfg.Edit(cfg, m)
		if err != nil {
			return
		}
		if parseErr != nil {
			t.Fatalf("Edit took what Entries refuses: %v", parseErr)
		}
		after := entries(t, out)
		if len(after) <= len(before) {
			t.Fatalf("%d entries became %d", len(before), len(after))
		}
		if _, err := grubcfg.Edit(out, m); !errors.Is(err, grubcfg.ErrEdited) {
			t.Fatalf("a second Edit returned %v", err)
		}
	})
}
