"""Carries out a list of curtin's storage actions, as far as sfdisk and mkfs go:
disks, partitions, file systems and mounts, made new or kept. What is to be kept
is held against what is there, as curtin does, and never written to."""

import json
import os
import subprocess

from .storage import BIOS_GRUB, ESP, LINUX, MIB, TARGET, Mount, Unsupported, clear, disks, run

TYPES = {"bios_grub": BIOS_GRUB, "boot": ESP}
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "fat32": ["mkfs.vfat", "-F", "32"]}


def boot_disk(config):
    """The disk that the boot loader goes to."""
    wanted = next(a for a in config if a["type"] in ("disk", "partition") and a.get("grub_device"))
    if wanted["type"] == "partition":
        wanted = next(a for a in config if a["id"] == wanted["device"])
    return next(disk for disk in disks() if disk.path == wanted["path"])


def _partition_path(disk, number):
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def _verify(action, disk):
    """Holds a partition that is kept against the disk's table."""
    table = json.loads(subprocess.run(["sfdisk", "--json", disk], check=True, capture_output=True, text=True).stdout)["partitiontable"]
    path = _partition_path(disk, action["number"])
    found = next((p for p in table["partitions"] if p["node"] == path), None)
    if found is None or (found["start"] * 512, found["size"] * 512) != (action["offset"], action["size"]):
        raise ValueError(f"{path} is to be kept, and is not as {action}: {found}")
    return path


def _write_table(disk, parts):
    script = "label: gpt\nfirst-lba: 2048\n"
    for part in parts:
        script += f"type={TYPES.get(part.get('flag'), LINUX)}"
        script += f", size={part['size'] // MIB}MiB\n" if part["size"] > 0 else "\n"
    subprocess.run(["sfdisk", "--quiet", "--wipe=always", disk], input=script, text=True, check=True)
    run("udevadm", "settle")


def prepare(config):
    """Carries the actions out and mounts the file systems at /target. Returns the
    mounts, the root's first."""
    paths, kinds, mounts = {}, {}, []
    for action in config:
        parts = [a for a in config if a["type"] == "partition" and a["device"] == action["id"]]
        if action["type"] == "disk":
            paths[action["id"]] = action["path"]
            if not action.get("preserve"):
                clear(next(disk for disk in disks() if disk.path == action["path"]))
                _write_table(action["path"], parts)
            for number, part in enumerate(parts, 1):
                keep = part.get("preserve")
                paths[part["id"]] = _verify(part, action["path"]) if keep else _partition_path(action["path"], number)
        elif action["type"] == "format":
            device = paths[action["id"]] = paths[action["volume"]]
            kinds[action["id"]] = action["fstype"]
            if not action.get("preserve"):
                run(*MKFS[action["fstype"]], device)
        elif action["type"] == "mount":
            fstype = kinds[action["device"]]
            mounts.append(Mount(paths[action["device"]], action["path"], "vfat" if fstype == "fat32" else fstype, "defaults", 1))
        elif action["type"] != "partition":
            raise Unsupported(f"the stand-in installer does no storage action of type {action['type']}")
    mounts.sort(key=lambda mount: mount.point.count("/") if mount.point != "/" else 0)
    for mount in mounts:
        os.makedirs(TARGET + mount.point, exist_ok=True)
        run("mount", mount.device, TARGET + mount.point)
    run("udevadm", "settle")
    return mounts
