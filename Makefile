# `make` alone lists the targets. Needs make and Python 3.11 or later with its venv module; the rest is installed into
# .venv from uv.lock. To use another Python: `make setup PYTHON=python3.13`.

PYTHON ?= python3
# Arguments for pytest, the demo or the benchmark: `make test ARGS="-k locks"`.
ARGS ?=

READY := .venv/.ready
UV = $(if $(shell uv --version 2>/dev/null),uv,.venv-uv/bin/uv)

# Only the machine's own Python: nothing may be fetched behind the user's back.
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
# An activated environment of another project must not get in the way.
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-quick faults differential takeover docs example-django example-fastapi example-flask example-sqlalchemy test-all style types layers sql

help:
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1@\2/p' Makefile | while IFS=@ read -r target text; do \
	  printf '%-24s %s\n' "$$target" "$$text"; done

setup: $(READY)  ## Install everything into .venv (all other targets do this first)

demo: $(READY)  ## Watch jobs run against a private PostgreSQL
	.venv/bin/python -m demo $(ARGS)

test: $(READY)  ## Run the tests on an embedded PostgreSQL, in a few minutes
	.venv/bin/pytest -n 3 $(ARGS)

check: style types layers sql  ## Check style, types, layers and SQL, in seconds

bench: $(READY)  ## Measure throughput, latency and cost, beside the bare statements and other queues
	.venv/bin/python -m bench $(ARGS)

bench-quick: $(READY)  ## Measure the most important of it in three minutes
	.venv/bin/python -m bench quick $(ARGS)

faults: $(READY)  ## Kill, freeze and cut off servers and workers, at length, and judge what is left
	PYTHONPATH=tests .venv/bin/python -m faults $(ARGS)

differential: $(READY)  ## Run one program on the other implementation and on ours, and compare the rows
	.venv/bin/python -m bench.differential $(ARGS)

takeover: $(READY)  ## Take over databases that the other implementation made
	PROCRASTINATE_INCUMBENT=1 .venv/bin/pytest -q tests/takeover/test_incumbent.py $(ARGS)

docs: $(READY)  ## Check the documentation's links and drawings, and build it into docs/_build/html
	.venv/bin/python scripts/check_docs.py
	.venv/bin/python scripts/draw_states.py --check
	.venv/bin/python -m sphinx -W --keep-going -n -q -b html docs docs/_build/html

example-django: $(READY)  ## Start the example shop on Django
	.venv/bin/python examples/django/start.py $(ARGS)

example-fastapi: $(READY)  ## Start the example shop on FastAPI
	.venv/bin/python -m examples.fastapi $(ARGS)

example-flask: $(READY)  ## Start the example shop on Flask
	.venv/bin/python -m examples.flask $(ARGS)

example-sqlalchemy: $(READY)  ## Run the example script on SQLAlchemy
	.venv/bin/python -m examples.sqlalchemy $(ARGS)

test-all: $(READY)  ## Run the tests on PostgreSQL 18, 16 and 15, and on every Python that is there
	PROCRASTINATE_UV="$(UV)" .venv/bin/python scripts/test_all.py $(ARGS)

style: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(READY)
	.venv/bin/pyright
	.venv/bin/pyright -p tests/typing
	.venv/bin/mypy

layers: $(READY)
	.venv/bin/lint-imports --no-logo

sql: $(READY)
	.venv/bin/python scripts/lint_sql.py

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'procrastinate needs Python 3.11 or later, and `$(PYTHON)` is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@uv --version >/dev/null 2>&1 || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@uv --version >/dev/null 2>&1 || .venv-uv/bin/uv --version >/dev/null 2>&1 || { \
	  echo 'uv is not installed: putting it into .venv-uv' && \
	  $(PYTHON) -m venv --clear .venv-uv && .venv-uv/bin/python -m pip install --quiet 'uv>=0.9'; }
	$(UV) sync --locked --all-extras --all-groups --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@
