# Only Go, git and make are needed: every other tool is pinned in tools/*.mod
# (one module file per tool, so that their dependencies neither meet each other
# nor go.mod) and is built on first use. As root, and with what make deps
# installs, make chaos does more; it says what it left out.
#
# Why staticcheck and go vet rather than golangci-lint: on a fresh 2-core
# machine the first costs 13 s to fetch and build, the second 135 s, and the
# rules that are this project's own are tests in internal/arch.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# What runs tests: CI puts a counting wrapper here.
GOTEST ?= go test
GOTESTFLAGS ?=
# PKGS are the packages that `test`, `bench` and `cover` look at.
PKGS ?= ./...
# RACE=1 adds the race detector; it needs a C compiler.
RACE ?=
RACEFLAG := $(if $(RACE),-race,)
TESTTIMEOUT ?= $(if $(RACE),15m,10m)
SEED ?= 1
PLANTED_MAX ?= 2000
# Worlds also for bugs that take them hundreds of seeds, and have a test of their own.
PLANTED_RARE ?= true
N ?= 200
# Operations by consensus that serial-proof has porcupine judge.
OPS ?= 1000000
FUZZTIME ?= 200000x
BENCH ?= .
BENCHTIME ?= 1s
DEMO_ARGS ?=
CHAOS_RUN ?= .
CHAOS_ARGS ?=
CHAOS_TIMEOUT ?= 15m
CHAOS_PARALLEL ?= 3
CHAOS_HOURS ?= 4

# -modfile changes which module file the go command reads, nothing else.
BUF := go tool -modfile=tools/buf.mod buf
STATICCHECK := go tool -modfile=tools/staticcheck.mod staticcheck

.PHONY: help
help: ## Say what there is (this)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: build ## Start several regions in one process, with a shell: DEMO_ARGS="--script FILE"
	./bin/atoll demo $(DEMO_ARGS)

.PHONY: build
build: ## Build bin/atoll, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/atoll ./cmd/atoll

# Packages of which neither code nor tests start a goroutine, or may: the race detector
# finds nothing there, and makes the planner of the ring ten times slower.
ONE_GOROUTINE := github.com/atolldb/atoll/hashring

.PHONY: test
test: ## Run all tests: RACE=1 with the race detector, PKGS=./crdt/... for a part
	@pkgs=$$(go list $(PKGS)); plain=; failed=0; \
	if [ -n "$(RACE)" ]; then plain=$$(grep -xE '$(ONE_GOROUTINE)' <<<"$$pkgs" || true); fi; \
	if [ -n "$$plain" ]; then \
	  pkgs=$$(grep -vxE '$(ONE_GOROUTINE)' <<<"$$pkgs" || true); \
	  $(GOTEST) $(GOTESTFLAGS) -timeout $(TESTTIMEOUT) $$plain || failed=1; \
	fi; \
	if [ -n "$$pkgs" ]; then $(GOTEST) $(RACEFLAG) $(GOTESTFLAGS) -timeout $(TESTTIMEOUT) $$pkgs || failed=1; fi; \
	exit $$failed

# Worlds make garbage fast and keep little: collecting it less often is a third of
# their time. What two at a time hold stays below 2 GiB.
sim-world sim-disasters serial-proof planted: export GOGC = 400

.PHONY: sim
sim: ## Run N= simulated worlds and models from SEED=
	@$(MAKE) sim-world sim-model

.PHONY: sim-world
sim-world:
	$(GOTEST) $(RACEFLAG) -count=1 -timeout 60m -v ./node/nodetest -run '^Test(Sim.*|RegionLost|RegionEmptied|Disasters|Parted|Accounts|SerialProof)$$' -sim.seed=$(SEED) -sim.n=$(N) -proof.ops=$$(( $(N) * 200 )) \
	  -lost.n=$$(( ($(N) * 2 + 2) / 3 )) -disaster.n=$$(( ($(N) * 2 + 2) / 3 )) -sim.parted=$$(( ($(N) + 9) / 10 )) -sim.rivals=$$(( ($(N) + 49) / 50 )) -account.n=$$(( ($(N) + 9) / 10 ))

.PHONY: sim-disasters
sim-disasters: ## Run N= simulated worlds from SEED= in which things happen to whole regions
	$(GOTEST) $(RACEFLAG) -count=1 -timeout 60m -v ./node/nodetest -run '^TestDisasters$$' -sim.seed=$(SEED) -disaster.n=$(N)

.PHONY: serial-proof
serial-proof: ## Judge OPS= conditional writes and serial reads of Worlds full of them, from SEED=
	$(GOTEST) $(RACEFLAG) -count=1 -timeout 60m -v ./node/nodetest -run '^TestSerialProof$$' -sim.seed=$(SEED) -proof.ops=$(OPS)

.PHONY: serial-proof-processes
serial-proof-processes: ## The same of real processes of two regions, which are killed, paused, cut off, moved: OPS=
	$(GOTEST) -count=1 -tags chaos -timeout 60m -v ./e2e/chaos -run '^TestSerialProof$$' -chaos.proof=$(OPS) -chaos.seed=$(SEED) $(CHAOS_ARGS)

.PHONY: sim-model
sim-model:
	$(GOTEST) $(RACEFLAG) -count=1 -timeout 60m ./crdt/model -v -run '^Test(Histories|SilentFaults)$$' \
	  -model.seed=$(SEED) -model.n=$(N) -model.workers=$$(nproc)

.PHONY: planted
planted: ## Plant bugs one by one and show which check catches each: PLANTED_MAX= seeds at most
	$(GOTEST) -tags planted -count=1 -timeout 60m -v ./node/nodetest -run '^TestPlanted$$' -planted.max=$(PLANTED_MAX) -planted.rare=$(PLANTED_RARE)

# By counts, not by time: when a time is over, go test may tell of "context
# deadline exceeded" as a failure, without an input that fails
# (golang.org/issue/75804, until Go 1.27). The minimiser has a count too: by
# default it may run for a minute per finding. A target that costs ten times what
# others do (its binary has ten times the code, all of whose counters are compared
# after each input) says //fuzz:slow 10 above it and gets a tenth of the count.
.PHONY: fuzz
fuzz: ## Fuzz every decoder with FUZZTIME= inputs each (1000000x, or a time: 1h)
	@found=0; slow=1; while IFS=: read -r file line; do \
	  if [[ $$line == //* ]]; then slow=$${line##* }; continue; fi; \
	  name=$$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$$line"); times=$(FUZZTIME); \
	  if [[ $$times == *x ]]; then times=$$(( ($${times%x} + slow - 1) / slow ))x; fi; \
	  found=$$((found + 1)); slow=1; \
	  echo "fuzz $${file%/*} $$name $$times"; \
	  $(GOTEST) -timeout 30m -run '^$$' -fuzz "^$$name$$" -fuzztime $$times -fuzzminimizetime=10x "./$${file%/*}" </dev/null; \
	done < <(git grep --untracked -E '^(//fuzz:slow [0-9]+$$|func Fuzz[A-Z0-9_])' -- '*_test.go'); \
	echo "$$found fuzz targets"; test $$found -gt 0

.PHONY: e2e
e2e: ## Test the real binary: processes, signals, two regions
	$(GOTEST) -count=1 -tags e2e -timeout 20m ./e2e

.PHONY: chaos
chaos: ## Faults on real processes, with checkers: CHAOS_RUN= CHAOS_ARGS= (see e2e/chaos/main_test.go); most need root and make deps
	$(GOTEST) -count=1 -tags chaos -timeout $(CHAOS_TIMEOUT) -parallel $(CHAOS_PARALLEL) -v ./e2e/chaos -run '$(CHAOS_RUN)' $(CHAOS_ARGS)

.PHONY: runbooks
runbooks: ## Follow the runbooks on real processes, with their faults injected: RUNBOOK=node-loss
	$(GOTEST) -count=1 -tags runbooks -timeout 15m -v ./e2e/runbooks -run '^TestRunbook$$/$(if $(RUNBOOK),^$(RUNBOOK)$$)'

.PHONY: chaos-long
chaos-long: ## The same for hours: CHAOS_HOURS= of random faults, every scenario many times, long pauses
	$(MAKE) chaos CHAOS_TIMEOUT=$$(($(CHAOS_HOURS) + 4))h \
	  CHAOS_ARGS="-chaos.times=10 -chaos.pause=60s -chaos.away=60s -chaos.random=$(CHAOS_HOURS)h -chaos.seed=$(SEED) $(CHAOS_ARGS)"

.PHONY: bench
bench: ## Run the micro-benchmarks: BENCH= BENCHTIME= PKGS=
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem -timeout 30m $(PKGS)

.PHONY: cover
cover: ## Say how much of each function the tests reach; writes cover.out
	go test -timeout $(TESTTIMEOUT) -coverprofile=cover.out $(PKGS)
	go tool cover -func=cover.out | tail -n 1

.PHONY: lint
lint: fmt vet lint-tools ## gofmt, go vet, staticcheck, buf lint, and this project's own rules
	go test ./internal/arch

.PHONY: fmt
fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...
	go vet -tags e2e,chaos,runbooks ./...

.PHONY: lint-tools
lint-tools:
	$(STATICCHECK) -tags e2e,chaos,runbooks ./...
	$(BUF) lint
	$(BUF) format --diff --exit-code

.PHONY: generate
generate: ## Regenerate the Go code of proto/
	$(BUF) format --write
	$(BUF) generate

# It generates beside the tree and compares, so that it says the same with and
# without uncommitted work.
.PHONY: checkgenerate
checkgenerate: ## Fail if the generated code is not what proto/ says
	@rm -rf .cache/generated; mkdir -p .cache/generated
	$(BUF) generate --output .cache/generated
	@diff -r --brief --exclude='*.proto' proto .cache/generated/proto || { echo 'run: make generate'; exit 1; }

.PHONY: breaking
breaking: ## Fail if proto/ breaks what the last release promised
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null || true); \
	  if [ -z "$$tag" ]; then echo 'not run: nothing was released yet'; \
	  else set -x; $(BUF) breaking --against ".git#tag=$$tag"; fi

.PHONY: deps
deps: ## Install what make chaos and make runbooks need beside Go, git and make (Debian; as root)
	@missing=; \
	  for pair in jq:jq ip:iproute2 nft:nftables strace:strace mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs mount:mount; do \
	    PATH=$$PATH:/usr/sbin:/sbin command -v "$${pair%%:*}" >/dev/null || missing+=" $${pair#*:}"; done; \
	  if [ -z "$$missing" ]; then echo 'nothing to install'; \
	  elif [ "$$(id -u)" -ne 0 ]; then echo "not root: install$$missing by hand"; \
	  elif ! command -v apt-get >/dev/null; then echo "no apt-get: install$$missing by hand"; \
	  else export DEBIAN_FRONTEND=noninteractive; \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null || echo "not installed:$$missing"; fi

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .cache cover.out
