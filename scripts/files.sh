#!/bin/bash
# Writes the files of $GPUSTRAP_ETC/files/list, one a line, numbered from 0, with
# their content in a file of that number:
#   MODE OWNER PATH
# Some owners exist only after cloud-init's first boot: until then root owns
# their files, and first-boot.sh runs this again.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

number=0
while read -r mode owner path; do
    content=$GPUSTRAP_ETC/files/$number
    number=$((number + 1))
    user=${owner%%:*}
    if ! getent passwd "$user" >/dev/null; then
        step "write $path; $user does not exist yet and gets it at the first boot"
        put_file "$content" "$path" "$mode"
        continue
    fi
    # As chown has it, a user without a group means the user alone.
    case $owner in
    *:*) wanted=$owner now='%U:%G' ;;
    *) wanted=$owner now=%U ;;
    esac
    if cmp -s "$content" "$path" && [ "$(stat -c "%a $now" "$path")" = "${mode#0} $wanted" ]; then continue; fi
    step "write $path"
    put_file "$content" "$path" "$mode"
    run chown "$owner" "$path"
done <"$GPUSTRAP_ETC/files/list"
