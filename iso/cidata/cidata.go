// Package cidata makes NoCloud seed images: small ISO 9660 images with the volume
// label cidata, in which cloud-init looks for user-data and meta-data when they
// are attached beside another medium
// (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html).
//
// The images are written by github.com/kdomanski/iso9660, whose plain ISO 9660
// tree keeps the lower case and the hyphens of user-data: Linux shows the names
// as they are. What that package leaves to the clock, to the machine or open
// (dates, system identifier, padding, path tables) is set afterwards, so the same
// files give the same bytes.
package cidata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"time"

	"github.com/kdomanski/iso9660"
)

// VolumeID is the label by which cloud-init finds the image.
const VolumeID = "cidata"

const (
	sectorSize = 2048
	pvdOffset  = 16 * sectorSize // ECMA-119 6.2.1: the descriptors begin at sector 16

	// Offsets in the primary volume descriptor, ECMA-119 8.4, in bytes.
	pvdSystemID      = 8
	pvdSpaceSize     = 80
	pvdPathTableSize = 132
	pvdPathTableL    = 140
	pvdPathTableM    = 148
	pvdRootRecord    = 156
	pvdCreation      = 813
	pvdModification  = 830
	pvdExpiration    = 847
	pvdEffective     = 864

	// Offsets in a directory record, ECMA-119 9.1, in bytes.
	recordExtent = 2
	recordLength = 10
	recordDate   = 18
	recordFlags  = 25
)

// FileError says which file of a seed cannot stand in the image.
type FileError struct {
	Name, Reason string
}

// Error names the file and the reason.
func (e *FileError) Error() string {
	return fmt.Sprintf("cannot write a cidata image: %s %s", e.Name, e.Reason)
}

// fileName is what survives as it is: the writer lowers upper case, and turns
// every other dot and what ISO 9660 has no character for into underscores. The
// limits are 19 characters, and 8 after the dot.
var fileName = regexp.MustCompile(`^[a-z0-9_-]{1,19}(\.[a-z0-9_-]{1,8})?$`)

// Write writes a cidata image of the files in the root of an fs.FS. Among them
// must be user-data and meta-data (cloud-init takes a seed only with both; they
// may be empty). modTime becomes the date of the volume and of every file, in
// UTC and whole seconds. The image is read back and compared before anything is
// written to w.
//
// Files are staged in a folder of the system's temporary folder that only this
// user can enter, and that is removed again. Errors of Write are a *FileError
// for a file that cannot be taken, and those of the file system and of w.
func Write(w io.Writer, files fs.FS, modTime time.Time) error {
	modTime = modTime.UTC().Truncate(time.Second)
	if y := modTime.Year(); y < 1900 || y > 1900+255 {
		return fmt.Errorf("cannot write a cidata image: ISO 9660 has no way to write the year %d", y)
	}
	contents, err := readAll(files)
	if err != nil {
		return err
	}
	image, err := render(contents)
	if err != nil {
		return fmt.Errorf("cannot write a cidata image: %w", err)
	}
	if image, err = normalise(image, modTime); err != nil {
		return fmt.Errorf("cannot write a cidata image: %w", err)
	}
	if err := check(image, contents); err != nil {
		return fmt.Errorf("the cidata image is not what was to be written, so it is not used: %w", err)
	}
	if _, err := w.Write(image); err != nil {
		return fmt.Errorf("cannot write the cidata image: %w", err)
	}
	return nil
}

// readAll reads the files of the root folder.
func readAll(files fs.FS) (map[string][]byte, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("cannot read the seed: %w", err)
	}
	contents := map[string][]byte{}
	for _, e := range entries {
		switch {
		case e.IsDir():
			return nil, &FileError{e.Name(), "is a folder: cloud-init reads files in the root alone"}
		case !fileName.MatchString(e.Name()):
			return nil, &FileError{e.Name(), "has a name that plain ISO 9660 cannot hold: use up to 19 of a-z 0-9 _ - and at most one dot"}
		}
		if contents[e.Name()], err = fs.ReadFile(files, e.Name()); err != nil {
			return nil, fmt.Errorf("cannot read the seed: %w", err)
		}
	}
	for _, required := range []string{"user-data", "meta-data"} {
		if _, ok := contents[required]; !ok {
			return nil, &FileError{required, "is missing: cloud-init ignores a seed without it (it may be empty)"}
		}
	}
	// Past one sector the reader that checks the image mixes names up.
	if n := len(contents); n > 30 {
		return nil, &FileError{"the seed", fmt.Sprintf("has %d files, and a cidata image takes 30", n)}
	}
	return contents, nil
}

// render has the library write the image.
func render(contents map[string][]byte) (image []byte, err error) {
	writer, err := iso9660.NewWriter()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.Cleanup()) }()
	for name, text := range contents {
		if err := writer.AddFile(bytes.NewReader(text), name); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	if err := writer.WriteTo(&b, VolumeID); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// normalise sets what the library takes from its surroundings, and adds the path
// tables that ECMA-119 demands and the library leaves out.
func normalise(image []byte, modTime time.Time) ([]byte, error) {
	le, be := binary.LittleEndian, binary.BigEndian
	if len(image) < 19*sectorSize || len(image)%sectorSize != 0 {
		return nil, fmt.Errorf("the image has %d bytes", len(image))
	}
	pvd := image[pvdOffset : pvdOffset+sectorSize]
	copy(pvd[pvdSystemID:pvdSystemID+32], fmt.Sprintf("%-32s", "LINUX"))
	long := modTime.Format("20060102150405") + "00\x00" // hundredths, then UTC
	copy(pvd[pvdCreation:], long)
	copy(pvd[pvdModification:], long)
	copy(pvd[pvdExpiration:], "0000000000000000\x00") // none, ECMA-119 8.4.26.1
	copy(pvd[pvdEffective:], long)

	root := pvd[pvdRootRecord:]
	rootSector := le.Uint32(root[recordExtent:])
	date := []byte{
		byte(modTime.Year() - 1900), byte(modTime.Month()), byte(modTime.Day()),
		byte(modTime.Hour()), byte(modTime.Minute()), byte(modTime.Second()), 0,
	}
	copy(root[recordDate:], date)
	directory, err := extent(image, root)
	if err != nil {
		return nil, err
	}
	for at := 0; at < len(directory) && directory[at] != 0; at += int(directory[at]) {
		record := directory[at:]
		if len(record) < int(record[0]) || record[0] < 34 {
			return nil, fmt.Errorf("the directory record at byte %d is damaged", at)
		}
		copy(record[recordDate:], date)
		if record[recordFlags]&2 != 0 { // a directory
			continue
		}
		// The library pads a file with what its last but one sector held.
		if file, err := extent(image, record); err != nil {
			return nil, err
		} else if n := int(le.Uint32(record[recordLength:])); n < len(file) {
			clear(file[n:])
		}
	}

	// One path table with the root alone, in each byte order (ECMA-119 9.4).
	table := make([]byte, 2*sectorSize)
	table[0], table[sectorSize] = 1, 1 // length of the root's identifier
	le.PutUint32(table[2:], rootSector)
	be.PutUint32(table[sectorSize+2:], rootSector)
	le.PutUint16(table[6:], 1)
	be.PutUint16(table[sectorSize+6:], 1)
	sectors := uint32(len(image) / sectorSize)
	le.PutUint32(pvd[pvdPathTableSize:], 10)
	be.PutUint32(pvd[pvdPathTableSize+4:], 10)
	le.PutUint32(pvd[pvdPathTableL:], sectors)
	be.PutUint32(pvd[pvdPathTableM:], sectors+1)
	le.PutUint32(pvd[pvdSpaceSize:], sectors+2)
	be.PutUint32(pvd[pvdSpaceSize+4:], sectors+2)
	return append(image, table...), nil
}

// extent returns the sectors that a directory record points to.
func extent(image, record []byte) ([]byte, error) {
	start := int64(binary.LittleEndian.Uint32(record[recordExtent:])) * sectorSize
	length := int64(binary.LittleEndian.Uint32(record[recordLength:]))
	end := start + (length+sectorSize-1)/sectorSize*sectorSize
	if start > int64(len(image)) || end > int64(len(image)) {
		return nil, fmt.Errorf("a directory record points past the end, to byte %d", end)
	}
	return image[start:end], nil
}

// check reads the image and compares it with what was to be written.
func check(image []byte, contents map[string][]byte) error {
	opened, err := iso9660.OpenImage(bytes.NewReader(image))
	if err != nil {
		return err
	}
	label, err := opened.Label()
	if err != nil {
		return err
	}
	if label != VolumeID {
		return fmt.Errorf("its label is %q", label)
	}
	root, err := opened.RootDir()
	if err != nil {
		return err
	}
	children, err := root.GetChildren()
	if err != nil {
		return err
	}
	if len(children) != len(contents) {
		return fmt.Errorf("it has %d files, not %d", len(children), len(contents))
	}
	for _, file := range children {
		want, ok := contents[file.Name()]
		if !ok {
			return fmt.Errorf("it has a file %q", file.Name())
		}
		got, err := io.ReadAll(file.Reader())
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", file.Name())
		}
	}
	return nil
}
