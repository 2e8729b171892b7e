#!/bin/bash
# Installs Docker CE from Docker's own repository, with daemon.json in place
# before the engine starts for the first time.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

daemon=/etc/docker/daemon.json

# merge_json FILE OURS: prints FILE with the keys of OURS laid over it; FILE as
# it is when it has them all.
merge_json() {
    python3 - "$1" "$2" <<'END'
import copy, json, os, sys

def lay(below, above):
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            lay(below[key], value)
        else:
            below[key] = value

path, ours = sys.argv[1:]
text = "{}"
if os.path.exists(path) and os.path.getsize(path):
    with open(path) as f:
        text = f.read()
before = json.loads(text)
merged = copy.deepcopy(before)
with open(ours) as f:
    lay(merged, json.load(f))
if merged != before:
    text = json.dumps(merged, indent=4, sort_keys=True) + "\n"
sys.stdout.write(text)
END
}

remove_conflicts() {
    local name found=()
    for name in docker.io docker-compose docker-compose-v2 docker-doc podman-docker containerd runc; do
        if installed "$name"; then found+=("$name"); fi
    done
    [ ${#found[@]} -gt 0 ] || return 0
    step "remove what conflicts with Docker CE: ${found[*]}"
    apt_get remove "${found[@]}"
}

# containerd_root moves containerd's store along with data-root: from Docker 29
# on the images lie there.
containerd_root() {
    local config=/etc/containerd/config.toml
    [ -n "$DOCKER_DATA_ROOT" ] || return 0
    step "keep containerd's images in $DOCKER_DATA_ROOT/containerd"
    {
        echo "root = \"$DOCKER_DATA_ROOT/containerd\""
        if [ -f "$config" ]; then
            awk '/^ *\[/ { table = 1 } table || !/^ *root *=/' "$config"
        fi
    } >"$work/config.toml"
    put_file "$work/config.toml" "$config" 0644
    [ "$changed" = no ] || restart=yes
}

# wait_for_disk keeps the engine from filling the system's disk where data-root lies
# on another that did not come up.
wait_for_disk() {
    local unit
    if [ -n "$DOCKER_DATA_ROOT" ]; then step "have Docker wait for the disk of $DOCKER_DATA_ROOT"; fi
    for unit in docker containerd; do
        if [ -n "$DOCKER_DATA_ROOT" ]; then
            put "/etc/systemd/system/$unit.service.d/gpustrap-data-root.conf" 0644 <<END
# Written by gpustrap: the engine's data lie there.
[Unit]
RequiresMountsFor=$DOCKER_DATA_ROOT
END
        else
            drop_file "/etc/systemd/system/$unit.service.d/gpustrap-data-root.conf"
        fi
    done
}

restart=no
remove_conflicts
wait_for_disk

step "write $daemon"
merge_json "$daemon" "$GPUSTRAP_ETC/daemon.json" >"$work/daemon.json" ||
    fail "$daemon is not valid JSON" "mend it or move it away, then run this again"
put_file "$work/daemon.json" "$daemon" 0644
restart=$changed

step "install Docker CE${DOCKER_VERSION:+ $DOCKER_VERSION}"
apt_install --allow-downgrades "docker-ce${DOCKER_VERSION:+=$DOCKER_VERSION}" "docker-ce-cli${DOCKER_VERSION:+=$DOCKER_VERSION}" \
    containerd.io docker-buildx-plugin docker-compose-plugin
containerd_root

if ! dry_run; then
    last_command="dockerd --validate"
    dockerd --validate --config-file "$daemon" ||
        fail "Docker does not accept $daemon" "the reason stands at the end of the log"
fi

step "enable Docker"
enable_unit containerd.service docker.service
if can_restart && [ "$restart" = yes ]; then
    step "restart Docker, whose configuration changed"
    run systemctl restart containerd.service docker.service
fi
