# `make reproduce` and `make test` do everything on a machine with Python 3.11, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# dvc runs its stages with the `python` that it finds on PATH
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: reproduce test statistics lint setup scm scoreboard lock asv gpu

reproduce: setup scm
	dvc repro --quiet
	@assay check --profile quick --summary && echo "report: $(CURDIR)/site/index.html"

# A worker for each core, each with whole files. The simulations of error rates are apart: they only change with the
# statistics themselves.
test: setup lint
	python -m pytest -n auto --dist loadfile -m "not statistics"

statistics: setup
	python -m pytest -m statistics

lint: setup
	ruff check .
	ruff format --check .
	mypy

setup: $(VENV)/.complete

$(VENV)/.complete: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# A ZIP of the project is no git checkout, and git refuses one that belongs to another user: dvc can do without.
scm: setup
	@git rev-parse HEAD >/dev/null 2>&1 || { dvc config --local core.no_scm true && \
		echo "git names no commit here, so results will not either: $$(git rev-parse HEAD 2>&1 | head -n 1)"; }

# From the committed results of the profiles standard and gpu, never by hand.
scoreboard: setup
	assay scoreboard

# The papers that have a profile gpu, on a machine with a GPU; one that fails stops no other.
gpu: setup scm
	dvc repro --quiet --keep-going pipelines/gpu/dvc.yaml; status=$$?; assay report && exit $$status

# Hot paths over commits, in this environment: so the files must be those of the commit. ASV=--quick for a look.
ASV ?=
asv: setup
	@git rev-parse HEAD >/dev/null || { echo "make asv: its times are kept under a commit, and git names none here"; exit 1; }
	@test -z "$$(git status --porcelain -- assay benchmarks datasets methods asv.conf.json pyproject.toml)" \
		|| { echo "make asv: its times are kept under a commit, and the files differ from it; commit first"; exit 1; }
	asv machine --yes >/dev/null
	ASV_PYTHONPATH="$(CURDIR)" asv run --python=same --set-commit-hash "$$(git rev-parse HEAD)" --show-stderr $(ASV); \
		status=$$?; asv publish && exit $$status
	@echo "asv: $(CURDIR)/.asv/html/index.html (asv preview)"

# Resolve pyproject.toml anew. torch stands without its local version, and what only a CUDA build needs stays out.
# triton goes without a version: a CUDA build of torch brings its own.
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet torch==2.13.0 setuptools wheel '.[dev]'
	.lock/bin/python -m pip freeze --all --exclude assay --exclude pip | grep -v '^nvidia-[^m]' \
		| sed 's/+cpu$$//; s/^triton==.*/triton/' > requirements.lock
	rm -r .lock
