# make demo | demo-rlvr | demo-orpo | demo-alpha | test | lint | bench
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: demo demo-rlvr demo-orpo demo-alpha test lint bench setup setup-training clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Windlass needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Windlass and its libraries into $(VENV) (a minute or two, once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup-training: $(VENV)/.installed-training

$(VENV)/.installed-training: $(VENV)/.installed
	@echo "Installing what trains language models: torch, transformers, trl, peft (two minutes, once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,training,lightning]'
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

demo-rlvr: setup-training
	@$(BIN)/python examples/demo.py rlvr

demo-orpo: setup-training
	@$(BIN)/python examples/demo.py orpo

demo-alpha: setup
	@$(BIN)/python examples/demo.py alpha

test: setup-training
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: setup-training
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -rf $(VENV) demo-lab demo-rlvr demo-orpo demo-alpha .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
