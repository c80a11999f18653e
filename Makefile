# Everything a user needs; `make help` lists it. The environment is .venv in this folder.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin

# The Python that the environment is made with: the first one that fits, unless PYTHON=... names one.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { command -v $$p; break; }; done)

# The demo's options; empty means the demo's own default.
REFERENCE ?=
GENERATOR ?=
OUTPUT ?=
DURATION ?=
# Options for pytest: make test ARGS='-k geometry'.
ARGS ?=

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench doctor lock clean clean-stamps

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## make .venv with everything that the locks list (again only if they changed)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or 3.12 found: sudo apt-get install python3 python3-venv (Debian 12, Ubuntu 24.04), or make PYTHON=/path/to/python'; exit 1; }
	@'$(PYTHON)' scripts/setup_environment.py

demo: setup ## drive through the sample (REFERENCE=, GENERATOR=, OUTPUT=, DURATION= choose others)
	@$(BIN)/python -m inspatio_ros.cli demo $(if $(REFERENCE),--reference '$(REFERENCE)') $(if $(GENERATOR),--generator '$(GENERATOR)') \
		$(if $(OUTPUT),--output '$(OUTPUT)') $(if $(DURATION),--duration '$(DURATION)')

test: setup ## run the tests (ARGS= for pytest)
	@$(BIN)/python -m pytest $(ARGS)

lint: setup ## check the style
	@$(BIN)/python -m ruff check .

bench: setup ## measure speed on this machine (ARGS= for inspatio bench)
	@$(BIN)/python -m inspatio_ros.cli bench $(ARGS)

doctor: setup ## say what works on this machine
	@$(BIN)/python -m inspatio_ros.cli doctor

lock: ## write requirements/*.txt anew from requirements/*.in (ARGS=--upgrade: newest versions)
	@'$(PYTHON)' scripts/lock.py $(ARGS)

clean-stamps: ## make the next setup look at everything again
	@rm -rf $(VENV)/inspatio_stamps/{dependencies,tf2_msgs,package}

clean: ## remove .venv and everything that was built
	@rm -rf $(VENV) build dist install log .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
