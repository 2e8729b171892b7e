#!/bin/bash
# Lays the container apps of $APPS into /opt/apps, a folder each, with the command
# app and a unit for each service. The unit gets the image, makes it or starts it
# at each boot, when the network is up; nothing is pulled now. An image
# that lies on the installation medium is copied for it.
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

# take_image NAME: copies the archive of its image from the installation medium, if
# there is one. apt has checked the signature of the list that has its SHA-256.
take_image() {
    local from=$repository/images/$1.tar to=/opt/apps/$1/image.tar sum
    from_medium || return 0
    sum=$(awk -v name="images/$1.tar" '/^Attachments:/, 0 { if ($3 == name) print $1 }' "$offline_lists"/*_InRelease | head -n 1)
    [ -n "$sum" ] || return 0
    step "copy the image of $1 from the installation medium"
    if [ -e "$to" ] && sha256sum --status -c <<<"$sum  $to"; then return; fi
    [ -e "$from" ] || fail "the installation medium lacks images/$1.tar" "the medium is damaged or was changed: write it again"
    run cp "$from" "$to.new"
    if ! dry_run && ! sha256sum --status -c <<<"$sum  $to.new"; then
        rm "$to.new"
        fail "images/$1.tar on the installation medium is not the file that was put there" \
            "the medium is damaged or was changed: 'gpustrap verify' says so of the image; write it again"
    fi
    run chmod 0644 "$to.new"
    run mv -f "$to.new" "$to"
}

words "$APPS"
for name in "${list[@]}"; do
    step "lay the app $name into /opt/apps/$name"
    for file in "$here/apps/$name"/*; do
        put_file "$file" "/opt/apps/$name/$(basename "$file")" "$(mode_of "$file")"
    done
    take_image "$name"
    # By this install.sh knows what to take away when the app is wanted no more.
    (cd "$here/apps/$name" && ls) | put "/var/lib/gpustrap/apps-laid/$name" 0644
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
