#!/bin/bash
# Runs the late_commands of the configuration, each a file in
# $GPUSTRAP_ETC/commands, in order, as root. The first that fails ends it.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

for file in "$GPUSTRAP_ETC"/commands/late-*; do
    step "run: $(head -n 1 "$file" | cut -c 1-100)"
    run_called "late_commands, ${file##*/}" sh -eu "$file"
done
