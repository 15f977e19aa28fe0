# Every target makes its .venv if it is missing or older than the dependencies.
PYTHON ?= python3
# TORCH=2.4.1 or TORCH=newest: in a .venv of its own.
PINNED := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH ?= $(PINNED)
# CONSTRAINTS=/dev/null takes the newest of everything else.
CONSTRAINTS ?= constraints.txt
VENV := .venv$(if $(filter $(PINNED),$(TORCH)),,-torch-$(TORCH))
BIN := $(VENV)/bin
# By this pyrefly finds the packages.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
PIP := $(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt \
	torch$(if $(filter newest,$(TORCH)),,==$(TORCH))
# A page looks the same with every torch.
BROWSER := $(if $(filter $(PINNED),$(TORCH)),,--ignore-glob='*test_browser_*')

# By name, not by size: the browser's tests, which mostly wait, begin early.
SIDE_BY_SIDE := --numprocesses auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: run quick test browser lab render html readme glyphs bench claims help clean

run: $(VENV)/ready  ## execute every chapter, print what held
	$(BIN)/mamlkit run

quick: $(VENV)/ready  ## style, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/pytest --quiet --numprocesses logical -m 'not slow'

test: $(VENV)/ready  ## style, types, units, chapters at ci scale, exercises
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/pytest $(SIDE_BY_SIDE) $(BROWSER)

browser: $(VENV)/ready  ## run every chapter in a real JupyterLab; the site
	PICTURES=1 $(BIN)/pytest tests/test_browser_*.py

lab: $(VENV)/ready  ## open JupyterLab on the first chapter
	$(BIN)/mamlkit lab

render: $(VENV)/ready  ## store every chapter's outputs in notebooks/
	$(BIN)/mamlkit render

html: $(VENV)/ready  ## write the course as a site to build/html/
	$(BIN)/mamlkit html

readme: $(VENV)/ready  ## write the tables of both READMEs
	$(BIN)/python -m mamlkit.publish.readme

glyphs: $(VENV)/ready  ## draw data/glyphs.npz with its generator
	$(BIN)/python -c 'from mamlkit.datasets import glyphs; glyphs.build()'

bench: $(VENV)/ready  ## time a meta-iteration against other libraries
	$(PIP) -e '.[bench]'
	$(BIN)/mamlkit reproduce speed

claims: $(VENV)/ready  ## judge every claim at laptop scale, seeds 0 to 4
	$(BIN)/mamlkit claims

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

clean:  ## remove what was built; downloads and .venv/ stay
	rm -rf build .pytest_cache .ruff_cache

$(VENV)/ready: pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'mamlkit needs Python 3.11 or newer as $(PYTHON):' \
	'try make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	sed '/^torch==/d' $(CONSTRAINTS) > $(VENV)/constraints.txt
	$(PIP) -e '.[test]'
	touch $@
