package eltorito_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gpustrap/gpustrap/iso/eltorito"
)

// catalogue is the one of Ubuntu's amd64 media: BIOS at sector 145, UEFI at 4184.
func catalogue() []byte {
	b := make([]byte, eltorito.Size)
	copy(b, "\x01\x00")
	b[28], b[29], b[30], b[31] = 0xAA, 0x55, 0x55, 0xAA
	entry := func(at int, sectors uint16, start uint32) {
		b[at] = 0x88
		binary.LittleEndian.PutUint16(b[at+6:], sectors)
		binary.LittleEndian.PutUint32(b[at+8:], start)
	}
	entry(32, 4, 145)
	copy(b[64:], "\x91\xEF\x01\x00")
	entry(96, 10240, 4184)
	return b
}

func TestDecode(t *testing.T) {
	c, err := eltorito.Decode(catalogue())
	if err != nil {
		t.Fatal(err)
	}
	want := []eltorito.Entry{
		{Platform: eltorito.BIOS, Bootable: true, LoadSectors: 4, Start: 145},
		{Platform: eltorito.EFI, Bootable: true, LoadSectors: 10240, Start: 4184},
	}
	if diff := cmp.Diff(want, c.Entries, cmpopts.IgnoreUnexported(eltorito.Entry{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if !bytes.Equal(c.Bytes(), catalogue()) {
		t.Error("the catalogue comes back changed")
	}
}

func TestMove(t *testing.T) {
	c, err := eltorito.Decode(catalogue())
	if err != nil {
		t.Fatal(err)
	}
	moved := c.Clone()
	moved.Move(1, 5000)
	want := catalogue()
	binary.LittleEndian.PutUint32(want[96+8:], 5000)
	if !bytes.Equal(moved.Bytes(), want) || moved.Entries[1].Start != 5000 {
		t.Error("Move changed something else than the entry's sector")
	}
	if !bytes.Equal(c.Bytes(), catalogue()) || c.Entries[1].Start != 4184 {
		t.Error("Move of a clone changed the catalogue that it was cloned from")
	}
}

// TestSections decodes several sections, extension entries among them.
func TestSections(t *testing.T) {
	b := catalogue()
	copy(b[64:], "\x90\x00\x01\x00")
	b[128] = 0x44 // an extension of the entry before it
	copy(b[160:], "\x91\xEF\x02\x00")
	b[192], b[224] = 0x88, 0x00
	c, err := eltorito.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range c.Entries {
		got = append(got, e.Platform.String())
	}
	if diff := cmp.Diff([]string{"BIOS", "BIOS", "UEFI", "UEFI"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

func TestDecodeErrors(t *testing.T) {
	set := func(at int, text string) []byte {
		b := catalogue()
		copy(b[at:], text)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		at   int
		want string
	}{
		{"empty", nil, 0, "0 bytes"},
		{"short", catalogue()[:63], 0, "63 bytes"},
		{"header", set(0, "\x02"), 0, "no validation entry"},
		{"key bytes", set(30, "\x00"), 0, "no validation entry"},
		{"checksum", set(4, "x"), 28, "checksum is wrong"},
		{"endless section", set(64, "\x91\xEF\xff\xff"), eltorito.Size, "ends within a section of 65535 entries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := eltorito.Decode(c.b)
			var format *eltorito.FormatError
			if !errors.As(err, &format) || format.Offset != c.at || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Decode: %v, want …%s… at byte %d", err, c.want, c.at)
			}
		})
	}
}

func TestBootInfo(t *testing.T) {
	image := bytes.Repeat([]byte{1, 0, 0, 0}, 1000)
	image = append(image, 7) // not whole words
	put := binary.LittleEndian.PutUint32
	put(image[8:], 16)
	put(image[12:], 145)
	put(image[16:], uint32(len(image)))
	put(image[20:], eltorito.ImageChecksum(image))
	info, ok := eltorito.DecodeBootInfo(image, 145)
	want := eltorito.BootInfo{Descriptor: 16, Image: 145, Length: 4001, Checksum: 1000 - 16 + 7}
	if !ok || info != want {
		t.Errorf("DecodeBootInfo: %+v, %v, want %+v", info, ok, want)
	}
	if _, ok := eltorito.DecodeBootInfo(image, 146); ok {
		t.Error("DecodeBootInfo takes the table of an image elsewhere")
	}
	if _, ok := eltorito.DecodeBootInfo(image[:63], 145); ok {
		t.Error("DecodeBootInfo takes an image too short to have a table")
	}
}

// FuzzDecode: what can be decoded keeps its bytes, but for an entry that is moved.
func FuzzDecode(f *testing.F) {
	f.Add(catalogue())
	f.Add(catalogue()[:128])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		eltorito.DecodeBootInfo(b, 1)
		eltorito.ImageChecksum(b)
		c, err := eltorito.Decode(b)
		if err != nil {
			return
		}
		b = b[:min(len(b), eltorito.Size)]
		if !bytes.Equal(c.Bytes(), b) {
			t.Fatal("the catalogue comes back changed")
		}
		for i := range c.Entries {
			m := c.Clone()
			m.Move(i, 0x01020304)
			again, err := eltorito.Decode(m.Bytes())
			if err != nil || again.Entries[i].Start != 0x01020304 || len(again.Entries) != len(c.Entries) {
				t.Fatalf("entry %d moved: %v", i, err)
			}
		}
	})
}
