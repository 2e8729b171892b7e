#!/bin/bash
# On a medium for many machines: finds out which of them this one is, puts its
# autoinstall in the place of the one that all share, and runs its
# early-commands. It runs in the installer, from the shared early-commands; the
# installer reads its autoinstall again afterwards, all but early-commands.
#   pick-machine.sh FOLDER
# FOLDER/machines.tsv has lines of a machine's name, "serial", "uuid" or "mac",
# and the value; FOLDER/machines/NAME is the machine's user-data.
set -eu -o pipefail

folder=$1
autoinstall=${GPUSTRAP_AUTOINSTALL:-/autoinstall.yaml}
set -- # guard.sh would take them for its own
# shellcheck source-path=SCRIPTDIR source=guard.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/guard.sh"

# fitting prints the machines of whose ids every one that is given fits; one MAC
# address is enough.
fitting() {
    local uuid
    uuid=$(id product_uuid)
    SERIAL=$(id product_serial) UUID=${uuid,,} MACS=$(macs | paste -s -d ' ' -) awk -F '\t' '
        BEGIN { split(ENVIRON["MACS"], list, " "); for (i in list) here[list[i]] }
        !($1 in known) { known[$1]; names[++count] = $1 }
        $2 == "serial" && $3 != ENVIRON["SERIAL"] { other[$1] }
        $2 == "uuid" && $3 != ENVIRON["UUID"] { other[$1] }
        $2 == "mac" { needs[$1]; if ($3 in here) has[$1] }
        END {
            for (i = 1; i <= count; i++) {
                name = names[i]
                if (!(name in other) && (!(name in needs) || name in has)) print name
            }
        }' "$folder/machines.tsv"
}

mapfile -t found < <(fitting)
total=$(cut -f 1 "$folder/machines.tsv" | sort -u | wc -l)
if [ ${#found[@]} = 0 ]; then
    stop "this hardware is none of the $total machines of this medium" \
        "to add it, paste this under machines: in gpustrap.yaml, with a name" "$(entry)"
elif [ ${#found[@]} -gt 1 ]; then
    stop "this hardware could be any of ${#found[@]} machines: ${found[*]}" \
        "let the match of each in gpustrap.yaml say more; this hardware is" "$(entry)"
fi
mkdir -p "$run"
echo "${found[0]}" >"$run/machine"
echo "gpustrap: this machine is ${found[0]}"

# The live system has Python and its YAML library: cloud-init needs them.
python3 - "$folder/machines/${found[0]}" "$autoinstall" <<'END'
import subprocess, sys, yaml

source, autoinstall = sys.argv[1:]
with open(source) as f:
    document = yaml.safe_load(f)["autoinstall"]
with open(autoinstall, "w") as f:
    yaml.safe_dump(document, f, sort_keys=False)
for command in document.get("early-commands", []):
    arguments = ["sh", "-c", command] if isinstance(command, str) else command
    status = subprocess.run(arguments).returncode
    if status != 0:
        sys.exit(status if status > 0 else 1)
END
