# Every target sets up what it needs in .venv, on a machine with Python 3.11 or newer, pip and make.
# A set-up runs again only when pyproject.toml has changed. Another Python: make PYTHON=python3.12 test

# On Windows, make needs the shell and the tools of Git for Windows (sh, sed, touch, expand): start it from Git Bash.
VENV := .venv
LOWEST := .venv-lowest
CITATION := .venv-citation
ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
EXE := .exe
else
PYTHON ?= python3
SCRIPTS := bin
EXE :=
endif
BIN := $(VENV)/$(SCRIPTS)
BENCHMARKS := $(sort $(wildcard tests/benchmarks/bench_*.py))
PYTEST_ARGS ?=
# One worker a core, a file's tests together: they share what its fixtures made.
WORKERS := -n auto --maxprocesses 8 --dist loadfile
# The oldest versions have wheels for the oldest Python.
LOWEST_PYTHON ?= python3.11
LOWEST_TESTS ?= $(addprefix tests/,_core adapters cli datasets models plot rdms readers recipe reporting)

.PHONY: help install demo test test-lowest shapes format check docs bench validity experiments experiments-small
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(VENV)/.installed-dev  ## set up .venv with everything a developer needs

demo: $(VENV)/.installed-demo  ## fit a small network to brain RDMs and write a report
	$(BIN)/brainrdl demo

test: $(VENV)/.installed-test  ## run the default tests; more with PYTEST_ARGS='-m slow'
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

# Old libraries warn about one another, so that warnings are no errors here.
test-lowest: $(LOWEST)/.installed  ## run the tests next to other libraries with the oldest versions that pyproject.toml allows
	$(LOWEST)/$(SCRIPTS)/python -m pytest -W default $(WORKERS) $(LOWEST_TESTS) $(PYTEST_ARGS)

shapes: $(VENV)/.installed-test  ## run the default tests with the shape of every tensor checked
	$(BIN)/python -m pytest --jaxtyping-packages=brainrdl,conftest.typed $(WORKERS) $(PYTEST_ARGS)

format: $(VENV)/.installed-dev  ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV)/.installed-dev $(CITATION)/.installed  ## lint, types, layers, spelling, the citation file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(CITATION)/$(SCRIPTS)/cffconvert --validate

docs: $(VENV)/.installed-docs  ## build the site into site/ and check it, a warning is an error
	$(BIN)/mkdocs build --strict
	$(BIN)/python docs/check_site.py site

bench: $(VENV)/.installed-test  ## run each tests/benchmarks/bench_*.py
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script"; done

validity: $(VENV)/.installed-test  ## run the simulations of docs/validity.md again (hours)
	$(BIN)/python tests/validity/intervals.py --out docs/validity/intervals.csv
	$(BIN)/python tests/validity/partial_correlations.py --out docs/validity/partial.csv
	$(BIN)/python tests/validity/dual_bootstrap.py --out docs/validity/dual_bootstrap.csv
	$(BIN)/python tests/validity/trained_students.py --out docs/validity/trained.csv
	$(BIN)/python tests/validity/ceilings.py --out docs/validity/ceilings.csv
	$(BIN)/python tests/validity/subjects_alone.py --out docs/validity/subjects_alone.csv
	$(BIN)/python tests/validity/twins.py --out docs/validity/twins.csv
	$(BIN)/python tests/validity/permutation_tests.py --out docs/validity/permutation.csv
	$(BIN)/python tests/validity/power.py --out docs/validity/power.csv
	$(BIN)/python tests/validity/write_page.py

experiments: $(VENV)/.installed-test  ## do what is missing of the experiments in docs/experiments (many hours, can be stopped at any time)
	$(BIN)/python -m docs.experiments.run mnist
	$(BIN)/python -m docs.experiments.run cifar100
	$(BIN)/python -m docs.experiments.run architectures
	$(BIN)/python -m docs.experiments.run mnist --costs --setting "1,000 labels" --setting "1,000 labels, 9,000 unlabelled"
	$(BIN)/python -m docs.experiments.run cifar100 --costs --setting "narrow student, 30 epochs"
	$(BIN)/python -m docs.experiments.run architectures --costs
	$(BIN)/python -m docs.experiments.write_pages
	$(BIN)/python -m docs.experiments.transfer
	$(BIN)/python -m docs.experiments.learning_curves
	$(BIN)/python -m docs.experiments.power
	$(BIN)/python -m docs.experiments.brain_beside_task
	$(BIN)/python -m docs.experiments.human_it_page

experiments-small: $(VENV)/.installed-test  ## the main finding of the experiments in a few minutes
	$(BIN)/python -m docs.experiments.run small --out runs/experiments/small
	$(BIN)/python -m docs.experiments.write_pages --show runs/experiments/small/small.csv

$(BIN)/python$(EXE):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"brainrdl needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: name another, for example make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# The stamp is written last, so an interrupted installation is repeated.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python$(EXE)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(LOWEST)/.installed: pyproject.toml
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/$(SCRIPTS)/python -m pip install --quiet uv
	$(LOWEST)/$(SCRIPTS)/uv pip install --quiet --python $(LOWEST)/$(SCRIPTS)/python --resolution lowest-direct --editable '.[test]'
	@touch $@

# cffconvert needs an older jsonschema than other packages.
$(CITATION)/.installed: | $(BIN)/python$(EXE)
	$(BIN)/python -m venv --clear $(CITATION)
	$(CITATION)/$(SCRIPTS)/python -m pip install --quiet cffconvert==2.0.0
	@touch $@
