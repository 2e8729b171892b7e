#!/bin/bash
# Removes container images that nobody uses: no container has them, running or
# stopped, none of the machine's apps runs or begins with them, and nobody pulled,
# made or tagged them for so many days. Docker's own filter goes by the day when an
# image was made, by which an old one would be gone as soon as it was pulled. It
# looks after the machine's engine, and after those of users that run.
#   docker-prune.sh DAYS
set -u
days=${1:?}
oldest=$(date -u -d "$days days ago" +%s)
apps=${APP_ROOT:-/opt/apps}

# kept prints the ids of images that stay.
kept() {
    local manifest
    docker ps --all --quiet --no-trunc | xargs -r docker inspect --format '{{.Image}}'
    for manifest in "$apps"/*/manifest; do
        [ -r "$manifest" ] || continue
        sed -n 's/^\(IMAGE\|BASE\)=//p' "$manifest" | tr -d '"' |
            xargs -r -n 1 docker image inspect --format '{{.Id}}' 2>/dev/null
    done
    return 0
}

# since prints when an image was pulled, made or tagged: seconds since 1970.
since() {
    local tagged made
    read -r tagged made < <(docker image inspect --format '{{.Metadata.LastTagTime.Unix}} {{.Created}}' "$1") || return
    # An image without a name has no such time; its own is that of the build.
    if [ "$tagged" -le 0 ]; then tagged=$(date -u -d "$made" +%s) || return; fi
    echo "$tagged"
}

prune() {
    local keep id when names name
    docker version >/dev/null 2>&1 || return 0
    keep=$(kept)
    for id in $(docker image ls --quiet --no-trunc | sort -u); do
        grep -qxF "$id" <<<"$keep" && continue
        when=$(since "$id") || continue
        [ "$when" -lt "$oldest" ] || continue
        names=$(docker image inspect --format '{{range .RepoTags}}{{.}} {{end}}' "$id")
        for name in ${names:-$id}; do
            docker image rm "$name" >/dev/null && echo "removed ${name}, unused for more than $days days"
        done
    done
    docker builder prune --force --filter "until=$((days * 24))h" >/dev/null
}

prune
for socket in /run/user/*/docker.sock; do
    [ -S "$socket" ] || continue
    DOCKER_HOST=unix://$socket prune
done
