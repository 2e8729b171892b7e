package usb

import (
	"fmt"
	"slices"
	"strings"
)

// Reason is why a device is refused.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	ReasonUnknown   Reason = "unknown"   // something could not be found out
	ReasonChanged   Reason = "changed"   // another device than the one asked about
	ReasonNoMedium  Reason = "no medium" // an empty reader
	ReasonKind      Reason = "kind"      // not a device to write an image to
	ReasonSystem    Reason = "system"    // the running system is on it
	ReasonSource    Reason = "source"    // the image being written is on it
	ReasonMounted   Reason = "mounted"
	ReasonSwap      Reason = "swap"
	ReasonHeld      Reason = "held" // by LVM, md, dm-crypt, ZFS, a loop device, another program
	ReasonReadOnly  Reason = "read-only"
	ReasonSectors   Reason = "sectors"
	ReasonSmall     Reason = "too small"
	ReasonFixed     Reason = "fixed"
	ReasonRights    Reason = "rights"
	ReasonPartition Reason = "partition"
)

// Refusal is why a device is not written, in one sentence, and what to do.
type Refusal struct {
	Reason   Reason `json:"reason"`
	Sentence string `json:"sentence"`
	Advice   string `json:"advice,omitempty"`
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Sentence }

// Hint returns what to do about it, empty when nothing will do.
func (r *Refusal) Hint() string { return r.Advice }

// Request is what a device is wanted for.
type Request struct {
	// Size is how many bytes the device must hold at least.
	Size int64
	// AllowFixed lets fixed disks pass.
	AllowFixed bool
	// Sources are the numbers (major:minor) of the devices that hold what is
	// written.
	Sources []string
	// SourceFile is the path of the file that is written, from the root; empty when
	// there is none.
	SourceFile string
	// Expected is the device that was asked about; nil before anybody was asked.
	Expected *Identity
	// Access reports whether this process may write to a path in /dev; nil when
	// that is not asked.
	Access func(path string) error
}

// check is one row of the table: it returns the sentence and the advice, both
// empty when the device passes.
type check struct {
	reason Reason
	test   func(d *Device, r *Request) (sentence, advice string)
}

// checks is the table. All that makes a device dangerous to write comes before
// what only hinders it, and the reasons that a person can do nothing about first.
var checks = []check{
	{ReasonChanged, checkChanged},
	{ReasonUnknown, checkUnknown},
	{ReasonKind, checkKind},
	{ReasonNoMedium, checkMedium},
	{ReasonSystem, checkSystem},
	{ReasonSource, checkSource},
	{ReasonMounted, checkMounted},
	{ReasonSwap, checkSwap},
	{ReasonHeld, checkHeld},
	{ReasonReadOnly, checkReadOnly},
	{ReasonSectors, checkSectors},
	{ReasonSmall, checkSize},
	{ReasonFixed, checkFixed},
	{ReasonRights, checkRights},
}

// Refuse returns why a device must not be written, nil when it may.
func Refuse(d *Device, r Request) *Refusal {
	for _, c := range checks {
		if sentence, advice := c.test(d, &r); sentence != "" {
			return &Refusal{Reason: c.reason, Sentence: sentence, Advice: advice}
		}
	}
	return nil
}

// RefusePartition says that a partition was named where a device is wanted.
func RefusePartition(d *Device, partition string) *Refusal {
	return &Refusal{ReasonPartition,
		fmt.Sprintf("/dev/%s is a partition of %s, and an installation medium takes the whole device", nodeName(partition), d.Path),
		"name " + d.Path}
}

func checkUnknown(d *Device, _ *Request) (string, string) {
	if len(d.Unknown) == 0 {
		return "", ""
	}
	return fmt.Sprintf("%s cannot be judged: this machine does not tell %s", d.Path, d.Unknown[0]),
		"a device that cannot be judged is not written; use another one, or another machine"
}

func checkChanged(d *Device, r *Request) (string, string) {
	if r.Expected == nil || d.Identity() == *r.Expected {
		return "", ""
	}
	return fmt.Sprintf("%s is not the device it was a moment ago", d.Path),
		"look at gpustrap devices and name the device again"
}

func checkMedium(d *Device, _ *Request) (string, string) {
	if d.Size > 0 {
		return "", ""
	}
	return fmt.Sprintf("there is no medium in %s", d.Path), ""
}

func checkKind(d *Device, _ *Request) (string, string) {
	switch d.kind {
	case kindDisk:
		return "", ""
	case kindOptical:
		return fmt.Sprintf("%s is an optical drive", d.Path), "write the image to a disc with a program for discs"
	case kindStacked:
		return fmt.Sprintf("%s is put together from other devices, and no machine boots from it", d.Path), "name a whole device"
	}
	return fmt.Sprintf("%s is no kind of device that gpustrap knows", d.Path), ""
}

// systemFolders are where a running system has its files.
var systemFolders = []string{"/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/home", "/etc", "/nix", "/sysroot"}

func checkSystem(d *Device, _ *Request) (string, string) {
	for _, u := range d.Uses {
		if u.Kind == UseMounted && slices.Contains(systemFolders, u.Where) {
			return fmt.Sprintf("this system runs from %s (%s)", d.Path, u), ""
		}
	}
	return "", ""
}

func checkSource(d *Device, r *Request) (string, string) {
	numbers := []string{d.Number}
	for _, p := range d.Partitions {
		numbers = append(numbers, p.Number)
	}
	own := r.SourceFile != "" && r.SourceFile == d.Backing
	for _, s := range r.Sources {
		own = own || slices.Contains(numbers, s)
	}
	if own {
		return fmt.Sprintf("%s holds the image that is to be written", d.Path), "copy the image elsewhere, or name another device"
	}
	return "", ""
}

func checkMounted(d *Device, _ *Request) (string, string) {
	if u := d.use(UseMounted); u != nil {
		return fmt.Sprintf("%s is in use: %s", d.Path, u), "when nobody needs it there: sudo umount " + quoteShell(u.Where)
	}
	return "", ""
}

func checkSwap(d *Device, _ *Request) (string, string) {
	if u := d.use(UseSwap); u != nil {
		return fmt.Sprintf("%s is in use: %s", d.Path, u), "when the machine can do without it: sudo swapoff /dev/" + nodeName(u.Chain[len(u.Chain)-1])
	}
	return "", ""
}

func checkHeld(d *Device, _ *Request) (string, string) {
	// A use that no check above has taken is one too, whatever its kind.
	if len(d.Uses) > 0 {
		return fmt.Sprintf("%s is in use: %s", d.Path, d.Uses[0]), "name another device, or take this one out of use first"
	}
	return "", ""
}

func checkReadOnly(d *Device, _ *Request) (string, string) {
	if !d.ReadOnly {
		return "", ""
	}
	return fmt.Sprintf("%s is read-only", d.Path), "look for a switch on the card or stick that protects it; many go read-only for good when they wear out"
}

// mediumSector is the sector length that installation media are made for: their
// partition tables count in it.
const mediumSector = 512

func checkSectors(d *Device, _ *Request) (string, string) {
	if d.SectorSize == mediumSector {
		return "", ""
	}
	return fmt.Sprintf("%s has sectors of %d bytes, and the partition table of an installation medium is made for %d",
		d.Path, d.SectorSize, mediumSector), ""
}

func checkSize(d *Device, r *Request) (string, string) {
	if d.Size >= r.Size {
		return "", ""
	}
	return fmt.Sprintf("%s is too small: it holds %d bytes, and %d are to be written", d.Path, d.Size, r.Size), ""
}

func checkFixed(d *Device, r *Request) (string, string) {
	if d.Removable || d.Bus == BusUSB || r.AllowFixed {
		return "", ""
	}
	return fmt.Sprintf("%s is a fixed disk and neither removable nor on USB", d.Path), "if it is meant all the same: --allow-fixed"
}

func checkRights(d *Device, r *Request) (string, string) {
	if r.Access == nil {
		return "", ""
	}
	if err := r.Access(d.Path); err != nil {
		return fmt.Sprintf("this user may not write to %s", d.Path), "run it as root, with sudo before the command"
	}
	return "", ""
}

// use returns the first use of a kind, nil when there is none.
func (d *Device) use(kind UseKind) *Use {
	for i := range d.Uses {
		if d.Uses[i].Kind == kind {
			return &d.Uses[i]
		}
	}
	return nil
}

// String says what uses what: sda3 (through dm-0) is mounted at /srv.
func (u Use) String() string {
	what := ""
	if len(u.Chain) > 0 {
		what = u.Chain[0]
		if between := u.Chain[1:]; len(between) > 0 && u.Kind != UseHeld {
			what += " (through " + strings.Join(between, ", ") + ")"
		}
	}
	switch u.Kind {
	case UseMounted:
		return what + " is mounted at " + u.Where
	case UseSwap:
		return what + " is swap space"
	case UseMember:
		return what + " belongs to " + u.Where
	case UsePath:
		return what + " is another path to the disk " + u.Where
	}
	return what + " is held by " + u.Where
}

// quoteShell quotes a word for a shell when it needs it.
func quoteShell(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/-_.,:+@%", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
