#!/bin/bash
# Sets up what surrounds the machine: the proxy of proxy.env, the authorities of
# ca-certificates/*.crt, and the time servers and kernel arguments of
# surroundings.env, all in $GPUSTRAP_ETC. It comes before everything that needs
# the network.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

# set_proxy gives the proxy to shells, to every service, and to apt.
# shellcheck disable=SC2154 # the variables of proxy.env, which steps.sh reads
set_proxy() {
    local line host
    step "use the proxy of the configuration"
    if [ -f /etc/environment ]; then cp /etc/environment "$work/environment"; else : >"$work/environment"; fi
    while read -r line; do
        grep -v "^${line%%=*}=" "$work/environment" >"$work/other" || true
        printf '%s\n' "$line" >>"$work/other"
        mv "$work/other" "$work/environment"
    done <"$GPUSTRAP_ETC/proxy.env"
    put_file "$work/environment" /etc/environment 0644
    {
        echo "# Written by gpustrap."
        echo "[Manager]"
        # systemd takes % for a specifier.
        sed 's/%/%%/g; s/.*/DefaultEnvironment="&"/' "$GPUSTRAP_ETC/proxy.env"
    } | put /etc/systemd/system.conf.d/gpustrap-proxy.conf 0644
    {
        echo "// Written by gpustrap."
        printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$http_proxy" "$http_proxy"
        tr , '\n' <<<"$no_proxy" | while read -r host; do
            case $host in
            .* | *[/*]* | localhost | 127.0.0.1 | ::1) continue ;;
            esac
            printf 'Acquire::http::Proxy::%s "DIRECT";\nAcquire::https::Proxy::%s "DIRECT";\n' "$host" "$host"
        done
    } | put /etc/apt/apt.conf.d/95gpustrap-proxy 0644
    if can_restart; then run systemctl daemon-reexec; fi
}

trust_authorities() {
    local file
    step "trust the certificate authorities of the configuration"
    for file in "$GPUSTRAP_ETC"/ca-certificates/*.crt; do
        put_file "$file" "/usr/local/share/ca-certificates/${file##*/}" 0644
    done
    if ! command -v update-ca-certificates >/dev/null; then
        apt_get update
        apt_install ca-certificates
    fi
    run update-ca-certificates
    # The installer's apt was told of a file in the live system.
    for file in /etc/apt/apt.conf.d/*; do
        if grep -qs '/run/gpustrap/ca-certificates.crt' "$file"; then
            grep -v '/run/gpustrap/ca-certificates.crt' "$file" >"$work/conf" || true
            put_file "$work/conf" "$file" 0644
        fi
    done
}

set_time_servers() {
    local server
    step "take the time from $NTP_SERVERS"
    printf '# Written by gpustrap.\n[Time]\nNTP=%s\n' "$NTP_SERVERS" |
        put /etc/systemd/timesyncd.conf.d/gpustrap.conf 0644
    # Ubuntu 26.04 has chrony in its place.
    if [ -d /etc/chrony ]; then
        for server in $NTP_SERVERS; do echo "server $server iburst"; done | put /etc/chrony/sources.d/gpustrap.sources 0644
        if [ -f /etc/chrony/sources.d/ubuntu-ntp-pools.sources ]; then
            sed 's/^\(pool\|server\) /# gpustrap has its own: &/' \
                /etc/chrony/sources.d/ubuntu-ntp-pools.sources >"$work/pools"
            put_file "$work/pools" /etc/chrony/sources.d/ubuntu-ntp-pools.sources 0644
        fi
    fi
    if can_restart; then run systemctl try-restart systemd-timesyncd.service chrony.service; fi
}

set_kernel_arguments() {
    step "add the kernel arguments $KERNEL_ARGS"
    # shellcheck disable=SC2016 # for update-grub
    printf '# Written by gpustrap.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %s"\n' "$KERNEL_ARGS" |
        put /etc/default/grub.d/gpustrap.cfg 0644
    [ "$changed" = no ] || run update-grub
}

# shellcheck disable=SC1091 # rendered for each machine
. "$GPUSTRAP_ETC/surroundings.env"
[ ! -f "$GPUSTRAP_ETC/proxy.env" ] || set_proxy
[ ! -d "$GPUSTRAP_ETC/ca-certificates" ] || trust_authorities
[ -z "$NTP_SERVERS" ] || set_time_servers
[ -z "$KERNEL_ARGS" ] || set_kernel_arguments
