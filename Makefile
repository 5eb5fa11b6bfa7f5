# `make help` lists what there is. CI runs .ci/run, which is `make check` and `make test`.

VERSION  := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
DIST     ?= $(CURDIR)/dist
ARCH     ?= $(shell go env GOHOSTARCH)
RPMARCH   = $(patsubst amd64,x86_64,$(patsubst arm64,aarch64,$(ARCH)))

GO      := CGO_ENABLED=0 go
COMPILE := $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
MODULES := . pkg/e2e
# Checked less: staticcheck and fix would go through all of Vault's dependencies.
VAULT   := pkg/e2e/vaultreal
SCRIPTS := .ci/run $(wildcard pkg/e2e/*.sh) systemd/restart.sh
UNITS   := $(wildcard systemd/*.service systemd/*.socket systemd/*.target)

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build pages deb rpm packages check format vet fix staticcheck tidy units scripts unit test install e2e test-system demo fuzz soak bench clean help

build: ## bin/purser and bin/purser-mock
	$(COMPILE) -o bin/ ./cmd/...

# Written by binaries for the machine at hand, whatever GOARCH says.
NATIVE = $(if $(filter-out $(shell go env GOHOSTARCH),$(GOARCH)),bin/native,bin)
pages: build ## man pages and completions of the shells, in bin/pages
	test $(NATIVE) = bin || env -u GOARCH $(COMPILE) -o $(NATIVE)/ ./cmd/...
	mkdir -p bin/pages/man
	$(NATIVE)/purser man --folder bin/pages/man
	$(NATIVE)/purser-mock man >bin/pages/man/purser-mock.1
	for shell in bash zsh fish; do $(NATIVE)/purser completion $$shell >bin/pages/purser.$$shell || exit; done

check: install format vet fix staticcheck tidy units scripts unit ## what must pass before a commit: style, every module's build, unit tests

format:
	@out=$$(gofmt -l cmd pkg); test -z "$$out" || { echo "gofmt these: $$out" >&2; exit 1; }

vet:
	@for m in $(MODULES) $(VAULT); do (cd $$m && go vet ./...) || exit; done

fix:
	@for m in $(MODULES); do (cd $$m && go fix -diff ./...) || exit; done

# The tool is a dependency of the main module and serves both.
staticcheck:
	@tool=$$(go tool -n staticcheck) && for m in $(MODULES); do (cd $$m && "$$tool" ./...) || exit; done

tidy:
	@for m in $(MODULES) $(VAULT); do (cd $$m && go mod tidy -diff) || exit; done

# Verified beside the built binary, as the installed one need not exist here.
units: build
ifneq ($(shell command -v systemd-analyze),)
	@dir=$$(mktemp -d) && trap 'rm -r "$$dir"' EXIT && for u in $(UNITS); do \
		sed 's,/usr/bin/purser,$(CURDIR)/bin/purser,' "$$u" > "$$dir/$${u##*/}" || exit; done && \
		SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$$dir"/* && \
		systemd-analyze security --offline=yes --threshold=15 --no-pager "$$dir"/purser.service >"$$dir"/said || \
		{ cat "$$dir"/said; exit 1; }
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

# For tests, which skip what is not there.
packages: install
	@if command -v dh >/dev/null && command -v rpmbuild >/dev/null; then $(MAKE) deb rpm; \
		else echo 'no debhelper or no rpmbuild here: the packages are not built' >&2; fi

e2e: build packages ## real AWS SDKs, network namespaces and a booted host against binaries and packages
	cd pkg/e2e && go test -count=1 -parallel 6 -timeout 20m ./...

test-system: build packages ## of these, what concerns packages: installed on a booted host, used, upgraded, purged
	cd pkg/e2e && go test -count=1 -timeout 20m -v -run '^TestPackage' .

# Built from a copy of what git knows, so that nothing is left about. Both kinds take
# their time from the changelog, and another VERSION is written into the copy's.
COPY = dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && umask 022 && mkdir -p $(DIST) "$$dir/purser" && \
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --no-dereference -t "$$dir/purser" && \
	chmod -R go=u-w "$$dir/purser" && cd "$$dir/purser" && sed -i '1s/(.*)/($(VERSION))/' debian/changelog && \
	export SOURCE_DATE_EPOCH=$$(dpkg-parsechangelog -S Timestamp) &&

deb: ## Debian packages in dist/, for ARCH=amd64 or arm64
	@$(COPY) dpkg-buildpackage --build=binary --host-arch=$(ARCH) --no-check-builddeps --no-sign >../log 2>&1 || \
		{ cat ../log; exit 1; } && mv ../*.deb $(DIST)

rpm: ## RPMs in dist/, for ARCH=amd64 or arm64
	@$(COPY) rpmbuild -bb --build-in-place --target=$(RPMARCH) --define "_topdir $$dir/rpm" rpm/purser.spec >../log 2>&1 || \
		{ cat ../log; exit 1; } && mv ../rpm/RPMS/*/*.rpm $(DIST)

demo: build ## a first look: mock and agent on loopback, a credential through curl and an SDK
	cd pkg/e2e && $(GO) build -trimpath -o ../../bin/purser-demo ./demo
	pkg/e2e/demo.sh

fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit; done; done

soak: build ## a simulated day and 20 real minutes of faults: does anything grow?
	go test -count=1 -run TestADayOfFaults ./pkg/refresh
	cd pkg/e2e && go run ./soak

bench: build ## the figures of the README, measured here
	cd pkg/e2e && go run ./bench

clean: ## removes what was built
	rm -rf bin dist pkg/e2e/node_modules

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
