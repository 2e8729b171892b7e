#!/bin/bash
# Makes an installation medium with the structure of Ubuntu's live server ISOs
# out of Debian's packages. The same parts give the same bytes.
#
#   make-medium.sh --flavour FLAVOUR [--live light|full] [--size SIZE] -o FILE
#
# FLAVOUR  22.04, 24.04, 26.04   amd64, the layout of 21.10 and later
#          arm64                 24.04 for arm64: MBR only
#          20.04                 isohybrid      } media that gpustrap
#          riscv64               partitions lie before the data
#                                               } refuses, of the right
#          multisession          24.04 and a second session appended
#                                               } structure and no use
# --live   light: the live system is an initrd that finds the medium, checks it
#          and reads the seed, in seconds; full (default for the amd64 releases):
#          with a Debian system that has cloud-init and the stand-in installer.
# --size   adds files until the medium has about this size, such as 3G.
#
# Environment: GPUSTRAP_CACHE, where the parts are kept (default build/cache).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1735689600 # 2025-01-01

usage() {
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
	exit "$1"
}
fail() {
	echo "make-medium: $*" >&2
	exit 1
}

flavour=24.04 live='' size=0 output=''
while [ $# -gt 0 ]; do
	case $1 in
	--flavour) flavour=$2 && shift 2 ;;
	--live) live=$2 && shift 2 ;;
	--size) size=$(numfmt --from=iec "$2") && shift 2 ;;
	-o) output=$2 && shift 2 ;;
	-h | --help) usage 0 ;;
	*) usage 2 >&2 ;;
	esac
done
[ -n "$output" ] || usage 2 >&2

arch=amd64 release=24.04 point="24.04.3 LTS" codename=noble animal="Noble Numbat" date=20250805 hwe=yes
memtest=memtest86+x64.bin
case $flavour in
24.04 | multisession) ;;
22.04) release=22.04 point="22.04.5 LTS" codename=jammy animal="Jammy Jellyfish" date=20240911 memtest=memtest86+.bin ;;
26.04) release=26.04 point=26.04 codename=resolute animal="Resolute Raccoon" date=20260420.1 hwe=no ;;
arm64) arch=arm64 live=${live:-light} ;;
20.04) release=20.04 point="20.04.6 LTS" codename=focal animal="Focal Fossa" date=20230314 hwe=no live=light ;;
riscv64) live=light hwe=no ;;
*) fail "there is no flavour $flavour; see --help" ;;
esac
live=${live:-full}
[ "$arch$live" != arm64full ] || fail "the arm64 flavour has no full live system"

parts=$("$here/parts.sh" "$arch" "$live") || fail "cannot make the parts of the medium"
debs='' boot='' rootfs=''
while IFS='=' read -r name folder; do
	printf -v "$name" %s "$folder"
done <<<"$parts"

work=$(mktemp -d "${TMPDIR:-/tmp}/make-medium.XXXXXX")
trap 'rm -rf "$work"' EXIT
# As on Ubuntu's media two trees make one: the boot loaders' and the rest, which
# alone is listed in md5sum.txt (up to 24.04).
loaders=$work/loaders tree=$work/tree
mkdir -p "$loaders" "$tree"

# shellcheck source-path=SCRIPTDIR
. "$here/trees.sh"
# shellcheck source-path=SCRIPTDIR
. "$here/image.sh"

make_loaders
make_casper
make_pool
make_disk_folder
make_menus
add_filler
make_md5sum

find "$loaders" "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$(dirname "$output")"
case $flavour in
arm64) image_mbr_only ;;
20.04) image_isohybrid ;;
riscv64) image_partitions_first ;;
multisession) image_hybrid && append_session ;;
*) image_hybrid ;;
esac
mv "$work/medium.iso" "$output"
