#!/bin/bash
# Packs what run.sh needs on a machine that has a GPU and perhaps no network:
# Docker and containerd of Debian trixie, the parts of NVIDIA's toolkit that make
# and use CDI specifications, a program that holds GPU memory, and the files that
# gpustrap renders for two machines, one with the GPU named and one that chooses
# by itself.
#
#   pack.sh     makes build/gpu-check/gpu-check.tar.xz, some 50 MB
#
# Environment: MODEL and COUNT of the GPUs that are expected (h200 and 1),
# GPUSTRAP_GPU_CHECK (default build/gpu-check), GPUSTRAP_MIRROR.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${GPUSTRAP_GPU_CHECK:-$root/build/gpu-check}
toolkit=v1.20.1
mirror=${GPUSTRAP_MIRROR:-$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' /usr/sbin/debootstrap)}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
model=${MODEL:-h200} count=${COUNT:-1}

say() { echo "gpu-check: $*"; }

# fetch_engine puts the engine's programs into $parts/bin. They need glibc 2.38,
# libseccomp and libsystemd, which Ubuntu 24.04 and Debian 13 have.
fetch_engine() {
	local apt=$parts/apt deb
	say "downloading Docker of Debian trixie"
	mkdir -p "$apt"/{lists/partial,archives/partial} "$parts"/{debs,root,bin}
	: >"$apt/status"
	echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-END
	APT::Architecture "amd64";
	APT::Architectures { "amd64"; };
	APT::Sandbox::User "root";
	Acquire::Languages "none";
	Acquire::Retries "3";
	Dir::Etc::sourcelist "$apt/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::Etc::parts "/dev/null";
	Dir::State::lists "$apt/lists";
	Dir::State::status "$apt/status";
	Dir::Cache "$apt";
	END
	(
		export APT_CONFIG="$apt/apt.conf"
		apt-get -qq update
		cd "$parts/debs"
		apt-get -qq download docker.io docker-cli containerd runc busybox-static
	)
	for deb in "$parts"/debs/*.deb; do dpkg-deb -x "$deb" "$parts/root"; done
	for program in dockerd docker containerd containerd-shim-runc-v2 runc busybox; do
		find "$parts"/root/usr/*bin -type f -name "$program" -exec cp {} "$parts/bin/" \;
		[ -x "$parts/bin/$program" ] || { say "the packages have no $program" >&2 && exit 1; }
	done
}

build_toolkit() {
	say "building the NVIDIA Container Toolkit $toolkit"
	local module=github.com/NVIDIA/nvidia-container-toolkit name names=()
	for name in nvidia-ctk nvidia-cdi-hook nvidia-container-runtime; do names+=("$module/cmd/$name@$toolkit"); done
	(cd "$parts" && GOBIN=$parts/bin GOFLAGS=-mod=mod CGO_ENABLED=1 CGO_CFLAGS=-w \
		"${GO:-go}" install -trimpath -ldflags "-X github.com/NVIDIA/nvidia-container-toolkit/internal/info.version=${toolkit#v}" "${names[@]}")
}

# render NAME GPU: the files that gpustrap puts on a machine, in a tree of its own.
render() {
	cat >"$parts/gpustrap.yaml" <<-END
	version: 1
	ubuntu: "24.04"
	hostname: gpu-check
	user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0WdoiyUTNMUQpxIeGJWTgIvQ8nVGmLKzGYkyVb4ZtX ops@example"]}
	gpu: $2
	END
	"$root/bin/gpustrap" -c "$parts/gpustrap.yaml" render --format script >"$parts/setup.sh"
	mkdir "$parts/$1"
	# The script writes its files before it runs them.
	sed "1,/^mkdir -p/ { /^trap /d; s|^work=.*|work=$parts/$1| }; /^export GPUSTRAP_ETC=\$work/,\$d" "$parts/setup.sh" | bash
	[ -s "$parts/$1/etc/gpustrap/machine.env" ] || { say "the rendered script has not written its files" >&2 && exit 1; }
}

mkdir -p "$out"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
fetch_engine
build_toolkit
strip "$parts"/bin/* 2>/dev/null || true
gcc -O2 -Wall -o "$parts/bin/hold-gpu" "$here/hold-gpu.c" -ldl
render named "{model: $model, count: $count}"
render chosen "{auto: true}"
say "packing"
tar -C "$parts" --sort=name --owner=0 --group=0 -c bin named chosen |
	xz --lzma2=preset=2,dict=192MiB >"$out/gpu-check.tar.xz.new" # Go programs share much, far apart
mv "$out/gpu-check.tar.xz.new" "$out/gpu-check.tar.xz"
say "$out/gpu-check.tar.xz has $(stat -c %s "$out/gpu-check.tar.xz") bytes"
