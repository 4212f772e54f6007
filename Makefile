# Needs Python 3.11 or later, make and git. `make demo` and `make test` set up .venv first.
PYTHON ?= python3
RUN = .venv/bin/python
LOWEST = .venv-lowest/bin/python
TORCH = torch==2.13.0
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile
# One thread a worker: two workers with a thread each are quicker than one with two.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 -q
DATA_DIR ?= ../shared/data

SPHINX = OMP_NUM_THREADS=1 $(RUN) -m sphinx -q -W --keep-going

.PHONY: demo demo-pde docs dist test test-dist test-full test-lowest test-gpu lint bench-quick clean check-python

demo: .venv/.stamp-demo
	$(RUN) -m sklearn_metakan.demo --out out/demo.png

demo-pde: .venv/.stamp-demo
	$(RUN) -m sklearn_metakan.demo_pde --out out/demo-pde.png

# The site, with pictures: open out/docs/index.html.
docs: .venv/.stamp
	$(SPHINX) docs out/docs

dist: .venv/.stamp-release
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*

# Wheel and source distribution, each in an environment with nothing else.
test-dist: dist
	for kind in dist/*.whl dist/*.tar.gz; do \
	  $(PYTHON) -m venv --clear out/dist-env && \
	  out/dist-env/bin/python $(PIP_INSTALL) $(TORCH) -c constraints.txt && \
	  out/dist-env/bin/python $(PIP_INSTALL) $$kind -c constraints.txt && \
	  out/dist-env/bin/python tests/distribution.py || exit 1; \
	done

test: lint
	$(PYTEST) -m "not slow and not gpu"

test-full: lint docs
	$(PYTEST) -m "not gpu"

# TESTS may name some files; CI takes those that other packages' versions matter to most.
test-lowest: .venv-lowest/.stamp
	OMP_NUM_THREADS=1 $(LOWEST) -m pytest -n 2 -q -m "not slow and not gpu" $(TESTS)

# On a machine with a GPU, with the Python that has its torch.
test-gpu:
	$(PYTHON) -m pytest -q -m gpu

# Pages, links and docstrings; the examples are not run here, but by a test.
lint: .venv/.stamp
	$(RUN) -m ruff check
	$(RUN) -m mypy
	$(SPHINX) -b dummy -D plot_gallery=0 docs out/lint

bench-quick: .venv/.stamp
	$(RUN) -m benchmarks.tables --quick --data-dir $(DATA_DIR)

clean:
	rm -rf .venv .venv-lowest out build dist docs/gallery docs/reference/generated docs/reference/backreferences .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "sklearn_metakan needs Python 3.11 or later; '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 ..."; exit 1; }

# Enough for the demos. torch first and alone, so that pip takes the pinned build and not a newer one.
.venv/.stamp-demo: pyproject.toml constraints.txt | check-python
	$(PYTHON) -m venv .venv
	$(RUN) $(PIP_INSTALL) $(TORCH) -c constraints.txt
	$(RUN) $(PIP_INSTALL) -e ".[plot]" -c constraints.txt
	touch $@

.venv/.stamp: .venv/.stamp-demo
	$(RUN) $(PIP_INSTALL) -e ".[dev]" -c constraints.txt
	touch $@

.venv/.stamp-release: .venv/.stamp
	$(RUN) $(PIP_INSTALL) -e ".[release]" -c constraints.txt
	touch $@

.venv-lowest/.stamp: pyproject.toml constraints-lowest.txt | check-python
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST) $(PIP_INSTALL) $(TORCH) -c constraints-lowest.txt
	$(LOWEST) $(PIP_INSTALL) -e ".[test]" -c constraints-lowest.txt
	touch $@
