package iso9660

import (
	"io"
	"io/fs"
	"strings"
	"time"
)

// Lengths of system use entries that this package writes or looks for.
const (
	lenSP     = 7  // SUSP 5.3
	lenCE     = 28 // SUSP 5.1
	lenPX1991 = 36 // RRIP_1991A PX, without a serial number
	lenPX     = 44 // RRIP 1.12 4.1.1
)

// Bounds on what one record may chain: enough for every name and link that the
// Linux kernel reads (which follows 32 continuations), and no more.
const (
	maxContinuations = 32
	maxContinuation  = SectorSize
	maxName          = 1024
	maxLink          = 8192
)

// attributes is what the Rock Ridge entries of one record say.
type attributes struct {
	name                  string
	hasName               bool
	mode                  uint32
	serial                uint32
	pxLength              int // 0: the record has no PX entry
	modified              time.Time
	link                  strings.Builder
	linkOpen, hasLink     bool
	childLink             Sector // CL
	hasChild              bool
	relocated, parentLink bool // RE, PL
	extension             string
	skip                  int  // SP: bytes to skip at the start of each system use field
	hasSharing            bool // SP was there
	hasZisofs             bool
	ended                 bool // ST was there
}

// suspReader decodes system use fields of one volume.
type suspReader struct {
	r     io.ReaderAt
	size  int64
	start Sector
	skip  int
	note  func(Sector) // told of each sector that holds a continuation area

	cached Sector // the sector that block holds; 0: none
	block  [SectorSize]byte
}

// decode collects the Rock Ridge entries of a system use field at the given
// position, following its continuation areas.
func (s *suspReader) decode(field []byte, at Offset, isRoot bool) (*attributes, error) {
	a := &attributes{}
	if !isRoot {
		if len(field) < s.skip {
			return a, nil
		}
		field, at = field[s.skip:], at+Offset(s.skip)
	}
	for range maxContinuations {
		next, err := a.area(field, at)
		if err != nil || next == nil {
			return a, err
		}
		if field, at, err = s.continuation(*next); err != nil {
			return nil, err
		}
	}
	return nil, formatErrorf(at, "more than %d continuation areas for one directory record", maxContinuations)
}

// continuation is the place that a CE entry gives.
type continuation struct {
	at             Offset // of the CE entry, for messages
	sector         Sector
	offset, length uint32
}

// continuation reads a continuation area (SUSP 5.1).
func (s *suspReader) continuation(c continuation) ([]byte, Offset, error) {
	if c.offset >= SectorSize || c.length > maxContinuation || c.offset+c.length > SectorSize {
		return nil, 0, formatErrorf(c.at, "continuation area of %d bytes at byte %d of its sector", c.length, c.offset)
	}
	sector := s.start + c.sector
	if sector < s.start || int64(sector.Offset())+SectorSize > s.size {
		return nil, 0, formatErrorf(c.at, "continuation area in sector %d, beyond the end of the image", sector)
	}
	if sector != s.cached {
		s.cached = 0
		if err := readFull(s.r, s.block[:], sector.Offset()); err != nil {
			return nil, 0, err
		}
		s.cached = sector
		s.note(sector)
	}
	return s.block[c.offset : c.offset+c.length], sector.Offset() + Offset(c.offset), nil
}

// area decodes the entries of one field and returns where the next one lies.
func (a *attributes) area(b []byte, at Offset) (next *continuation, err error) {
	for len(b) >= 4 && !a.ended {
		n := int(b[2])
		if b[0] == 0 {
			break // padding after the last entry
		}
		if n < 4 || n > len(b) {
			return nil, formatErrorf(at, "system use entry %q of %d bytes in a field of %d", b[:2], n, len(b))
		}
		if string(b[:2]) == "CE" {
			if n < lenCE {
				return nil, formatErrorf(at, "CE entry of %d bytes", n)
			}
			sector, ok1 := both32(b[4:])
			offset, ok2 := both32(b[12:])
			length, ok3 := both32(b[20:])
			if !ok1 || !ok2 || !ok3 {
				return nil, formatErrorf(at, "the two byte orders of a CE entry disagree")
			}
			next = &continuation{at, Sector(sector), offset, length}
		} else if err := a.entry(b[:n], at); err != nil {
			return nil, err
		}
		b, at = b[n:], at+Offset(n)
	}
	if a.ended {
		next = nil
	}
	return next, nil
}

// entry decodes one system use entry; what is not known is passed over, as SUSP
// demands.
func (a *attributes) entry(b []byte, at Offset) error {
	switch string(b[:2]) {
	case "SP":
		if len(b) < lenSP || b[4] != 0xBE || b[5] != 0xEF {
			return formatErrorf(at, "malformed SP entry")
		}
		a.hasSharing, a.skip = true, int(b[6])
	case "ST":
		a.ended = true
	case "ER":
		if len(b) < 8 || 8+int(b[4]) > len(b) {
			return formatErrorf(at, "malformed ER entry")
		}
		a.extension = string(b[8 : 8+int(b[4])])
	case "PX":
		if len(b) < lenPX1991 {
			return formatErrorf(at, "PX entry of %d bytes", len(b))
		}
		a.pxLength = len(b)
		a.mode, _ = both32(b[4:])
		if len(b) >= lenPX {
			a.serial, _ = both32(b[36:])
		}
	case "TF":
		a.times(b)
	case "NM":
		return a.alternateName(b, at)
	case "SL":
		return a.symbolicLink(b, at)
	case "CL":
		if len(b) < 12 {
			return formatErrorf(at, "CL entry of %d bytes", len(b))
		}
		sector, _ := both32(b[4:])
		a.childLink, a.hasChild = Sector(sector), true
	case "PL":
		a.parentLink = true
	case "RE":
		a.relocated = true
	case "ZF":
		a.hasZisofs = true
	}
	return nil
}

// times takes the modification time of a TF entry (RRIP 4.1.6) of short dates.
func (a *attributes) times(b []byte) {
	const creation, modify, long = 0x01, 0x02, 0x80
	if len(b) < 5 || b[4]&long != 0 || b[4]&modify == 0 {
		return
	}
	i := 5
	if b[4]&creation != 0 {
		i += 7
	}
	if i+7 <= len(b) {
		a.modified = decodeShortDate(b[i : i+7])
	}
}

// alternateName takes a part of the name (RRIP 4.1.4).
func (a *attributes) alternateName(b []byte, at Offset) error {
	const current, parent = 0x02, 0x04
	if len(b) < 5 {
		return formatErrorf(at, "NM entry of %d bytes", len(b))
	}
	if b[4]&(current|parent) != 0 {
		return nil
	}
	if len(a.name)+len(b)-5 > maxName {
		return formatErrorf(at, "a file name of more than %d bytes", maxName)
	}
	a.name, a.hasName = a.name+string(b[5:]), true
	return nil
}

// symbolicLink takes components of a link's target (RRIP 4.1.3.1).
func (a *attributes) symbolicLink(b []byte, at Offset) error {
	const cont, current, parent, root = 0x01, 0x02, 0x04, 0x08
	if len(b) < 5 {
		return formatErrorf(at, "SL entry of %d bytes", len(b))
	}
	a.hasLink = true
	for c := b[5:]; len(c) > 0; {
		if len(c) < 2 || 2+int(c[1]) > len(c) {
			return formatErrorf(at, "malformed component of a symbolic link")
		}
		text := string(c[2 : 2+int(c[1])])
		if a.link.Len() > 0 && !a.linkOpen && !strings.HasSuffix(a.link.String(), "/") {
			a.link.WriteByte('/')
		}
		switch {
		case c[0]&current != 0:
			text = "."
		case c[0]&parent != 0:
			text = ".."
		case c[0]&root != 0:
			text = "/"
		}
		a.link.WriteString(text)
		a.linkOpen = c[0]&cont != 0
		if a.link.Len() > maxLink {
			return formatErrorf(at, "a symbolic link of more than %d bytes", maxLink)
		}
		c = c[2+int(c[1]):]
	}
	return nil
}

// POSIX file types and bits in a PX entry (RRIP 4.1.1).
const (
	posixType    = 0o170000
	posixSocket  = 0o140000
	posixLink    = 0o120000
	posixRegular = 0o100000
	posixBlock   = 0o060000
	posixDir     = 0o040000
	posixChar    = 0o020000
	posixFIFO    = 0o010000
	posixSetuid  = 0o4000
	posixSetgid  = 0o2000
	posixSticky  = 0o1000
)

// fileMode translates a POSIX mode.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & posixType {
	case posixDir:
		mode |= fs.ModeDir
	case posixLink:
		mode |= fs.ModeSymlink
	case posixBlock:
		mode |= fs.ModeDevice
	case posixChar:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case posixFIFO:
		mode |= fs.ModeNamedPipe
	case posixSocket:
		mode |= fs.ModeSocket
	}
	if m&posixSetuid != 0 {
		mode |= fs.ModeSetuid
	}
	if m&posixSetgid != 0 {
		mode |= fs.ModeSetgid
	}
	if m&posixSticky != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
