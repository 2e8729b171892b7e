#!/usr/bin/env bash
# Long runs that CI has no time for: every fuzz target for a while, and the
# property tests with many more draws.
# Usage: soak.sh [SECONDS]   (for each fuzz target, default 60)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
go=${GO:-go}

targets=0
while read -r package; do
	while read -r target; do
		printf '\n== %s %s, %s s\n' "$package" "$target" "$seconds"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" "$package"
		targets=$((targets + 1))
	done < <("$go" test -list '^Fuzz' "$package" 2>/dev/null | grep '^Fuzz' || true)
done < <("$go" list ./...)
printf '\n%s fuzz targets, no fault found\n' "$targets"

printf '\n== property tests, 2000 draws each\n'
mapfile -t packages < <("$go" list -f '{{range .TestImports}}{{if eq . "pgregory.net/rapid"}}{{$.ImportPath}}{{end}}{{end}}{{range .XTestImports}}{{if eq . "pgregory.net/rapid"}}{{$.ImportPath}}{{end}}{{end}}' ./... | sort -u | sed '/^$/d')
for package in "${packages[@]}"; do
	"$go" test -timeout 60m -run 'Any|Random|Propert|Pure|Associative|Brute|Unfit|Refuse' "$package" -args -rapid.checks=2000 || exit 1
done

printf '\n== what apt would install, 500 packages chosen by a fixed seed\n'
GPUSTRAP_SOAK=500 "$go" test -timeout 60m -run '^TestAgreement$' ./apt

printf '\n== kill -9 in the middle of writing a device, 50 times\n'
GPUSTRAP_KILLS=50 "$go" test -v -timeout 60m -run '^TestKilled$' ./e2e/usb

printf '\n== ten thousand machines installed over HTTP, and a hundred kills of the server\n'
GPUSTRAP_SOAK=1 "$go" test -v -timeout 70m -run '^(TestFleetStorm|TestKillStorm)$' ./netboot

printf '\n== boots and installations that CI leaves out\n'
GPUSTRAP_SOAK=1 "$go" test -v -timeout 90m -run '^(TestBootMatrix|TestCollection|TestInstall|TestInstallWithoutTheDisk|TestInstallOffline)$' ./e2e

printf '\n== network boots and installations that CI leaves out\n'
GPUSTRAP_SOAK=1 "$go" test -v -timeout 150m -run '^(TestARM64|TestInstall)$' ./e2e/netboot
