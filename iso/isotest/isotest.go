// Package isotest makes small installation media for tests with xorriso: images
// with the structure of Ubuntu Server's, whose boot images and kernels are random
// bytes. They cannot boot.
package isotest

import (
	"crypto/md5"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// Layout is how a medium is partitioned.
type Layout int

// The layouts of Ubuntu Server media.
const (
	// AMD64 is that of amd64 media since 20.10: a GUID partition table with the
	// ISO 9660 volume, the EFI system partition and a gap.
	AMD64 Layout = iota
	// ARM64 is that of arm64 media: an MBR with the volume and the EFI system
	// partition.
	ARM64
	// Isohybrid is that of amd64 media up to 20.04: one partition from the first
	// byte on, with the EFI boot image inside the volume.
	Isohybrid
	// NoPartition has an MBR without partitions and only one metadata set.
	NoPartition
)

// Medium describes a medium to make. The zero value is a small amd64 one.
type Medium struct {
	Layout Layout
	// NoJoliet leaves the Joliet tree out.
	NoJoliet bool
	// NewRockRidge writes Rock Ridge 1.12 with file serial numbers.
	NewRockRidge bool
	// Tags adds xorriso's checksum tags.
	Tags bool
	// Small leaves all but the files that every medium must have out.
	Small bool
	// Files are added to the stock tree, by path. A path that ends in "/" is an
	// empty directory.
	Files map[string]string
	// Links are symbolic links, path to target, besides the stock ones.
	Links map[string]string
	// Size is the length in bytes of a file of random content, casper/filler; 0
	// for none.
	Size int64
	// NoChecksums leaves md5sum.txt out.
	NoChecksums bool
}

// Sizes of the parts that are random bytes, and of the EFI system partition.
const (
	kernelSize = 300_000
	initrdSize = 500_001
	espSize    = 1 << 20
	biosSize   = 30_000
)

// GrubCfg is the stock boot menu of Ubuntu Server 24.04.
const GrubCfg = `set timeout=30

loadfont unicode

set menu_color_normal=white/black
set menu_color_highlight=black/light-gray

menuentry "Try or Install Ubuntu Server" {
	set gfxpayload=keep
	linux	/casper/vmlinuz  ---
	initrd	/casper/initrd
}
grub_platform
if [ "$grub_platform" = "efi" ]; then
menuentry 'Boot from next volume' {
	exit 1
}
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
else
menuentry 'Test memory' {
	linux16 /boot/memtest86+x64.bin
}
fi
`

// LoopbackCfg is the stock menu for booting the image file itself.
const LoopbackCfg = `menuentry "Try or Install Ubuntu Server" {
	set gfxpayload=keep
	linux	/casper/vmlinuz  iso-scan/filename=${iso_path} ---
	initrd	/casper/initrd
}
`

// stock is the tree that every medium has.
func (m Medium) stock() map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	architecture, loader := "amd64", "bootx64.efi"
	if m.Layout == ARM64 {
		architecture, loader = "arm64", "bootaa64.efi"
	}
	files := map[string]string{
		".disk/info":             `Ubuntu-Server 24.04.2 LTS "Noble Numbat" - Release ` + architecture + " (20250216)\n",
		".disk/cd_type":          "full_cd/single\n",
		"boot/grub/grub.cfg":     GrubCfg,
		"boot/grub/loopback.cfg": LoopbackCfg,
		"EFI/boot/" + loader:     noise(5000),
		"casper/vmlinuz":         noise(kernelSize),
		"casper/initrd":          noise(initrdSize),
		"casper/empty.manifest":  "",
		"dists/noble/Release":    "Suite: noble\n",
		"pool/main/l/linux/linux-image-6.8.0-53-generic_6.8.0-53.55_amd64.deb": noise(9000),
	}
	if m.Small {
		delete(files, "pool/main/l/linux/linux-image-6.8.0-53-generic_6.8.0-53.55_amd64.deb")
		files["casper/vmlinuz"], files["casper/initrd"], files["EFI/boot/"+loader] = "kernel", "initrd", "loader"
	}
	packages := 60
	if m.Small {
		packages = 0
	}
	for i := range packages {
		name := fmt.Sprintf("pool/main/p/package%02d/package%02d-with-a-name-%s_1.%d-0ubuntu2_amd64.deb", i%7, i, strings.Repeat("x", i*2), i)
		files[name] = noise(100 + i)
	}
	switch m.Layout {
	case Isohybrid:
		// xorriso wants the signature of ISOLINUX in the boot image.
		files["isolinux/isolinux.bin"] = noise(64) + "\xfb\xc0\x78\x70" + noise(biosSize)
	case AMD64:
		files["boot/grub/i386-pc/eltorito.img"] = noise(biosSize)
		if m.Small {
			files["boot/grub/i386-pc/eltorito.img"] = strings.Repeat("\x00", 4096)
		}
	}
	return files
}

// Make makes the medium and returns the image's path. The test is skipped when
// xorriso, mkfs.fat or mtools are missing.
func (m Medium) Make(t testing.TB) string {
	t.Helper()
	xorriso := oracle.Need(t, "xorriso")
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	files := m.stock()
	maps.Copy(files, m.Files)
	writeTree(t, tree, files)
	links := map[string]string{"ubuntu": ".", "dists/stable": "noble"}
	maps.Copy(links, m.Links)
	for name, target := range links {
		mkdirAll(t, filepath.Join(tree, filepath.Dir(name)))
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	if m.Size > 0 {
		writeFiller(t, filepath.Join(tree, "casper/filler"), m.Size)
	}
	if !m.NoChecksums {
		writeChecksums(t, tree)
	}
	esp := filepath.Join(dir, "efi.img")
	makeESP(t, esp)
	image := filepath.Join(dir, "medium.iso")
	run := exec.Command(xorriso, append(m.options(t, dir, esp, image), tree)...)
	run.Dir = dir
	run.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1739746162", "TZ=UTC")
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", run.Args, err, out)
	}
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	return image
}

// options are xorriso's, as Ubuntu's media are made.
func (m Medium) options(t testing.TB, dir, esp, image string) []string {
	var o []string
	if m.NewRockRidge {
		o = append(o, "-compliance", "new_rr")
	}
	o = append(o, "-as", "mkisofs", "-quiet", "-r", "-V", "Ubuntu-Server 24.04.2 LTS amd64", "-o", image, "-iso-level", "3")
	if !m.NoJoliet {
		o = append(o, "-J", "-joliet-long", "-l")
	}
	if m.Tags {
		o = append(o, "--md5")
	}
	mbr := filepath.Join(dir, "mbr.img")
	switch m.Layout {
	case AMD64:
		writeFile(t, mbr, strings.Repeat("\x90", 432)+strings.Repeat("\x00", 80))
		o = append(o, "-b", "boot/grub/i386-pc/eltorito.img", "-no-emul-boot", "-boot-load-size", "4",
			"-boot-info-table", "--grub2-boot-info", "--grub2-mbr", mbr, "--mbr-force-bootable",
			"-append_partition", "2", "0xef", esp, "-appended_part_as_gpt", "-eltorito-alt-boot",
			"-e", "--interval:appended_partition_2:all::", "-no-emul-boot", "-partition_offset", "16")
	case ARM64:
		o = append(o, "-c", "boot/boot.cat", "-partition_cyl_align", "all", "-append_partition", "2", "0xef", esp,
			"-partition_offset", "16", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot")
	case Isohybrid:
		// The signature of an isohybrid MBR that can hold an Apple partition map.
		writeFile(t, mbr, "\x45\x52\x08\x00\x00\x00\x90\x90"+strings.Repeat("\x00", 504))
		copyFile(t, esp, filepath.Join(dir, "tree", "boot/grub/efi.img"))
		o = append(o, "-isohybrid-mbr", mbr, "-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot",
			"-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot", "-e", "boot/grub/efi.img",
			"-no-emul-boot", "-isohybrid-gpt-basdat", "-isohybrid-apm-hfsplus")
	case NoPartition:
		copyFile(t, esp, filepath.Join(dir, "tree", "boot/grub/efi.img"))
		o = append(o, "-e", "boot/grub/efi.img", "-no-emul-boot")
	}
	return o
}

// makeESP makes a FAT image with a boot loader's name in it.
func makeESP(t testing.TB, path string) {
	t.Helper()
	mkfs := oracle.Need(t, "mkfs.fat")
	mmd, mcopy := oracle.Need(t, "mmd"), oracle.Need(t, "mcopy")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, espSize); err != nil {
		t.Fatal(err)
	}
	loader := path + ".efi"
	writeFile(t, loader, "boot loader\n")
	for _, args := range [][]string{
		{mkfs, "-n", "ESP", "-i", "12345678", path},
		{mmd, "-i", path, "::/EFI", "::/EFI/boot"},
		{mcopy, "-m", "-i", path, loader, "::/EFI/boot/bootx64.efi"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// writeChecksums writes md5sum.txt as Ubuntu's has it: every regular file of the
// tree, sorted, symbolic links left out.
func writeChecksums(t testing.TB, tree string) {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(tree, p)
		lines = append(lines, fmt.Sprintf("%x  ./%s\n", md5.Sum(b), rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[34:], b[34:]) })
	writeFile(t, filepath.Join(tree, "md5sum.txt"), strings.Join(lines, ""))
}

func writeTree(t testing.TB, tree string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if strings.HasSuffix(name, "/") {
			mkdirAll(t, filepath.Join(tree, name))
			continue
		}
		mkdirAll(t, filepath.Join(tree, filepath.Dir(name)))
		writeFile(t, filepath.Join(tree, name), text)
	}
}

// writeFiller writes random bytes, the same each time.
func writeFiller(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	buffer := make([]byte, 1<<20)
	for size > 0 {
		n := min(size, int64(len(buffer)))
		if _, err := random.Read(buffer[:n]); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(buffer[:n]); err != nil {
			t.Fatal(err)
		}
		size -= n
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func mkdirAll(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	mkdirAll(t, filepath.Dir(to))
	writeFile(t, to, string(b))
}
