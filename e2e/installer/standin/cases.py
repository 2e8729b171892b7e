"""Runs the early-commands of several autoinstalls in turn on one machine's disks,
and says of each whether it would have been installed, and where to.

Each folder of the CD with the label CASES is a case: user-data; prepare, a shell
script that is run before; environment, lines of variables for the commands; and,
where it is there, late, which says to run the late-commands as well.
"""

import os
import shutil
import subprocess

from . import autoinstall

CD = "/run/cases"


def run():
    os.makedirs(CD)
    subprocess.run(["mount", "-o", "ro", "/dev/disk/by-label/CASES", CD], check=True)
    for name in sorted(os.listdir(CD)):
        _run(name, os.path.join(CD, name))


def _run(name, folder):
    shutil.rmtree("/run/gpustrap", ignore_errors=True)
    environment = dict(os.environ)
    if os.path.exists(folder + "/environment"):
        with open(folder + "/environment", encoding="utf-8") as f:
            environment.update(line.rstrip("\n").split("=", 1) for line in f)
    if os.path.exists(folder + "/prepare"):
        subprocess.run(["sh", "-e", folder + "/prepare"], check=True)
        subprocess.run(["udevadm", "settle"], check=True)
    with open(folder + "/user-data", encoding="utf-8") as f:
        document = autoinstall.load_yaml(f)["autoinstall"]
    with open(autoinstall.WORKING_COPY, "w", encoding="utf-8") as f:
        autoinstall.dump_yaml(document, f)
    print(f"\ngpustrap-e2e begin case {name}", flush=True)
    result = "passed"
    if not _commands(document.get("early-commands"), environment):
        result = "stopped"
    elif os.path.exists(folder + "/late") and not _commands(document.get("late-commands"), environment):
        result = "late-commands failed"
    if result == "passed":
        result += " " + autoinstall.read()["storage"]["layout"]["match"]["path"]
    print(f"result {result}\ngpustrap-e2e end case {name}", flush=True)


def _commands(commands, environment):
    for command in commands or []:
        arguments = ["sh", "-c", command] if isinstance(command, str) else command
        if subprocess.run(arguments, env=environment, stderr=subprocess.STDOUT, check=False).returncode != 0:
            return False
    return True
