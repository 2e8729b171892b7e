package main

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// machineRecords is what a workstation's kernel and udev tell of it.
func machineRecords() fstest.MapFS {
	records := fstest.MapFS{
		"etc/localtime":               {Data: []byte("/usr/share/zoneinfo/Europe/Zurich"), Mode: fs.ModeSymlink | 0o777},
		"home/ada/.ssh/id_ed25519":    {},
		"home/ada/.ssh/id_rsa.pub":    {},
		"home/ada/.ssh/id_work.pub":   {},
		"run/udev/data/b8:0":          {Data: []byte("S:disk/by-id/x\nE:ID_SERIAL=Samsung_SSD_S1\nE:ID_SERIAL_SHORT=S1\n")},
		"sys/block/loop0/size":        {Data: []byte("8\n")},
		"sys/block/sdc/size":          {Data: []byte("0\n")}, // a card reader without a card
		"sys/block/dm-0/size":         {Data: []byte("800\n")},
		"sys/block/sr0/size":          {Data: []byte("2097151\n")},
		"sys/block/broken/device/x":   {},
		"sys/bus/pci/devices/0000:00": {Mode: fs.ModeDir | 0o755}, // a device that went while it was read
	}
	device := func(place string, words map[string]string) {
		for name, word := range words {
			records[place+"/"+name] = &fstest.MapFile{Data: []byte(word + "\n")}
		}
	}
	device("sys/block/sda", map[string]string{"size": "1953525168", "dev": "8:0", "removable": "0", "device/model": "Samsung SSD 990 "})
	device("sys/block/sdb", map[string]string{"size": "31293440", "dev": "8:16", "removable": "1", "device/model": "Ultra"})
	device("sys/block/nvme0n1", map[string]string{"size": "1000", "dev": "259:0", "removable": "0", "device/serial": "N1  ", "device/model": "NVMe"})
	const bus = "sys/bus/pci/devices/"
	device(bus+"0000:01:00.0", map[string]string{"vendor": "0x10de", "device": "0x2b85", "class": "0x030000"})
	device(bus+"0000:01:00.1", map[string]string{"vendor": "0x10de", "device": "0x22e8", "class": "0x040300"}) // its sound
	device(bus+"0000:02:00.0", map[string]string{"vendor": "0x10de", "device": "0x2335", "class": "0x030200"})
	device(bus+"0000:03:00.0", map[string]string{"vendor": "0x10de", "device": "0x22a3", "class": "0x068000"}) // an NVSwitch
	device(bus+"0000:04:00.0", map[string]string{"vendor": "0x1002", "device": "0x744c", "class": "0x030000"})
	device(bus+"0000:05:00.0", map[string]string{"vendor": "0x10de", "device": "0x2335", "class": "0x030200"})
	return records
}

// What init proposes is what the machine has.
func TestProbe(t *testing.T) {
	here := probe{machineRecords()}
	if diff := cmp.Diff([]string{"10de:2b85", "10de:2335", "10de:2335"}, here.gpus()); diff != "" {
		t.Error("GPUs:", diff)
	}
	models, err := modelsHere(here)
	if diff := cmp.Diff([]string{"rtx-5090", "h200"}, models); diff != "" || err != nil {
		t.Error("models:", diff, err)
	}
	want := []disk{
		{name: "nvme0n1", model: "NVMe", serial: "N1", size: 1000 * 512},
		{name: "sda", model: "Samsung SSD 990", serial: "S1", size: 1953525168 * 512},
	}
	if diff := cmp.Diff(want, here.disks(), cmp.AllowUnexported(disk{})); diff != "" {
		t.Error("disks:", diff)
	}
	if diff := cmp.Diff([]string{"/home/ada/.ssh/id_rsa.pub", "/home/ada/.ssh/id_work.pub"}, here.sshKeys("/home/ada")); diff != "" {
		t.Error("keys:", diff)
	}
	if got := here.timezone(); got != "Europe/Zurich" {
		t.Errorf("time zone %q", got)
	}
	records := machineRecords()
	records["etc/timezone"] = &fstest.MapFile{Data: []byte("Asia/Tokyo\n")}
	if got := (probe{records}).timezone(); got != "Asia/Tokyo" {
		t.Errorf("time zone %q", got)
	}
}

// A machine that tells nothing proposes nothing.
func TestProbeFindsNothing(t *testing.T) {
	here := probe{fstest.MapFS{}}
	models, err := modelsHere(here)
	if err != nil || len(models)+len(here.disks())+len(here.sshKeys("/root")) > 0 || here.timezone() != "" {
		t.Errorf("%v %v %v %q %v", models, here.disks(), here.sshKeys("/root"), here.timezone(), err)
	}
}
