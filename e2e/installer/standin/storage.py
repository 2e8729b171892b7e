"""Chooses a disk and lays it out as Subiquity's guided storage does: layout
direct or lvm."""

import collections
import fnmatch
import glob
import os
import subprocess

MIB = 1 << 20
GIB = 1 << 30

TARGET = "/target"
BIOS_GRUB = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

Disk = collections.namedtuple("Disk", "path size properties rotational in_use")
Mount = collections.namedtuple("Mount", "device point fstype options check")


class Unsupported(Exception):
    """The storage section asks for what the stand-in does not do."""


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def disks():
    """All disks of the machine, in the order of their names."""
    found = []
    medium = _medium()
    for folder in sorted(glob.glob("/sys/block/*")):
        name = os.path.basename(folder)
        if name.startswith(("loop", "ram", "sr", "dm-", "md", "zram", "fd")):
            continue
        properties = subprocess.run(["udevadm", "info", "--query=property", "--name=" + name],
                                    check=True, capture_output=True, text=True).stdout
        path = "/dev/" + name
        found.append(Disk(
            path=path,
            size=int(read(folder + "/size")) * 512,
            properties=dict(line.split("=", 1) for line in properties.splitlines() if "=" in line),
            rotational=read(folder + "/queue/rotational") == "1",
            in_use=medium.startswith(path),
        ))
    return found


def _medium():
    """The device that is mounted at /cdrom."""
    with open("/proc/mounts", encoding="utf-8") as f:
        for line in f:
            device, point = line.split()[:2]
            if point == "/cdrom":
                return device
    return ""


def choose(all_disks, match):
    """The disk that a match directive, or the first of a list of them that
    fits anything, means."""
    for directive in match if isinstance(match, list) else [match]:
        fitting = [disk for disk in all_disks if disk.size and _fits(disk, directive)]
        if directive.get("size") == "largest":
            fitting.sort(key=lambda disk: -disk.size)
        elif directive.get("size") == "smallest":
            fitting.sort(key=lambda disk: disk.size)
        if fitting:
            return fitting[0]
    raise LookupError(f"Failed to find matching device for {match}")


def _fits(disk, directive):
    patterns = {
        "serial": disk.properties.get("ID_SERIAL", ""),
        "model": disk.properties.get("ID_MODEL", ""),
        "vendor": disk.properties.get("ID_VENDOR", ""),
        "id_path": disk.properties.get("ID_PATH", ""),
        "devpath": disk.properties.get("DEVPATH", ""),
        "path": disk.path,
    }
    for key, value in patterns.items():
        if key in directive and not fnmatch.fnmatchcase(value, directive[key]):
            return False
    if "ssd" in directive and directive["ssd"] == disk.rotational:
        return False
    if ("size" in directive or "ssd" in directive) and disk.in_use:
        return False
    return not directive.get("install-media") or disk.in_use


def plan(section):
    """Returns the disk, layout name and sizing policy that a storage section
    means. An unknown layout name is direct, as in Subiquity."""
    section = section or {}
    layout = section.get("layout") or {}
    for key in ("password", "key", "mode", "reset-partition", "ptable"):
        if layout.get(key):
            raise Unsupported(f"the stand-in installer does not do storage.layout.{key}")
    policy = layout.get("sizing-policy", "scaled")
    if policy not in ("scaled", "all"):
        raise ValueError(f"Unknown sizing policy {policy}")
    disk = choose(disks(), layout.get("match") or {"size": "largest"})
    return disk, "lvm" if layout.get("name") == "lvm" else "direct", policy


def scale(disk_size, minimum, priority, maximum):
    """Subiquity's share of a disk for one partition: ESP, /boot and / weigh
    538, 1024 and 10000."""
    return min(max(disk_size * priority // (538 + 1024 + 10000), minimum), maximum) // MIB * MIB


def clear(disk):
    """Lets go of what is on the disk and forgets it."""
    for holder in subprocess.run(["lsblk", "-nrpo", "NAME,TYPE", disk.path], check=True,
                                 capture_output=True, text=True).stdout.splitlines()[::-1]:
        device, kind = holder.split()
        if kind == "lvm":
            run("dmsetup", "remove", "--retry", device)
        elif kind == "part":
            run("wipefs", "--all", "--force", device)
    run("wipefs", "--all", "--force", disk.path)


def partition(disk, layout, uefi):
    """Writes a GPT and returns the partitions by their use."""
    esp = scale(disk.size, 538 * MIB, 538, 1075 * MIB)
    uses = [("esp", ESP, esp)] if uefi else [("bios_grub", BIOS_GRUB, MIB)]
    if layout == "lvm":
        uses.append(("/boot", LINUX, scale(disk.size, 1792 * MIB, 1024, 2048 * MIB)))
        uses.append(("pv", LINUX, None))
    else:
        uses.append(("/", LINUX, None))
    script = "label: gpt\nfirst-lba: 2048\n"
    for _, kind, size in uses:
        script += f"type={kind}" + (f", size={size // 512}" if size else "") + "\n"
    subprocess.run(["sfdisk", "--quiet", "--wipe=always", disk.path], input=script, text=True, check=True)
    run("udevadm", "settle")
    infix = "p" if disk.path[-1].isdigit() else ""
    return {use: f"{disk.path}{infix}{i}" for i, (use, _, _) in enumerate(uses, 1)}


def volume(device, policy):
    """Makes the volume group and the volume of the root file system."""
    run("pvcreate", "--yes", "--force", "--force", device)
    run("vgcreate", "ubuntu-vg", device)
    size = int(subprocess.run(["vgs", "--noheadings", "--nosuffix", "--units=b", "-o", "vg_size", "ubuntu-vg"],
                              check=True, capture_output=True, text=True).stdout)
    extent = ["-l", "100%FREE"]
    if policy == "scaled" and size >= 10 * GIB:
        wanted = 10 * GIB if size < 20 * GIB else size // 2 if size < 200 * GIB else 100 * GIB
        extent = ["-L", f"{wanted // (4 * MIB) * 4}M"]
    run("lvcreate", "--yes", "--wipesignatures=y", "--name=ubuntu-lv", *extent, "ubuntu-vg")
    run("udevadm", "settle")
    return "/dev/ubuntu-vg/ubuntu-lv"


def prepare(disk, layout, policy, uefi):
    """Lays the disk out, makes the file systems and mounts them at /target.
    Returns the mounts, the root's first."""
    clear(disk)
    parts = partition(disk, layout, uefi)
    root = volume(parts["pv"], policy) if layout == "lvm" else parts["/"]
    mounts = [Mount(root, "/", "ext4", "defaults", 1)]
    if layout == "lvm":
        mounts.append(Mount(parts["/boot"], "/boot", "ext4", "defaults", 1))
    if uefi:
        mounts.append(Mount(parts["esp"], "/boot/efi", "vfat", "defaults", 1))
    for mount in mounts:
        if mount.fstype == "vfat":
            run("mkfs.vfat", "-F", "32", mount.device)
        else:
            run("mkfs.ext4", "-q", "-F", mount.device)
        os.makedirs(TARGET + mount.point, exist_ok=True)
        run("mount", mount.device, TARGET + mount.point)
    run("udevadm", "settle")
    return mounts


def write_fstab(mounts):
    lines = ["# /etc/fstab: static file system information.\n"]
    for mount in mounts:
        uuid = subprocess.run(["blkid", "-s", "UUID", "-o", "value", mount.device],
                              check=True, capture_output=True, text=True).stdout.strip()
        lines.append(f"/dev/disk/by-uuid/{uuid} {mount.point} {mount.fstype} {mount.options} 0 {mount.check}\n")
    with open(TARGET + "/etc/fstab", "w", encoding="utf-8") as f:
        f.writelines(lines)
