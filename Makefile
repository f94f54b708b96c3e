# Every target does its own set-up: a fresh machine needs Python 3.11 or later and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WEB_STAMP   := src/durably/server/dashboard/index.html
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*')

.DEFAULT_GOAL := help
.PHONY: help setup services fmt check test demo chaos provisioning simulate gauntlet mutation evidence bench bench-quick bench-long bench-peers bench-report lock clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The dashboard is built into the package. Without npm everything else works; GET / says what is missing.
$(WEB_STAMP): $(WEB_SOURCES)
	@if command -v npm >/dev/null; then \
	  cd web && npm ci --silent --no-audit --no-fund && npm run --silent build; \
	else echo "npm is missing: the dashboard is not built (it needs Node.js 20 or later)"; fi

setup: $(STAMP) $(WEB_STAMP) ## make the virtual environment from requirements.lock, build the dashboard

services: ## install what the tests start: PostgreSQL, PgBouncer, Chromium, curl, jq (Debian, as root; else skipped)
	@command -v jq >/dev/null && command -v curl >/dev/null && command -v pgbouncer >/dev/null && command -v chromium >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
	|| if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql pgbouncer chromium curl jq >/dev/null; \
	else echo "PostgreSQL, PgBouncer, Chromium, curl or jq are missing: their tests are skipped"; fi

fmt: setup ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

check: setup ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	@if [ -e web/node_modules ]; then cd web && npm run --silent check && npm run --silent test; fi

test: services check ## check, then every test
	$(BIN)/python -m pytest -n 2

demo: setup ## three GPU instances end to end, with faults and a killed process
	$(BIN)/durably demo

chaos: services setup ## a storm over a store, judged: STORE=sqlite|postgres EVENTS=10000 SEED=1
	$(BIN)/python -m chaos.storm --store $(or $(STORE),sqlite) --events $(or $(EVENTS),2000) --seed $(or $(SEED),1)

provisioning: services setup ## create requests for GPUs while everything fails: CREATES=2000 SEED=1
	$(BIN)/python -m chaos.provisioning --store $(or $(STORE),sqlite) --creates $(or $(CREATES),200) --seed $(or $(SEED),1)

simulate: setup ## the engine in a simulated world: SEEDS=1000
	$(BIN)/python -m chaos.simulate --seeds $(or $(SEEDS),1000)

gauntlet: services setup ## the field's known bugs, put in one at a time: is each caught?
	$(BIN)/python -m chaos.gauntlet $(BUGS)

mutation: services setup ## small changes of the protocol code: is each caught? SAMPLE=250 SEED=1
	$(BIN)/python -m chaos.mutation --sample $(or $(SAMPLE),250) --seed $(or $(SEED),1)

evidence: services setup ## all of these at length, written to docs/evidence: NAMES=storm-sqlite
	$(BIN)/python -m chaos.evidence $(NAMES)

bench: setup ## measure this machine in 10 minutes; JSON under benchmarks/results/local
	$(BIN)/python -m benchmarks.run $(QUESTIONS)

bench-quick: setup ## the same in a minute, once and small
	$(BIN)/python -m benchmarks.run --size quick $(QUESTIONS)

bench-long: setup ## the same in full size, hours: QUESTIONS="growth monitors"
	$(BIN)/python -m benchmarks.run --size long $(QUESTIONS)

bench-peers: setup ## beside other queues, interleaved in one run: STORE=sqlite
	$(BIN)/python -m benchmarks.peers.run $(addprefix --store ,$(STORE))

bench-report: setup ## write tables and plots of benchmarks/results into docs/performance.md
	$(BIN)/python -m benchmarks.report

lock: setup ## renew requirements.lock
	$(BIN)/uv pip compile --quiet --universal --all-extras --generate-hashes --no-emit-index-url --no-header -o requirements.lock pyproject.toml

clean: ## remove what the other targets made
	rm -rf $(VENV) benchmarks/.venvs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache web/node_modules src/durably/server/dashboard
