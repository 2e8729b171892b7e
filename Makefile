# gpustrap: from one YAML file to machines that come up GPU- and container-ready.
#
# make demo    the main job, end to end, on a sample medium (or ISO=your.iso)
# make test    all tests
# See CONTRIBUTING.md for the others.

GO       ?= $(if $(wildcard build/go/bin/go),$(CURDIR)/build/go/bin/go,go)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
SCRIPTS   = $(shell git ls-files '*.sh' '.ci/run' | xargs grep -lE '^\#!.*\b(ba|da)?sh\b' 2>/dev/null)

export GO
export GOFLAGS ?= -buildvcs=false

.PHONY: build demo test quick lint bench soak e2e gpu-check docs tools clean

build:
	$(BUILD) -o bin/gpustrap ./cmd/gpustrap

tools:
	./e2e/install-tools.sh
	./e2e/bootstrap-go.sh

demo: tools build
	./e2e/demo.sh $(ISO)

test: tools build
	CI=true $(GO) test -timeout 40m ./...

quick: build
	$(GO) test -short -timeout 5m ./...

lint:
	$(GO) run $(LINT) run ./...
	shellcheck -x $(SCRIPTS)
	GOOS=darwin $(GO) build -o /dev/null ./cmd/gpustrap
	GOOS=windows $(GO) build ./download

bench: tools build
	./e2e/bench.sh
	./e2e/usb/bench.sh
	./e2e/netboot/bench.sh
	./e2e/offline/bench.sh

soak: tools build
	./e2e/soak.sh

e2e: tools build
	./e2e/matrix.sh $(ISO)

# gpu-check proves gpu-ready and gpu-who on a real GPU with a real Docker. Where
# there is no GPU it packs what a machine with one needs (e2e/README.md).
gpu-check: build
	./e2e/gpu-check/pack.sh
	@if [ -e /proc/driver/nvidia/version ]; then ./e2e/gpu-check/run.sh; \
	else echo "no GPU is here: run e2e/gpu-check/run.sh where one is, with this tree and build/gpu-check"; fi

docs: build
	rm -rf docs/man docs/reference
	./bin/gpustrap docs --out docs

clean:
	rm -rf bin build
