package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// probe is what a running Linux machine tells of itself, read from a root file
// system. What cannot be read is left out: it only serves as a proposal.
type probe struct{ root fs.FS }

// disk is a whole block device that a system could be installed on.
type disk struct {
	name   string // kernel name such as nvme0n1
	model  string
	serial string
	size   int64 // bytes
}

// gpus returns the PCI ids of the NVIDIA display controllers, such as
// 10de:2335, one for each device on the bus.
func (p probe) gpus() []string {
	const (
		nvidia       = "0x10de"
		displayClass = "0x03"
		folder       = "sys/bus/pci/devices"
	)
	var ids []string
	for _, name := range p.list(folder) {
		dir := path.Join(folder, name)
		if p.word(dir, "vendor") != nvidia || !strings.HasPrefix(p.word(dir, "class"), displayClass) {
			continue
		}
		ids = append(ids, "10de:"+strings.TrimPrefix(p.word(dir, "device"), "0x"))
	}
	return ids
}

// disks returns the fixed disks, without loop devices and the like.
func (p probe) disks() []disk {
	const folder = "sys/block"
	var disks []disk
	for _, name := range p.list(folder) {
		dir := path.Join(folder, name)
		sectors, err := strconv.ParseInt(p.word(dir, "size"), 10, 64)
		if err != nil || sectors == 0 || p.word(dir, "removable") == "1" || virtual(name) {
			continue
		}
		disks = append(disks, disk{
			name: name, model: p.word(dir, "device/model"), serial: p.serial(name), size: sectors * 512,
		})
	}
	return disks
}

func virtual(name string) bool {
	return slices.ContainsFunc([]string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// serial returns a disk's short serial number as udev has it, which is what the
// installer matches.
func (p probe) serial(name string) string {
	dev := p.word(path.Join("sys/block", name), "dev")
	data, err := fs.ReadFile(p.root, path.Join("run/udev/data", "b"+dev))
	if err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			if serial, ok := strings.CutPrefix(lines.Text(), "E:ID_SERIAL_SHORT="); ok {
				return serial
			}
		}
	}
	return p.word(path.Join("sys/block", name), "device/serial")
}

// timezone returns the machine's time zone, such as Europe/Zurich. Not every
// distribution writes /etc/timezone; /etc/localtime leads into the zones' folder.
func (p probe) timezone() string {
	if zone := p.word("etc", "timezone"); zone != "" {
		return zone
	}
	target, err := fs.ReadLink(p.root, "etc/localtime")
	if err != nil {
		return ""
	}
	_, zone, _ := strings.Cut(target, "/zoneinfo/")
	return zone
}

// sshKeys returns the paths of the public keys in a home folder.
func (p probe) sshKeys(home string) []string {
	dir := path.Join(strings.TrimPrefix(home, "/"), ".ssh")
	var keys []string
	for _, name := range p.list(dir) {
		if strings.HasSuffix(name, ".pub") {
			keys = append(keys, "/"+path.Join(dir, name))
		}
	}
	return keys
}

// list returns the names in a folder, sorted; none when it cannot be read.
func (p probe) list(dir string) []string {
	entries, err := fs.ReadDir(p.root, dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// word returns a file's content without surrounding space; empty when it cannot
// be read.
func (p probe) word(dir, name string) string {
	data, err := fs.ReadFile(p.root, path.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
