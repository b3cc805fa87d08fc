# Every command sets up what it needs: a virtual environment, the pinned packages, the model and the text.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help tour test lab sync clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 8

tour: $(READY) ## run the first lesson; figures, tables and numbers go to report/tour
	$(BIN)/sparse-probing tour --out report/tour

test: $(READY) ## everything that is tested, notebooks included
	$(BIN)/python -m pytest

lab: $(READY) ## open JupyterLab on the lessons
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) nbs/lessons

sync: $(READY) ## export the modules, execute the notebooks, write the README
	$(BIN)/python tests/notebooks.py

clean: ## remove what these commands made in the checkout, the environment included
	rm -rf $(VENV) report _docs _proc build dist *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/sparse-probing fetch
	touch $@
