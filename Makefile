# Gateline. Needs Linux, make, git and Python 3.11 to 3.13 with venv and pip; everything else is set up into .venv.

PYTHON ?= python3
WORKLOAD ?= flight_delays
PYTEST_ARGS ?=
IMAGES_ARGS ?=

VENV := .venv
READY := $(VENV)/ready
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# dvc, mlflow and the steps call `python`: let it be the one of this folder, activated or not.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
export DVC_NO_ANALYTICS ?= 1
unexport PYTHONPATH

.PHONY: help
help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: setup
setup: $(READY) ## set up .venv from requirements.lock (every target does it when it is stale)

$(READY): requirements.lock pyproject.toml
	@echo "setting up $(VENV) from requirements.lock: 2 to 5 minutes the first time, depending on the network"
	@$(PYTHON) -c 'import sys; v, exe = sys.version_info[:2], sys.executable; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	    f"make: expected Python 3.11 to 3.13; found {v[0]}.{v[1]} at {exe}. Run `make PYTHON=python3.11 ...`.")'
	@start=$$SECONDS; \
	test -x $(VENV)/bin/python || $(PYTHON) -m venv --clear $(VENV); \
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock; \
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .; \
	echo "set up in $$((SECONDS - start)) s"
	@touch $@

.PHONY: run
run: $(READY) ## set up and run the main job: data to registered model (WORKLOAD=flight_delays)
	@gateline run $(WORKLOAD)

.PHONY: test
test: $(READY) ## set up and run every test but those of test-containers and test-cluster
	@pytest -n auto --dist loadfile --no-loadscope-reorder -m "not containers and not cluster" $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: $(READY) ## the tests without those marked slow
	@pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not containers and not cluster" $(PYTEST_ARGS)

.PHONY: test-containers
test-containers: $(READY) ## build the images, run the pipeline in containers against real servers (as root: containers-tools)
	@pytest -m containers tests/containers $(PYTEST_ARGS)

.PHONY: containers-tools
containers-tools: ## install podman, dockerd, debootstrap and PostgreSQL by apt-get, as root
	@tests/containers/install_tools.sh

.PHONY: test-cluster
test-cluster: $(READY) ## build the images and test on the Kubernetes that KUBECONFIG names (docs/operations.md)
	@python -m infra.images build
	@pytest -m cluster tests/cluster $(PYTEST_ARGS)

.PHONY: test-cluster-here
test-cluster-here: $(READY) ## the same on a Kubernetes that this machine starts for it, as root
	@tests/cluster/on_this_machine.sh

.PHONY: lint
lint: $(READY) ## style, types, who imports whom, deps of dvc.yaml
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-cache --no-logo
	@python -m pipelines.stages

.PHONY: format
format: $(READY) ## rewrite the code in the project's style
	@ruff check --fix-only --quiet .
	@ruff format .

.PHONY: stages
stages: $(READY) ## write the source files that each step imports into dvc.yaml
	@python -m pipelines.stages --write

.PHONY: ui
ui: $(READY) ## show runs and registered models at http://127.0.0.1:5000
	@mlflow ui --backend-store-uri sqlite:///mlflow.db

.PHONY: images
images: $(READY) ## build an image per step with podman or docker (IMAGES_ARGS="--torch cuda --step train")
	@python -m infra.images build $(IMAGES_ARGS)

.PHONY: stack
stack: $(READY) ## start PostgreSQL, an object store and MLflow on this machine (infra/local/README.md)
	@python -m infra.local up

.PHONY: clean
clean: ## remove .venv and what tools wrote; keeps artifacts/, DVC's cache and mlflow.db
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
