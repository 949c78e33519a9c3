# Every target sets up what it needs in .venv by itself. Needs make and Python >= 3.11, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One virtual environment and one machine under every target: side by side they would trip over each other.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo examples test torture fuzz soak check bench bench-peers format clean

help:
	@echo 'make demo    cache the answers of a real neural network, restart, and see the hit rate'
	@echo 'make examples every program in docs/examples/, on real data and with real models (takes 600 MB of packages)'
	@echo 'make test    every promise, tested within minutes (ARGS="tests/test_fork.py -k child" for some of it)'
	@echo 'make torture the tests that go on for long: more seeds, more sizes, every line'
	@echo 'make fuzz    a million inputs to everything that decodes, made from samples and led by coverage'
	@echo 'make soak    half an hour of mixed load by four processes on a full store (ARGS="--seconds 60" for less)'
	@echo 'make check   lint, format, types, the order of the layers, the hot paths, the built wheel'
	@echo 'make bench   the table of ratios against the peers (ARGS="--only hit" for some of its rows)'
	@echo 'make bench-peers  tables and plots (build/bench-peers/) beside what one would pick instead (ARGS=--quick for a try)'
	@echo 'make format  put the sources in order'
	@echo 'make clean   remove what the targets above have made'

demo: $(VENV)/.demo
	$(BIN)/python docs/examples/classify_stdlib.py $(ARGS)

examples: $(VENV)/.examples
	@for example in docs/examples/*.py; do echo "== $$example"; $(BIN)/python $$example || exit 1; done

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

torture: $(VENV)/.dev
	$(BIN)/python -m pytest -m torture $(ARGS)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m pytest -m torture -s tests/test_fuzz.py $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py
	$(BIN)/python tools/hot_path.py
	$(BIN)/python tools/check_wheel.py

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(ARGS)

bench-peers: $(VENV)/.peers
	$(BIN)/python -m bench_peers --out build/bench-peers $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find kvstore tools tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "kvstore needs Python 3.11 or newer, and '$(PYTHON)' is not: say make PYTHON=python3.12, for one" >&2; exit 1; }
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.examples: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples]'
	@touch $@
