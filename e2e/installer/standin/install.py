"""The course of an installation, in Subiquity's order."""

import os
import re
import shutil
import subprocess
import time

from . import actions, autoinstall, cases, events, storage, target
from .storage import TARGET

# Subiquity makes these in the live system for commands to find.
LOGS = "/var/log/installer"


def run(words):
    """Installs. Returns how the machine is to end, "reboot" or "poweroff", and
    says on the console how the installation went."""
    if "cases" in words:
        cases.run()
        return "poweroff"
    reporter = events.Reporter()
    if autoinstall.find() is None:
        return _finish("no autoinstall was found: Ubuntu's installer would ask now", "poweroff")
    document = {}
    try:
        document = autoinstall.read()
        document = _load(reporter, document)
        if "early" in words:
            return _finish(_early(document), "poweroff")
        disk, layout, policy = _apply(reporter, document)
        _confirm()
        _install(reporter, document, (disk, layout, policy), words)
    except Exception as e:  # whatever it is, error-commands run and it is told
        _run_error_commands(reporter, document)
        return _finish(f"failed: {e}", "poweroff")
    mode = document.get("shutdown", "reboot")
    with reporter.step("Shutdown/copy_logs_to_target"):
        shutil.copytree(LOGS, TARGET + LOGS, dirs_exist_ok=True)
    subprocess.run(["umount", "--recursive", TARGET], check=True)
    with reporter.step("Shutdown/shutdown", f"mode={mode.upper()}"):
        pass
    return _finish("ok", mode)


def _finish(how, mode):
    print(f"\ngpustrap-e2e begin install\n{how}\ngpustrap-e2e end install", flush=True)
    return mode


def _early(document):
    """Says which machine the early-commands have made of this one."""
    hostname = (document.get("identity") or document.get("user-data") or {}).get("hostname")
    return f"early: {hostname} on {document['storage']['layout']['match']}"


def _load(reporter, document):
    """Takes the sections that come before all others from the autoinstall, runs
    its early-commands and reads it again, as they may have changed it."""
    reporter.configure(document.get("reporting"))
    with reporter.step("Error/load_autoinstall_data"):
        pass
    with reporter.step("core_validation", level="INFO"):
        with reporter.step("core_validation/top_level_keys", level="INFO"):
            autoinstall.check(document)
    with reporter.step("Early/load_autoinstall_data"):
        pass
    reporter.post("finish", "load_autoinstall_config", level="INFO", result="SUCCESS")
    if document.get("early-commands"):
        with reporter.step("Early/run"):
            autoinstall.run_commands(reporter, "Early/run", document["early-commands"])
    with reporter.step("load_autoinstall_config", level="INFO"):
        with reporter.step("load_autoinstall_config/read_config", level="INFO"):
            document = autoinstall.read()
        for name in events.CONTROLLERS:
            with reporter.step(f"{name}/load_autoinstall_data"):
                pass
    return document


def _apply(reporter, document):
    """Applies the sections, of which storage alone can fail."""
    plan = None
    with reporter.step("apply_autoinstall_config", level="INFO"):
        for name in events.CONTROLLERS:
            if name == "Install":
                continue
            with reporter.step(f"{name}/apply_autoinstall_config"):
                for step in events.STEPS.get(name, []):
                    with reporter.step(f"{name}/apply_autoinstall_config/{step}"):
                        pass
                if name == "Filesystem":
                    with reporter.step(f"{name}/apply_autoinstall_config/convert_autoinstall_config"):
                        plan = _plan(document.get("storage") or {})
    return plan


def _plan(section):
    """Returns the disk that the boot loader goes to, the layout's name or the
    list of actions, and the sizing policy."""
    if section.get("layout") or not section.get("config"):
        return storage.plan(section)
    return actions.boot_disk(section["config"]), section["config"], None


def _confirm():
    """Asks before the disk is touched, unless the kernel was started with the
    word autoinstall."""
    if "autoinstall" in autoinstall.kernel_arguments():
        return
    print("Confirmation is required to continue.\n"
          "Add 'autoinstall' to your kernel command line to avoid this\n", flush=True)
    answer = ""
    while answer != "yes":
        print("\nContinue with autoinstall? (yes|no)", flush=True)
        answer = input().strip()


def _install(reporter, document, plan, words):
    with reporter.step("Install/install"):
        base = "Install/install"
        with reporter.step(base + "/configure_apt", "configuring apt", "INFO"):
            pass
        with reporter.step(base + "/curtin_install", "installing system", "INFO"):
            _curtin_install(reporter, base + "/curtin_install", document, plan)
        with reporter.step(base + "/postinstall", "final system configuration", "INFO"):
            _postinstall(reporter, base + "/postinstall", document, words)
        with reporter.step("Late/run"):
            autoinstall.run_commands(reporter, "Late/run", document.get("late-commands"))


def _curtin_install(reporter, base, document, plan):
    uefi = os.path.isdir("/sys/firmware/efi")
    disk, layout, policy = plan

    def step(name):
        return reporter.step(base + "/run_curtin_step", f"executing curtin install {name} step")

    with step("initial"):
        os.makedirs(TARGET, exist_ok=True)
    with step("partitioning"):
        own = isinstance(layout, list)
        print(f"standin-installer: installing to {disk.path}, layout {'of storage actions' if own else layout}", flush=True)
        mounts = actions.prepare(layout) if own else storage.prepare(disk, layout, policy, uefi)
    with step("extract"):
        target.extract((document.get("source") or {}).get("id"))
        storage.write_fstab(mounts)
        shutil.copy("/etc/machine-id", TARGET + "/etc/machine-id")
    with reporter.step(base + "/setup_target", "configuring keyboard"):
        pass
    with step("curthooks"):
        target.install_boot_loader(disk, uefi)
        target.configure_network(document.get("network"))
        target.configure_apt(document.get("apt"))


def _postinstall(reporter, base, document, words):
    target.write("/var/log/installer/autoinstall-user-data",
                 "#cloud-config\n" + autoinstall.dump_yaml({"autoinstall": document}), 0o400)
    identity = document.get("identity")
    at_install = identity is not None and _user_at_install(words)
    if at_install:
        target.create_user(identity)
    with reporter.step(base + "/get_target_packages", "calculating extra packages to install"):
        packages = target.target_packages(document)
    target.install_packages(reporter, packages)
    with reporter.step(base + "/configure_cloud_init", "configuring cloud-init"):
        target.configure_cloud_init(document, at_install)
        target.configure_locale(document)
    with reporter.step(base + "/run_unattended_upgrades", "downloading and installing security updates"):
        pass
    with reporter.step(base + "/restore_apt_config", "restoring apt configuration"):
        pass


def _user_at_install(words):
    if "user-at-install" in words:
        return True
    if "user-at-first-boot" in words:
        return False
    with open("/cdrom/.disk/info", encoding="utf-8") as f:
        version = re.search(r"\d+\.\d+(\.\d+)?", f.read()).group(0)
    return tuple(int(n) for n in version.split(".")) >= (24, 4, 4) and not version.startswith("25.10")


def _run_error_commands(reporter, document):
    time.sleep(1)
    with reporter.step("Error/run"):
        with reporter.step("Error/run/run"):
            autoinstall.run_commands(reporter, "Error/run/run", document.get("error-commands"), check_status=False)
