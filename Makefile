# One word each: demo, test, check, stubs, parity, bench, clean. Needs Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PARITY := .venv-parity/bin
BENCH := .venv-bench/bin
TORCH := 2.13.0

.PHONY: demo test check stubs parity bench clean

demo: .venv/plots.stamp
	$(BIN)/lampion train digits

test: .venv/dev.stamp
	$(BIN)/python -m pytest

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py
	$(BIN)/python -m pytest -q -m "not slow"

# What type checkers and editors know of methods and functions that are attached at import.
stubs: .venv/dev.stamp
	$(BIN)/python -m tools.make_stubs

# Compares with PyTorch; a build without CUDA is all it takes, and nothing larger is ever installed.
parity: .venv-parity/lampion.stamp
	@if [ -e .venv-parity/torch.reason ]; then \
		echo "parity skipped: $$(cat .venv-parity/torch.reason)"; \
	else \
		$(PARITY)/python parity/run.py && $(PARITY)/python parity/training.py; \
	fi

# Training steps, shapes, memory ... beside PyTorch and JAX, about 12 minutes; what pip cannot find
# here is left out and named. QUICK=--quick takes 3, and leaves the README's figures as they are.
bench: .venv-bench/lampion.stamp
	$(BENCH)/python benchmarks/run.py $(if $(QUICK),--quick,--out benchmarks/results)

clean:
	rm -rf .venv .venv-parity .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# `plots` and `dev` are the extras of pyproject.toml; a stamp is older than a changed pyproject.toml.
.venv/%.stamp: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

.venv-parity/pyvenv.cfg:
	$(PYTHON) -m venv .venv-parity

.venv-parity/lampion.stamp: pyproject.toml parity/install_torch.sh | .venv-parity/pyvenv.cfg
	$(PARITY)/pip install --quiet --disable-pip-version-check --editable .
	bash parity/install_torch.sh $(PARITY) $(TORCH) .venv-parity/torch.reason
	touch $@

.venv-bench/pyvenv.cfg:
	$(PYTHON) -m venv .venv-bench

.venv-bench/lampion.stamp: pyproject.toml parity/install_torch.sh | .venv-bench/pyvenv.cfg
	$(BENCH)/pip install --quiet --disable-pip-version-check --editable ".[plots]"
	bash parity/install_torch.sh $(BENCH) $(TORCH) .venv-bench/torch.reason
	$(BENCH)/pip install --quiet --disable-pip-version-check jax jaxlib || echo "benchmarks run without JAX"
	touch $@
