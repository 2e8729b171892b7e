package gpt

import (
	"crypto/sha256"
	"fmt"

	wire "github.com/diskfs/go-diskfs/partition/gpt"
)

// TypeMBRISO is the MBR partition type of an ISO 9660 volume.
const TypeMBRISO byte = 0x96

// MoveBackup fits the table to a device on which the image lies: the backup header
// goes to the device's last sector, and the protective entry covers the device.
func (t *Table) MoveBackup(last LBA) error {
	if last < t.Backup {
		return fmt.Errorf("cannot move the backup partition table: the device ends at sector %d and the image at %d", last, t.Backup)
	}
	t.Backup = last
	t.wire.Resize(uint64((last + 1).Offset()))
	t.mbr.setProtectiveSize(last)
	return nil
}

// Add adds a partition for data from first to last and returns its number. Its
// unique identifier follows from the disk's and the name, so that the same table
// is the same bytes.
func (t *Table) Add(name string, first, last LBA) (int, error) {
	number := 1
	for _, p := range t.Partitions {
		number = max(number, p.Number+1)
		if first <= p.Last && last >= p.First {
			return 0, fmt.Errorf("cannot add a partition: sectors %d to %d belong to partition %d", first, last, p.Number)
		}
	}
	if number > t.EntryCount || last < first || last >= t.BackupFirst() {
		return 0, fmt.Errorf("cannot add a partition: there is no room for sectors %d to %d", first, last)
	}
	t.Partitions = append(t.Partitions, Partition{Number: number, Type: TypeBasicData, Name: name, First: first, Last: last})
	t.wire.Partitions = append(t.wire.Partitions, &wire.Partition{
		Index: number, Start: uint64(first), End: uint64(last), Size: uint64((last - first + 1).Offset()),
		Type: wire.Type(TypeBasicData), Name: name, GUID: nameUUID(t.wire.GUID, name),
	})
	return number, nil
}

// nameUUID returns a version 8 UUID (RFC 9562) made from two names.
func nameUUID(space, name string) string {
	h := sha256.Sum256([]byte(space + "\x00" + name))
	h[6] = h[6]&0x0F | 0x80
	h[8] = h[8]&0x3F | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Add adds a partition to a plain master boot record and returns its number.
func (m *MBR) Add(kind byte, first, last LBA) (int, error) {
	used := map[int]bool{}
	for _, p := range m.Partitions {
		used[p.Number] = true
		if first < p.End() && last >= p.First {
			return 0, fmt.Errorf("cannot add a partition: sectors %d to %d belong to partition %d", first, last, p.Number)
		}
	}
	for number := 1; number <= 4; number++ {
		if used[number] {
			continue
		}
		if last < first || last > 1<<32-1 {
			return 0, fmt.Errorf("cannot add a partition: there is no room for sectors %d to %d", first, last)
		}
		p := MBRPartition{Number: number, Type: kind, First: first, Count: last - first + 1}
		m.Partitions = append(m.Partitions, p)
		m.entry(number - 1)[mbrType] = kind
		m.store(p)
		return number, nil
	}
	return 0, fmt.Errorf("cannot add a partition: all four of the master boot record are taken")
}
