# make help lists the targets. Continuous integration runs `make test`; nothing here needs more than
# Go, git and the Debian packages that internal/testdeps names.

# Tools run by `go run` at these versions; nothing is installed.
STATICCHECK   := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCHSTAT     := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# FUZZTIME is how long each fuzz target runs, SOAKTIME each pair of WebSocket libraries and the mixing of clients; COUNT
# is how often each benchmark runs.
FUZZTIME ?= 1m
SOAKTIME ?= 10m
COUNT    ?= 10
# SOAK is how long make soak runs, SEED what its choices begin with (empty: chance).
SOAK     ?= 30m
SEED     ?=
BENCH    ?= .
# Packages with benchmarks, and those whose tests hold allocation budgets.
HOT := ./cache/... ./proxy/... ./bench/... ./internal/accesslog/...

# The tests of ./cache and ./cmd/sluice wait for other programs most of their time: more of them at once than there are
# cores take half as long. TIMED are the packages whose tests use the cores themselves.
WAITING       ?= 6
BINARYWAITING ?= 4
RACEWAITING   ?= 4
TIMED          = $(shell go list ./... | grep -v -e /cache$$ -e /cmd/sluice$$)
# RACED are those that are worth the race detector. The others run binaries, which are built without it, or are a test
# kit that the tests of ./proxy run as well.
RACED          = $(filter-out %/loadtest %/examples/run %/internal/httpcases,$(TIMED))

SHELL         := bash
.SHELLFLAGS   := -o pipefail -ec
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Build and run

.PHONY: build
build: ## Build bin/sluice, one static binary.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

.PHONY: run
run: build ## Run sluice on 127.0.0.1:8080 with sample backends; REDIS=redis://host:port keeps the routes there.
	@go build -o bin/run ./examples/run
	@exec bin/run $(if $(REDIS),--redis '$(REDIS)')

.PHONY: clean
clean: ## Remove what these targets have built.
	rm -rf bin dist coverage.out

##### Tests

.PHONY: test
test: deps vet fmt-check ## Run everything that must pass: vet, formats, tests, short fuzzing, races.
	go test -run '^$$' ./... >/dev/null # compiles everything at once
	go test -p 1 $(TIMED) # one package at a time: their tests measure time
	go test -parallel $(BINARYWAITING) ./cmd/sluice
	go test -parallel $(WAITING) ./cache
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2s
	@$(MAKE) --no-print-directory race
	@echo 'make test: all passed'

.PHONY: deps
deps:
	@internal/testdeps/install.sh

.PHONY: race
race: deps ## Run the tests with the race detector, in random order.
	go test -race -run '^$$' $(RACED) ./loadtest ./cache >/dev/null
	go test -race -shuffle=on -p 1 -skip '^TestProcess$$' $(RACED)
	go test -race -shuffle=on -run '^Test(OpenLoop|Process)' ./loadtest # the others run binaries built without
	go test -race -shuffle=on -parallel $(RACEWAITING) ./cache

.PHONY: e2e
e2e: deps ## Run the end-to-end tests of the built binary.
	go test -count=1 ./cmd/...

.PHONY: alloc
alloc: ## Run the tests that hold allocation budgets.
	go test -count=1 -run Alloc $(HOT)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (1m).
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "fuzz $$target ($$(dirname "$$file")) for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
		done; \
	done

.PHONY: soak-websocket
soak-websocket: deps ## Let WebSocket libraries talk through sluice for SOAKTIME (10m), with checksums.
	go test -count=1 -timeout 0 -v -run '^TestWebSocket_Soak$$' ./proxy -soak $(SOAKTIME)

.PHONY: soak-bodies
soak-bodies: deps ## Let 32 bodies of 1 GiB pass each way at once, and watch the process's memory.
	go test -count=1 -timeout 0 -v -run '^TestProcess$$/^streams$$' ./proxy -stream 1024

.PHONY: soak-mixing
soak-mixing: deps ## Let thousands of clients share backends that misbehave for SOAKTIME (10m): no answer may reach another.
	go test -count=1 -timeout 0 -v -run '^TestMixing$$' ./proxy -mixclients 4000 -mix $(SOAKTIME)

.PHONY: soak
soak: deps ## Break Redis in all ways, in rotation, under load and changes for SOAK (30m); SEED repeats choices.
	SOAK=$(SOAK) SEED=$(SEED) go test -race -count=1 -run '^TestSoak$$' -v -timeout 0 ./cache

.PHONY: cover
cover: deps ## Run the tests and show how much of the code they reach.
	go test -coverpkg=./cmd/...,./proxy/...,./cache/...,./internal/... -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out | tail -n 1
	@echo 'in detail: go tool cover -html=coverage.out'

##### Form

.PHONY: fmt
fmt: ## Format all Go files.
	gofmt -s -w .

.PHONY: fmt-check
fmt-check:
	@files=$$(gofmt -s -l .); [ -z "$$files" ] || { echo "not formatted, run make fmt:"; echo "$$files"; exit 1; }

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: ## Run staticcheck and golangci-lint.
	go run $(STATICCHECK) ./...
	go run $(GOLANGCI_LINT) run

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what is linked.
	go run $(GOVULNCHECK) ./...

.PHONY: check
check: fmt-check vet lint vuln test ## Run everything that a release must pass.

##### Speed

.PHONY: bench
bench: ## Run the benchmarks COUNT (10) times; BENCH selects by name.
	@mkdir -p dist/bench
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(HOT) | tee dist/bench/$(VERSION).txt
	@go run $(BENCHSTAT) dist/bench/$(VERSION).txt

.PHONY: bench-compare
bench-compare: ## Run the benchmarks on commit BASE and on this tree in turns, and compare.
	@[ -n '$(BASE)' ] || { echo 'which commit to compare with? make bench-compare BASE=<commit>'; exit 2; }
	@mkdir -p dist/bench && rm -f dist/bench/base.txt dist/bench/head.txt
	@base=$$(mktemp -d); trap 'git worktree remove --force "$$base"' EXIT; \
	git worktree add -q --detach "$$base" '$(BASE)'; \
	for i in $$(seq $(COUNT)); do \
		echo "round $$i of $(COUNT)"; \
		(cd "$$base" && go test -run '^$$' -bench '$(BENCH)' -benchmem -count 1 $(HOT)) >>dist/bench/base.txt; \
		go test -run '^$$' -bench '$(BENCH)' -benchmem -count 1 $(HOT) >>dist/bench/head.txt; \
	done
	@go run $(BENCHSTAT) dist/bench/base.txt dist/bench/head.txt

.PHONY: certificates
certificates: deps ## Measure start, handshakes and memory with CERTIFICATES (100000) of them in Redis, a fifth in use.
	CERTIFICATES=$${CERTIFICATES:-100000} go test -count=1 -run '^TestProcess_HundredThousandCertificates$$' -v -timeout 20m ./cmd/sluice

.PHONY: freshness
freshness: deps ## Measure how soon a change counts, with a million hosts and 1 000 changes a second; draws docs/freshness.svg.
	FRESHNESS=docs/freshness.svg go test -count=1 -run '^TestFreshness$$' -v -timeout 20m ./cache

.PHONY: scale
scale: deps ## Measure size and speed from one host to a million; writes docs/performance.md and docs/scale.svg.
	SCALE=1 go test -count=1 -run '^(TestScale|TestEviction|TestFlood.*)$$' -v -timeout 20m ./cache

# What the load test needs besides Go; rivals that are missing after all are left out.
LOADTEST_TOOLS := redis-server nginx haproxy wrk h2load
# WORK selects kinds of work by name (all); the page keeps what it says of the others. ROUNDS and DURATION are those
# of each measurement, LOADTEST further flags (go run ./loadtest -h).
WORK     ?=
ROUNDS   ?= 7
DURATION ?= 1s
LOADTEST ?=

.PHONY: loadtest
loadtest: loadtest-deps ## Measure beside nginx and HAProxy (12 min); writes docs/performance.md. WORK='small tls' selects.
	@status=0; \
	for half in rivals latency; do $(MAKE) --no-print-directory loadtest-$$half || status=1; done; \
	exit $$status

.PHONY: loadtest-deps
loadtest-deps: build
	@internal/testdeps/install.sh $(LOADTEST_TOOLS)
	@go build -o bin/loadtest ./loadtest

.PHONY: loadtest-rivals
loadtest-rivals: loadtest-deps ## The closed-loop half of make loadtest.
	bin/loadtest -page docs/performance.md -picture docs/rivals.svg -rounds $(ROUNDS) -duration $(DURATION) \
		$(if $(WORK),-work '$(WORK)') $(LOADTEST)

.PHONY: loadtest-latency
loadtest-latency: loadtest-deps ## The open-loop half: latencies at 30, 60 and 90 % of capacity.
	bin/loadtest -scenario latency -page docs/performance.md -picture docs/latency.svg -rounds 5 -duration 1s $(LOADTEST)

.PHONY: loadtest-page
loadtest-page: loadtest-deps ## Write the tables of make loadtest-rivals and make growth anew from what they recorded.
	bin/loadtest -scenario page -page docs/performance.md

.PHONY: loadtest-quick
loadtest-quick: loadtest-deps ## See in under a minute that all kinds of work run without errors.
	bin/loadtest -short -contestants sluice,nginx+log,haproxy+log
	bin/loadtest -short -scenario latency -contestants sluice,nginx+log

# MEMORY is how long make loadtest-memory runs.
MEMORY ?= 30m

.PHONY: loadtest-memory
loadtest-memory: loadtest-deps ## Watch memory under mixed load for MEMORY (30m); writes docs/performance.md and docs/memory.svg.
	bin/loadtest -scenario memory -duration $(MEMORY) -page docs/performance.md -picture docs/memory.svg $(LOADTEST)

.PHONY: growth
growth: loadtest-deps ## Measure CPU time as hosts, connections, … grow (5 min); writes docs/performance.md and docs/growth.svg.
	bin/loadtest -scenario growth -rounds 5 -duration 1s -page docs/performance.md -picture docs/growth.svg $(LOADTEST)

# PROCS are the numbers of threads that make contention tries. More of them than there are cores is a pessimistic test:
# threads lose their core while they hold a lock.
PROCS ?= 1 $(shell nproc) 16

.PHONY: contention
contention: ## Count which locks requests wait for, with as many threads as PROCS says (1, all cores, 16).
	@mkdir -p dist
	@go test -c -o dist/bench.test ./bench
	@cd bench && for work in get_small post_1k get_close; do for n in $(PROCS); do \
		profile=../dist/mutex-$$work-$$n.pb.gz; \
		../dist/bench.test -test.run '^$$' -test.bench "^BenchmarkProxy$$/impl=sluice/work=$$work$$" -test.benchtime 60000x \
			-test.cpu $$n -test.mutexprofile $$profile -test.mutexprofilefraction 1 | grep '^Benchmark'; \
		go tool pprof -top -sample_index=contentions -hide '^(sync|internal/sync)\.' -nodecount 6 \
			../dist/bench.test $$profile 2>/dev/null | sed -n '/flat%/,$$p'; \
	done; done

.PHONY: pgo
pgo: loadtest-deps ## Record the profile that go build reads, cmd/sluice/default.pgo, from the load test's mix.
	bin/loadtest -scenario profile -profile cmd/sluice/default.pgo $(LOADTEST)
