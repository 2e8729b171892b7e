#!/bin/bash
# Ends what held apt to exact versions: it only holds for the installation, and
# updates go on from there.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

if from_medium; then
    step "let apt use the network's repositories again"
    unset APT_CONFIG
    drop_file "$GPUSTRAP_ETC/apt-offline.conf"
    drop_file "$GPUSTRAP_ETC/offline.sources"
    [ ! -d "$offline_lists" ] || run rm -r "$offline_lists"
fi
step "let updates go on from the locked versions"
drop_file /etc/apt/preferences.d/00gpustrap-lock.pref
for file in /etc/apt/sources.list.d/gpustrap-snapshot.*; do
    drop_file "$file"
done
