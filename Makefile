# Every goal sets up .venv first, from nothing if need be; a stamp makes that quick the next time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
# torch without the CUDA packages; on a machine with a GPU: make CONSTRAINTS=/dev/null ...
CONSTRAINTS ?= constraints-cpu.txt

.PHONY: setup demo test test-all docs lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml $(wildcard constraints-cpu.txt)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'molgen needs Python 3.11 or later')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c $(CONSTRAINTS) -e ".[dev]"
	# On all cores, where pip compiles on one; what is not of this Python's syntax is passed over, as pip does.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

demo: $(STAMP)
	$(BIN)/molgen demo --out demo

# What takes longest is marked slow, and left to test-all.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" $(PYTEST)

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(PYTEST)

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f docs/mkdocs.yml
	@echo "the guide is in build/docs/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info demo .pytest_cache .mypy_cache .ruff_cache
