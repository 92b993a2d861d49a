# make          .venv with the core and every plugin
# make demo     also a simulated data set, sorted by DISCA, with a report (what is done already is skipped)
# make test     style, types, import rules and every test
# make docs     the documentation: site/index.html (needs no network once the tools are installed)
# make notebooks    executes the notebooks of docs/notebooks; make docs then shows their outputs
# make smoke    every method of every plugin, the example's included, once on tiny data (cryoet benchmark)
#
# PYTHON=python3.12       another interpreter (3.10 or later)
# TORCH=2.8.0             another torch than the tested one; TORCH=any takes the newest
# TORCH_INDEX=https://download.pytorch.org/whl/cpu     where to look for torch as well (here: a small CPU build)
# PIP_OPTIONS="..."       passed to pip

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$p" && break; done)
TORCH ?=
TORCH_INDEX ?=
PIP_OPTIONS ?=

VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PROJECTS := pyproject.toml $(PLUGINS:%=%/pyproject.toml) constraints.txt
EDITABLE := $(PLUGINS:%=-e ./%)
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	$(PIP_OPTIONS) -c $(VENV)/constraints.txt

DEMO_DATA := sim_snr01.h5
DEMO_RUN := runs/demo

.PHONY: install demo test docs notebooks smoke clean FORCE
.DELETE_ON_ERROR:

install: $(VENV)/.installed

$(VENV)/.made:
	@sh tools/make-venv.sh "$(PYTHON)" $(VENV)
	@touch $@

$(VENV)/constraints.txt: constraints.txt $(VENV)/.made $(if $(TORCH),FORCE)
	@sed -e '$(if $(TORCH),s/^torch==.*/$(if $(filter any,$(TORCH)),,torch==$(TORCH))/)' constraints.txt > $@

$(VENV)/.installed: $(PROJECTS) $(VENV)/constraints.txt
	@echo "installing cryoet and $(notdir $(PLUGINS)) into $(VENV) (some minutes the first time)"
	@$(PIP) -e . $(EDITABLE)
	@touch $@

$(VENV)/.installed-for-tests: $(PROJECTS) $(VENV)/constraints.txt
	@echo "installing cryoet, $(notdir $(PLUGINS)) and the test tools into $(VENV) (some minutes the first time)"
	@$(PIP) -e '.[test]' $(EDITABLE)
	@touch $(VENV)/.installed $@

$(VENV)/.installed-for-docs: $(PROJECTS) $(VENV)/constraints.txt
	@echo "installing cryoet, $(notdir $(PLUGINS)) and the tools of the documentation into $(VENV)"
	@$(PIP) -e '.[docs]' $(EDITABLE)
	@touch $(VENV)/.installed $@

$(DEMO_DATA): | $(VENV)/.installed
	$(BIN)/cryoet simulate subtomograms --phantoms 5 --per-class 200 --box 32 --voxel-size 12 --snr 0.1 \
		--tilt-range -60 60 --tilt-step 3 --defocus 4 --cs 2.0 --voltage 300 --seed 0 --out $@

$(DEMO_RUN)/report.html: | $(DEMO_DATA)
	$(BIN)/cryoet $(if $(wildcard $(DEMO_RUN)/run.json),resume $(DEMO_RUN),run disca --data $(DEMO_DATA) --out $(DEMO_RUN))

demo: $(DEMO_RUN)/report.html
	@$(BIN)/cryoet evaluate $(DEMO_RUN)
	@echo "the report: $(CURDIR)/$(DEMO_RUN)/report.html"

# two workers of one thread each: the suite must fit a small machine
test: export OMP_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: $(VENV)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q -n 2

docs: $(VENV)/.installed-for-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "the documentation: $(CURDIR)/site/index.html"

notebooks: $(VENV)/.installed-for-docs
	$(BIN)/python tools/run_notebooks.py

# the example lies beside the environment, which stays as it is
smoke: $(VENV)/.installed
	@rm -rf $(VENV)/example $(VENV)/example-source && cp -r examples/cryoet-minimal $(VENV)/example-source
	@$(PIP) --no-deps --target $(VENV)/example $(VENV)/example-source
	PYTHONPATH=$(CURDIR)/$(VENV)/example$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/cryoet benchmark --all --scale smoke

clean:
	rm -rf $(VENV) $(DEMO_DATA) $(DEMO_RUN) site build/notebooks
