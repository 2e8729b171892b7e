#!/bin/bash
# Installs the further packages that the configuration lists.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

words "$PACKAGES"
step "install ${list[*]}"
apt_install "${list[@]}"
