#!/bin/bash
# Runs the container apps of this machine, which lie in /opt/apps, a folder each.
# Whoever calls it gets an instance of their own: port, token, folder. Root's is
# the machine's.
set -uE -o pipefail

usage() {
    cat <<'TEXT'
usage: app list                       the apps of this machine
       app start [OPTION…] NAME       start your instance, and say how to reach it
           --port N                   the port (the first free one)
           --address A                the address it listens on (127.0.0.1)
           --gpus all|none|0,1,…      the GPUs it is given (all)
           --folder DIR               the folder it keeps your files in (~/NAME)
           --shm-size SIZE            its /dev/shm (8g)
       app url NAME                   how to reach your instance
       app status [--all]             your instances; everybody's
       app logs NAME                  what your instance printed
       app stop NAME                  stop your instance; your files stay
       app run [--gpus …] NAME [COMMAND…]
                                      a container for one command, in this folder
       app build NAME [OPTION…]       make its image again; options of docker build
TEXT
}

apps=${APP_ROOT:-/opt/apps}
table=${GPUSTRAP_ETC:-/etc/gpustrap}/apps
account=gpustrap-app # the machine's own instances run as this user

say() { printf '%s\n' "$*"; }
note() { printf 'app: %s\n' "$*" >&2; }

# fail SUMMARY [WHAT TO DO]
fail() {
    note "$1"
    [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
    exit 1
}

misused() {
    note "$1"
    printf "  'app help' says how it is used\n" >&2
    exit 2
}

# option NAME VALUE: checks what follows an option.
option() {
    case $1 in
    --port)
        [[ $2 =~ ^[1-9][0-9]{0,4}$ && $2 -le 65535 ]] || misused "--port takes a number up to 65535"
        ;;
    --address)
        [[ $2 =~ ^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:]+\])$ ]] ||
            misused "--address takes an IP address, one of IPv6 in brackets"
        ;;
    --gpus)
        [[ $2 =~ ^[0-9A-Za-z:-]+(,[0-9A-Za-z:-]+)*$ ]] ||
            misused "--gpus takes all, none, or GPUs with commas between them"
        ;;
    --shm-size) [[ $2 =~ ^[0-9]+[kmg]$ ]] || misused "--shm-size takes a size such as 8g" ;;
    --folder) [ -n "$2" ] || misused "--folder takes a folder" ;;
    esac
}

# choose NAME: reads the app's manifest and says where this caller's instance is.
choose() {
    [[ ${1:-} =~ ^[a-z][a-z0-9-]*$ ]] || misused "which app? 'app list' names them"
    name=$1
    dir=$apps/$name
    [ -r "$dir/manifest" ] || fail "there is no app $name" "'app list' names those that are here"
    SUMMARY='' IMAGE='' BASE='' PORT='' LOGIN='' GPUS=no
    # shellcheck disable=SC1091 # the app's
    . "$dir/manifest"
    owner=$(id -un)
    if [ "$EUID" = 0 ]; then
        project=$name
        state=${APP_STATE:-/var/lib/gpustrap/apps}/$name
        folder=$state/files
    else
        project=$name-$(tr -c 'a-z0-9_-' _ <<<"${owner,,}" | sed 's/_$//')
        state=${XDG_STATE_HOME:-$HOME/.local/state}/apps/$name
        folder=$HOME/$name
    fi
    port='' fixed='' current='' address=127.0.0.1 gpus=all shm=8g
    remember
    if [ "$GPUS" != yes ]; then gpus=none; fi
}

# remember reads what the instance was started with the last time, and what the
# machine's configuration says: all of it for the machine's own instance.
remember() {
    local key value app_ start_ address_ port_ shm_
    while read -r app_ start_ address_ port_ shm_; do
        [ "$app_" = "$name" ] || continue
        [ "$shm_" = - ] || shm=$shm_
        [ "$EUID" = 0 ] || continue
        starts=$start_ address=$address_
        [ "$port_" = - ] || fixed=$port_
    done < <(cat "$table" 2>/dev/null)
    if [ -r "$state/settings" ]; then
        while IFS='=' read -r key value; do
            case $key in
            port) port=$value current=$value ;;
            gpus) gpus=$value ;;
            folder) folder=$value ;;
            address) [ "$EUID" = 0 ] || address=$value ;;
            shm) [ "$EUID" = 0 ] || shm=$value ;;
            esac
        done <"$state/settings"
    fi
    port=${fixed:-$port}
}

needs_service() { [ -f "$dir/compose.yaml" ] || fail "$name is no service" "'app run $name' starts it for a command"; }

# engine finds the caller's engine: the one that DOCKER_HOST or the docker context
# names, a rootless one of their own, or the machine's.
engine() {
    local socket=${XDG_RUNTIME_DIR:-/run/user/$EUID}/docker.sock what
    command -v docker >/dev/null || fail "Docker is not installed"
    if [ -z "${DOCKER_HOST:-}${DOCKER_CONTEXT:-}" ] && [ "$EUID" != 0 ] && [ -S "$socket" ]; then
        export DOCKER_HOST=unix://$socket
    fi
    if ! what=$(docker version --format '{{.Server.Version}}' 2>&1); then
        case $what in
        *"permission denied"*)
            fail "$(id -un) may not use this machine's Docker" \
                "an administrator adds you to the docker group, which makes you root here, or gives you docker: rootless"
            ;;
        esac
        fail "Docker does not answer: ${what##*$'\n'}"
    fi
    user=$(id -u):$(id -g)
    if docker info --format '{{.SecurityOptions}}' | grep -q name=rootless; then
        user=0:0 # root in there is the caller out here
    fi
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# as_account makes the machine's own instance run as nobody who logs in.
as_account() {
    [ "$EUID" = 0 ] || return 0
    user=$(id -u "$account" 2>/dev/null):$(id -g "$account" 2>/dev/null) ||
        fail "there is no user $account, as whom the machine's own instances run"
}

# build OPTION…: makes the image from the folder's Dockerfile.
build() {
    local args=() arg
    [ -f "$dir/Dockerfile" ] || fail "$name has no Dockerfile; its image $IMAGE is pulled"
    if ! has_image "$BASE"; then
        note "pull $BASE"
        docker pull --quiet "$BASE" >&2 || return 1
    fi
    if [ -x "$dir/build-args" ]; then
        while read -r arg; do args+=(--build-arg "$arg"); done < <("$dir/build-args")
    fi
    note "make $IMAGE; the first time this takes minutes"
    docker build --build-arg "BASE=$BASE" ${args[@]+"${args[@]}"} --tag "$IMAGE" "$@" "$dir" >&2
}

# prepare gets the image: it is there, or in an archive beside the manifest, or can
# be pulled, or made from one that can.
prepare() {
    local archive
    has_image "$IMAGE" && return
    for archive in "$dir"/image.tar*; do
        [ -r "$archive" ] || continue
        note "load $archive"
        docker load --quiet --input "$archive" >&2 && has_image "$IMAGE" && return
        note "$archive does not hold $IMAGE"
    done
    if [ -f "$dir/Dockerfile" ]; then
        build
    else
        note "pull $IMAGE"
        docker pull --quiet "$IMAGE" >&2
    fi
}

must_prepare() {
    prepare || fail "the image of $name is not here and cannot be got" \
        "it needs the network, or 'docker save $IMAGE' of another machine as $dir/image.tar"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

running() { [ -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$project" 2>/dev/null)" ]; }

# lay_out makes the instance's own files: token, settings, folder.
lay_out() {
    local token
    umask 077
    mkdir -p "$state" || fail "cannot make $state"
    if [ ! -s "$state/token" ]; then
        token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
        printf '%s' "$token" >"$state/token.new" && mv -f "$state/token.new" "$state/token"
    fi
    chmod 0400 "$state/token"
    mkdir -p "$folder" || fail "cannot make $folder"
    folder=$(cd -- "$folder" && pwd)
    if [ "$EUID" = 0 ]; then chown "$user" "$state/token" "$folder"; fi
    umask 022
}

# gpu_file writes what the compose file is overlaid with for other GPUs than all.
gpu_file() {
    local gpu
    {
        printf 'services:\n  %s:\n    deploy:\n      resources:\n        reservations:\n' "$name"
        if [ "$gpus" = none ]; then
            printf '          devices: !reset []\n'
        else
            printf '          devices: !override\n            - driver: cdi\n              capabilities: [gpu]\n              device_ids:\n'
            for gpu in ${gpus//,/ }; do printf '                - nvidia.com/gpu=%s\n' "$gpu"; done
        fi
    } >"$state/gpus.yaml"
}

compose() {
    local files=(--file "$dir/compose.yaml")
    if [ "$GPUS" = yes ] && [ "$gpus" != all ]; then files+=(--file "$state/gpus.yaml"); fi
    APP_PROJECT=$project APP_OWNER=$owner APP_USER=$user APP_IMAGE=$IMAGE APP_PORT=$port APP_ADDRESS=$address \
        APP_SHM_SIZE=$shm APP_FOLDER=$folder APP_TOKEN=$state/token \
        docker compose --progress quiet --project-name "$project" "${files[@]}" "$@"
}

# up PORT: starts the instance there. 2: somebody else has the port.
up() {
    local out
    port=$1
    if out=$(compose up --detach --wait --wait-timeout 120 2>&1); then return 0; fi
    compose logs --no-log-prefix --tail 5 >&2 2>/dev/null
    compose rm --force --stop >/dev/null 2>&1
    case $out in
    *"already allocated"* | *"already in use"*) return 2 ;;
    esac
    printf '%s\n' "$out" | tail -n 3 >&2
    case $out in
    *"CDI device"* | *'device driver "cdi"'*)
        fail "Docker cannot give $name the GPUs $gpus" "'gpu-ready' says what is wrong; --gpus none starts it without"
        ;;
    esac
    fail "$name does not start"
}

# start starts the instance, or leaves it alone where it runs as it should.
start() {
    local first try status=2
    engine
    as_account
    must_prepare
    running || current=''
    lay_out
    gpu_file
    first=${port:-$((PORT + EUID % 1000))}
    for ((try = first; try < first + 100 && status == 2; try++)); do
        if [ "$try" = "$current" ] || port_is_free "$try"; then
            up "$try"
            status=$?
        fi
        [ "$status" != 2 ] || [ -z "$fixed" ] ||
            fail "something else listens on port $fixed" "leave the port out, and a free one is found"
    done
    [ "$status" = 0 ] || fail "no port from $first to $((first + 99)) is free"
    printf '%s=%s\n' port "$port" address "$address" gpus "$gpus" folder "$folder" shm "$shm" >"$state/settings"
    url
}

# url says how to reach the instance.
url() {
    local host=localhost token here
    token=$(cat "$state/token" 2>/dev/null) || fail "$name was never started by $owner"
    running || fail "$name does not run for $owner" "'app start $name' starts it"
    # The address that the caller's own connection came to reaches this machine.
    here=$(cut -d ' ' -f 3 <<<"${SSH_CONNECTION:-}")
    here=${here:-$(hostname)}
    case $address in
    127.* | '[::1]')
        say "$name runs on this machine alone. On your own computer:"
        say "  ssh -N -L $port:localhost:$port ${SUDO_USER:-$owner}@$here"
        say "and there, in a browser:"
        ;;
    0.0.0.0 | '[::]') host=$here && say "$name listens to the whole network. In a browser:" ;;
    *) host=$address && say "$name listens on $address. In a browser:" ;;
    esac
    say "  http://$host:$port$LOGIN$token"
    say "Its files are in $folder."
}

list() {
    local manifest image known=no
    if (engine) 2>/dev/null; then
        engine
        known=yes
    fi
    printf '%-16s %-9s %s\n' NAME IMAGE WHAT
    for manifest in "$apps"/*/manifest; do
        [ -r "$manifest" ] || continue
        choose "$(basename "$(dirname "$manifest")")"
        image=missing
        if has_image "$IMAGE"; then image=here; elif [ $known = no ]; then image='?'; fi
        printf '%-16s %-9s %s\n' "$name" "$image" "$SUMMARY"
    done
}

# status [--all]
status() {
    local filters=(--filter label=gpustrap.app) owner
    owner=$(id -un)
    case ${1:-} in
    '') filters+=(--filter "label=gpustrap.user=$owner") ;;
    --all) ;;
    *) misused "status knows no $1" ;;
    esac
    engine
    docker ps --all "${filters[@]}" \
        --format 'table {{.Label "gpustrap.app"}}\t{{.Label "gpustrap.user"}}\t{{.Status}}\t{{.Ports}}' |
        sed '1s/.*/APP\tUSER\tSTATUS\tPORTS/'
}

# run_once [COMMAND…]: the folder's run script, as this user.
run_once() {
    local gpu devices=
    [ -f "$dir/run" ] || fail "$name is a service" "'app start $name' starts it"
    engine
    must_prepare
    case $gpus in
    none) ;;
    *) for gpu in ${gpus//,/ }; do devices+=" --device nvidia.com/gpu=$gpu"; done ;;
    esac
    export APP_USER=$user APP_IMAGE=$IMAGE APP_DEVICES=$devices APP_TTY=
    if [ -t 0 ] && [ -t 1 ]; then APP_TTY=-t; fi
    exec sh "$dir/run" "$@"
}

# stop_unit keeps the timer from starting again what its root stopped.
stop_unit() {
    [ "$EUID" = 0 ] && [ -d /run/systemd/system ] && [ -z "${INVOCATION_ID:-}" ] || return 0
    systemctl stop "gpustrap-app@$name.timer" "gpustrap-app@$name.service" 2>/dev/null
}

verb=${1:-help}
[ $# = 0 ] || shift
starts=''
declare -A given=()
while [[ ${1:-} == --* ]] && [[ $verb == start || $verb == run ]]; do
    case $verb$1 in
    start--port | start--address | start--gpus | start--folder | start--shm-size | run--gpus) ;;
    *) misused "$verb knows no $1" ;;
    esac
    [ $# -ge 2 ] || misused "$1 takes a value"
    option "$1" "$2"
    given[$1]=$2
    shift 2
done
case $verb in
start | stop | url | logs | run | build | prepare | boot)
    choose "${1:-}"
    shift
    ;;
list | status) ;;
-h | --help | help)
    usage
    exit 0
    ;;
*) misused "there is no '$verb'" ;;
esac
case $verb in
start | stop | url | logs | boot) needs_service ;;
esac
case $verb in
start | stop | url | logs | prepare | boot | list)
    [ $# = 0 ] || misused "$verb does not take $1"
    ;;
esac
if [ "$verb" = start ] || [ "$verb" = run ]; then
    if [ "$GPUS" != yes ] && [ -n "${given[--gpus]:-}" ]; then misused "$name uses no GPUs"; fi
    fixed=${given[--port]:-$fixed} port=${given[--port]:-$port}
    address=${given[--address]:-$address}
    gpus=${given[--gpus]:-$gpus}
    folder=${given[--folder]:-$folder}
    shm=${given[--shm-size]:-$shm}
fi
case $verb in
list) list ;;
start) start ;;
url) engine && url ;;
status) status "$@" ;;
logs) engine && compose logs --no-log-prefix ;;
stop)
    engine
    stop_unit
    compose rm --force --stop >/dev/null || fail "$name does not stop"
    say "$name is stopped; its files stay in $folder."
    ;;
run) run_once "$@" ;;
build) engine && { build "$@" || fail "the image of $name could not be made"; } ;;
# What the unit of the machine's own instance asks for.
prepare) engine && must_prepare ;;
boot) [ "$starts" = no ] || start ;;
esac
