package plan

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/gpustrap/gpustrap/autoinstall"
	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/iso"
	"github.com/gpustrap/gpustrap/iso/grubcfg"
)

// SeedFolder is the folder on the medium that holds the NoCloud seed.
const SeedFolder = "nocloud"

// mediumFile is the mode of a file on the medium, whose file system is
// read-only and whose own files all have it.
const mediumFile fs.FileMode = 0o444

// Kernel arguments that make the live system read the seed and install from it.
const (
	argAutoinstall = "autoinstall"
	// cloud-init's NoCloud data source, in its documented form with a trailing slash.
	argDataSource = "ds=nocloud;s=/cdrom/" + SeedFolder + "/"
	// casper adds a partition "writable" to a stick with free space unless told
	// not to; the stick should stay what was written to it.
	argNoPersistence = "nopersistent"
	// guard.sh lets a disk be erased that was installed already.
	argReinstall = "gpustrap.reinstall"
)

// Overlay returns what is laid over a stock medium so that it installs the
// machine: the seed and the boot menu.
func Overlay(m *Machine, seed autoinstall.Seed) (iso.Overlay, error) {
	return overlay(seed.FS(), Menu(m))
}

func overlay(seedFiles fs.FS, menu *grubcfg.Menu) (iso.Overlay, error) {
	files := fstest.MapFS{}
	err := fs.WalkDir(seedFiles, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(seedFiles, name)
		files[path.Join(SeedFolder, name)] = &fstest.MapFile{Data: data, Mode: mediumFile}
		return err
	})
	return iso.Overlay{Files: files, Menu: menu}, err
}

// AddRepository puts an offline repository on the medium.
func AddRepository(o *iso.Overlay, repository fs.FS) {
	files := o.Files
	if files == nil {
		files = fstest.MapFS{}
	}
	o.Files = within{files, RepositoryFolder, repository}
}

// Menu returns the boot menu of the machine's medium.
func Menu(m *Machine) *grubcfg.Menu {
	menu := &grubcfg.Menu{
		KernelArgs: []string{argDataSource, argNoPersistence},
		Title:      menuTitle(&m.Machine),
		Timeout:    m.Boot.Timeout,
	}
	// Without the word autoinstall on the kernel line the installer asks
	// "Continue with autoinstall? (yes|no)" and waits for somebody to type yes.
	if m.Boot.Confirm != config.ConfirmTyped {
		menu.KernelArgs = append([]string{argAutoinstall}, menu.KernelArgs...)
	}
	menu.KernelArgs = append(menu.KernelArgs, m.KernelArgs...)
	if m.Boot.Confirm == config.ConfirmNone {
		menu.Timeout = 0
	}
	if !m.Reinstall {
		menu.Choices = []grubcfg.Choice{reinstall(menu.Title)}
	}
	return menu
}

// reinstall is the entry that installs over what gpustrap installed before.
func reinstall(title string) grubcfg.Choice {
	return grubcfg.Choice{Title: title + ", installed already or not (reinstall)", KernelArgs: []string{argReinstall}}
}

// menuTitle says what the default entry does.
// asksFirst ends the title of an entry that erases nothing before somebody types yes.
const asksFirst = " (asks first)"

func menuTitle(m *config.Machine) string {
	title := fmt.Sprintf("ERASE %s and install %s", ErasedText(m.Storage), m.Name)
	if m.Boot.Confirm == config.ConfirmTyped {
		title += asksFirst
	}
	return title
}

// ErasedText names the disks that an installation erases, in words.
func ErasedText(s config.Storage) string {
	var disks []string
	for _, d := range s.Disks() {
		disks = append(disks, DiskText(d))
	}
	for _, d := range s.Data {
		if !d.Preserve {
			disks = append(disks, DiskText(d.Disk))
		}
	}
	last := len(disks) - 1
	switch {
	case last == 0:
		return disks[0]
	case disks[0] == onlyDisk && !slices.ContainsFunc(disks, func(d string) bool { return d != onlyDisk }):
		return fmt.Sprintf("the only %d disks", len(disks))
	case slices.IndexFunc(disks, func(d string) bool { return d != disks[0] }) < 0:
		return fmt.Sprintf("%d disks: %s", len(disks), disks[0])
	}
	return strings.Join(disks[:last], ", ") + " and " + disks[last]
}

// onlyDisk is the disk where no rule says which one.
const onlyDisk = "the only disk"

// DiskText names the disk that a rule means, in words.
func DiskText(d config.Disk) string {
	switch {
	case d.Serial != "":
		return "disk SERIAL " + d.Serial
	case d.WWN != "":
		return "disk WWN " + d.WWN
	case d.Path != "":
		return "disk " + d.Path
	case d.Size != "":
		return "the " + d.Size + " disk"
	}
	return onlyDisk
}

// mediumInfo is the form of .disk/info, such as
// Ubuntu-Server 24.04.2 LTS "Noble Numbat" - Release amd64 (20250216).
var mediumInfo = regexp.MustCompile(`^Ubuntu-Server (\d\d\.\d\d)`)

// CheckMedium compares what the machine wants with what the medium is.
func CheckMedium(m *Machine, d iso.Description) error {
	if found := mediumInfo.FindStringSubmatch(d.Info); found == nil {
		return fmt.Errorf("the medium is no Ubuntu Server: .disk/info says %q", d.Info)
	} else if found[1] != m.Ubuntu {
		return fmt.Errorf("%s wants Ubuntu %s, and the medium is %s", m.Name, m.Ubuntu, d.Info)
	}
	if d.Architecture != m.Arch {
		return fmt.Errorf("%s is an %s machine, and the medium is for %s", m.Name, m.Arch, orUnknown(d.Architecture))
	}
	return nil
}

func orUnknown(arch string) string {
	if arch == "" {
		return "an unknown architecture"
	}
	return arch
}

// Secrets says in one line what a holder of the machine's seed can read.
func Secrets(m *Machine) string {
	var hashes []string
	for _, u := range m.Users {
		if u.PasswordHash != "" {
			hashes = append(hashes, u.Name)
		}
	}
	var secrets []string
	if len(hashes) > 0 {
		secrets = append(secrets, "the password hash of "+strings.Join(hashes, ", "))
	}
	if m.Storage.Encryption != nil {
		secrets = append(secrets, "the passphrase of its disks")
	}
	if len(secrets) == 0 {
		return "whoever holds it can read the configuration of " + m.Name + " and its users' public keys; it has no password hash"
	}
	return "whoever holds it can read " + strings.Join(secrets, " and ") + ": keep it as you keep the password"
}
