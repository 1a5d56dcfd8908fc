# Two commands matter: `make quickstart` and `make test`. Both work from a fresh clone with Python 3.11 or newer.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUNS   ?= runs
SPEC   ?= sweeps/quickstart.yaml

.DEFAULT_GOAL := help
.PHONY: help setup quickstart check test chaos mutate bench calibrate figures screenshots browser clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; say which: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## make the environment alone

quickstart: $(STAMP) ## run a small sweep on real data and print the verdict and the report's path
	$(BIN)/teleport run $(SPEC) --home $(RUNS)

check: $(STAMP) ## lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: ## install Chromium for the tests of the pages, where it is missing (Debian)
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  else echo "the tests of the pages need Chromium: apt-get install chromium"; exit 1; fi; }

test: check browser ## everything CI runs
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

chaos: $(STAMP) ## kill every part of a sweep, again and again, and audit what is left (SEED=7 repeats)
	$(BIN)/python -m tests.orchestrator.chaos $(if $(SEED),--seed $(SEED))

mutate: $(STAMP) ## put small faults into the code, and see that the tests notice (ONLY=statistics, SAMPLE=6 a module)
	$(BIN)/python -m tests.mutation $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE))

bench: $(STAMP) ## measure; writes benchmarks/results.json (ONLY=engine runs a part)
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

calibrate: $(STAMP) ## simulate sweeps to see how often a verdict is false (SWEEPS=40 is quick; 400 unless given)
	SWEEPS=$(or $(SWEEPS),400) $(BIN)/python -m benchmarks --only calibrate

figures: $(STAMP) ## draw the pictures of docs/method.md again
	$(BIN)/python -m benchmarks.figures

screenshots: $(STAMP) browser ## take the pictures of the pages in README and docs again (runs $(SPEC) where RUNS lacks it)
	$(BIN)/teleport run $(SPEC) --home $(RUNS)
	$(BIN)/python -m benchmarks.screenshots --home $(RUNS) --name $(basename $(notdir $(SPEC)))

clean: ## remove the environment and caches, never the runs
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
