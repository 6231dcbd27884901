# Every target does its own set-up; PYTHON chooses the interpreter the environment is made with.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BUILT  := hatch_build.py $(wildcard relay/core/native/* relay/scan/native/*)
TABLES := relay/scan/_tables.bin

# The benchmark runs on the system's Python where it can: distributions build theirs with profile-guided optimisation.
BENCH_VENV   := .venv-bench
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
                  && echo /usr/bin/python3 || echo $(PYTHON))

.PHONY: venv demo test check format lock bench clean

venv: $(STAMP) $(TABLES)

$(STAMP): requirements-dev.lock pyproject.toml $(BUILT)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation --editable .
	@touch $@

# The scan's words, which each process maps: made anew when lexicons or the rules that name words changed.
$(TABLES): $(STAMP) $(wildcard relay/scan/*.py relay/scan/data/*)
	$(BIN)/python -m relay.extract.tables $@

demo: venv
	$(BIN)/postern demo $(if $(ONCE),--once)

test: venv
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BENCH_VENV)/.installed: requirements-dev.lock pyproject.toml $(BUILT)
	$(BENCH_PYTHON) -m venv $(BENCH_VENV) || \
	    { apt-get install --yes --quiet python3-venv && $(BENCH_PYTHON) -m venv $(BENCH_VENV); }
	test -f "$$($(BENCH_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
	    || apt-get install --yes --quiet gcc python3-dev || true  # without: all in Python, slower
	$(BENCH_VENV)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes \
	    --requirement requirements-dev.lock
	$(BENCH_VENV)/bin/python -m pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation --editable .
	@touch $@

bench: $(BENCH_VENV)/.installed
	$(BENCH_VENV)/bin/python -m relay.extract.tables
	$(BENCH_VENV)/bin/python bench/run.py --peers $(BENCH_ARGS)
	$(BENCH_VENV)/bin/python bench/growth.py
	$(BENCH_VENV)/bin/python bench/report.py

# Needs `uv` on the PATH; index addresses are never written.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header --extra dev --constraints requirements.lock pyproject.toml \
	    --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .ruff_cache .hypothesis
