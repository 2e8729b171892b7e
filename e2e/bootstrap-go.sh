#!/bin/sh
# Puts a Go that can build gpustrap at build/go, where the installed one cannot.
#
# Go 1.21 and later fetch the toolchain that go.mod asks for by themselves. An
# older one (Debian 12 has 1.19) cannot, but a toolchain is a module as well, and
# modules it can fetch and verify.
set -eu
cd "$(dirname "$0")/.."

version=1.26.8
PATH=$PATH:/usr/local/go/bin

have=$(go env GOVERSION 2>/dev/null || true)
case $have in
go1.2[1-9]* | go1.[3-9][0-9]* | go[2-9]*) exit 0 ;;
"") echo "bootstrap-go: Go is not installed; apt-get install golang-go" >&2 && exit 1 ;;
esac
[ ! -x build/go/bin/go ] || exit 0

echo "bootstrap-go: $have is too old; fetching Go $version as a module"
module=golang.org/toolchain@v0.0.1-go$version.linux-$(go env GOARCH)
(cd / && GOFLAGS=-mod=mod go mod download "$module")
rm -rf build/go.new
mkdir -p build
cp -r "$(go env GOMODCACHE)/$module" build/go.new
# A module has no executable files.
chmod -R u+w build/go.new
find build/go.new/bin build/go.new/pkg/tool -type f -exec chmod 755 {} +
mv build/go.new build/go
build/go/bin/go version
