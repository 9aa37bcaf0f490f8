# `make demo`, `make test` and `make docs` each build .venv from nothing, once, and then run.
PYTHON ?= python3
PYTHONS ?= python3.11 python3.12 python3.13
VENV := .venv/bin

.PHONY: demo test test-slow test-pythons lint docs docs-serve

demo: .venv/installed
	$(VENV)/python experiments/hypersearch.py

test: .venv/installed
	$(VENV)/python -m pytest -n auto --dist loadfile -m "not slow and not aot"

test-slow: .venv/installed
	$(VENV)/python -m pytest -n auto --dist loadfile -m slow

# The fast tests with every interpreter there is, each in an environment of its own under .venvs/.
test-pythons:
	@status=0; \
	for python in $(PYTHONS); do \
		if $$python -c "" 2>/dev/null; then $(MAKE) test-$$python || status=1; \
		else echo "$$python is not here: left out"; fi; \
	done; \
	exit $$status

test-python%: .venvs/python%/installed
	.venvs/python$*/bin/python -m pytest -n auto --dist loadfile -m "not slow and not aot"

lint: .venv/installed
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

# Without a notice of the theme's makers on every build.
docs docs-serve: export NO_MKDOCS_2_WARNING = 1

docs: .venv/installed
	$(VENV)/mkdocs build --strict

docs-serve: .venv/installed
	$(VENV)/mkdocs serve

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install -q -c constraints.txt -e ".[demo,test,docs]"
	touch $@

.PRECIOUS: .venvs/python%/installed
.venvs/python%/installed: pyproject.toml constraints.txt
	rm -rf .venvs/python$*
	python$* -m venv .venvs/python$*
	.venvs/python$*/bin/python -m pip install -q -c constraints.txt -e ".[demo,test,docs]"
	touch $@
