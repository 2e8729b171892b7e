#!/bin/bash
# Finds the file systems that are to stay and writes them into the autoinstall,
# after choose-disk.sh has found their disks. It runs in the installer, from
# early-commands, and stops the installation where it cannot tell what to mount.
#   keep-data.sh ID FILESYSTEM PARTITION [ID FILESYSTEM PARTITION]...
# ID is that of a disk among the autoinstall's storage actions. What is on the
# disk is kept, every partition of it; FILESYSTEM is made only where the disk is
# empty: no signature and nothing but zeros at either end. PARTITION is the
# number of the one that is mounted, or 0 for the only one with a file system.
set -eu -o pipefail

autoinstall=/autoinstall.yaml

# The live system has Python and its YAML library: cloud-init needs them.
python3 - "$autoinstall" "$@" <<'END'
import json, os, subprocess, sys, yaml

MOUNTABLE = ("ext2", "ext3", "ext4", "xfs", "btrfs")
MIB = 1 << 20


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()


def stop(disk, summary, what_to_do):
    print(f"gpustrap: {disk} is to be kept, and {summary}", file=sys.stderr)
    there = output("lsblk", "-o", "NAME,SIZE,TYPE,FSTYPE,LABEL", disk)
    print(f"gpustrap: nothing was written; on it is:\n{there}", file=sys.stderr)
    print(f"gpustrap: {what_to_do}", file=sys.stderr)
    run = os.environ.get("GPUSTRAP_RUN", "/run/gpustrap")
    os.makedirs(run, exist_ok=True)
    with open(run + "/failure", "w") as f:  # for failed.sh
        f.write(f"{disk} is to be kept, and {summary}\non it is:\n{there}\n{what_to_do}\n")
    sys.exit(1)


def signature(disk, tag, part=None):
    """What blkid reads on a disk, or at the place of one of its partitions."""
    place = ["--offset", str(part["offset"]), "--size", str(part["size"])] if part else []
    return output("blkid", "-p", "-o", "value", "-s", tag, *place, disk)


def partitions(disk):
    """The partition table's kind, as curtin calls it, and its entries."""
    text = output("sfdisk", "--json", disk)
    if not text:
        return None, []
    table = json.loads(text)["partitiontable"]
    unit = int(table.get("sectorsize", 512))
    found = []
    for entry in table.get("partitions", []):
        number = int(entry["node"][len(disk):].lstrip("p"))
        found.append({"number": number, "offset": entry["start"] * unit, "size": entry["size"] * unit, "type": entry["type"].lower()})
    return {"dos": "msdos"}.get(table["label"], table["label"]), found


def empty(disk):
    if signature(disk, "TYPE") or signature(disk, "PTTYPE"):
        return False
    with open(disk, "rb") as f:
        head = f.read(MIB)
        end = f.seek(0, os.SEEK_END)
        f.seek(max(0, end - MIB))
        return not any(head) and not any(f.read(MIB))


def fresh(disk, filesystem):
    ident, path = disk["id"], disk["path"]
    return [
        {"id": ident, "type": "disk", "path": path, "ptable": "gpt", "wipe": "superblock-recursive"},
        {"id": ident + "-part", "type": "partition", "device": ident, "size": -1, "wipe": "superblock"},
        {"id": ident + "-format", "type": "format", "volume": ident + "-part", "fstype": filesystem},
    ]


def kept(disk, wanted):
    """The actions that describe what is on the disk, and what is mounted."""
    ident, path = disk["id"], disk["path"]
    label, parts = partitions(path)
    actions = [{"id": ident, "type": "disk", "path": path, "preserve": True}]
    if label is None:
        volume, part, what = ident, None, path
        if wanted:
            stop(path, f"has no partition {wanted}", "remove partition from storage.data in gpustrap.yaml")
    else:
        if any(part["type"] in ("5", "f", "85") for part in parts):
            stop(path, "has an extended partition", "describe the disk in storage.config in gpustrap.yaml")
        actions[0]["ptable"] = label
        for part in parts:
            actions.append({"id": f"{ident}-part-{part['number']}", "type": "partition", "device": ident, "number": part["number"],
                            "offset": part["offset"], "size": part["size"], "preserve": True})
        fitting = [part for part in parts if part["number"] == wanted or not wanted and signature(path, "TYPE", part) in MOUNTABLE]
        if len(fitting) != 1:
            stop(path, f"has no partition {wanted}" if wanted else f"has {len(fitting)} partitions with a file system",
                 "write partition: with the number of one of them to storage.data in gpustrap.yaml, or preserve: false to erase the disk")
        part = fitting[0]
        volume, what = f"{ident}-part-{part['number']}", f"partition {part['number']} of {path}"
    found = signature(path, "TYPE", part)
    if found not in MOUNTABLE:
        stop(path, f"{what} holds {found or 'nothing that is known'}, which cannot be mounted",
             "write preserve: false to storage.data in gpustrap.yaml to erase the disk")
    fstype = "ext4" if found.startswith("ext") else found
    actions.append({"id": ident + "-format", "type": "format", "volume": volume, "fstype": fstype, "preserve": True})
    print(f"gpustrap: what is on {path} stays; {what} has {found}, label {signature(path, 'LABEL', part) or 'none'}")
    return actions


path, *rules = sys.argv[1:]
with open(path) as f:
    document = yaml.safe_load(f)
storage = document.get("autoinstall", document)["storage"]
for ident, filesystem, wanted in zip(rules[0::3], rules[1::3], rules[2::3]):
    disk = next(action for action in storage["config"] if action["id"] == ident)
    if empty(disk["path"]):
        print(f"gpustrap: {disk['path']} is empty and gets {filesystem}")
        actions = fresh(disk, filesystem)
    else:
        actions = kept(disk, int(wanted))
    at = storage["config"].index(disk)
    rest = [action for action in storage["config"] if action["id"] not in (ident, ident + "-format")]
    storage["config"] = rest[:at] + actions + rest[at:]
with open(path, "w") as f:
    yaml.safe_dump(document, f, sort_keys=False)
END
