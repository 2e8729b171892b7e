"""Puts a system onto the disk and makes it what the autoinstall says."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import uuid

import yaml

from . import autoinstall
from .storage import TARGET, run

HOSTS = """\
127.0.0.1 localhost
127.0.1.1 {hostname}

# The following lines are desirable for IPv6 capable hosts
::1     ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""

# Groups that Subiquity puts the first user into, of those that exist.
USER_GROUPS = {"adm", "cdrom", "dip", "lxd", "plugdev", "sudo"}

DISABLE_CLOUD_INIT = {
    "path": "/etc/cloud/cloud-init.disabled",
    "defer": True,
    "content": "Disabled by Ubuntu live installer after first boot.\n",
}


def in_target(*command, data=None):
    subprocess.run(["curtin", "in-target", "--target", TARGET, "--", *command], check=True, text=True, input=data)


def write(path, text, mode=0o644):
    path = TARGET + path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
        f.write(text)
        os.fchmod(f.fileno(), mode)


def extract(source_id):
    """Copies the layers of a source of the medium to the target."""
    with open("/cdrom/casper/install-sources.yaml", encoding="utf-8") as f:
        sources = yaml.safe_load(f)
    if isinstance(sources, dict):
        sources = sources["sources"]
    chosen = [s for s in sources if (s["id"] == source_id if source_id else s["default"])]
    if not chosen:
        raise LookupError(f"the medium has no source {source_id!r}")
    names = chosen[0]["path"].removesuffix(".squashfs").split(".")
    layers = ["/run/layers/" + ".".join(names[:i]) for i in range(len(names), 0, -1)]
    with tempfile.TemporaryDirectory(dir="/run") as point:
        # A single layer is no overlay: an empty folder below it makes it one.
        empty = tempfile.mkdtemp(dir="/run")
        run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=" + ":".join(layers + [empty]), point)
        run("cp", "-aT", point, TARGET)
        run("umount", point)


def install_boot_loader(disk, uefi):
    """Installs the medium's kernel and GRUB."""
    release = os.path.basename(glob.glob(TARGET + "/usr/lib/modules/*")[0])
    shutil.copy("/cdrom/casper/vmlinuz", f"{TARGET}/boot/vmlinuz-{release}")
    words = autoinstall.kernel_arguments()
    kept = words[words.index("---") + 1:] if "---" in words else []
    write("/etc/default/grub",
          "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Ubuntu\n"
          f'GRUB_CMDLINE_LINUX_DEFAULT="{" ".join(kept)}"\nGRUB_CMDLINE_LINUX=""\nGRUB_DISABLE_OS_PROBER=true\n')
    if uefi:
        in_target("grub-install", "--target=x86_64-efi", "--efi-directory=/boot/efi",
                  "--bootloader-id=debian", "--force-extra-removable")
    else:
        in_target("grub-install", "--target=i386-pc", disk.path)
    in_target("update-grub")


def configure_network(section):
    """Writes the netplan that the installed system uses: the section's, or
    DHCP on the interfaces of the live system."""
    network = section
    if network and set(network) == {"network"}:
        network = network["network"]
    if not network:
        names = [os.path.basename(os.path.dirname(p)) for p in glob.glob("/sys/class/net/*/device")]
        network = {"version": 2, "ethernets": {name: {"dhcp4": True} for name in names}}
    write("/etc/netplan/00-installer-config.yaml", yaml.safe_dump({"network": network}), 0o600)
    write("/etc/cloud/cloud.cfg.d/00-subiquity-disable-cloudinit-networking.cfg", "network: {config: disabled}\n", 0o600)


def configure_apt(section):
    """Writes the archive's sources, when the autoinstall names an archive: the
    stand-in has none of its own but the medium's pool."""
    section = section or {}
    primary = (section.get("mirror-selection") or {}).get("primary") or section.get("primary") or []
    uris = [entry["uri"] for entry in primary if isinstance(entry, dict)]
    suite = _os_release("VERSION_CODENAME")
    for name, source in (section.get("sources") or {}).items():
        if set(source) - {"key"}:
            raise NotImplementedError(f"the stand-in installer does not do apt.sources: {name}")
        write(f"/etc/apt/trusted.gpg.d/{name}.asc", source["key"])
    text = section.get("sources_list")
    if text:
        text = text.replace("$RELEASE", suite).replace("$MIRROR", uris[0] if uris else "$MIRROR")
        write("/etc/apt/sources.list.d/ubuntu.sources" if "Types:" in text else "/etc/apt/sources.list", text)
    elif uris:
        write("/etc/apt/sources.list", f"deb {uris[0]} {suite} main restricted universe multiverse\n")
    else:
        return
    try:
        in_target("apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any")
    except subprocess.CalledProcessError:
        if section.get("fallback", "offline-install") != "offline-install":
            raise RuntimeError("aborting installation because no mirror is usable") from None
        print("standin-installer: the archive is unusable; installing offline", flush=True)


def install_packages(reporter, packages):
    """Installs packages one by one, from the medium's pool and the archive."""
    if not packages:
        return
    os.makedirs(TARGET + "/cdrom", exist_ok=True)
    run("mount", "--bind", "/cdrom", TARGET + "/cdrom")
    pool = "/etc/apt/sources.list.d/medium.list"
    # The medium was checked as a whole; its pool carries no signature.
    write(pool, f"deb [trusted=yes check-date=no] file:///cdrom {_os_release('VERSION_CODENAME')} main restricted\n")
    try:
        in_target("apt-get", "-qq", "update")
        for package in packages:
            name = f"Install/install/postinstall/install_{package}"
            with reporter.step(name, f"installing {package}"):
                apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", "install"]
                with reporter.step(name + "/retrieving", f"retrieving {package}"):
                    in_target(*apt, "--download-only", package)
                with reporter.step(name + "/unpacking", f"unpacking {package}"):
                    in_target(*apt, package)
    finally:
        os.unlink(TARGET + pool)
        run("umount", TARGET + "/cdrom")


def target_packages(document):
    packages = list(document.get("packages") or [])
    if (document.get("ssh") or {}).get("install-server"):
        packages.append("openssh-server")
    return packages


def create_user(identity):
    """Makes identity's user in the installed system, as Subiquity does from
    24.04.4 on."""
    in_target("useradd", identity["username"], "--comment", identity.get("realname", ""), "--shell", "/bin/bash",
              "--groups", ",".join(_user_groups(identity)), "--create-home")
    in_target("chpasswd", "--encrypted", data=f"{identity['username']}:{identity['password']}")


def _user_groups(identity):
    with open(TARGET + "/etc/group", encoding="utf-8") as f:
        there = {line.split(":")[0] for line in f}
    wanted = identity.get("groups", USER_GROUPS)
    if isinstance(wanted, dict):
        wanted = wanted.get("override") or USER_GROUPS | set(wanted.get("append", []))
    return sorted(set(wanted) & there)


def cloud_config(document, user_exists):
    """The cloud-config of the installed system's first boot."""
    config = {"growpart": {"mode": "off"}, "resize_rootfs": False}
    identity, ssh = document.get("identity"), document.get("ssh") or {}
    keys = ssh.get("authorized-keys") or []
    if identity:
        config["preserve_hostname"] = True
        user = {"name": identity["username"], "lock_passwd": False}
        if not user_exists:
            user.update(gecos=identity.get("realname", ""), passwd=identity["password"], shell="/bin/bash",
                        groups=",".join(_user_groups(identity)))
        if keys:
            user["ssh_authorized_keys"] = keys
        config["users"] = [user]
    else:
        if "user-data" not in document:
            config["users"] = []
        if keys:
            config["ssh_authorized_keys"] = keys
    if ssh.get("install-server"):
        config["ssh_pwauth"] = ssh.get("allow-pw", not keys)
    if document.get("timezone"):
        config["timezone"] = document["timezone"]
    _merge(config, document.get("user-data") or {})
    if _os_release("VERSION_ID") not in ("20.04", "22.04"):
        config.setdefault("write_files", []).append(DISABLE_CLOUD_INIT)
    return config


def _merge(config, more):
    """Subiquity's merge: mappings are merged, lists joined, the rest replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        elif isinstance(value, list) and isinstance(config.get(key), list):
            config[key] = config[key] + value
        else:
            config[key] = value


def configure_cloud_init(document, user_exists):
    """Hands the first boot's configuration to the installed system's
    cloud-init, through the datasource None."""
    user_data = "#cloud-config\n" + autoinstall.dump_yaml(cloud_config(document, user_exists))
    none = {"userdata_raw": user_data, "metadata": {"instance-id": str(uuid.uuid4())}}
    config = yaml.safe_dump({"datasource_list": ["None"], "datasource": {"None": none}}, default_flow_style=None)
    write("/etc/cloud/cloud.cfg.d/99-installer.cfg", config, 0o600)
    write("/etc/cloud/cloud.cfg.d/20-disable-cc-dpkg-grub.cfg", "grub_dpkg: {enabled: false}\n")
    write("/etc/cloud/cloud.cfg.d/curtin-preserve-sources.cfg", "apt: {preserve_sources_list: true}\n")
    write("/etc/cloud/ds-identify.cfg", "policy: enabled\n")
    hostname = (document.get("identity") or {}).get("hostname")
    if hostname:
        write("/etc/hostname", hostname.strip() + "\n")
        write("/etc/hosts", HOSTS.format(hostname=hostname.strip()))


def configure_locale(document):
    """Writes the locale without making it: the sample's Debian has none."""
    write("/etc/default/locale", f"LANG={document.get('locale', 'C.UTF-8')}\n")


def _os_release(key):
    """A value of the target's os-release, which presents it as Ubuntu."""
    with open(TARGET + "/usr/lib/os-release", encoding="utf-8") as f:
        return re.search(rf'^{key}="?([^"\n]*)', f.read(), re.M).group(1)
