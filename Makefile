# Each target is one command. `make test` is what CI runs; it needs Go, git and
# Node only, and finishes well under 20 minutes on 2 cores.

GO      ?= go
# The race detector needs a C compiler; without one the same tests run plain.
RACE    := $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)
PKGS    := ./...
COMMIT  := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.commit=$(COMMIT)
FUZZTIME ?= 10m
SEEDS   ?= 10000
KILLS   ?= 60
SOAK    ?= 10m
INCREMENTS ?= 10000
MINUTES ?= 30

.PHONY: build test check race fuzz crash flips searches soak guard bench bench-full bench-packages demo clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/kiln ./cmd/kiln

# Formatting, vet, staticcheck and the house rules (internal/lint), then every
# package's tests, with the race detector where the machine can build it.
test: check

check:
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }
	$(GO) vet $(PKGS)
	$(GO) tool staticcheck $(PKGS)
	CGO_ENABLED=0 $(GO) build ./...
	$(GO) test $(RACE) -count=1 -timeout 18m $(PKGS)
	@# The large round trips, and every parameter on all real data, which the race
	@# detector would make take minutes.
	test -z '$(RACE)' || $(GO) test -count=1 -run 'RoundTrip' ./cmd/kiln
	test -z '$(RACE)' || $(GO) test -count=1 -run 'EveryParameter' ./index
	@# Sockets are read and written in another way under the race detector.
	test -z '$(RACE)' || $(GO) test -count=1 -run 'Prompt' ./httpapi
	@# Allocations of the hot paths, which are others under the race detector.
	test -z '$(RACE)' || $(GO) test -count=1 ./internal/guard

race:
	$(GO) test -race -count=1 -timeout 60m $(PKGS)

# Every fuzz target, one after the other, FUZZTIME each (FUZZTIME=30s for a look). By
# default each new input is made smaller for up to a minute, in which nothing is tried.
fuzz:
	@set -e; for pkg in $$($(GO) list $(PKGS)); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg; done; done

# The seeded simulation on the crashing file system; the binary under kill -9, SIGSTOP
# and on a full disk.
crash:
	SEEDS=$(SEEDS) GOGC=800 $(GO) test -count=1 -v -timeout 240m -run 'Simulation$$' ./engine
	SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 180m -run 'Crash|SeedsThatFailed|DoNotDependOnOptions|FilesFail' ./internal/vfs ./wal ./index ./engine ./bulk
	SEEDS=300 KILN_BACKUPS=10 $(GO) test -count=1 -timeout 60m -run 'Crash|AtTheirMoment|ClientsWrite' ./bulk/backup
	KILN_KILLS=$(KILLS) $(GO) test -count=1 -timeout 60m -run 'KillLoop|AStoppedProcess|AFullDisk' ./cmd/kiln

# Every byte of every file of a small store is changed, and it is asked everything;
# and more damage of it is repaired.
flips:
	KILN_FLIPS=1 $(GO) test -count=1 -v -timeout 180m -run 'Flips' ./engine

# Random searches over random resources, against a plain reading of R4, and
# pages of 100,000 matches while others write.
searches:
	KILN_PAGED=100000 $(GO) test -count=1 -v -timeout 30m -run 'PagesShowEveryMatch' ./httpapi
	SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 180m -run 'AgreeWithTheOracle' ./query

# 64 clients with mixed interactions on a server built with the race detector,
# and 64 that count one resource up under If-Match.
soak:
	KILN_SOAK=$(SOAK) $(GO) test -race -count=1 -v -timeout 120m -run '^TestSoak$$' ./cmd/kiln
	KILN_INCREMENTS=$(INCREMENTS) $(GO) test -count=1 -v -timeout 60m -run '^TestIncrements' ./cmd/kiln

# Writes, deletions, purges, small imports and searches on one server, which tells
# runs, files, memory, goroutines and read times ten times, and the room after a purge.
aging:
	KILN_AGING=$(MINUTES)m $(GO) test -count=1 -v -timeout 180m -run '^TestAging$$' ./cmd/kiln

# The hot paths' budgets: allocations, bytes, and instructions where there is
# valgrind. UPDATE=1 writes what they take now to internal/guard/testdata.
guard:
	@command -v valgrind >/dev/null || echo "there is no valgrind, so instructions are not counted"
	KILN_GUARD_COUNT=1 KILN_GUARD_UPDATE=$(UPDATE) $(GO) test -count=1 -v -timeout 30m ./internal/guard

# A whole server beside PostgreSQL, DuckDB and the least that the machine can do, a
# little of each (five minutes); bench/out/report.html has the plots. What can neither
# be found nor installed (apt-get as root, npm) is left out, and said so.
bench:
	$(GO) run ./bench all --short

# Everything (50 minutes), on the NDJSON files below BENCH_DATA or on generated patients.
bench-full:
	$(GO) run ./bench all $(if $(BENCH_DATA),--data $(BENCH_DATA)) --results bench/RESULTS.md

# The packages' own benchmarks.
bench-packages:
	$(GO) test -run '^$$' -bench . -benchmem ./fhir ./wal ./index ./engine ./bulk

demo:
	$(GO) run ./cmd/kiln demo

clean:
	rm -rf bin bench/out
