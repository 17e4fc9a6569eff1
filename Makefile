# voiced: two commands set everything up: `make demo` and `make test`.
#
#   ARGS=…       handed to the command:           make demo ARGS=--once
#   AT_ONCE=…    files of tests run at once (2):  make test AT_ONCE=4
#   PYTHON=…     the interpreter of the venv:     make test PYTHON=python3.12
#   PIP_ARGS=…   handed to every `pip install`:   make demo PIP_ARGS="--no-index --find-links wheels"

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
AT_ONCE ?= 2
VENV := .venv
BIN := $(VENV)/bin
# a marker per set of extras: installed again only when pyproject.toml is newer than it
READY = $(VENV)/.ready-

.PHONY: help demo run test lint native clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make demo   install, clone the carried recording, speak, write demo-out/report.html (ARGS=--once to exit after)"
	@echo "make run    install and run the daemon with its state in ./state"
	@echo "make test   install and run the tests"
	@echo "make lint   install and run ruff, mypy and the import contract"
	@echo "make native install the native kernel, too (needs a C++ compiler; docs/native.md)"
	@echo "make clean  remove the virtual environment and the demo's output"

demo: $(READY)appliance
	@exec $(BIN)/voiced demo $(ARGS)

run: $(READY)appliance
	@exec $(BIN)/voiced run --state-dir state $(ARGS)

test: $(READY)test
	@! command -v $(CXX) >/dev/null || $(MAKE) --no-print-directory native || echo "voiced: going on without the native kernel"
	@exec $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile $(ARGS)

native: $(READY)native

lint: $(READY)lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy appliance plugins
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo-out build *.egg-info

# A venv whose interpreter is gone (a moved checkout, a removed Python) is made anew.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "voiced needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "voiced needs Python 3.11 or newer; `$(PYTHON) --version` is too old. Try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

# The kernel is a distribution of its own. Without a compiler the box works and its tests are skipped.
KERNEL := $(wildcard plugins/backend_native/*.* plugins/backend_native/kernel/*)

$(READY)native: $(KERNEL) | $(BIN)/python
	@echo "voiced: building the native kernel …"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps --force-reinstall ./plugins/backend_native
	@touch $@

$(READY)%: pyproject.toml | $(BIN)/python
	@echo "voiced: installing [$*] into $(VENV) (once; about 2 GB on disk with everything) …"
	@$(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet,) $(PIP_ARGS) --editable '.[$*]'
	@touch $@
