# Two commands for a fresh machine with python3, venv and make:
#   make demo   sets up and runs the main job
#   make test   sets up and runs every test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Optional parts that the tests exercise. Without PyTorch (a large download on some machines): make test TORCH=0
EXTRAS := test,docs,standard
TORCH ?= 1
ifeq ($(TORCH),1)
EXTRAS := $(EXTRAS),train
endif
OUT ?= demo_out
PYTEST_ARGS ?= -n auto --dist loadgroup
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo test nightly lint types check docs setup setup-test bench clean

help:
	@echo "make demo    set up and run the main job (results in $(OUT)/)"
	@echo "make test    set up and run every test (TORCH=0 leaves PyTorch out)"
	@echo "make nightly property tests with other examples each time"
	@echo "make check   lint and types"
	@echo "make docs    the documentation as a site, in build/site (a broken link is an error)"
	@echo "make bench   all figures of docs/benchmarks.md, quick"

$(VENV)/.base: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "eifer needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.12 ...)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "Setting up the base environment in $(VENV) (once, about a minute) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.base Makefile
	@echo "Adding what the tests need: $(EXTRAS) (once) ..."
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@$(PIP) install --no-deps mediapipe==0.10.21 ai-edge-litert==2.3.0 2>/dev/null || \
	  echo "The original networks of MediaPipe are not to be had for this Python; the tests that compare with them will skip."
	@touch $@

$(VENV)/.lint: $(VENV)/.base Makefile
	@$(PIP) install -c constraints.txt -e '.[lint,viewer]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base Makefile
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

setup: $(VENV)/.base

setup-test: $(VENV)/.test

demo: $(VENV)/.base
	@$(BIN)/eifer demo --out $(OUT)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

nightly: $(VENV)/.test
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest $(PYTEST_ARGS) -m hypothesis

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint
	$(BIN)/mypy

check: lint types

bench: $(VENV)/.test
	$(BIN)/python -m bench all --quick

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(OUT)
