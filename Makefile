# `make demo` and `make test` each build .venv from nothing, once, and then run.
PYTHON ?= python3
VENV := .venv/bin

.PHONY: demo test test-slow lint

demo: .venv/installed
	$(VENV)/python experiments/hypersearch.py

test: .venv/installed
	$(VENV)/python -m pytest -n auto --dist loadfile -m "not slow and not aot"

test-slow: .venv/installed
	$(VENV)/python -m pytest -n auto --dist loadfile -m slow

lint: .venv/installed
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install -q -c constraints.txt -e ".[demo,test]"
	touch $@
