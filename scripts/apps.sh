#!/bin/bash
# Lays the container apps of $APPS into /opt/apps, a folder each, with the command
# app and a unit for each service. The unit gets the image, makes it or starts it
# at each boot, when the network is up; nothing is pulled now.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

account=gpustrap-app # the machine's own instances run as this user

mode_of() {
    local first=
    IFS= read -r first <"$1" || true
    case $first in '#!'*) echo 0755 ;; *) echo 0644 ;; esac
}

if ! getent passwd "$account" >/dev/null; then
    step "make the user $account, as whom the machine's own apps run"
    run useradd --system --user-group --home-dir /var/lib/gpustrap/apps --no-create-home \
        --shell /usr/sbin/nologin "$account"
fi
words "$APPS"
for name in "${list[@]}"; do
    step "lay the app $name into /opt/apps/$name"
    for file in "$here/apps/$name"/*; do
        put_file "$file" "/opt/apps/$name/$(basename "$file")" "$(mode_of "$file")"
    done
done
step "make the command app"
if [ "$(readlink /usr/local/bin/app || true)" != "$here/app.sh" ]; then
    run ln -sfn "$here/app.sh" /usr/local/bin/app
fi
put_file "$here/gpustrap-app@.service" /etc/systemd/system/gpustrap-app@.service 0644
put_file "$here/gpustrap-app@.timer" /etc/systemd/system/gpustrap-app@.timer 0644
for name in "${list[@]}"; do
    [ ! -e "$here/apps/$name/compose.yaml" ] || enable_unit "gpustrap-app@$name.timer"
done
