# up: run the service    test, lint: what CI runs    bench: figures, 9 minutes    evaluate: what search finds    soak: kills while it works
# lock: new lock files
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: up test lint bench evaluate soak lock

up: $(VENV)/run.stamp
	@$(BIN)/python manage.py up $(ARGS)

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

bench: $(VENV)/run.stamp
	@$(BIN)/python manage.py bench $(ARGS)

evaluate: $(VENV)/run.stamp
	@$(BIN)/python manage.py evaluate tests/evaluation/coding tests/evaluation/conversations $(ARGS)

soak: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.soak $(ARGS)

lock: $(VENV)/dev.stamp
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes requirements-dev.in -o requirements-dev.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: Python 3.11 is needed; name it with PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: on Debian, 'apt install python3-venv' brings what is missing"; exit 1; }

$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	@echo "Installing the locked dependencies into $(VENV) (half a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing the locked development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
