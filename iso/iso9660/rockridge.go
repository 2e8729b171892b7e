package iso9660

import (
	"io/fs"
	"strings"
)

// Lengths that new Rock Ridge entries keep to. The kernel cuts names of 254
// bytes and more, so a longer one would change.
const (
	maxNewName = 253
	maxNewLink = 1024
	maxEntry   = 255 // the length of a system use entry is one byte
)

// systemUse makes the system use field of a new record whose field may have room
// bytes. What does not fit goes to a continuation area, which begins at ce bytes
// into the field's CE entry; ce is -1 when there is none.
func (t *Tree) systemUse(f File, serial uint32, room int) (use, area []byte, ce int, err error) {
	entries := [][]byte{t.posixAttributes(f, serial), timeStamps(f)}
	if f.Mode&fs.ModeSymlink != 0 {
		entries = append(entries, linkEntries(f.Link)...)
	}
	entries = append(entries, nameEntries(f.Name)...)

	use = make([]byte, t.skip, room)
	total := t.skip
	for _, e := range entries {
		total += len(e)
	}
	if total <= room {
		for _, e := range entries {
			use = append(use, e...)
		}
		return use, nil, -1, nil
	}
	for i, e := range entries {
		if len(use)+len(e)+lenCE > room {
			for _, e := range entries[i:] {
				area = append(area, e...)
			}
			break
		}
		use = append(use, e...)
	}
	if len(use)+lenCE > room || len(area) > SectorSize {
		return nil, nil, 0, &LimitError{"the name or link of " + f.Name + " is too long for Rock Ridge"}
	}
	ce = len(use)
	entry := make([]byte, lenCE)
	copy(entry, "CE")
	entry[2], entry[3] = lenCE, 1
	return append(use, entry...), area, ce, nil
}

// posixAttributes makes a PX entry (RRIP 4.1.1): owned by root, one link, as
// mkisofs -r writes them.
func (t *Tree) posixAttributes(f File, serial uint32) []byte {
	b := make([]byte, t.pxLength)
	copy(b, "PX")
	b[2], b[3] = byte(t.pxLength), 1
	mode := uint32(f.Mode.Perm())
	switch {
	case f.Mode.IsDir():
		mode |= posixDir
	case f.Mode&fs.ModeSymlink != 0:
		mode |= posixLink
	default:
		mode |= posixRegular
	}
	putBoth32(b[4:], mode)
	putBoth32(b[12:], 1)
	putBoth32(b[20:], 0)
	putBoth32(b[28:], 0)
	if t.pxLength >= lenPX {
		putBoth32(b[36:], serial)
	}
	return b
}

// timeStamps makes a TF entry (RRIP 4.1.6) with the times of modification,
// access and attribute change.
func timeStamps(f File) []byte {
	const modifyAccessAttributes = 0x0E
	b := []byte{'T', 'F', 26, 1, modifyAccessAttributes}
	d := shortDate(f.ModTime)
	for range 3 {
		b = append(b, d[:]...)
	}
	return b
}

// nameEntries makes NM entries (RRIP 4.1.4), two for a name over 250 bytes.
func nameEntries(name string) [][]byte {
	const header, more = 5, 1
	var entries [][]byte
	for {
		n := min(len(name), maxEntry-header)
		b := append([]byte{'N', 'M', byte(header + n), 1, 0}, name[:n]...)
		name = name[n:]
		if name == "" {
			return append(entries, b)
		}
		b[4] = more
		entries = append(entries, b)
	}
}

// linkEntries makes SL entries (RRIP 4.1.3) of a link's target.
func linkEntries(target string) [][]byte {
	const header, more = 5, 1
	var entries [][]byte
	entry := []byte{'S', 'L', 0, 1, 0}
	flush := func() {
		entry[2] = byte(len(entry))
		entries = append(entries, entry)
		entry = []byte{'S', 'L', 0, 1, 0}
	}
	for _, c := range linkComponents(target) {
		if len(entry) > header && len(entry)+len(c) > maxEntry {
			entry[4] = more
			flush()
		}
		entry = append(entry, c...)
	}
	flush()
	return entries
}

// linkComponents makes the component records of a target (RRIP 4.1.3.1). A
// component too long for one entry is continued in the next.
func linkComponents(target string) [][]byte {
	const cont, current, parent, root = 0x01, 0x02, 0x04, 0x08
	const longest = maxEntry - 5 - 2
	var components [][]byte
	if strings.HasPrefix(target, "/") {
		components = append(components, []byte{root, 0})
	}
	for part := range strings.SplitSeq(strings.Trim(target, "/"), "/") {
		switch part {
		case "":
		case ".":
			components = append(components, []byte{current, 0})
		case "..":
			components = append(components, []byte{parent, 0})
		default:
			for len(part) > longest {
				components = append(components, append([]byte{cont, longest}, part[:longest]...))
				part = part[longest:]
			}
			components = append(components, append([]byte{0, byte(len(part))}, part...))
		}
	}
	return components
}
