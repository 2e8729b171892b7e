#!/bin/bash
# Enables gpu-ready, which proves the machine at every boot, and puts it and
# gpu-who where people find them.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

step "enable the check at boot, gpu-ready"
put_file "$here/gpu-ready.service" /etc/systemd/system/gpu-ready.service 0644
link() {
    [ "$(readlink "$2" || true)" = "$1" ] || run ln -sfn "$1" "$2"
}
link "$here/gpu-ready.sh" /usr/local/sbin/gpu-ready
link "$here/gpu-who.sh" /usr/local/bin/gpu-who
enable_unit gpu-ready.service
