package usb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
	"github.com/gpustrap/gpustrap/iso/gpt"
	"github.com/gpustrap/gpustrap/iso/isotest"
)

// openImage returns a small installation medium.
func openImage(t *testing.T, m isotest.Medium) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(m.Make(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size()
}

// writeDeviceFile writes a plan over what was there before to a file, as a device.
func writeDeviceFile(t *testing.T, p *Plan) string {
	t.Helper()
	m := newMemory(t, int(p.size))
	if err := write(t.Context(), m, p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(name, m.data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPartitionTables writes media to devices of all sorts of sizes and lets
// sgdisk look at the result.
func TestPartitionTables(t *testing.T) {
	oracle.Need(t, "sgdisk")
	seed := bytes.Repeat([]byte("seed"), 100_000)
	for _, layout := range []isotest.Layout{isotest.AMD64, isotest.ARM64} {
		img, size := openImage(t, isotest.Medium{Layout: layout})
		sizes := []int64{0, 512, 4096, 33 * 512, 100 * 512, 1 << 20, 9<<20 + 512}
		if testing.Short() {
			sizes = sizes[3:]
		}
		for _, more := range sizes {
			for _, o := range []Options{{}, {Seed: seed}} {
				deviceSize := RequiredSize(size, o) + more
				p, err := NewPlan(img, size, deviceSize, o)
				if err != nil {
					t.Fatal(err)
				}
				name := writeDeviceFile(t, p)
				out, err := exec.Command("sgdisk", "-v", name).CombinedOutput()
				if layout == isotest.AMD64 && (err != nil || !strings.Contains(string(out), "No problems found")) {
					t.Errorf("%d bytes more, %d of seed: %v\n%s", more, len(o.Seed), err, out)
				}
				if o.Seed != nil {
					checkSeed(t, name, deviceSize, seed)
				}
			}
		}
	}
}

// checkSeed finds the seed's partition in a device's file, and puts another there.
func checkSeed(t *testing.T, name string, size int64, seed []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at, err := findSeedPartition(bytes.NewReader(data), size)
	if err != nil || at.Length != SeedPartitionSize || !bytes.HasPrefix(data[at.Offset:], seed) {
		t.Fatalf("the seed at %v: %v", at, err)
	}
	other := bytes.Repeat([]byte("other"), 300_000)
	p, err := NewSeedPlan(bytes.NewReader(data), size, other)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{t: t, data: bytes.Clone(data), readBad: -1}
	if err := write(t.Context(), m, p, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(data)
	clear(want[at.Offset:at.End()])
	copy(want[at.Offset:], other)
	if !bytes.Equal(m.data, want) {
		t.Error("more than the seed's partition has changed")
	}
}

func TestPlanErrors(t *testing.T) {
	img, size := openImage(t, isotest.Medium{})
	for _, test := range []struct {
		name       string
		image      io.ReaderAt
		size       int64
		deviceSize int64
		seed       []byte
		want       string
	}{
		{"too small a device", img, size, size - 512, nil, "do not fit"},
		{"no room for the seed", img, size, size + 1<<20, []byte("x"), "do not fit"},
		{"too large a seed", img, size, 1 << 30, make([]byte, SeedPartitionSize+1), "its partition has"},
		{"a truncated image", img, size - 4096, 1 << 30, nil, "truncated"},
		{"no image", strings.NewReader(strings.Repeat("gzip", 20000)), 80000, 1 << 30, nil, "no partition table"},
		{"an empty file", strings.NewReader(""), 0, 1 << 30, nil, "no partition table"},
	} {
		_, err := NewPlan(test.image, test.size, test.deviceSize, Options{Seed: test.seed})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := NewSeedPlan(img, size, []byte("x")); !errors.Is(err, ErrNoSeedPartition) {
		t.Errorf("a medium without a partition for a seed: %v", err)
	}
	if _, err := NewSeedPlan(strings.NewReader(strings.Repeat(" ", 4096)), 4096, []byte("x")); !errors.Is(err, ErrNoSeedPartition) {
		t.Errorf("a blank device: %v", err)
	}
}

// TestForeignSeedPartition holds that a partition that only looks like a seed's, by
// its name or type, is not written.
func TestForeignSeedPartition(t *testing.T) {
	for _, layout := range []isotest.Layout{isotest.AMD64, isotest.ARM64} {
		img, size := openImage(t, isotest.Medium{Layout: layout})
		deviceSize := RequiredSize(size, Options{Seed: []byte{}}) + 64<<20
		device := make([]byte, deviceSize)
		if _, err := img.ReadAt(device[:size], 0); err != nil {
			t.Fatal(err)
		}
		first := gpt.LBA(roundUp(size, partitionAlign) / gpt.SectorSize)
		last := first + 2*SeedPartitionSize/gpt.SectorSize - 1
		if layout == isotest.ARM64 {
			mbr, err := gpt.ReadMBR(bytes.NewReader(device), deviceSize)
			if err == nil {
				_, err = mbr.Add(gpt.TypeMBRISO, first, last)
			}
			if err != nil {
				t.Fatal(err)
			}
			copy(device, mbr.Bytes())
		} else {
			table, err := gpt.Read(img, size)
			if err == nil {
				err = table.MoveBackup(gpt.LBA(deviceSize/gpt.SectorSize - 1))
			}
			if err == nil {
				_, err = table.Add(SeedPartitionName, first, last)
			}
			if err != nil {
				t.Fatal(err)
			}
			patches, err := table.Encode()
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range patches {
				copy(device[w.Offset:], w.Bytes)
			}
		}
		if p, err := NewSeedPlan(bytes.NewReader(device), deviceSize, []byte("x")); !errors.Is(err, ErrNoSeedPartition) {
			t.Errorf("layout %v: a partition of another length passes: %v %v", layout, p, err)
		}
	}
}

// TestMeanings names what write adds.
func TestMeanings(t *testing.T) {
	img, size := openImage(t, isotest.Medium{})
	deviceSize := RequiredSize(size, Options{Seed: []byte{}}) + 10<<20
	p, err := NewPlan(img, size, deviceSize, Options{Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	describe := func(off int64) string { return fmt.Sprintf("the image's %d", off) }
	for off, want := range map[int64]string{
		0: "the partition table", 600: "the partition table", 1024: "the partition table", 40000: "the image's 40000",
		size - 512:            "where the image had its backup partition table",
		p.Seed().Offset + 100: seedMeaning,
		deviceSize - 1:        "the backup partition table",
		deviceSize - 512<<10:  "the cleared space behind the image",
		int64(gpt.LBA(deviceSize/512-1).Offset()) - 248*32: "the backup partition table",
	} {
		if got := p.meaning(off, describe); got != want {
			t.Errorf("byte %d is in %q and not in %q", off, got, want)
		}
	}
}
