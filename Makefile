# Two commands are enough in a fresh clone: make sweep, make test.
PYTHON ?= python3
BIN = .venv/bin
TESTS = $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: sweep test check format
sweep: .venv/installed
	$(BIN)/makemore sweep

test: .venv/installed-dev
	$(TESTS) -m "not slow"

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TESTS)

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
