# Requires python3 (3.11 or newer) and make. The first target that needs anything else installs it into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup demo play up down restart-worker serve status audit compare backup restore deploy model suggest unit test test-all lint format bench ci clean lock

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.synced
ENV ?= dev
# One process more than there are cores, since tests wait for servers; each has servers of its own. tests/conftest.py sets which tests stay
# together, and their order.
CORES := $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
WORKERS ?= $(shell expr $(CORES) + 1)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
# The version of uv that wrote uv.lock, from pyproject.toml.
UV_VERSION = $(shell sed -n 's/.*"uv==\([^"]*\)".*/\1/p' pyproject.toml)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv from uv.lock; does nothing if it is up to date

$(STAMP): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Evergreen needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	       "use another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the packages of uv.lock into .venv (one to two minutes the first time) ..."
	@$(BIN)/uv sync --quiet --frozen --compile-bytecode --python $(BIN)/python
	@$(BIN)/python -m ops.databases
	@touch $@

demo: setup ## run a year of flights: champion, drift, retraining; servers keep running
	@$(BIN)/python -m ops.demo

play: setup ## play a model's history in order, as the demo does: make play MODEL=electricity FROM=1998-W27 TO=1998-W40
	@test -n "$(MODEL)" -a -n "$(FROM)" -a -n "$(TO)" || { \
	  echo "error: which partitions of which model? make play MODEL=electricity FROM=1998-W27 TO=1998-W40" >&2; exit 1; }
	@$(BIN)/python -m ops.play "$(MODEL)" "$(FROM)" "$(TO)"

up: setup ## start Prefect, MLflow, Evidently, serving and a worker; deploy prefect.yaml
	@$(BIN)/python -m ops.stack up

down: ## stop everything that `make up` started
	@test ! -x $(BIN)/supervisord || $(BIN)/python -m ops.stack down

serve: setup ## start only the scoring server, on 127.0.0.1:8080
	@$(BIN)/python -m serving

restart-worker: setup ## stop the worker and its flow runs, and start it again
	@$(BIN)/python -m ops.stack restart-worker

status: setup ## show alerts with what to do, and a line per model; one model in full: make status MODEL=flights
	@$(BIN)/python -m ops.status $(if $(MODEL),"$(MODEL)")

audit: setup ## show the champion at a time, and why: make audit MODEL=flights [AT=2013-06-15]
	@test -n "$(MODEL)" || { echo "error: which model? make audit MODEL=flights AT=2013-06-15" >&2; exit 1; }
	@$(BIN)/python -m ops.audit "$(MODEL)" $(if $(AT),--at "$(AT)")

compare: setup ## compare changed models with a git revision on history: make compare BASE=main [MODEL= START= END= POLICY=]
	@test -n "$(BASE)" || { echo "error: compare with which revision? make compare BASE=main MODEL=flights" >&2; exit 1; }
	@$(BIN)/python -m ops.compare "$(BASE)" --model "$(MODEL)" --start "$(START)" --end "$(END)" --policy "$(POLICY)"

backup: setup ## copy ledger, MLflow and Prefect while they run: make backup [TO=backups]
	@$(BIN)/python -m ops.backup $(if $(TO),"$(TO)")

restore: setup ## restore a backup into an empty stack, start it and audit every model: make restore FROM=backups/...
	@test -n "$(FROM)" || { echo "error: which backup? make restore FROM=backups/2026-01-31T02-00-00Z" >&2; exit 1; }
	@$(BIN)/python -m ops.restore "$(FROM)" --verify "$(VERIFY)"

deploy: setup ## deploy prefect.yaml and the models of for_each: make deploy ENV=dev|prod [MODELS='store-*']
	@$(BIN)/python -m ops.deploy --env $(ENV) --models "$(MODELS)"

model: setup ## create a model from data: make model NAME=trains FROM=trains.parquet [TIME= KEY= TARGET= BY= DELAY=]; without FROM, empty files
	@test -n "$(NAME)" || { echo "error: which name? make model NAME=trains" >&2; exit 1; }
	@$(BIN)/python -m ops.new_model "$(NAME)" --from "$(FROM)" --time "$(TIME)" --key "$(KEY)" --target "$(TARGET)" --by "$(BY)" --delay "$(DELAY)"

suggest: setup ## show the expectations, learned again from the newest valid rows, as a diff: make suggest MODEL=flights [PARTITIONS=12] [APPLY=1]
	@test -n "$(MODEL)" || { echo "error: which model? make suggest MODEL=flights" >&2; exit 1; }
	@$(BIN)/python -m ops.suggest "$(MODEL)" --partitions "$(PARTITIONS)" --apply "$(APPLY)"

unit: setup ## run the tests that need no server; under a minute
	@$(BIN)/python -m pytest -n $(CORES) -m unit $(T)

test: setup ## run all tests except the slow ones, with real servers: make test [T=tests/tasks]
	@$(PYTEST) -m "not slow" $(T)

test-all: setup ## run all tests, the slow ones included
	@$(PYTEST) $(T)

lint: setup ## run ruff, mypy, import-linter, and the check of models and deployments
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry . --no-ansi
	@$(BIN)/python -m ops.check

format: setup ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## measure time and memory against the plain libraries
	@$(BIN)/python -m benchmarks

ci: lint test ## run what CI runs

lock: setup ## update uv.lock after a change of pyproject.toml
	@$(BIN)/uv lock --python $(BIN)/python

clean: ## stop the stack and delete its state (.evergreen)
	@test ! -d .evergreen -o ! -x $(BIN)/supervisord || $(BIN)/python -m ops.stack down
	@rm -rf .evergreen
	@echo "Deleted .evergreen (databases, logs, MLflow, Evidently). Kept: data/lake (partitions) and .venv (packages)."
