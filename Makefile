# `make` lists what there is to do.
.DEFAULT_GOAL := help
GO ?= go
PKG ?= ./...

# Most tests wait more than they compute: more of a package run at a time than there are cores. SQLite is C that was
# translated to Go; with the race detector in it, it takes five times as long. What calls it has the detector. The NATS server
# keeps the detector: without it tests take a third less, and races are reported that are none (probably since functions with
# type parameters, as those of sync.Map, are compiled in several packages, and the linker takes one of them for all).
TEST = $(GO) test -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false -shuffle=on -parallel 4

# The containers of deploy's test come and go with network interfaces, and each change breaks off what a browser is
# loading (Chromium: ERR_NETWORK_CHANGED): it is run after all that has a browser, beside the fuzzing.
# The packages that take longest come first, so that none of them runs alone at the end.
TESTS = $(PKG)
ifeq ($(PKG),./...)
LONGEST = $(addprefix ./,internal/e2e internal/joblog notifier/sse notifier/inbox notifier internal/backup worker/export internal/chaos)
TESTS = $(LONGEST) $$($(GO) list ./... | grep -v '/deploy$$')
LATER = test-deploy
endif

.PHONY: help run build setup test test-deploy test-web test-fuzz chaos compose-test lint fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything in one process
	$(GO) run ./cmd/hark serve

build: ## Build bin/hark
	$(GO) build -trimpath -o bin/hark ./cmd/hark

setup: ## Install what the tests need: Chromium, PostgreSQL, LibreOffice, nginx, Caddy, by apt
	@scripts/test-setup.sh

test: setup ## Run all tests, as CI does
	$(TEST) -timeout 10m $(TESTS)
	@$(MAKE) --no-print-directory -j 2 $(LATER) test-web test-fuzz

test-deploy:
	$(TEST) -timeout 20m ./deploy
test-web:
	cd notifier/web && node --test test/
test-fuzz:
	scripts/fuzz.sh

chaos: ## Kill processes at random while 2,000 jobs run, cut the power of others, and count what was lost (under 6 minutes)
	HARK_CHAOS_JOBS=2000 $(GO) test -count=1 -timeout 10m -v -run 'TestChaos|TestPowerCut' ./internal/chaos

compose-test: setup ## Run docker-compose.yml for real: kill and restart every service, and count what was lost (5 minutes)
	HARK_COMPOSE=long $(GO) test -count=1 -timeout 30m -v -run TestCompose ./deploy

lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## Format all Go files
	gofmt -w .
