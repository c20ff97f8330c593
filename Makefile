PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench format clean

# The installed package is rebuilt only when its description changes.
.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv-bench/.installed: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

demo: .venv/.installed
	$(BIN)/python examples/digits.py

test: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.generate.tape_stub --check
	$(BIN)/python -m tests.generate.op_table --check
	$(BIN)/python -m tests.generate.pipeline_page --check
	$(BIN)/python -m pytest -q -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=95

# Half an hour; BENCH='--rows mlp_b8 --rounds 3' is a minute, BENCH=--help says what there is.
bench: .venv-bench/.installed
	.venv-bench/bin/python -m tests.benchmarks $(BENCH)

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.generate.tape_stub
	$(BIN)/python -m tests.generate.op_table
	$(BIN)/python -m tests.generate.pipeline_page

clean:
	rm -rf .venv .venv-bench build *.egg-info
