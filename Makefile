# Needs python3 (3.11 or newer) and make. Everything else comes into .venv with the first target that needs it.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down restart-worker serve status audit deploy model test test-all lint format bench ci clean lock

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.synced
ENV ?= dev
# A process for each core, each with servers of its own; tests/conftest.py says which tests stay together, and in which order.
PYTEST = $(BIN)/python -m pytest -n auto
# The version of uv that wrote uv.lock, from pyproject.toml.
UV_VERSION = $(shell sed -n 's/.*"uv==\([^"]*\)".*/\1/p' pyproject.toml)

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv from uv.lock; instant when nothing has changed

$(STAMP): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Evergreen needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	       "name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing what uv.lock names into .venv; a minute or two the first time ..."
	@$(BIN)/uv sync --quiet --frozen --compile-bytecode --python $(BIN)/python
	@$(BIN)/python -m ops.databases
	@touch $@

demo: setup ## play a year: data, champion, drift, retraining; leaves the stack up
	@$(BIN)/python -m ops.demo

up: setup ## start Prefect, MLflow, Evidently, serving and a worker, and deploy
	@$(BIN)/python -m ops.stack up

down: ## stop what `up` started
	@test ! -x $(BIN)/supervisord || $(BIN)/python -m ops.stack down

serve: setup ## only the scoring server: every model's champion on 127.0.0.1:8080
	@$(BIN)/python -m serving

restart-worker: setup ## stop the worker with its runs, and start it again
	@$(BIN)/python -m ops.stack restart-worker

status: setup ## servers, deployments, each model's partitions, champion and last events
	@$(BIN)/python -m ops.status

audit: setup ## who was champion, why, on what evidence: make audit MODEL=flights [AT=2013-06-15]
	@test -n "$(MODEL)" || { echo "error: which model? make audit MODEL=flights AT=2013-06-15" >&2; exit 1; }
	@$(BIN)/python -m ops.audit "$(MODEL)" $(if $(AT),--at "$(AT)")

deploy: setup ## tell a Prefect server what prefect.yaml says: make deploy ENV=dev|prod
	@$(BIN)/python -m ops.deploy --env $(ENV)

model: setup ## a new model's folder and deployments: make model NAME=trains
	@test -n "$(NAME)" || { echo "error: which name? make model NAME=trains" >&2; exit 1; }
	@$(BIN)/python -m ops.new_model "$(NAME)"

test: setup ## the tests, real servers included; minutes
	@$(PYTEST) -m "not slow"

test-all: setup ## the slow ones too
	@$(PYTEST)

lint: setup ## ruff, mypy, the import contracts, models against deployments
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m ops.check

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## ratios against the raw libraries
	@$(BIN)/python -m benchmarks

ci: lint test ## what CI runs

lock: setup ## resolve uv.lock again after a change of pyproject.toml
	@$(BIN)/uv lock --python $(BIN)/python

clean: ## stop the stack and delete its state in .evergreen
	@test ! -d .evergreen -o ! -x $(BIN)/supervisord || $(BIN)/python -m ops.stack down
	@rm -rf .evergreen
	@echo "Deleted .evergreen (databases, logs, MLflow, Evidently). Left: data/lake (partitions) and .venv (packages)."
