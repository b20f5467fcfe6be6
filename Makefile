# `make demo` and `make test` work on a fresh clone: they build .venv with plain pip and the versions in constraints.txt.
# PYTHON picks the interpreter, VENV the folder, PYTEST_ARGS adds to pytest's command line.
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=
DEMO_ARGS ?=
ARGS ?=
# Two workers: the suite is one thread a test, and torch alone takes seconds to import in each worker.
WORKERS ?= 2

BIN := $(VENV)/bin
# Both forms of the pin: newer pips no longer take the plain one into the build environment.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
PINS := pyproject.toml constraints.txt pysciml/_version.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-fit ## fit a universal differential equation to the lynx-hare data and show what it found
	@$(BIN)/python -m pysciml demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev ## the tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not exhaustive" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev ## the tests, and each of Julia's algorithms against its order and tolerance
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## all benchmarks, side by side with peers; ARGS="stiff ensembles" runs some of them
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove .venv, caches and built files
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment. `demo` needs less than `test`, so that a first look does not wait for the linters.
$(VENV)/.installed-%: $(PINS) | $(BIN)/python
	@echo "installing pysciml[$*] into $(VENV): the first time takes minutes, most of it torch"
	@$(PIP) install --quiet --editable ".[$*]"
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "pysciml needs Python 3.10 to 3.14 with its venv module: install one, or name it with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
