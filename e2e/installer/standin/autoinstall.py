"""Finds the autoinstall where Subiquity looks for it, and checks as much of it
as the stand-in relies on."""

import json
import os
import shlex
import subprocess

import yaml

WORKING_COPY = "/autoinstall.yaml"

# What Subiquity knows at the top level; those marked False the stand-in accepts
# and does nothing about.
SECTIONS = {
    "version": True, "early-commands": True, "late-commands": True, "error-commands": True,
    "reporting": True, "storage": True, "identity": True, "ssh": True, "packages": True,
    "user-data": True, "network": True, "timezone": True, "locale": True, "apt": True,
    "shutdown": True, "source": True, "interactive-sections": True,
    "keyboard": False, "kernel": False, "oem": False, "updates": False, "refresh-installer": False,
    "codecs": False, "drivers": True, "snaps": True, "proxy": False, "debconf-selections": False,
    "kernel-crash-dumps": False, "ubuntu-pro": False, "active-directory": True, "zdevs": False,
}


def load_yaml(source):
    """Reads YAML with libyaml: Python's own reader takes seconds in emulation."""
    return yaml.load(source, Loader=yaml.CSafeLoader)


def dump_yaml(document, file=None):
    """Writes YAML to a file, or returns it."""
    return yaml.dump(document, file, Dumper=yaml.CSafeDumper, sort_keys=False)


class Invalid(Exception):
    """The autoinstall cannot be used."""


def kernel_arguments():
    with open("/proc/cmdline", encoding="utf-8") as f:
        return f.read().split()


def find():
    """Makes /autoinstall.yaml of the first autoinstall that there is, in
    Subiquity's order, and says where it came from; None if there is none."""
    for argument in kernel_arguments():
        if argument.startswith("subiquity.autoinstallpath="):
            return _copy(argument.partition("=")[2])
    if os.path.exists(WORKING_COPY):
        return WORKING_COPY
    combined = "/run/cloud-init/combined-cloud-config.json"
    if os.path.exists(combined):
        with open(combined, encoding="utf-8") as f:
            section = json.load(f).get("autoinstall")
        if section:
            with open(WORKING_COPY, "w", encoding="utf-8") as f:
                dump_yaml(section, f)
            return "cloud-init"
    if os.path.exists("/cdrom/autoinstall.yaml"):
        return _copy("/cdrom/autoinstall.yaml")
    return None


def _copy(path):
    with open(path, encoding="utf-8") as source, open(WORKING_COPY, "w", encoding="utf-8") as f:
        f.write(source.read())
    return path


def read():
    """Reads /autoinstall.yaml, which early-commands may have changed."""
    with open(WORKING_COPY, encoding="utf-8") as f:
        document = load_yaml(f)
    if not isinstance(document, dict):
        raise Invalid("the autoinstall is not a mapping")
    if "autoinstall" in document:
        if set(document) != {"autoinstall"}:
            raise Invalid("there is a key beside 'autoinstall'")
        document = document["autoinstall"]
    check(document)
    return document


def check(document):
    if document.get("version") != 1:
        raise Invalid("Malformed autoinstall in 'version'")
    for name in document:
        if name not in SECTIONS:
            print(f"standin-installer: warning: unrecognised key {name!r}", flush=True)
    for name in ("early-commands", "late-commands", "error-commands"):
        for command in document.get(name) or []:
            words = command if isinstance(command, list) else [command]
            if not all(isinstance(word, str) for word in words):
                raise Invalid(f"Malformed autoinstall in {name!r}: {command!r}")
    if document.get("interactive-sections"):
        raise Invalid("the stand-in installer asks no questions: interactive-sections")
    if (document.get("drivers") or {}).get("install"):
        raise Invalid("the stand-in installer has no ubuntu-drivers: drivers.install")
    for name in ("snaps", "active-directory"):
        if document.get(name):
            raise Invalid(f"the stand-in installer does not do {name}")


def run_commands(reporter, name, commands, check_status=True):
    """Runs a list of commands as Subiquity does: a string by sh -c, a list as
    it stands."""
    environment = dict(os.environ, TARGET_MOUNT_POINT="/target")
    if name == "Early/run":
        del environment["TARGET_MOUNT_POINT"]
    for i, command in enumerate(commands or []):
        text = command if isinstance(command, str) else shlex.join(command)
        arguments = ["sh", "-c", command] if isinstance(command, str) else command
        with reporter.step(f"{name}/command_{i}", text):
            subprocess.run(arguments, env=environment, check=check_status)
