package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gpustrap/gpustrap/e2e/oracle"
)

func TestParseReport(t *testing.T) {
	tests := []struct {
		name, serial string
		want         Report
	}{
		{"nothing", "SeaBIOS\r\nBooting…\r\n", Report{}},
		{
			"sections among other lines",
			"noise\r\ngpustrap-e2e begin cmdline\r\nautoinstall ---\r\ngpustrap-e2e end cmdline\r\nnoise\r\n" +
				"gpustrap-e2e begin two\r\na\r\nb\r\ngpustrap-e2e end two\r\n",
			Report{"cmdline": "autoinstall ---", "two": "a\nb"},
		},
		{
			"a file travels in base64",
			"gpustrap-e2e begin seed/user-data\r\nI2Ns\r\nb3VkCg==\r\ngpustrap-e2e end seed/user-data\r\n",
			Report{"seed/user-data": "#cloud\n"},
		},
		{
			"a broken file shows as it came",
			"gpustrap-e2e begin seed/user-data\nI2N!\ngpustrap-e2e end seed/user-data\n",
			Report{"seed/user-data": "I2N!"},
		},
		{"a section without an end", "gpustrap-e2e begin cmdline\nquiet\n", Report{}},
		{
			"the last of two counts",
			"gpustrap-e2e begin a\n1\ngpustrap-e2e end a\ngpustrap-e2e begin a\n2\ngpustrap-e2e end a\n",
			Report{"a": "2"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, ParseReport(test.serial)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSerialPortWaits(t *testing.T) {
	s := newSerialPort(nil)
	go func() {
		for _, piece := range []string{"boo", "ting\n", "rea", "dy\n"} {
			_, _ = s.Write([]byte(piece))
		}
		s.close()
	}()
	if err := s.waitFor(t.Context(), "ready"); err != nil {
		t.Error(err)
	}
	if err := s.waitFor(t.Context(), "never"); err == nil {
		t.Error("waiting for what never comes ended well")
	}
	open := newSerialPort(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := open.waitFor(ctx, "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

func TestArguments(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name   string
		config Config
		want   []string // in one argument each
		never  string
	}{
		{
			"a CD under BIOS",
			Config{Firmware: BIOS, Medium: Medium{"/a,b.iso", CD}},
			[]string{"if=none,id=medium,format=raw,file=/a,,b.iso,readonly=on", "ide-cd,drive=medium,bootindex=0"},
			"pflash",
		},
		{
			"what a medium on USB is given is dropped",
			Config{Firmware: BIOS, Medium: Medium{"m.iso", USB}},
			[]string{"if=none,id=medium,format=raw,file=m.iso,snapshot=on", "usb-storage,bus=usb.0,removable=on,drive=medium,bootindex=0"},
			"",
		},
		{
			"disks keep theirs and have serial numbers",
			Config{Firmware: BIOS, Disks: []Disk{{Path: "a"}, {Path: "b", Bus: USB, Serial: "S1"}}},
			[]string{"virtio-blk-pci,drive=disk0,bootindex=1", "usb-storage,bus=usb.0,drive=disk1,bootindex=2,serial=S1"},
			"snapshot",
		},
		{
			"who the machine is",
			Config{Firmware: BIOS, Family: "gpustrap-e2e install", Serial: "A,1", UUID: "u"},
			[]string{"type=1,manufacturer=QEMU,product=gpustrap-vm,family=gpustrap-e2e install,serial=A,,1", "u"},
			"",
		},
		{
			"a network card",
			Config{Firmware: BIOS, Network: true, MAC: "52:54:00:00:00:01"},
			[]string{"user,id=net0", "virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:00:00:01"},
			"",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := arguments(test.config, dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !slices.Contains(got, want) {
					t.Errorf("no argument %q in %q", want, got)
				}
			}
			if test.never != "" && strings.Contains(strings.Join(got, " "), test.never) {
				t.Errorf("%q in %q", test.never, got)
			}
		})
	}
	if _, err := arguments(Config{Arch: "riscv64"}, dir); err == nil {
		t.Error("an unknown architecture is no error")
	}
	if _, err := arguments(Config{Arch: "arm64", Firmware: SecureBoot}, dir); err == nil {
		t.Error("a firmware that is not there is no error")
	}
}

// TestMachine starts a machine without a medium, types to it, and ends it.
func TestMachine(t *testing.T) {
	oracle.Need(t, Emulators["amd64"])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := Start(ctx, Config{Firmware: BIOS, MemoryMiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.WaitFor(ctx, "SeaBIOS"); err != nil {
		t.Fatal(err)
	}
	if err := m.Press(ctx, "esc", "shift-a"); err != nil {
		t.Error(err)
	}
	if err := m.Press(ctx, "nokey"); err == nil {
		t.Error("a key that does not exist is no error")
	}
	picture := filepath.Join(t.TempDir(), "screen.png")
	if err := m.Screendump(ctx, picture); err != nil {
		t.Error(err)
	} else if info, err := os.Stat(picture); err != nil || info.Size() == 0 {
		t.Errorf("the picture of the screen: %v", err)
	}
	m.Close()
	if err := m.Wait(ctx); err == nil {
		t.Error("a killed machine counts as one that powered off")
	}
	if _, err := Start(ctx, Config{Firmware: BIOS, Medium: Medium{"/nonexistent.iso", CD}}); err == nil {
		t.Error("a medium that does not exist is no error")
	}
}
