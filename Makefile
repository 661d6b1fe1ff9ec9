PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
LOWEST := .venv-lowest
WHEEL := .venv-wheel
CLIENTS := .venv-clients

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-newest test-lowest test-clients wheel wheel-test lint format docs docs-full benchmarks clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST)

# One stamp for each extra: pip runs again only when pyproject.toml has changed.
$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(VENV)/installed-examples  ## recover the HIRES equations from simulated data in a CSV file
	@$(BIN)/python examples/02_recover_hires.py

test: $(VENV)/installed-test  ## run the tests, or with TESTS=tests/solvers those of a folder
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

test-slow: $(VENV)/installed-test  ## run the tests that train a model or compile for long
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow --timeout 900 $(TESTS)

# pip installs on a newer Python a newer JAX than on the oldest.
test-newest:  ## the same on the newest Python found here, with the newest JAX
	@python=$$(.ci/newest-python); \
	if [ -z "$$python" ]; then echo "no Python newer than python3 is installed"; exit 0; fi; \
	$(MAKE) --no-print-directory test VENV=$(NEWEST) PYTHON="$$python"

# uv is the installer that can resolve to the lowest versions of the direct dependencies.
$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		pyproject.toml --output-file $(LOWEST)/constraints.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python \
		--constraint $(LOWEST)/constraints.txt --editable '.[test-lowest]'
	@touch $@

test-lowest: $(LOWEST)/installed  ## run the tests on the lowest supported versions
	@$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile

# Packages that use diffrax, which the package itself knows nothing of. They need different versions of
# JAX: catalax one before 0.8; jaxkineticmodel names an older diffrax than it runs with.
$(CLIENTS)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --editable '.[test-lowest]' dynamiqs catalax scikit-learn
	$(CLIENTS)/bin/python -m pip install --quiet --no-deps jaxkineticmodel
	@touch $@

test-clients: $(CLIENTS)/installed  ## run packages that use diffrax with a solver of stiffrax in place of theirs
	@$(CLIENTS)/bin/python -c 'import catalax, dynamiqs, jaxkineticmodel'
	@$(CLIENTS)/bin/python -m pytest tests/clients

wheel: $(VENV)/installed-build  ## build wheel and source distribution into dist/
	rm -rf dist
	@mkdir dist
	@$(BIN)/python -m build --outdir dist . > dist/log 2>&1 || (cat dist/log; exit 1)
	@rm dist/log
	@ls -l dist

# The folder is left, so that the package is found where it was installed and not here.
wheel-test: wheel  ## install the wheel alone and see whether it works
	@test $$(cat dist/*.whl | wc -c) -lt 650000 || (echo "the wheel is larger than 650 kB"; exit 1)
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet dist/*.whl
	@cd $(WHEEL) && bin/python ../tests/smoke.py

lint: $(VENV)/installed-dev  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev  ## sort imports and lay out the code
	@$(BIN)/ruff check --select I --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/installed-docs  ## build the documentation into site/, with the quick examples
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-full: $(VENV)/installed-docs  ## the same with every example run, which takes half an hour
	@NO_MKDOCS_2_WARNING=1 STIFFRAX_EXAMPLES=all $(BIN)/mkdocs build --strict

# Those that need files or other projects: their pages say how to run them.
BY_HAND := clients hybrid_held_out ignition petab_fits petab_fits_peer petab_problems petab_profiles pysindy_comparison sampled_runs

benchmarks: $(VENV)/installed-examples  ## run the benchmarks that need nothing else; each prints its table
	@for script in $(filter-out $(BY_HAND:%=benchmarks/%.py),$(wildcard benchmarks/[a-z]*.py)); do $(BIN)/python $$script || exit 1; done

clean:  ## remove everything that make made
	rm -rf $(VENV) $(NEWEST) $(LOWEST) $(WHEEL) $(CLIENTS) build dist site .hypothesis .pytest_cache .ruff_cache
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
