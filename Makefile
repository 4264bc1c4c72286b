# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
# Python files are compiled when they are first imported, and kept: pip would compile all of every package beforehand.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all mutants lint types bench gpu-check docs notebooks check-notebooks clean

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[plot]'
	@touch $@

.venv/.test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[test]'
	@touch $@ .venv/.demo

.venv/.bench: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[benchmarks]'
	@touch $@ .venv/.demo

.venv/.docs: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[docs]'
	@touch $@ .venv/.demo

.venv/.notebooks: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[notebooks]'
	@touch $@ .venv/.demo

demo: .venv/.demo  ## Draw the phase diagram of the light-driven bilayer.
	@mkdir -p out
	$(BIN)/nrjax phase-diagram --output out/phase_diagram.png --data out/phase_diagram.nc --overwrite

# Most of the tests' time is compilation, less than half of it with machine code that is less polished. Tests that compute
# for long, and those that compare bits, run as users do.
BRIEF = $(shell $(BIN)/python -c "from nrjax._numerics.cpu_options import brief_options as asked; print(*(f'--{flag}={value}'.lower() for flag, value in asked().items()))")
QUICKLY = XLA_FLAGS="--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=10000000 $(BRIEF) --xla_cpu_parallel_codegen_split_count=1"

test: .venv/.test  ## Run the tests.
	$(QUICKLY) $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not computes and not long"
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "computes and not long"

test-all: test  ## Run the long tests, too.
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m long

mutants: .venv/.test  ## Plant bugs one by one and see whether the tests notice; takes hours.
	$(QUICKLY) $(BIN)/python tests/mutants/run.py

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/pyright

BENCHMARKS := first_call phase_diagram sweeps sweep_peers lattices spin_peers trajectories macrospins lindblad inverse_design work_precision scaling

bench: .venv/.bench  ## Run the benchmarks; writes their results, tables and pictures.
	set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done
	$(BIN)/python -m pytest -q benchmarks/test_speed.py --benchmark-storage=file://benchmarks/history --benchmark-autosave
	$(BIN)/python benchmarks/report.py

# In an environment of its own: where there is no GPU, its plugin only makes JAX complain.
.venv-gpu/.done: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check --no-compile --editable '.[gpu-check]'
	@touch $@

gpu-check: .venv-gpu/.done  ## Compile everything for an NVIDIA H200, without one, and tell what became of it.
	.venv-gpu/bin/python benchmarks/gpu_compilation.py

docs: .venv/.docs  ## Build the documentation into out/site.
	$(BIN)/mkdocs build --strict --quiet

notebooks: .venv/.notebooks  ## Run every notebook and write its .ipynb.
	cd notebooks && for file in *.py; do ../$(BIN)/jupytext --to ipynb --execute --set-kernel python3 $$file || exit 1; done

check-notebooks: .venv/.notebooks  ## Run every notebook as a script, two at a time.
	cd notebooks && ls *.py | $(QUICKLY) MPLBACKEND=agg xargs -P 2 -n 1 ../$(BIN)/python

clean:
	rm -rf .venv .venv-gpu out .pytest_cache .ruff_cache
