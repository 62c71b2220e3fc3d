# Two commands on a machine that has python3, make and git:
#
#   make train    trains examples/digits.py
#   make test     runs the test suite
#
# and two for those who change the code: make lint, make bench. Each makes the virtual environment it needs, once.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
ARGS ?=
WORKERS ?= 2

PROJECTS := $(sort $(wildcard */pyproject.toml plugins/*/pyproject.toml))
DISTRIBUTIONS := $(PROJECTS:/pyproject.toml=)
SOURCES := $(wildcard */src plugins/*/src)
PEERS := 2.6.6 1.9.5
PIP_OPTIONS := -q --disable-pip-version-check -c constraints.txt
EDITABLE := $(addprefix -e ,$(DISTRIBUTIONS))

.PHONY: train test test-peers test-clients soak lint format bench catalog messages stubs clean help
.DEFAULT_GOAL := help

help:
	@echo 'make train   train examples/digits.py; options in ARGS="--max-epochs 3"'
	@echo 'make test    run the test suite; options for pytest in ARGS="-k bus"'
	@echo 'make test-peers  run the programs of tests/lightning on the Lightnings they were recorded with'
	@echo 'make test-clients  run packages that are written for Lightning under the port, and under Lightning'
	@echo 'make soak    start and end 200 runs of two ranks by signals and kills; options in ARGS="--cycles 20 --seed 1"'
	@echo 'make lint    ruff, mypy --strict and pyright over all sources'
	@echo 'make format  let ruff put the sources into shape'
	@echo 'make stubs   write what type checkers see of the port'
	@echo 'make catalog write which distribution brings which name, after an entry point was added'
	@echo 'make messages  write docs/messages.md, after a message with an id was added'
	@echo 'make bench   compare the cost of a step with that of other libraries'
	@echo 'make clean   remove the virtual environments'

# One thread for each process: on networks this small a second one gains nothing, and on a busy machine threads that wait for
# one another made the same training take 60 s in place of 10.
export OMP_NUM_THREADS := 1

train: $(VENV)/installed
	$(VENV)/bin/python examples/digits.py $(ARGS)

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --ignore tests/clients $(ARGS)

test-clients: .venv-clients/clients
	.venv-clients/bin/python -m pytest tests/clients $(ARGS)

test-peers: $(PEERS:%=.venv-lightning-%/peer)
	$(foreach peer,$(PEERS),.venv-lightning-$(peer)/bin/python tests/lightning/programs.py --check tests/lightning/recorded/programs-$(peer).json &&) true

soak: $(VENV)/installed-dev
	$(VENV)/bin/python tests/distributed/soak.py $(ARGS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict $(SOURCES)
	$(VENV)/bin/pyright

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(BENCH_VENV)/installed
	$(BENCH_VENV)/bin/python benchmarks/loop_overhead.py $(ARGS)

catalog:
	$(PYTHON) tools/make_catalog.py

messages:
	$(PYTHON) tools/make_messages.py

stubs: $(VENV)/installed
	$(VENV)/bin/python tools/make_stubs.py

clean:
	rm -rf $(VENV) $(BENCH_VENV) .venv-clients

# The build backend comes first, so that pip builds ours without fetching it again for each; ours come in one call, so that
# pip finds each one's siblings here and not in the registry.
%/installed: Makefile constraints.txt $(PROJECTS)
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install $(PIP_OPTIONS) hatchling editables
	$*/bin/python -m pip install $(PIP_OPTIONS) --no-build-isolation $(EDITABLE) $(EXTRAS)
	touch $@

$(VENV)/installed: EXTRAS = -r examples/requirements.txt
$(VENV)/installed: examples/requirements.txt
$(BENCH_VENV)/installed: EXTRAS = -r benchmarks/requirements.txt
$(BENCH_VENV)/installed: benchmarks/requirements.txt

# Releases of Lightning, each in an environment of its own, with the torch that leyden is developed on.
.venv-lightning-%/peer: tests/lightning/peers/%.txt
	$(PYTHON) -m venv .venv-lightning-$*
	.venv-lightning-$*/bin/python -m pip install -q --disable-pip-version-check -r $<
	touch $@

# Packages that are written for Lightning. Those that require it, or torchvision, are installed without what they require,
# which requirements.txt lists; Lightning itself lies in a folder of its own, on the path only of whoever asks for it.
.venv-clients/clients: tests/clients/requirements.txt tests/clients/packages.txt tests/clients/lightning.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0 hatchling editables
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check -r tests/clients/requirements.txt
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check --no-deps -r tests/clients/packages.txt
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check --no-deps --upgrade --target .venv-clients/lightning -r tests/clients/lightning.txt
	.venv-clients/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation $(EDITABLE)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(VENV)/bin/python -m pip install $(PIP_OPTIONS) -r requirements-dev.txt
	touch $@
