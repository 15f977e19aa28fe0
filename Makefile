# Every target makes .venv if it is missing or older than the dependencies.
PYTHON ?= python3
# CONSTRAINTS=/dev/null takes the newest of everything.
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: run test browser lab render html bench claims help clean

run: .venv/ready  ## execute every chapter, print what held
	$(BIN)/mamlkit run

test: .venv/ready  ## style, units, chapters at ci scale, exercises, cells
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest --numprocesses logical --dist loadfile

browser: .venv/ready  ## try every chapter in a real JupyterLab, and the site
	$(BIN)/pytest tests/test_browser_*.py

lab: .venv/ready  ## open JupyterLab on the first chapter
	$(BIN)/mamlkit lab

render: .venv/ready  ## store every chapter's outputs in notebooks/
	$(BIN)/mamlkit render

html: .venv/ready  ## write the course as a site to build/html/
	$(BIN)/mamlkit html

bench: .venv/ready  ## time a meta-iteration against other libraries
	$(PIP) -e '.[bench]'
	$(BIN)/mamlkit reproduce speed

claims: .venv/ready  ## judge every claim at laptop scale, seeds 0, 1, 2
	$(BIN)/mamlkit claims

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

clean:  ## remove what was built; data/cache/ and .venv/ stay
	rm -rf build .pytest_cache .ruff_cache

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'mamlkit needs Python 3.11 or newer as $(PYTHON):' \
	'try make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[test]'
	touch $@
