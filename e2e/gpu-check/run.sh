#!/bin/bash
# Runs the shipped gpu-ready, gpu-who and choose-stack.sh on a machine with a GPU,
# with a real Docker beside whatever runs there: once with all well, then with one
# thing wrong at a time, each of which must fail with its own message. pack.sh made
# what it needs. Run it as root; it leaves the machine as it was.
#
#   run.sh      results to $OUT (default build/gpu-check/out), serials blanked
set -u

here=$(cd "$(dirname "$0")" && pwd)
folder=${GPUSTRAP_GPU_CHECK:-$here/../../build/gpu-check}
out=${OUT:-$folder/out}
failed=0

# A mount namespace of its own: /etc/cdi is nobody else's.
if [ "${GPU_CHECK_ALONE:-}" != yes ]; then
	[ "$(id -u)" = 0 ] || { echo "gpu-check: this needs root" >&2 && exit 1; }
	GPU_CHECK_ALONE=yes exec unshare --mount --propagation private "$0" "$@"
fi
work=$(mktemp -d)
made=
[ -d /etc/cdi ] || made=/etc/cdi
mkdir -p "$out" /etc/cdi
mount -t tmpfs tmpfs /etc/cdi || exit 1
[ ! -d /var/run/cdi ] || mount -t tmpfs tmpfs "$(readlink -f /var/run/cdi)" || exit 1

stop_docker() {
	[ -z "${dockerd:-}" ] || { kill "$dockerd" && wait "$dockerd"; } 2>/dev/null
	dockerd=
}
cleanup() {
	[ -z "${holder:-}" ] || kill "$holder" 2>/dev/null
	stop_docker
	rm -rf "$work" 2>/dev/null
	[ -z "$made" ] || { umount "$made" && rmdir "$made"; }
}
trap cleanup EXIT

say() { printf '%s\n' "$*" | tee -a "$out/report.txt"; }
# verdict NAME STATUS: counts what went wrong.
verdict() {
	if [ "$2" = 0 ]; then say "ok      $1"; else say "FAILED  $1" && failed=$((failed + 1)); fi
}
# blank takes out what tells one GPU from another.
blank() {
	sed -E 's/"serial": "[^"]*"/"serial": "0000000000000"/; s/GPU-[0-9a-f]{8}-[0-9a-f-]+/GPU-00000000-0000-0000-0000-000000000000/g
		s/"boot": "[^"]*"/"boot": "00000000-0000-0000-0000-000000000000"/'
}

# ready NAME STATUS WORDS: runs gpu-ready, keeps the receipt, and holds that it
# ends with the status and that its line has the words.
ready() {
	local name=$1 want=$2 words=$3 status line
	bash "$scripts/gpu-ready.sh" --json >"$work/receipt"
	status=$?
	blank <"$work/receipt" >"$out/$name.json"
	line=$(sed -n 's/^  "line": "\(.*\)", "action": "\(.*\)",$/\1; \2/p' "$out/$name.json")
	line=${line%; }
	say "        $line"
	[ "$status" = "$want" ] && grep -qF -- "$words" <<<"$line"
	verdict "gpu-ready, $name: ends with $want and says '$words'" $?
}

start_docker() {
	dockerd --config-file "$work/daemon.json" --data-root "$work/docker" --exec-root "$work/exec" \
		--pidfile "$work/dockerd.pid" -H "$DOCKER_HOST" >>"$work/dockerd.log" 2>&1 &
	dockerd=$!
	for _ in $(seq 60); do
		docker version >/dev/null 2>&1 && return
		kill -0 "$dockerd" 2>/dev/null || break
		sleep 0.5
	done
	say "        $(tail -n 3 "$work/dockerd.log")"
	return 1
}

: >"$out/report.txt"
tar -C "$work" -xJf "$folder/gpu-check.tar.xz" || exit 1
scripts=$work/named/usr/local/lib/gpustrap
export PATH=$work/bin:$PATH DOCKER_HOST=unix://$work/docker.sock
export GPUSTRAP_ETC=$work/named/etc/gpustrap GPU_READY_RECEIPT=$work/state/ready.json GPU_READY_MOTD=$work/motd GPU_READY_WAIT=6

# Where the driver was put by hand, its programs and libraries are found as on any
# machine: by PATH, and by the linker's cache or LD_LIBRARY_PATH.
if ! command -v nvidia-smi >/dev/null; then
	smi=$(find /usr/local /opt -name nvidia-smi -perm -100 2>/dev/null | head -n 1)
	[ -z "$smi" ] || export PATH=$PATH:${smi%/*}
fi
if ! ldconfig -p | grep -q 'libcuda\.so\.1 ' && [ -z "${LD_LIBRARY_PATH:-}" ]; then
	library=$(find /usr/local /opt -name libcuda.so.1 2>/dev/null | head -n 1)
	[ -z "$library" ] || export LD_LIBRARY_PATH=${library%/*}
fi
{
	. /etc/os-release
	echo "$PRETTY_NAME, kernel $(uname -r), $(nvidia-smi -L 2>&1)"
	cat /proc/driver/nvidia/version
	echo "nvidia-smi: $(command -v nvidia-smi), LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}"
	nvidia-smi --version
	nvidia-smi -q
} 2>&1 | blank >"$out/log.txt"

say "the stack that the machine chooses by itself"
devices=$(GPUSTRAP_ETC=$work/chosen/etc/gpustrap GPUSTRAP_DRY_RUN=1 bash "$work/chosen/usr/local/lib/gpustrap/driver.sh" 2>&1 |
	grep -A 1 'choose the driver' | tail -n 1)
version=$(grep -oE '\b[0-9]{3,}\.[0-9.]*[0-9]\b' /proc/driver/nvidia/version | head -n 1)
modules=proprietary
! grep -q 'Open Kernel Module' /proc/driver/nvidia/version || modules=open
say "        $devices; loaded: $version, $modules"
[[ $devices == *": branch ${version%%.*}-server, $modules modules" ]]
verdict "the machine chooses the branch and the flavour that it has" $?

say "CDI, Docker"
nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml --nvidia-cdi-hook-path="$work/bin/nvidia-cdi-hook" >"$work/cdi.log" 2>&1
verdict "nvidia-ctk makes a CDI specification" $?
# What is rendered, but for what this place may lack: a firewall, a bridge, and systemd.
jq '. + {iptables: false, ip6tables: false, bridge: "none", "userland-proxy": false, "live-restore": false}' \
	"$GPUSTRAP_ETC/daemon.json" >"$work/daemon.json"
nvidia-ctk runtime configure --runtime=docker --config="$work/daemon.json" --cdi.enabled >>"$work/cdi.log" 2>&1
verdict "nvidia-ctk tells Docker of its runtime" $?
start_docker
verdict "Docker $(docker version --format '{{.Server.Version}}' 2>&1) is up" $?

say "gpu-ready"
count=$(nvidia-smi -L | grep -c '^GPU ')
ready ready 0 "GPU-ready: $count x "
grep -q '^GPU-ready: ' "$work/motd" && cmp -s "$work/receipt" "$GPU_READY_RECEIPT"
verdict "the message of the day and the receipt say so" $?

say "gpu-who"
hold-gpu 300 >"$work/held" 2>&1 &
holder=$!
docker run -d --name gpu-check-holder --network none --device nvidia.com/gpu=0 -v "$work/bin/hold-gpu:/hold-gpu:ro" \
	gpustrap/gpu-ready /hold-gpu 500 >"$work/container" 2>&1
for _ in $(seq 40); do
	grep -q holding "$work/held" && docker logs gpu-check-holder 2>&1 | grep -q holding && break
	sleep 0.5
done
who=$(bash "$scripts/gpu-who.sh" 2>&1)
{
	echo "$who"
	echo
	cat "$work/held" "$work/container"
	docker logs gpu-check-holder 2>&1
	nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv
} | blank | tee "$out/gpu-who.txt" | sed 's/^/        /'
grep -qE "^0 .* $(id -un) .* $holder .*hold-gpu 300" <<<"$who"
verdict "gpu-who finds a process" $?
grep -qE "^0 .* gpu-check-holder .*/hold-gpu 500" <<<"$who"
verdict "gpu-who finds a container by name" $?
kill "$holder" 2>/dev/null
docker rm -f gpu-check-holder >/dev/null 2>&1

say "one thing wrong at a time"
mv /etc/cdi/nvidia.yaml "$work/nvidia.yaml"
ready no-cdi 1 "there is no CDI specification with nvidia.com/gpu=all"
mv "$work/nvidia.yaml" /etc/cdi/nvidia.yaml
echo GPU_COUNT=$((count + 7)) >"$GPUSTRAP_ETC/stack.env"
ready wrong-count 1 "$count of $((count + 7)) GPUs are on the PCI bus"
echo GPU_BRANCH=999-server >"$GPUSTRAP_ETC/stack.env"
ready wrong-driver 1 "the driver is $version, and branch 999-server is configured"
rm "$GPUSTRAP_ETC/stack.env"
stop_docker
ready docker-stopped 1 "Docker is not up"

{ echo; cat "$work/cdi.log" "$work/dockerd.log"; } | blank >>"$out/log.txt"
if [ "$failed" = 0 ]; then say "gpu-check: all is well"; else say "gpu-check: $failed of the above failed"; fi
[ "$failed" = 0 ]
