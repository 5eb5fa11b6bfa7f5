# `make help` lists what there is. CI runs .ci/run, which is `make check` and `make test`.

VERSION  := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
# Of the packages: amd64 or arm64.
ARCH     ?= $(shell go env GOHOSTARCH)
RPMARCH   = $(patsubst amd64,x86_64,$(patsubst arm64,aarch64,$(ARCH)))

GO      := CGO_ENABLED=0 go
COMPILE := $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
MODULES := . pkg/e2e
SCRIPTS := .ci/run $(wildcard pkg/e2e/*.sh)
UNITS   := $(wildcard systemd/*.service systemd/*.socket systemd/*.target)

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build pages deb rpm check format vet fix staticcheck tidy units scripts unit test install e2e demo fuzz bench clean help

build: ## bin/purser and bin/purser-mock
	$(COMPILE) -o bin/ ./cmd/...

# Written by binaries for the machine at hand, whatever GOARCH says.
pages: ## man pages and completions of the shells, in bin/pages
	env -u GOARCH $(COMPILE) -o bin/native/ ./cmd/...
	mkdir -p bin/pages/man
	bin/native/purser man --folder bin/pages/man
	bin/native/purser-mock man >bin/pages/man/purser-mock.1
	for shell in bash zsh fish; do bin/native/purser completion $$shell >bin/pages/purser.$$shell || exit; done

check: install format vet fix staticcheck tidy units scripts unit ## what must pass before a commit: style, both modules' build, unit tests

format:
	@out=$$(gofmt -l cmd pkg); test -z "$$out" || { echo "gofmt these: $$out" >&2; exit 1; }

vet:
	@for m in $(MODULES); do (cd $$m && go vet ./...) || exit; done

fix:
	@for m in $(MODULES); do (cd $$m && go fix -diff ./...) || exit; done

# The tool is a dependency of the main module and serves both.
staticcheck:
	@tool=$$(go tool -n staticcheck) && for m in $(MODULES); do (cd $$m && "$$tool" ./...) || exit; done

tidy:
	@for m in $(MODULES); do (cd $$m && go mod tidy -diff) || exit; done

# Verified beside the built binary, as the installed one need not exist here.
units: build
ifneq ($(shell command -v systemd-analyze),)
	@dir=$$(mktemp -d) && trap 'rm -r "$$dir"' EXIT && for u in $(UNITS); do \
		sed 's,/usr/bin/purser,$(CURDIR)/bin/purser,' "$$u" > "$$dir/$${u##*/}" || exit; done && \
		SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$$dir"/*
else
	@echo 'no systemd-analyze here: the units are not verified'
endif

scripts:
ifneq ($(shell command -v shellcheck),)
	@shellcheck $(SCRIPTS)
else
	@echo 'no shellcheck here: the scripts are not checked'
endif

unit: install ## unit tests with the race detector
	go test -race ./...

test: install unit e2e ## installs what the tests need, and runs all of them

install:
	pkg/e2e/install.sh

e2e: build ## real AWS SDKs, network namespaces and a booted host against the binaries
	cd pkg/e2e && go test -count=1 -parallel 6 -timeout 20m ./...

# Built from a copy, so that what the tools leave about goes with it, and of what git
# knows only. Both tools use the time of the changelog's last entry for everything.
COPY := dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir -p dist "$$dir/purser" && \
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --no-dereference -t "$$dir/purser" && \
	export SOURCE_DATE_EPOCH=$$(dpkg-parsechangelog -S Timestamp) && cd "$$dir/purser" &&

deb: ## dist/*.deb for ARCH
	$(COPY) dpkg-buildpackage --build=binary --host-arch=$(ARCH) --no-check-builddeps --no-sign && \
		mv ../*.deb $(CURDIR)/dist

rpm: ## dist/*.rpm for ARCH
	$(COPY) rpmbuild -bb --build-in-place --quiet --target=$(RPMARCH) --define "_topdir $$dir/rpm" rpm/purser.spec && \
		mv "$$dir"/rpm/RPMS/*/*.rpm $(CURDIR)/dist

demo: build ## a first look: mock and agent on loopback, a credential through curl and an SDK
	cd pkg/e2e && $(GO) build -trimpath -o ../../bin/purser-demo ./demo
	pkg/e2e/demo.sh

fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit; done; done

bench: build ## the figures of the README, measured here
	cd pkg/e2e && go run ./bench

clean: ## removes what was built
	rm -rf bin dist pkg/e2e/node_modules

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
