# `make` alone says what there is.

PYTHON ?= python3
BIN := .venv/bin
# Kopeck does without: whoever deletes sandbox/ has web and worker left.
SANDBOX := $(wildcard sandbox/__init__.py)

.DEFAULT_GOAL := help
.PHONY: help install run test faults bench check format lock clean ALWAYS

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/run ## Put what Kopeck runs on into .venv, and nothing else

run: .venv/run .env ## Serve Kopeck, its worker and the sandbox here: set up what is missing, print a signed curl
	@$(BIN)/flask db upgrade
	@$(BIN)/flask orgs seed --demo 3
	@echo
	@$(BIN)/flask bank welcome
	@echo
	@$(if $(SANDBOX),$(BIN)/flask --app sandbox sandbox welcome)
	@$(if $(SANDBOX),echo)
	@# In place of the shell, so that whatever ends make ends the supervisor too.
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec python -m server web worker $(if $(SANDBOX),sandbox)

test: .venv/dev ## Run every test on every database that is there
	@# In the order of the folders, after the longest files (tests/conftest.py): none of these is left over at the end.
	@$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

faults: .venv/dev ## Kill servers and databases under load, ROUNDS times each (ROUNDS=200 takes hours)
	@FAULT_ROUNDS=$(or $(ROUNDS),1) $(BIN)/python -m pytest tests/faults

bench: .venv/dev ## Measure the whole system (an hour); needs wrk, PostgreSQL with pgbench, MariaDB
	@$(BIN)/python -m bench

check: .venv/dev ## Format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: .venv/dev ## Put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: .venv/dev ## Pin what each requirements*.in brings along, with the hash of every file
	@for name in requirements requirements-dev requirements-fast; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			--no-config --output-file $$name.txt $$name.in || exit 1; \
	done

clean: ## Take away what the other targets made, except .env and the database
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Kopeck needs Python 3.11 or newer; name one that is here: make PYTHON=python3.12 …'; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/run: .venv/made requirements.txt
	@echo 'Installing what Kopeck runs on …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/made requirements.txt requirements-dev.txt
	@echo 'Installing what working on Kopeck needs …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/run

.env: .env.example ALWAYS
	@$(BIN)/python -m environment

ALWAYS:
