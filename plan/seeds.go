package plan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// FolderLayout says what the folders of a fleet's seeds are named by.
type FolderLayout string

// The kinds of FolderLayout. The last three are what a PXE server knows of a
// machine: iPXE's ${net0/mac:hexhyp}, and cloud-init's
// __dmi.system-serial-number__ and __dmi.system-uuid__ in the address of a seed.
const (
	FoldersByName   FolderLayout = "name"
	FoldersByMAC    FolderLayout = "mac" // lower case, with hyphens; one folder an address
	FoldersBySerial FolderLayout = "serial"
	FoldersByUUID   FolderLayout = "uuid" // lower case
)

// FolderLayouts are all of them.
func FolderLayouts() []FolderLayout {
	return []FolderLayout{FoldersByName, FoldersByMAC, FoldersBySerial, FoldersByUUID}
}

// inAddress is a name that stands in a URL as it is: cloud-init escapes nothing.
var inAddress = regexp.MustCompile(`^[A-Za-z0-9_~][A-Za-z0-9._~-]*$`)

// Folders returns the names of the machine's folders. It fails where the match
// does not say what they are named by.
func (l FolderLayout) Folders(m *Machine) ([]string, error) {
	var names []string
	switch l {
	case FoldersByMAC:
		for _, mac := range m.Match.MACs {
			names = append(names, strings.ReplaceAll(mac.String(), ":", "-"))
		}
	case FoldersBySerial:
		names = []string{m.Match.Serial}
	case FoldersByUUID:
		names = []string{m.Match.UUID}
	default:
		return []string{m.Name}, nil
	}
	if len(names) == 0 || names[0] == "" {
		return nil, fmt.Errorf("%s has no match.%s to name a folder by", m.Name, l)
	}
	if !inAddress.MatchString(names[0]) {
		return nil, fmt.Errorf("the %s %q of %s cannot stand in the address of a seed", l, names[0], m.Name)
	}
	return names, nil
}

// KernelLine returns what the kernel that starts the installer over the network
// must be told so that it installs the machine from the folder below base, an
// http address. It stands as the kernel is to see it: GRUB wants it quoted.
func KernelLine(m *Machine, base, folder string) string {
	args := Menu(m).KernelArgs
	args = slices.DeleteFunc(args, func(arg string) bool { return arg == argDataSource || arg == argNoPersistence })
	// casper's url= would be taken for the address of a configuration too.
	args = append(args, "ds=nocloud;s="+strings.TrimSuffix(base, "/")+"/"+url.PathEscape(folder)+"/", "cloud-config-url=/dev/null")
	return strings.Join(args, " ")
}

// Leftover is a folder with a seed that no machine of the configuration has.
type Leftover struct {
	Folder  string // its name
	Machine string // whose seed it was
}

// seedFiles are the files of a seed's folder.
var seedFiles = []string{"user-data", "meta-data", "vendor-data"}

// renderedID is the meta-data of a rendered seed.
var renderedID = regexp.MustCompile(`^instance-id: "?([A-Za-z0-9._-]+)-[0-9a-f]{16}"?\n$`)

// Leftovers returns the seeds in a folder of seeds that are in none of the folders
// that are wanted, by name. What gpustrap did not render is not looked at.
func Leftovers(dir string, wanted map[string]bool) ([]Leftover, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the folder of seeds: %w", err)
	}
	var out []Leftover
	for _, entry := range entries {
		if !entry.IsDir() || wanted[entry.Name()] {
			continue
		}
		meta, err := os.ReadFile(filepath.Join(dir, entry.Name(), "meta-data"))
		if err != nil {
			continue // no seed, or none of this person's
		}
		if found := renderedID.FindSubmatch(meta); found != nil {
			out = append(out, Leftover{Folder: entry.Name(), Machine: string(found[1])})
		}
	}
	return out, nil
}

// Prune removes a seed and its folder. It fails, with the seed gone, where the
// folder holds something else.
func (l Leftover) Prune(dir string) error {
	folder := filepath.Join(dir, l.Folder)
	for _, name := range seedFiles {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the seed of %s: %w", l.Machine, err)
		}
	}
	if err := os.Remove(folder); err != nil {
		return fmt.Errorf("the seed of %s is removed, its folder holds other files: %w", l.Machine, err)
	}
	return nil
}

// Difference is what a render would change of one machine's folder. The zero
// value, but for names, is no difference.
type Difference struct {
	Machine, Folder string
	New             bool   // there is no seed in the folder yet
	Lines           []Line // of user-data, and of meta-data if only that changes
}

// Any reports whether there is a difference.
func (d Difference) Any() bool { return d.New || len(d.Lines) > 0 }

// Compare returns what writing the files, by name, into the machine's folder would
// change. The memo is shared by the comparisons of a fleet.
func Compare(dir, folder, machine string, files map[string][]byte, memo *DiffMemo) (Difference, error) {
	d := Difference{Machine: machine, Folder: folder}
	buffer := memo.buffer()
	defer memo.buffers.Put(buffer)
	for _, name := range seedNames(files) {
		there, err := readInto(buffer, filepath.Join(dir, folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			d.New = true
			return d, nil
		}
		if err != nil {
			return d, fmt.Errorf("cannot read what is there: %w", err)
		}
		if !bytes.Equal(files[name], there) {
			d.Lines = memo.diff(there, files[name])
			return d, nil // meta-data follows user-data
		}
	}
	return d, nil
}

// readInto reads a file into a buffer, which it may make larger.
func readInto(buffer *bytes.Buffer, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	buffer.Reset()
	_, err = buffer.ReadFrom(f)
	return buffer.Bytes(), err
}

// seedNames returns the names of the files, user-data first.
func seedNames(files map[string][]byte) []string {
	names := slices.Collect(maps.Keys(files))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(slices.Index(seedFiles, a)-slices.Index(seedFiles, b), strings.Compare(a, b))
	})
	return names
}
