# The two commands of the README are `make demo` and `make test`. Each does all the set-up that it needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := .venv/bin
# Options for pytest: make unit PYTEST="-k wire -x"
PYTEST ?=
# Options for scripts/fuzz.py
FUZZ ?=
# Options for bench/urlfilter.py
BENCH ?=

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: demo
demo: setup-demo  ## set-up, then real programs behind two proxies, and what happened
	@$(BIN)/netext demo

.PHONY: test
test: setup-test lint docs  ## set-up, then format, lint, types, contracts, docs and all tests
	$(BIN)/pytest $(PYTEST)

.PHONY: lint
lint: setup-test  ## format, lint, types and the floors of the house
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy src tests $(wildcard examples bench)
	$(BIN)/lint-imports

.PHONY: format
format: setup-test  ## format the code, and mend what ruff can mend safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: unit
unit: setup-test  ## the tests that need no privilege and no namespaces
	$(BIN)/pytest tests/unit $(PYTEST)

.PHONY: lab
lab: setup-test  ## the tests in network namespaces, with other programs, and the scenarios; as root
	$(BIN)/pytest tests/lab tests/peers tests/scenarios $(PYTEST)

.PHONY: bench
bench: setup-bench  ## speed against native and against other programs, as ratios
	$(BIN)/python bench/run.py
	$(BIN)/python bench/filters.py
	$(BIN)/python bench/firewall.py

.PHONY: bench-urlfilter
bench-urlfilter: setup-test  ## speed and size of the URL filter's back end; BENCH="--quick" for a short look
	$(BIN)/python bench/urlfilter.py $(BENCH)

.PHONY: fuzz
fuzz: setup-test  ## ten million inputs for the parsers, guided by coverage; FUZZ="--seconds 10" for a short look
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/pip install -qq --disable-pip-version-check -e ".[fuzz]"
	$(BIN)/python scripts/fuzz.py $(FUZZ)

.PHONY: docs
docs: setup-test  ## the documentation site, in build/site
	$(BIN)/mkdocs build --strict --quiet

.PHONY: setup-demo setup-test setup-bench
setup-demo setup-test setup-bench: setup-%:
	@scripts/setup.sh $*

.PHONY: clean
clean:  ## remove all that was built
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples bench scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
