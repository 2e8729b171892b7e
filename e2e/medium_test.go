package e2e

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/e2e/lab"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

// ubuntuReport is what xorriso reported of Ubuntu's own 24.04.2 medium, with
// every figure that depends on its content replaced by N.
const ubuntuReport = `-V 'Ubuntu-Server N LTS amdN'
--modification-date='N'
--grubN-mbr --interval:local_fs:Ns-Ns:zero_mbrpt,zero_gpt:'ISO'
--protective-msdos-label
-partition_cyl_align off
-partition_offset N
--mbr-force-bootable
-append_partition N N --interval:local_fs:Nd-Nd::'ISO'
-appended_part_as_gpt
-iso_mbr_part_type N
-c '/boot.catalog'
-b '/boot/grub/iN-pc/eltorito.img'
-no-emul-boot
-boot-load-size N
-boot-info-table
--grubN-boot-info
-eltorito-alt-boot
-e '--interval:appended_partition_N_start_Ns_size_Nd:all::'
-no-emul-boot
-boot-load-size N
`

// arm64Report has the options that others saw on Ubuntu's arm64 media: MBR and
// UEFI alone.
const arm64Report = `-V 'Ubuntu-Server N LTS armN'
--modification-date='N'
-partition_cyl_align all
-partition_offset N
-append_partition N N --interval:local_fs:Nd-Nd::'ISO'
-iso_mbr_part_type N
-c '/boot/boot.cat'
-e '--interval:appended_partition_N_start_Ns_size_Nd:all::'
-no-emul-boot
-boot-load-size N
`

var (
	typeID  = regexp.MustCompile(`\b0x[0-9a-f]+\b|\b[0-9a-f]{32}\b`)
	figures = regexp.MustCompile(`[0-9.]*[0-9]`)
	// geometry is reported of images below 1 GiB only; -G is an empty System Area.
	geometry = regexp.MustCompile(`(?m)^-(partition_(hd_cyl|sec_hd)|G) .*\n`)
)

// TestSampleMediaHaveUbuntusStructure compares the media with what xorriso said
// of genuine ones.
func TestSampleMediaHaveUbuntusStructure(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads a kernel")
	}
	xorriso := oracle.Need(t, "xorriso")
	tests := []struct{ flavour, want string }{
		{"24.04", ubuntuReport},
		{"22.04", ubuntuReport},
		{"26.04", strings.Replace(ubuntuReport, " LTS", "", 1)},
		{"arm64", arm64Report},
	}
	for _, test := range tests {
		t.Run(test.flavour, func(t *testing.T) {
			medium := lab.SampleMedium(t, test.flavour, "light")
			out, err := exec.Command(xorriso, "-indev", medium, "-report_el_torito", "as_mkisofs").Output()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(geometry.ReplaceAllString(string(out), ""), medium, "ISO")
			if got = figures.ReplaceAllString(typeID.ReplaceAllString(got, "N"), "N"); got != test.want {
				t.Errorf("xorriso reports:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestSampleMediaCarryTrueChecksums unpacks media and runs md5sum -c.
func TestSampleMediaCarryTrueChecksums(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads a kernel")
	}
	xorriso := oracle.Need(t, "xorriso")
	for _, flavour := range []string{"24.04", "26.04", "arm64"} {
		t.Run(flavour, func(t *testing.T) {
			tree := filepath.Join(t.TempDir(), "tree")
			lab.Run(t, xorriso, "-osirrox", "on", "-indev", lab.SampleMedium(t, flavour, "light"), "-extract", "/", tree)
			check := exec.Command("md5sum", "-c", "--quiet", "md5sum.txt")
			check.Dir = tree
			out, err := check.Output()
			want := ""
			if flavour == "26.04" {
				// xorriso patches this file after md5sum.txt was made.
				want = "./boot/grub/i386-pc/eltorito.img: FAILED\n"
			}
			if string(out) != want || (err != nil) != (want != "") {
				t.Errorf("md5sum -c: %v\n%s\nwant:\n%s", err, out, want)
			}
			lab.Run(t, "chmod", "-R", "u+w", tree)
		})
	}
}

// TestSampleMediaAreReproducible makes one medium twice.
func TestSampleMediaAreReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads a kernel")
	}
	first := lab.SampleMedium(t, "24.04", "light")
	second := filepath.Join(t.TempDir(), "again.iso")
	lab.Run(t, "medium/make-medium.sh", "--flavour", "24.04", "--live", "light", "-o", second)
	if a, b := sum(t, first), sum(t, second); !bytes.Equal(a, b) {
		t.Errorf("two runs made different media: %x, %x", a, b)
	}
}

func sum(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	return digest[:]
}

// TestForeignMediaAreRefused gives the program media of layouts that it does
// not know how to change.
func TestForeignMediaAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads a kernel")
	}
	lab.Gpustrap(t, "version")
	for flavour, reason := range map[string]string{
		"20.04": "isohybrid", "riscv64": "riscv64", "multisession": "session",
	} {
		t.Run(flavour, func(t *testing.T) {
			config := lab.WriteConfig(t, bootConfig("24.04", "amd64", "DISK1"))
			image := filepath.Join(t.TempDir(), "image.iso")
			out, err := exec.Command(lab.Program(t), "remaster", "-c", config,
				"--iso", lab.SampleMedium(t, flavour, "light"), "-o", image).CombinedOutput()
			if err == nil {
				t.Fatalf("the program remastered it:\n%s", out)
			}
			if !strings.Contains(string(out), reason) {
				t.Errorf("the program does not say why (%q):\n%s", reason, out)
			}
			if _, err := os.Stat(image); !os.IsNotExist(err) {
				t.Errorf("an image was left behind: %v", err)
			}
		})
	}
}
