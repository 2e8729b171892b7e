package gpt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

var update = flag.Bool("update", false, "write the fuzz targets' seeds anew")

// medium returns a small medium's bytes.
func medium(t testing.TB, m isotest.Medium) []byte {
	t.Helper()
	m.Small = true
	b, err := os.ReadFile(m.Make(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b []byte) *gpt.Table {
	t.Helper()
	table, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestRead(t *testing.T) {
	b := medium(t, isotest.Medium{})
	table := read(t, b)
	sectors := gpt.LBA(len(b) / gpt.SectorSize)
	if table.EntryCount != 248 || table.Backup != sectors-1 || table.BackupFirst() != sectors-63 {
		t.Errorf("%d entries, backup at %d of %d", table.EntryCount, table.Backup, sectors)
	}
	p := table.Partitions
	if len(p) != 3 {
		t.Fatalf("partitions %+v", p)
	}
	end := sectors - 64
	want := []gpt.Partition{
		{Number: 1, Type: gpt.TypeBasicData, Name: "ISO9660", First: 64, Last: p[1].First - 1, Attributes: 0x1000000000000001},
		{Number: 2, Type: gpt.TypeESP, Name: "Appended2", First: p[1].First, Last: p[1].First + 2047},
		{Number: 3, Type: gpt.TypeBasicData, Name: "Gap1", First: p[1].Last + 1, Last: p[1].Last + 600, Attributes: 0x1000000000000001},
	}
	if diff := cmp.Diff(want, p); diff != "" || p[2].Last >= end {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	if err := table.CheckBackup(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Errorf("CheckBackup: %v", err)
	}
	patches, err := table.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range patches {
		if !bytes.Equal(c.Bytes, b[c.Offset:c.Offset+int64(len(c.Bytes))]) {
			t.Errorf("the bytes at %d come back changed", c.Offset)
		}
	}
}

// TestInsert makes room in front of the EFI system partition and asks sgdisk.
func TestInsert(t *testing.T) {
	sgdisk := oracle.Need(t, "sgdisk")
	b := medium(t, isotest.Medium{})
	for _, n := range []gpt.LBA{4, 8, 1000, 80_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			table := read(t, b)
			at := table.Partitions[1].First
			if err := table.Insert(at, n); err != nil {
				t.Fatal(err)
			}
			patches, err := table.Encode()
			if err != nil {
				t.Fatal(err)
			}
			image := append(bytes.Clone(b), make([]byte, n.Offset())...)
			for _, c := range patches {
				copy(image[c.Offset:], c.Bytes)
			}
			name := filepath.Join(t.TempDir(), "disk.img")
			if err := os.WriteFile(name, image, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(sgdisk, "--verify", "--print", name).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk: %v\n%s", err, out)
			}
			again := read(t, image)
			if diff := cmp.Diff(table.Partitions, again.Partitions); diff != "" {
				t.Errorf("partitions (-want +got):\n%s", diff)
			}
			if again.Partitions[0].Last != at+n-1 || again.Partitions[1].First != at+n {
				t.Errorf("partitions %+v", again.Partitions)
			}
			mbr, err := gpt.ReadMBR(bytes.NewReader(image), int64(len(image)))
			if err != nil || !mbr.HasProtective() || mbr.Partitions[0].End() != again.Backup+1 {
				t.Errorf("protective entry %+v (%v)", mbr.Partitions, err)
			}
		})
	}
	if err := read(t, b).Insert(100, 4); err == nil {
		t.Error("Insert into a partition gave no error")
	}
}

func TestReadErrors(t *testing.T) {
	good := medium(t, isotest.Medium{})
	// sealed recomputes the checksums of the primary table.
	sealed := func(edit func(header, entries []byte)) []byte {
		b := bytes.Clone(good)
		header, entries := b[512:604], b[1024:1024+248*128]
		edit(header, entries)
		binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
		binary.LittleEndian.PutUint32(header[16:], 0)
		binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
		return b
	}
	put32, put64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"entry count", sealed(func(h, _ []byte) { put32(h[80:], 0xFFFFFFFF) }), "partition entries of"},
		{"entry size", sealed(func(h, _ []byte) { put32(h[84:], 4096) }), "partition entries of"},
		{"no entries", sealed(func(h, _ []byte) { put32(h[80:], 0) }), "partition entries of"},
		{"entries far away", sealed(func(h, _ []byte) { put64(h[72:], 1<<60) }), "partition entries at sector"},
		{"entries elsewhere", sealed(func(h, _ []byte) { put64(h[72:], 40) }), "not directly behind the header"},
		{"header elsewhere", sealed(func(h, _ []byte) { put64(h[24:], 2) }), "says it lies at sector 2"},
		{"header size", sealed(func(h, _ []byte) { put32(h[12:], 512) }), "header of 512 bytes"},
		{"revision", sealed(func(h, _ []byte) { put32(h[8:], 0x20000) }), "not sound"},
		{"backup in the table", sealed(func(h, _ []byte) { put64(h[32:], 3) }), "a backup table at sector 3"},
		{"backup far away", sealed(func(h, _ []byte) { put64(h[32:], 1<<60) }), "a backup table at sector"},
		{"partition backwards", sealed(func(_, e []byte) { put64(e[32:], 1000); put64(e[40:], 10) }), "partition 1 lies at sectors 1000 to 10"},
		{"partition far away", sealed(func(_, e []byte) { put64(e[128+40:], 1<<62) }), "partition 2 lies at"},
		{"partition at 0", sealed(func(_, e []byte) { put64(e[32:], 0) }), "partition 1 lies at"},
		{"bytes behind a name", sealed(func(_, e []byte) { e[127] = 1 }), "would be lost in rewriting"},
		{"lone surrogate", sealed(func(_, e []byte) { e[57] = 0xD8 }), "would be lost in rewriting"},
		{"truncated", good[:10<<10], "partition entries at sector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := gpt.Read(bytes.NewReader(c.b), int64(len(c.b)))
			var format *gpt.FormatError
			if !errors.As(err, &format) || !strings.Contains(format.Message, c.want) {
				t.Errorf("Read: %v, want …%s…", err, c.want)
			}
		})
	}
	for name, b := range map[string][]byte{"empty": nil, "short": good[:1000], "zeros": make([]byte, 1<<16), "MBR only": medium(t, isotest.Medium{Layout: isotest.ARM64})} {
		if _, err := gpt.Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, gpt.ErrNone) {
			t.Errorf("%s: Read: %v", name, err)
		}
	}
}

func TestCheckBackup(t *testing.T) {
	b := medium(t, isotest.Medium{})
	table := read(t, b)
	for _, c := range []struct {
		at   int64
		want string
	}{
		{table.Backup.Offset(), "no backup partition table"},
		{table.Backup.Offset() + 30, "header's checksum is wrong"},
		{table.BackupFirst().Offset() + 40, "entries' checksum is wrong"},
	} {
		bad := bytes.Clone(b)
		bad[c.at] ^= 1
		if err := table.CheckBackup(bytes.NewReader(bad), int64(len(bad))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d damaged: CheckBackup: %v, want …%s…", c.at, err, c.want)
		}
	}
	if err := table.CheckBackup(bytes.NewReader(b[:len(b)-512]), int64(len(b)-512)); err == nil {
		t.Error("CheckBackup takes a truncated image")
	}
}

func TestMBR(t *testing.T) {
	b := medium(t, isotest.Medium{Layout: isotest.ARM64})
	m, err := gpt.ReadMBR(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if m.HasProtective() || len(m.Partitions) != 2 || m.Partitions[0].First != 64 || m.Partitions[1].Type != gpt.TypeMBRESP {
		t.Fatalf("partitions %+v", m.Partitions)
	}
	if !bytes.Equal(m.Bytes(), b[:512]) {
		t.Error("the sector comes back changed")
	}
	// 64 heads of 32 sectors: xorriso's for small images.
	if m.Alignment() != 2048 {
		t.Errorf("aligned to %d sectors", m.Alignment())
	}
	esp := m.Partitions[1].First
	if err := m.Insert(esp, 4096); err != nil {
		t.Fatal(err)
	}
	again, err := gpt.ReadMBR(bytes.NewReader(m.Bytes()), 512)
	if err != nil || again.Partitions[0].End() != esp+4096 || again.Partitions[1].First != esp+4096 || again.Alignment() != 2048 {
		t.Errorf("after Insert: %+v (%v)", again.Partitions, err)
	}
	if err := m.Insert(esp+4096, 1<<32); err == nil || !strings.Contains(err.Error(), "two TiB") {
		t.Errorf("Insert beyond two TiB: %v", err)
	}
	if err := m.Insert(100, 4); err == nil {
		t.Error("Insert into a partition gave no error")
	}
	if _, err := gpt.ReadMBR(bytes.NewReader(make([]byte, 512)), 512); !errors.Is(err, gpt.ErrNoMBR) {
		t.Errorf("ReadMBR of zeros: %v", err)
	}
}

// TestSeeds makes the seeds of the fuzz target.
func TestSeeds(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	for name, m := range map[string]isotest.Medium{"amd64": {}, "arm64": {Layout: isotest.ARM64}} {
		b := medium(t, m)
		// The tables alone: all between them is zeros.
		if table, err := gpt.Read(bytes.NewReader(b), int64(len(b))); err == nil {
			clear(b[64*512 : table.BackupFirst().Offset()])
		} else {
			clear(b[512:])
		}
		packed, err := isotest.PackSparse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", packed)
		if err := os.WriteFile(filepath.Join("testdata/fuzz/FuzzRead", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// seal corrects the checksums of whatever may be a primary table, without which a
// fuzzer would not get far.
func seal(b []byte) {
	if len(b) < 1024 {
		return
	}
	header := b[512:604]
	if n := int64(binary.LittleEndian.Uint32(header[80:])) * 128; n <= int64(len(b)-1024) {
		binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(b[1024:1024+n]))
	}
	binary.LittleEndian.PutUint32(header[16:], 0)
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
}

// FuzzRead: a table that can be read is written back as it was, also behind an
// insertion.
func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, packed []byte) {
		sparse, size := isotest.Sparse(packed)
		b := make([]byte, size)
		if _, err := sparse.ReadAt(b, 0); err != nil && size > 0 {
			t.Fatal(err)
		}
		seal(b)
		r := bytes.NewReader(b)
		if m, err := gpt.ReadMBR(r, size); err == nil {
			m.Alignment()
			for _, p := range m.Partitions {
				_ = m.Insert(p.First, 100) // may not fit
			}
		}
		table, err := gpt.Read(r, size)
		if err != nil {
			return
		}
		_ = table.CheckBackup(r, size) // may be anything
		patches, err := table.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range patches {
			if c.Offset > 1024 {
				continue // the backup
			}
			have := make([]byte, len(c.Bytes))
			if _, err := r.ReadAt(have, c.Offset); err != nil || !bytes.Equal(have, c.Bytes) {
				t.Fatalf("the bytes at %d come back changed (%v)", c.Offset, err)
			}
		}
		if len(table.Partitions) == 0 || table.Insert(table.Partitions[0].Last+1, 8) != nil {
			return
		}
		if _, err := table.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}
