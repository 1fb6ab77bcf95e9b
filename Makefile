# `make` lists what there is to do.
.DEFAULT_GOAL := help
GO ?= go
PKG ?= ./...

# Most tests wait more than they compute: more packages, and more tests of a package, run at a time than there are cores. They are
# compiled as the programs that they start, and as `make lint` compiles: on a new machine each package is compiled once.
TESTFLAGS = -shuffle=on -p 3 -vet=off
TEST = CGO_ENABLED=0 $(GO) test -trimpath -parallel 8 $(TESTFLAGS)

# SQLite is C that was translated to Go; with the race detector in it, it takes five times as long. What calls it has the detector.
# The NATS server has it, too: without, races are reported that are none (probably since functions with type parameters, as those of
# sync.Map, are compiled in several packages, and the linker takes one of them for all). Its own races are not reported.
RACETEST = GORACE=suppressions=$(CURDIR)/scripts/race-suppressions CGO_ENABLED=1 $(GO) test -race -parallel 4 \
	-gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false $(TESTFLAGS)

# The time of the steps of `make test`, which are to take under twelve minutes on two cores.
BEGIN := $(shell date +%s)
took = @echo "make test: $(1) after $$(($$(date +%s) - $(BEGIN))) s"

# The containers of deploy's test come and go with network interfaces, and each change interrupts what a browser is
# loading (Chromium: ERR_NETWORK_CHANGED). So the packages with a browser are run first, beside a few long ones, and deploy,
# which mostly waits, beside all others. The fuzz targets only compute: they run beside the others, at the lowest priority. The packages
# that take longest come first, so that none of them runs alone at the end.
BROWSER = $(shell grep -rl 'hark/internal/browsertest"' --include='*_test.go' . | xargs -n 1 dirname | sort -u | grep -vx -e ./deploy -e ./internal/e2e)
FIRST = ./internal/e2e ./notifier/inbox ./worker/export ./internal/cluster ./internal/chaos $(BROWSER)
LONGEST = ./notifier/sse ./notifier ./internal/joblog ./cmd/hark ./internal/backup ./worker
OTHERS = $(LONGEST) $$($(GO) list ./... | grep -vxF "$$($(GO) list ./deploy $(FIRST) $(LONGEST))")

# Tests that only start processes and browsers: the race detector would find nothing in them.
PROCESSES = ./deploy ./internal/e2e ./internal/chaos ./internal/cluster $(BROWSER)

.PHONY: help run build setup compile standin-base standin test test-first test-others test-deploy test-web test-fuzz race fuzz chaos cluster-test compose-test lint fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything in one process
	$(GO) run ./cmd/hark serve

build: ## Build bin/hark
	$(GO) build -trimpath -o bin/hark ./cmd/hark

setup: ## Install what the tests need: Chromium, PostgreSQL, LibreOffice, nginx, Caddy, by apt
	@scripts/test-setup.sh

# On a new machine this takes as long as apt, which mostly waits: the two run side by side. The programs of the tests are compiled
# here too: packages whose tests run side by side would each compile them.
compile:
	@CGO_ENABLED=0 $(GO) list -trimpath -export -deps -test $(PKG) github.com/nats-io/nats-server/v2 >/dev/null

# The images for the test of docker-compose.yml are made beside other steps: their base while apt and the compiler run, the images during
# the first half. If this fails, that test makes them again and reports the error.
standin-base: setup
	-@! docker version >/dev/null 2>&1 || deploy/standin/build.sh base
standin:
	-@! docker version >/dev/null 2>&1 || deploy/standin/build.sh

test: ## Run all tests, as CI does
	@$(MAKE) --no-print-directory -j 2 $(if $(filter ./...,$(PKG)),standin-base,setup) compile
	$(call took,installed and compiled)
ifeq ($(PKG),./...)
	@$(MAKE) --no-print-directory -j 2 test-first standin
	$(call took,first half ok)
	@$(MAKE) --no-print-directory --output-sync=target -j 4 test-others test-deploy test-web test-fuzz
else
	$(TEST) -timeout 30m $(PKG)
endif
	$(call took,all ok)

test-first:
	$(TEST) -timeout 30m $(FIRST)
# These wait most of the time.
test-others:
	$(TEST) -p 5 -timeout 30m $(OTHERS)
test-fuzz:
	FUZZTIME=500x FUZZGUIDE=off nice -n 19 scripts/fuzz.sh
test-deploy:
	$(TEST) -timeout 30m ./deploy
test-web:
	cd notifier/web && node --test test/

race: setup ## Run the tests with the race detector, but for those of processes and browsers (PKG=./worker: those of a package)
ifeq ($(PKG),./...)
	$(RACETEST) -timeout 30m $(LONGEST) ./notifier/inbox ./worker/export $$($(GO) list ./... | grep -vxF "$$($(GO) list $(PROCESSES) $(LONGEST) ./notifier/inbox ./worker/export)")
else
	$(RACETEST) -timeout 30m $(PKG)
endif

fuzz: ## Run each fuzz target with 50,000 inputs (10 minutes)
	FUZZTIME=50000x scripts/fuzz.sh

chaos: ## Kill processes at random while 2,000 jobs run, cut the power of others, and count what was lost (under 6 minutes)
	HARK_CHAOS_JOBS=2000 $(GO) test -count=1 -timeout 10m -v -run 'TestChaos|TestPowerCut' ./internal/chaos

cluster-test: setup ## Three NATS servers, PostgreSQL, notifiers and workers: fail each while 5,000 jobs run, and count what was lost (15 minutes)
	HARK_CLUSTER=long HARK_CLUSTER_CHURNS=$${HARK_CLUSTER_CHURNS:-10} $(GO) test -count=1 -timeout 45m -v ./internal/cluster

compose-test: setup ## Run docker-compose.yml for real: kill, restart, cut off and pause its services, and count what was lost (14 minutes)
	HARK_COMPOSE=long $(GO) test -count=1 -timeout 30m -v -run TestCompose ./deploy

# What is checked is compiled as the programs of the tests are, once for both.
lint: export CGO_ENABLED = 0
lint: export GOFLAGS := $(GOFLAGS) -trimpath
lint: ## gofmt, vet and staticcheck, and vet for the Go of README
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet -tags lint ./...
	$(GO) tool staticcheck -tags lint ./...
	$(GO) test -tags lint -vet=off -run TestReadmeIsVetted ./internal/e2e

fmt: ## Format all Go files
	gofmt -w .
