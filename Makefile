# `make` lists what there is to do.
.DEFAULT_GOAL := help
GO ?= go
PKG ?= ./...

# The containers of deploy's test come and go with network interfaces, and each change breaks off what a browser is
# loading (Chromium: ERR_NETWORK_CHANGED): it is run by itself.
TESTS = $(PKG)
ifeq ($(PKG),./...)
TESTS = $$($(GO) list ./... | grep -v '/deploy$$')
ALONE = ./deploy
endif

.PHONY: help run build setup test chaos compose-test lint fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything in one process
	$(GO) run ./cmd/hark serve

build: ## Build bin/hark
	$(GO) build -trimpath -o bin/hark ./cmd/hark

setup: ## Install what the tests need: Chromium, PostgreSQL, nginx, Caddy, by apt
	@scripts/test-setup.sh

test: setup ## Run all tests, as CI does
	$(GO) test -race -shuffle=on -timeout 10m $(TESTS)
	$(if $(ALONE),$(GO) test -race -shuffle=on -timeout 20m $(ALONE))
	cd notifier/web && node --test test/
	scripts/fuzz.sh

chaos: ## Kill processes at random while 2,000 jobs run, and count what was lost (under 5 minutes)
	HARK_CHAOS_JOBS=2000 $(GO) test -count=1 -timeout 10m -v -run TestChaos ./internal/chaos

compose-test: setup ## Run docker-compose.yml for real: kill and restart every service, and count what was lost (5 minutes)
	HARK_COMPOSE=long $(GO) test -count=1 -timeout 30m -v -run TestCompose ./deploy

lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## Format all Go files
	gofmt -w .
