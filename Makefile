# `make` lists the targets. Installs happen once per change of pyproject.toml (one stamp file per set of extras).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-peers lint gpu benchmark golden clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "rnngraph needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Name another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e ".[plot,scipy]"
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e ".[test,dev]"
	@touch $@

$(VENV)/.peers: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e ".[test,peers]"
	@touch $@

$(VENV)/.benchmark: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e ".[test,peers,benchmark]"
	@touch $@

# One BLAS thread: the matrices are small, and threads that wait on each other cost more than they bring.
demo: $(VENV)/.demo ## declare three networks, emit their code, forecast the sunspot numbers
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m examples.sunspots

test: $(VENV)/.test ## every test that needs no other framework
	$(PYTEST) -q -n $(WORKERS) -m "not peers"

test-peers: $(VENV)/.peers ## compare with torch and JAX
	$(PYTEST) -q -m peers

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu: ## checks and times on a CUDA device, with PYTHON's own packages (numpy sympy networkx cupy torch); installs nothing
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py

benchmark: $(VENV)/.benchmark ## time kernels beside torch, JAX, ONNX Runtime, PyTensor and hand-written ones; tables in benchmarks/results
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.tdnn
	$(BIN)/python -m benchmarks.schedule
	$(BIN)/python -m benchmarks.rtrl
	$(BIN)/python -m benchmarks.compile_time
	$(BIN)/python -m benchmarks.units
	$(BIN)/python -m benchmarks.second_order
	$(BIN)/python -m benchmarks.learned_delays
	$(BIN)/python -m benchmarks.streaming

golden: $(VENV)/.test ## write golden files, README output and file lists anew from what is there now
	$(PYTEST) -q tests/test_golden.py tests/test_examples.py tests/test_learning_rules_page.py tests/test_pages.py --update-golden

clean: ## remove what the other targets made, .venv included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
