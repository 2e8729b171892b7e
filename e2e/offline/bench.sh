#!/usr/bin/env bash
# The figures of docs/performance.md for packages: the solver beside apt, and an
# offline medium with 400 packages of 1 GB beside a copy of it. Run as root.
# Usage: bench.sh [SIZE]   (size of the sample medium, default 3G)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
size=${1:-3G}
go=${GO:-go}
gpustrap=${GPUSTRAP:-$top/bin/gpustrap}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/gpustrap-bench-offline.XXXXXX")
runs=${RUNS:-5}
server=''

cleanup() {
	[ -z "$server" ] || kill "$server"
	! mountpoint -q "$work/disk" || umount "$work/disk"
	! mountpoint -q "$work/ram" || umount "$work/ram"
	rm -rf "$work"
}
trap cleanup EXIT

now() { date +%s.%N; }

# measure NAME COMMAND: runs it and keeps the wall time and the largest resident set.
measure() {
	local start
	sync
	start=$(now)
	/usr/bin/time -a -o "$work/rss.$1" -f %M sh -ec "$2" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
	echo "$(now) - $start" | bc >>"$work/time.$1"
}

median() { sort -n "$work/time.$1" | sed -n "$(((runs + 1) / 2))p"; }
row() { printf '| %s | %.2f s | %s MiB |\n' "$2" "$(median "$1")" "$(($(sort -n "$work/rss.$1" | tail -n 1) / 1024))"; }

# make_packages writes an archive of 400 packages of 2.5 MB, which the package bulk
# depends on, signed by a key of its own.
make_packages() {
	local pool=$work/www/pool tree=$work/tree i names=()
	mkdir -p "$pool" "$tree/DEBIAN" "$tree/usr/share/bulk" "$work/www/dists/noble/main/binary-amd64"
	for i in $(seq 400); do
		names+=("bulk-$i")
		(openssl enc -aes-128-ctr -nosalt -pass "pass:$i" -md sha256 </dev/zero 2>/dev/null || true) |
			head -c 2500000 >"$tree/usr/share/bulk/data"
		printf 'Package: bulk-%s\nVersion: 1.0\nArchitecture: amd64\nMaintainer: gpustrap <bench@example>\nDescription: bulk\n' "$i" >"$tree/DEBIAN/control"
		dpkg-deb -Znone --root-owner-group -b "$tree" "$pool/bulk-${i}_1.0_amd64.deb" >/dev/null
	done
	rm -r "${tree:?}/usr"
	for i in gpg curl ca-certificates; do # what the installation itself asks for
		printf 'Package: %s\nVersion: 1.0\nArchitecture: amd64\nMaintainer: gpustrap <bench@example>\nDescription: empty\n' "$i" >"$tree/DEBIAN/control"
		dpkg-deb -Znone --root-owner-group -b "$tree" "$pool/${i}_1.0_amd64.deb" >/dev/null
	done
	printf 'Package: bulk\nVersion: 1.0\nArchitecture: amd64\nMaintainer: gpustrap <bench@example>\nDepends: %s\nDescription: all of it\n' \
		"$(printf '%s, ' "${names[@]}" | sed 's/, $//')" >"$tree/DEBIAN/control"
	dpkg-deb -Znone --root-owner-group -b "$tree" "$pool/bulk_1.0_amd64.deb" >/dev/null
	(
		cd "$work/www"
		apt-ftparchive packages pool >dists/noble/main/binary-amd64/Packages
		for suite in noble noble-updates noble-security; do
			mkdir -p "dists/$suite"/{main,restricted,universe,multiverse}/binary-amd64
			for index in "dists/$suite"/*/binary-amd64; do [ -e "$index/Packages" ] || : >"$index/Packages"; done
			apt-ftparchive -o APT::FTPArchive::Release::Origin=Ubuntu -o APT::FTPArchive::Release::Suite=$suite \
				-o APT::FTPArchive::Release::Codename=$suite -o APT::FTPArchive::Release::Architectures=amd64 \
				-o "APT::FTPArchive::Release::Components=main restricted universe multiverse" release "dists/$suite" >"$work/Release"
			mv "$work/Release" "dists/$suite/Release"
			gpg --homedir "$work/gnupg" --batch --quiet --yes --clearsign -o "dists/$suite/InRelease" "dists/$suite/Release"
		done
	)
}

# make_project writes a configuration that installs them offline, with its lock.
make_project() {
	local port fingerprint
	mkdir -m 700 "$work/gnupg"
	gpg --homedir "$work/gnupg" --batch --quiet --no-auto-check-trustdb --passphrase '' --quick-gen-key bench@example rsa3072 sign never
	fingerprint=$(gpg --homedir "$work/gnupg" --batch --quiet --no-auto-check-trustdb --with-colons --list-keys | awk -F: '$1 == "fpr" { print $10; exit }')
	make_packages
	python3 -u -m http.server --bind 127.0.0.1 --directory "$work/www" 0 >"$work/server" 2>/dev/null &
	server=$!
	for _ in $(seq 100); do
		port=$(sed -nE 's/.* port ([0-9]+) .*/\1/p' "$work/server")
		[ -z "$port" ] || break
		sleep 0.1
	done
	gpg --homedir "$work/gnupg" --batch --armor --export >"$work/archive.asc"
	cat >"$work/bulk.yaml" <<-YAML
		version: 1
		ubuntu: "24.04"
		hostname: bulk
		user: {name: ops, authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+hwbPTE1FTIhLXOlSo6PajH/I25701ouGSNfW6dK5j ops@example.com"]}
		docker: false
		packages: [bulk]
		offline: only
		sources: {ubuntu: {url: "http://127.0.0.1:$port", key: {file: archive.asc}, fingerprint: $fingerprint}}
	YAML
	export XDG_CACHE_HOME=$work/cache
	"$gpustrap" lock -c "$work/bulk.yaml"
	"$gpustrap" bundle -c "$work/bulk.yaml" -o "$work/bundle" # downloads
	rm -r "$work/bundle"
}

[ "$(id -u)" = 0 ] || { echo "bench: run as root, to mount file systems" >&2; exit 1; }

printf '\n## What driver, Docker and kernel bring in on Debian trixie, from its full indexes\n\n'
GPUSTRAP_FIGURES=$runs "$go" test -count 1 -v -run '^TestResolveFigures$' ./apt 2>&1 | sed -n 's/^.*figures: //p'

printf '\n## 400 packages of 1 GB on the %s medium (ext4)\n\n' "$size"
medium=${GPUSTRAP_CACHE:-$top/build/cache}/bench-$size.iso
"$top/e2e/medium/make-medium.sh" --flavour 24.04 --size "$size" -o "$medium"
mkdir -p "$work/ram" "$work/disk"
mount -t tmpfs -o size=16G tmpfs "$work/ram"
truncate -s 15G "$work/ram/disk.img"
mkfs.ext4 -q -F "$work/ram/disk.img"
mount -o loop "$work/ram/disk.img" "$work/disk"
mkdir "$work/disk/cache"
ln -s "$work/disk/cache" "$work/cache"
make_project
cp "$medium" "$work/disk/base.iso"
for _ in $(seq "$runs"); do
	rm -f "$work/disk/cp.iso" "$work/disk/result.iso"
	measure ours "$gpustrap remaster -c $work/bulk.yaml --iso $work/disk/base.iso -o $work/disk/result.iso"
	measure cp "cp --reflink=never $work/disk/result.iso $work/disk/cp.iso && sync -f $work/disk/cp.iso"
done
printf '| what | median of %s | peak memory |\n| --- | --- | --- |\n' "$runs"
row ours "gpustrap remaster, offline"
row cp "cp and sync -f of the result"
printf '\n  the result: %s bytes\n  remaster / cp: %s\n' "$(stat -c %s "$work/disk/result.iso")" "$(echo "scale=3; $(median ours) / $(median cp)" | bc)"
