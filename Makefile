# `make demo` and `make test` need nothing but python3 (3.10 or newer) and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench lint clean

demo: .venv/ready
	$(BIN)/python -m train.main --flagfile=configs/mnist5k.cfg --workdir=runs/mnist5k

test: .venv/ready
	$(BIN)/python -m pytest

bench: .venv/ready-bench
	$(BIN)/python -m benchmarks.run

lint: .venv/ready-dev
	$(BIN)/flake8
	$(BIN)/isort --check-only --diff .
	$(BIN)/mypy

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/ready-bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
