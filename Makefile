# Targets are documented where they stand: `make help` prints the text after ##.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Flags for every `go test`, such as -json or -run.
TESTFLAGS ?=
# How long each fuzz target runs, and how many histories the long ones try.
FUZZTIME ?= 30s
HISTORIES ?= 100000
# Where `make run` keeps its data and listens.
DATA ?= ./data
LISTEN ?= 127.0.0.1:8080
# Where `make bench` keeps the figures that its page is made of.
FIGURES ?= artifacts/bench

tool = go tool -modfile=tools/go.mod
# Tests that need a real Kafka run in `make test`; the race detector sees
# nothing more by them, as the same suites run on the embedded broker.
without_kafka = env -u SEENBY_TEST_BROKERS -u SEENBY_TEST_KAFKA_CONTROL -u SEENBY_TEST_REQUIRE

.PHONY: help run build test race check format vet lint docs docs-check licences tools-test vuln fuzz bench nightly

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

run: build ## Run all of seenby in one process, on an embedded broker: http://127.0.0.1:8080.
	exec bin/seenby standalone --data $(DATA) --listen $(LISTEN)

build: ## Build bin/seenby.
	CGO_ENABLED=0 go build -trimpath -o bin/seenby ./cmd/seenby

test: ## Run the tests; needs only Go.
	CGO_ENABLED=0 go test $(TESTFLAGS) ./...

race: ## Run the tests with the race detector; needs a C compiler.
	CGO_ENABLED=1 $(without_kafka) go test -race -timeout 20m $(TESTFLAGS) ./...

check: format vet lint docs-check licences tools-test race ## All that has to hold before a merge.

format: ## Fail if a file is not as gofmt would have it.
	@files=$$(git ls-files -co --exclude-standard -- '*.go' | xargs -r gofmt -l); \
	  [[ -z $$files ]] || { echo "not formatted (gofmt -w them):"; echo "$$files"; exit 1; }

vet: ## go vet.
	go vet ./...

lint: ## golangci-lint, of tools/go.mod.
	$(tool) golangci-lint run

docs: ## Write docs/reference/.
	go run ./cmd/seenby/docs -out docs/reference

docs-check: ## Fail if docs/reference/ is not what make docs writes.
	go run ./cmd/seenby/docs -out docs/reference -check

licences: ## Fail if a dependency of the binary has a licence that is not on the list.
	go -C tools run ./licences -module ..

tools-test: ## Run the tests of the tools.
	go -C tools test ./...

vuln: ## Look the dependencies up in Go's vulnerability database (by network).
	$(tool) govulncheck ./...

fuzz: ## Run every fuzz target for FUZZTIME.
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

# NAME:ARGUMENTS of `seenby bench`, each a file of figures.
benches = large:rebuild --workload=large; small:rebuild --workload=small; trickle:rebuild --workload=trickle; \
  large-500k:rebuild --workload=large --messages=250; large-50m:rebuild --workload=large --messages=25000; \
  large-200m:rebuild --workload=large --messages=100000 --turns=1; \
  group-50:rebuild --workload=large --messages=20000 --readers=50 --groups=400 --turns=1; \
  group-200:rebuild --workload=large --messages=5000 --readers=200 --groups=25 --turns=1; \
  freshness:freshness; ingest:ingest; pull:pull

bench: build ## Measure on the Kafka of SEENBY_TEST_BROKERS, on a quiet machine, and write docs/benchmarks/; takes an hour.
	@mkdir -p $(FIGURES); set -e; IFS=';'; for b in $$(tr -s ' ' <<< '$(benches)'); do b=$${b# }; IFS=' '; \
	  bin/seenby bench $${b#*:} --brokers $(SEENBY_TEST_BROKERS) --json $(FIGURES)/$${b%%:*}.json; done
	bin/seenby bench page --from $$(ls $(FIGURES)/*.json | paste -sd,) --out docs/benchmarks

nightly: ## Fold HISTORIES generated histories and compare them with the oracle.
	SEENBY_TEST_HISTORIES=$(HISTORIES) go test -timeout 12h -count 1 $(TESTFLAGS) ./projections/...
