#!/bin/bash
# Makes the signed repository on the installation medium the only source that apt
# knows while the machine is installed. The files in /etc/apt stay as they are: apt
# is led past them by a configuration of its own, $GPUSTRAP_ETC/apt-offline.conf,
# which unlock.sh takes away again.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

conf=$GPUSTRAP_ETC/apt-offline.conf

# from_network WHY: goes on without the medium, where that is allowed.
from_network() {
    if [ "$OFFLINE" = only ]; then
        fail "$1" "${2:-}"
    fi
    say "  $1; packages come from the network"
    drop_file "$conf"
    unset APT_CONFIG
    exit 0
}

step "take packages from the installation medium"
if [ ! -d "$repository/dists/$OFFLINE_SUITE" ] && ! dry_run; then
    from_network "the installation medium has no repository for this machine" \
        "make the medium with 'gpustrap remaster --offline'"
fi
put_file "$GPUSTRAP_ETC/keys/offline.asc" /etc/apt/keyrings/gpustrap-offline.asc 0644
put "$GPUSTRAP_ETC/offline.sources" 0644 <<END
Types: deb
URIs: file:$repository
Suites: $OFFLINE_SUITE
Components: main
Signed-By: /etc/apt/keyrings/gpustrap-offline.asc
END
put "$conf" 0644 <<END
Dir::Etc::SourceList "$GPUSTRAP_ETC/offline.sources";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$offline_lists";
Acquire::Languages "none";
END
run mkdir -p "$offline_lists"
export APT_CONFIG=$conf
if ! apt_get update -o APT::Update::Error-Mode=any; then
    # Its first complaint names the file, the last one only says that there were some.
    from_network "apt does not accept the repository on the installation medium: $(tail -n 60 "$GPUSTRAP_LOG" | grep -a -m 1 '^[EW]: ')" \
        "the medium is damaged or was changed: 'gpustrap verify' says so of the image; write it again"
fi
