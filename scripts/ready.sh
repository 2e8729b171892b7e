#!/bin/bash
# Enables gpu-ready, which proves the machine at every boot.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

step "enable the check at boot, gpu-ready"
put_file "$here/gpu-ready.service" /etc/systemd/system/gpu-ready.service 0644
if [ "$(readlink /usr/local/sbin/gpu-ready || true)" != "$here/gpu-ready.sh" ]; then
    run ln -sfn "$here/gpu-ready.sh" /usr/local/sbin/gpu-ready
fi
enable_unit gpu-ready.service
