# Two commands are enough in a fresh clone: make sweep, make test.
# With PIP_CONSTRAINT=constraints.txt before them, they install the versions that were tested last.
PYTHON ?= python3
BIN = .venv/bin
TESTS = $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: sweep test check nightly format docs lock audit
sweep: .venv/installed
	$(BIN)/makemore sweep

test: .venv/installed-dev
	$(TESTS) -m "not slow and not nightly"

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TESTS) -m "not nightly"

# What takes too long for every change: faults for real, and races and signals in more rounds.
nightly: .venv/installed-dev
	$(TESTS) -m nightly
	MAKEMORE_RACE_ROUNDS=20 $(TESTS) tests/sweeps/test_final_test.py -k "race or killed"
	MAKEMORE_SIGNAL_MOMENTS=200 $(TESTS) tests/sweeps/test_signals.py
	MAKEMORE_BAD_INPUTS=2000 $(TESTS) tests/faults/test_bad_input.py

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages of docs/ as a site in site/, with every link checked.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# What is installed here, as constraints. A suffix such as +cpu names one build of torch, and not every index has it.
lock: .venv/installed-dev
	{ echo "# Written by make lock with $$($(BIN)/python --version): the versions that the tests run with."; \
	  $(BIN)/pip freeze --exclude-editable | sed -e 's/+cpu$$//'; } > constraints.txt

# Known weaknesses of the versions in constraints.txt; it asks the advisory service of Python's package index.
audit: .venv/audit
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

.venv/audit: .venv/installed
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet 'pip-audit>=2.10,<3'

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
