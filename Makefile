# `make demo` and `make test` do all the set-up themselves; a second run reuses the environment.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint docs bench figures gpu clean

# what is imported is compiled then: half of all files never are
INSTALL = $(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt --editable

$(VENV)/base: pyproject.toml constraints.txt
	@echo "set-up, once: torch and what the package stands on, into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $@

# curvlinops brings torchvision along; one built for another torch breaks lightning and transformers, which import it if it is there
$(VENV)/installed: $(VENV)/base
	@echo "set-up, once: what the tests need, into $(VENV)"
	$(INSTALL) '.[test]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall -qq --yes torchvision
	@touch $@

demo: $(VENV)/base
	$(BIN)/landscape demo

bench: $(VENV)/installed
	$(BIN)/python analysis_scripts/benchmarks/curvature.py
	$(BIN)/python analysis_scripts/benchmarks/slices.py
	$(BIN)/python analysis_scripts/benchmarks/steps.py

# every figure but the demonstration's and the benchmarks'; what is finished is kept in runs/, so that a killed run goes on
FIGURES = $(subst /,.,$(basename $(sort $(shell grep -rl '^    command.main,' analysis_scripts --include='*.py'))))
# two scripts side by side, of one process each: four processes on two cores took 20 % more CPU time than two
JOBS := 2
WORKERS := 1
figures: $(VENV)/installed
	$(MAKE) --jobs=$(JOBS) --output-sync=target $(CHAINS) $(filter-out $(CHAINED), $(FIGURES))
	$(BIN)/python -m analysis_scripts.reproductions
	$(BIN)/python -m analysis_scripts.studies

.PHONY: $(FIGURES)
$(FIGURES):
	OMP_NUM_THREADS=1 FIGURES_WORKERS=$(WORKERS) $(BIN)/python -m $@

# one after the other: those of a row share searches for learning rates, which the first to ask makes
analysis_scripts.training.label_noise: analysis_scripts.training.rule_table
analysis_scripts.training.ascent_steps: analysis_scripts.training.label_noise
analysis_scripts.sharpness.corruption: analysis_scripts.training.ascent_steps
analysis_scripts.training.sensitivity: analysis_scripts.sharpness.corruption
analysis_scripts.training.vit_augmentation: analysis_scripts.training.vit_adversarial
analysis_scripts.training.vit_sharpness: analysis_scripts.training.vit_augmentation

# a make of its own for each row: it goes on as soon as it can, where one make would first begin all other scripts
CHAINED = $(shell sed -n 's/^\(analysis_scripts[^:]*\):/\1/p' Makefile)
CHAINS := chain.analysis_scripts.training.sensitivity chain.analysis_scripts.training.vit_sharpness
chain.%:
	$(MAKE) $*

# where torch with CUDA is there it is used as it is; what else is missing goes into a folder beside it, if it can be had
GPU := .gpu
PEERS := PyHessian curvlinops-for-pytorch einops einconv backpack-for-pytorch unfoldNd linear_operator opt-einsum
gpu:
	if $(PYTHON) -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then \
	  test -e $(GPU)/asked || { mkdir -p $(GPU); \
	    for package in . $(PEERS); do $(PYTHON) -m pip install -qq --no-deps --no-build-isolation --retries 0 --timeout 3 --target $(GPU) $$package || true; done; \
	    touch $(GPU)/asked; }; \
	  PYTHONPATH=$(CURDIR):$(CURDIR)/$(GPU) $(PYTHON) analysis_scripts/benchmarks/gpu.py; \
	else \
	  $(MAKE) $(VENV)/installed && $(BIN)/python analysis_scripts/benchmarks/gpu.py; \
	fi

# build/site/index.html opens without a server; built without a network, by what the tests have too
docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --no-namespace-packages analysis_scripts/benchmarks analysis_scripts/examples  # each a folder of files run by their path
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(GPU) runs
