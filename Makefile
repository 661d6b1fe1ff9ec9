PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest lint format docs benchmarks clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST)

# One stamp for each extra: pip runs again only when pyproject.toml has changed.
$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(VENV)/installed-examples  ## recover the HIRES equations from measurements in a CSV file
	@$(BIN)/python examples/recover_hires.py

test: $(VENV)/installed-test  ## run the tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/installed-test  ## run the tests that train a model
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

# uv is the installer that can resolve to the lowest versions of the direct dependencies.
$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		pyproject.toml --output-file $(LOWEST)/constraints.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python \
		--constraint $(LOWEST)/constraints.txt --editable '.[test]'
	@touch $@

test-lowest: $(LOWEST)/installed  ## run the tests on the lowest supported versions
	@$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/installed-dev  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev  ## sort imports and lay out the code
	@$(BIN)/ruff check --select I --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/installed-docs  ## build the documentation into site/
	@$(BIN)/mkdocs build --strict

benchmarks: $(VENV)/installed-examples  ## run every benchmark; each prints its table
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## remove everything that make made
	rm -rf $(VENV) $(LOWEST) build dist site .hypothesis .pytest_cache .ruff_cache
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
