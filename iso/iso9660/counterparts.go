package iso9660

import "io/fs"

// Counterparts finds, for the entries of a directory of a Rock Ridge tree, those of
// the same directory in the Joliet tree of the same volume that show the same file
// or directory. Symbolic links have none. Joliet changes names that it cannot hold
// and makes them unique, so content must be the same, and the name decides between
// those that have the same.
func Counterparts(rockRidge, joliet *Dir) map[*Entry]*Entry {
	free := map[fingerprint][]*Entry{}
	for _, c := range joliet.Entries {
		k := c.fingerprint()
		free[k] = append(free[k], c)
	}
	found := make(map[*Entry]*Entry, len(rockRidge.Entries))
	left := map[fingerprint][]*Entry{}
	for _, e := range rockRidge.Entries {
		if e.Mode&fs.ModeSymlink != 0 {
			continue
		}
		k := e.fingerprint()
		stem, ext := jolietName(e.Name, e.Dir != nil)
		if c := take(free, k, stem+ext); c != nil {
			found[e] = c
		} else {
			left[k] = append(left[k], e)
		}
	}
	for k, entries := range left {
		// Where nothing but the number tells, only one to one is sure.
		if len(entries) != len(free[k]) || k.content == 0 && len(entries) > 1 {
			continue
		}
		for i, e := range entries {
			found[e] = free[k][i]
		}
	}
	return found
}

// take removes the entry of that name from a list and returns it.
func take(free map[fingerprint][]*Entry, k fingerprint, name string) *Entry {
	for i, c := range free[k] {
		if c.Name == name {
			// The order of the others stays, so that the result is the same each time.
			free[k] = append(free[k][:i:i], free[k][i+1:]...)
			return c
		}
	}
	return nil
}

// HasContent reports whether a file, or any file of a directory and below, has a
// byte.
func (e *Entry) HasContent() bool { return e.fingerprint().content != 0 }

// fingerprint tells files and directories apart by what both trees of a volume
// have: where content lies, and how directories are nested.
type fingerprint struct {
	dir            bool
	content, shape uint64 // of directories, with all below; content is 0 when there is none
}

func (e *Entry) fingerprint() fingerprint {
	f := fingerprint{dir: e.Dir != nil}
	if e.Dir != nil {
		f.add(e.Dir, 1)
		return f
	}
	f.content = e.contentSum()
	return f
}

// add adds the entries of a directory. Sums do not depend on their order, which the
// trees do not share.
func (f *fingerprint) add(d *Dir, depth uint64) {
	for _, e := range d.Entries {
		switch {
		case e.Dir != nil:
			f.shape += mix(2*depth + 1)
			f.add(e.Dir, depth+1)
		case e.Mode&fs.ModeSymlink == 0:
			f.shape += mix(2 * depth)
			f.content += e.contentSum()
		}
	}
}

// contentSum is a number for where a file's content lies.
func (e *Entry) contentSum() uint64 {
	var sum uint64
	for _, r := range e.records {
		if x := r.extent(); x.Length > 0 {
			sum += mix(uint64(x.Sector)<<32 | uint64(x.Length))
		}
	}
	return sum
}

// mix spreads the bits of a number (the finalizer of SplitMix64), so that sums of
// different sets differ.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
