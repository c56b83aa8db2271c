# `make` alone prints the targets. Each is one line that can be typed without make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Make takes a space in the name of a target for its end. All other folders may have spaces in their names.
$(if $(filter-out 1,$(words $(VENV))),$(error VENV: '$(VENV)' is not one name without spaces; take another folder, such as .venv))
# A file of pip constraints, to install other versions than the newest: tests/floor.txt.
CONSTRAINTS ?=
# torch 2.1 has wheels for this Python and for 3.10.
FLOOR_PYTHON ?= python3.11

# Where the data lies. The commands read the same names from the environment.
EPIC_ANNOTATIONS ?= data/annotations
EPIC_VIDEOS ?= data/videos
EPIC_FEATURES ?= data/features

FRAMES ?= 16
WEIGHTS ?= default
DEVICE ?= auto
# Seconds between clips over whole videos (a dense feature set), instead of FRAMES per segment.
EVERY ?=
# What a step keeps of the backbone's tokens, such as mean, cls, grid2 or mean+cls, and of which layers, such as 11,17,last;
# empty for what its authors use, and for the last layer.
TOKENS ?=
LAYERS ?=
# Frames per second within a clip, or spread over the segment; empty for what the authors use.
CLIP ?=
VIEWS ?=
# hands or hands+objects instead of whole frames, and where their boxes are: the published folder hand-objects, or a table.
REGIONS ?=
BOXES ?=
# The form of videos that are there in several, video, frames or chunks, and the rate of JPEG frames of one's own.
INPUT ?=
FRAMES_FPS ?=
comma := ,
OUT ?= $(EPIC_FEATURES)/$(subst :,-,$(BACKBONE))-$(if $(EVERY),every$(EVERY),seg$(FRAMES))$(if $(filter-out mean,$(TOKENS)),-$(TOKENS))$(if $(LAYERS),-layers$(subst $(comma),-,$(LAYERS)))$(if $(CLIP),-clip$(CLIP))$(if $(REGIONS),-$(subst +,-,$(REGIONS)))

# jobs/extract.sh and jobs/sweep.sh say what these mean.
export SITE TASKS LIMIT LOGS STAGE LOCAL DRY_RUN ACCOUNT

# Recipes hand values to the shell in single quotes, so a value with such a quote in it is an error.
_IN_QUOTES := CURDIR BACKBONE EPIC_ANNOTATIONS EPIC_VIDEOS EPIC_FEATURES EPIC_RUNS EPIC_WEIGHTS EPIC_DOWNLOADS WEIGHTS OUT SPEC HEAD NAME OVERRIDES BOXES
need_no_quotes = $(foreach name,$(_IN_QUOTES),$(if $(findstring ',$($(name))),$(error $(name): "$($(name))" has an apostrophe in it, and make cannot hand that on; take a name without)))

.DEFAULT_GOAL := help
.PHONY: help install demo demo-sweep test test-all test-quick test-floor lint docs format bench check-device results extract sweep pipeline recipe clean

help: ## Print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | awk -F '\t' '{ printf "make %-14s %s\n", $$1, $$2 }'

install: $(VENV)/installed ## Create a virtual environment in .venv and install everything into it
$(VENV)/installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[extract,test,lint]' $(addprefix --constraint ,$(CONSTRAINTS))
	touch $@

demo: install ## Show the whole path on a generated miniature of the dataset, in demo/
	PATH="$(abspath $(BIN)):$$PATH" bash jobs/demo.sh demo

demo-sweep: install ## Show a sweep on the same miniature: variants, halving, an ensemble chosen from them
	PATH="$(abspath $(BIN)):$$PATH" bash jobs/demo-sweep.sh demo

# PYTEST_ADDOPTS adds options of pytest: --durations=15, or --cov=heads with pytest-cov installed.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
test: install ## Run the tests, without the slow ones [PYTEST_ADDOPTS=--durations=15]
	$(PYTEST) -m 'not slow'

test-all: install ## Run all tests: also larger variants, the demo at its full size, long scenarios on a cluster, a wheel
	$(PYTEST)

test-quick: install ## Run the tests that need neither processes nor whole networks
	$(PYTEST) -m 'not slow and not process'

test-floor: ## Run the tests with the oldest torch that will do, in .venv-floor [FLOOR_PYTHON=python3.10]
	@$(FLOOR_PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v[:2] in [(3, 10), (3, 11)] else "FLOOR_PYTHON: torch 2.1 is there for Python 3.10 and 3.11, and this is %d.%d." % v[:2])'
	$(MAKE) test VENV=.venv-floor PYTHON='$(FLOOR_PYTHON)' CONSTRAINTS=tests/floor.txt

lint: install ## Check style, format, types and generated docs
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m mypy && $(BIN)/python -m extract.backbones.table docs/backbones.md --check

docs: install ## Write the table of backbones in docs/backbones.md from the registry
	$(BIN)/python -m extract.backbones.table docs/backbones.md

format: install ## Fix what lint can fix
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: install ## Measure speed, as ratios within one run (an hour; the first run encodes a video)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' && $(BIN)/python benchmarks/bench_start.py && $(BIN)/python benchmarks/bench_extract.py && $(BIN)/python benchmarks/bench_feeding.py && $(BIN)/python benchmarks/bench_heads.py && $(BIN)/python benchmarks/bench_watch.py

check-device: install ## Check and measure the GPU or Mac of this machine, in under 8 minutes [DEVICE=cuda|mps|cpu]
	$(BIN)/python benchmarks/check_device.py --device '$(DEVICE)'

results: install ## Train every head with its defaults on hand sequences, for docs/results.md (an hour; resumable): FPHA=FOLDER
	$(if $(FPHA),,$(error FPHA is missing: make results FPHA=folder of joints.npz))
	$(BIN)/python benchmarks/accuracy.py '$(FPHA)' && $(BIN)/python benchmarks/accuracy.py '$(FPHA)' --table

extract: install ## Extract features, by SLURM if it is there: BACKBONE=videomae [FRAMES=16 | EVERY=0.2] [VIEWS=centre,augment:3 TOKENS= LAYERS= CLIP= REGIONS= BOXES= INPUT= FRAMES_FPS= SITE= TASKS=8 STAGE=1 LOCAL=1 DRY_RUN=1 ...]
	$(if $(BACKBONE),,$(error BACKBONE is missing: make extract BACKBONE=videomae))$(need_no_quotes)
	bash jobs/extract.sh '$(abspath $(BIN))/extract' run --annotations '$(EPIC_ANNOTATIONS)' --videos '$(EPIC_VIDEOS)' --backbone '$(BACKBONE)' $(if $(EVERY),--every '$(EVERY)',--frames '$(FRAMES)') $(if $(TOKENS),--tokens '$(TOKENS)') $(if $(LAYERS),--layers '$(LAYERS)') $(if $(CLIP),--clip '$(CLIP)') $(if $(VIEWS),--views '$(VIEWS)') $(if $(REGIONS),--regions '$(REGIONS)') $(if $(BOXES),--boxes '$(BOXES)') $(if $(INPUT),--input '$(INPUT)') $(if $(FRAMES_FPS),--frames-fps '$(FRAMES_FPS)') --weights '$(WEIGHTS)' $(if $(EPIC_WEIGHTS),--weights-dir '$(EPIC_WEIGHTS)') --device '$(DEVICE)' --out '$(OUT)'

EPIC_RUNS ?= runs
sweep: install ## Train the sweep of a YAML file, by SLURM if it is there: SPEC=sweep.yaml [SITE= TASKS=4 LOCAL=1 DRY_RUN=1 ...]
	$(if $(SPEC),,$(error SPEC is missing: make sweep SPEC=sweep.yaml))$(need_no_quotes)
	bash jobs/sweep.sh env 'EPIC_ANNOTATIONS=$(EPIC_ANNOTATIONS)' 'EPIC_FEATURES=$(EPIC_FEATURES)' 'EPIC_RUNS=$(EPIC_RUNS)' '$(abspath $(BIN))/heads' sweep '$(SPEC)'

HEAD ?= multiscale_lstm
SEEDS ?= 0-2
pipeline: install ## Run everything by SLURM, from weights and videos to a submission: BACKBONE=videomae HEAD=multiscale_lstm SEEDS=0-2 [as for extract]
	$(if $(BACKBONE),,$(error BACKBONE is missing: make pipeline BACKBONE=videomae))$(need_no_quotes)
	BIN='$(abspath $(BIN))' BACKBONE='$(BACKBONE)' WEIGHTS='$(WEIGHTS)' $(if $(EPIC_WEIGHTS),EPIC_WEIGHTS='$(EPIC_WEIGHTS)') HEAD='$(HEAD)' SEEDS='$(SEEDS)' OUT='$(OUT)' EPIC_ANNOTATIONS='$(EPIC_ANNOTATIONS)' EPIC_RUNS='$(EPIC_RUNS)' bash jobs/pipeline.sh $(MAKE) -s extract BACKBONE='$(BACKBONE)' OUT='$(OUT)'

# Where features that others published lie, for recipes that import them.
EPIC_DOWNLOADS ?= downloads
recipe: install ## Do a recipe step by step, by SLURM if it is there: NAME=tim [OVERRIDES=changes.yaml SITE= TASKS= LOCAL=1 DRY_RUN=1 ...]
	$(if $(NAME),,$(error NAME is missing: make recipe NAME=baseline; recipes/README.md lists them))$(need_no_quotes)
	BIN='$(abspath $(BIN))' DEVICE='$(DEVICE)' EPIC_ANNOTATIONS='$(EPIC_ANNOTATIONS)' EPIC_VIDEOS='$(EPIC_VIDEOS)' EPIC_FEATURES='$(EPIC_FEATURES)' EPIC_RUNS='$(EPIC_RUNS)' EPIC_DOWNLOADS='$(EPIC_DOWNLOADS)' $(if $(EPIC_WEIGHTS),EPIC_WEIGHTS='$(EPIC_WEIGHTS)') $(BIN)/python jobs/recipe.py '$(NAME)' $(if $(OVERRIDES),'$(OVERRIDES)')

clean: ## Remove the virtual environments, the demo and caches; never data/ or runs/
	rm -rf $(VENV) .venv-floor demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
