# Every command sets up what it needs: a virtual environment, the pinned packages, the model and the text.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INSTALLED := $(VENV)/install.log
# Processes that share the tests.
WORKERS := 2

.PHONY: help tour study test fuzz torture lab docs serve sync tables studies clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 8

tour: $(READY) ## run the first lesson; figures, tables and numbers go to report/tour
	$(BIN)/sparse-probing tour --out report/tour

study: $(READY) ## answer one question on one page: which few neurons tell " the" from " an"; report/study
	$(BIN)/sparse-probing study --out report/study

test: $(READY) ## everything that is tested, notebooks and site included; brings its own browser
	$(BIN)/python -m tools.browser
	$(BIN)/python -m pytest -n $(WORKERS) --durations 10

fuzz: $(READY) ## 20,000 random hard problems for the solver, each result judged
	$(BIN)/python -m tools.fuzz 20000

torture: $(READY) ## harvests that are killed forty times, and that grow tenfold; about an hour
	PYTHONPATH=tests $(BIN)/python -m tools.torture

lab: $(READY) ## copy the lessons to my-lessons and open JupyterLab on them
	$(BIN)/sparse-probing lessons my-lessons
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) my-lessons

docs: $(READY) ## build the site into _docs
	$(BIN)/python -m tools.docs

serve: docs ## show the site on http://localhost:3000
	$(BIN)/python -m http.server 3000 --bind 127.0.0.1 --directory _docs

sync: $(READY) ## export the modules, execute the notebooks, write the README
	$(BIN)/python -m tools.sync

tables: $(READY) ## compute anew the tables that lessons 10 and 15 keep; about an hour
	$(BIN)/python -m tools.tables

studies: $(READY) ## run anew the two studies that the site shows; some minutes
	$(BIN)/python -m tools.studies

clean: ## remove what these commands made, the environment included; never your copies of the lessons
	rm -rf $(VENV) report _docs _proc build dist *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# What pip has to say is of interest only where it fails. adelie asks for numpy below 2 and runs with 2.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ": name another as in make PYTHON=/usr/bin/python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'The first time takes some minutes and about 3 GB of disk: packages into $(VENV), then the model and the text.'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,bench,course,embedded]' > $(INSTALLED) 2>&1 || { cat $(INSTALLED); exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-deps adelie >> $(INSTALLED) 2>&1 || { cat $(INSTALLED); exit 1; }
	@$(BIN)/sparse-probing fetch
	@touch $@
