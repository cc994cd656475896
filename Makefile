# SPDX-License-Identifier: GPL-3.0-or-later
# The commands of the project. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough; say PYTHON=... to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Tools find each other, and ansible-lint its ansible-playbook, through the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Tests have a lab of their own, so that they never touch the demo's hosts.
TEST_LAB := PGHERD_LAB_NAME=$${PGHERD_LAB_NAME:-pgherd-test} \
	PGHERD_LAB_SUBNET=$${PGHERD_LAB_SUBNET:-10.87.113.0/24}
# And the faults of the table one more, whose hosts have data disks that may be broken.
FAULTS_LAB := PGHERD_LAB_NAME=$${PGHERD_LAB_NAME:-pgherd-faults} \
	PGHERD_LAB_SUBNET=$${PGHERD_LAB_SUBNET:-10.87.115.0/24} PGHERD_LAB_DATA_DISK=1
# A Patroni cluster is made in one more, taken over and given back.
ADOPT_LAB := PGHERD_LAB_NAME=$${PGHERD_LAB_NAME:-pgherd-adopt} \
	PGHERD_LAB_SUBNET=$${PGHERD_LAB_SUBNET:-10.87.117.0/24}
MYPY_PATHS := agent/src agent/tests lab plugins tests bench molecule
UNIT_PATHS := agent/tests tests
SIM_PATH := agent/tests/sim
# These run under ansible-test, which sees to it that modules import only what a host has.
PLUGIN_PATH := tests/unit
# The last release of the agent, which has no tag yet.
PREVIOUS ?= 8d0d98937e1fdbb00e62f5f0d076e3de062316e6
# Histories that `make sim` simulates, each from a seed of its own.
SEEDS ?= 2000

.PHONY: help venv lock demo test test-all lint sanity unit sim molecule drivers thorough upgrade \
	standby-cluster adopt variants faults figures bench-path bench-backup bench-failover lab-up lab-down lab-status clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 17

venv: $(STAMP) ## the pinned packages in .venv

$(STAMP): requirements.txt
	@[ -n "$(PYTHON)" ] || { echo "make: no Python 3.11 or newer found: install one" \
		"(Debian 12 or newer: apt-get install python3), or name it: make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is older than Python 3.11: name a newer one, make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module:" \
		"install it (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@# What a link leads to is somebody else's, and would be emptied first.
	@[ ! -L $(VENV) ] || { echo "make: $(VENV) is a link to $$(readlink $(VENV)), which has other packages" \
		"than requirements.txt: remove the link" >&2; exit 2; }
	@echo "venv: installing the packages of requirements.txt (once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check \
		--requirement requirements.txt
	@# Bytecode for what every command loads; the bundled collections are many and mostly unused.
	@# Packages ship samples that do not compile on purpose, so the exit code tells nothing.
	@$(BIN)/python -m compileall -q -j 0 -x 'ansible_collections|/tests?/' $(VENV)/lib > /dev/null || true
	@touch $(STAMP)

lock: ## make requirements.txt anew from requirements.in
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --no-compile --requirement requirements.in
	{ sed -n '/^[^#]/q;p' requirements.txt; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude pip --exclude setuptools; } > requirements.new
	mv requirements.new requirements.txt
	rm -rf $(VENV)-lock

demo: $(STAMP) ## bare hosts to a running three-node cluster
	@$(BIN)/python -m lab.demo

lab-up: $(STAMP) ## make or start the lab's hosts
	@$(BIN)/python -m lab up

lab-down: $(STAMP) ## remove the lab's hosts and their data
	@$(BIN)/python -m lab down

lab-status: $(STAMP) ## show the lab's hosts
	@$(BIN)/python -m lab status

lint: $(STAMP) ## ruff, mypy, yamllint, ansible-lint
	ruff check .
	ruff format --check .
	mypy $(MYPY_PATHS)
	yamllint --strict .
	ansible-lint

sanity: $(STAMP) ## ansible-test's examination of the collection as it is shipped
	$(BIN)/python -m tests.ansible_test sanity

unit: $(STAMP) ## tests that need no host
	@# The histories are all work, the other tests wait a lot and mind the time: the histories get
	@# what cores the others leave, and are told of when both are done.
	@log=$$(mktemp); nice -n 19 pytest $(SIM_PATH) > "$$log" 2>&1 & sim=$$!; status=0; \
	trap 'kill $$sim' INT TERM; \
	pytest $(UNIT_PATHS) --ignore $(SIM_PATH) --ignore $(PLUGIN_PATH) || status=$$?; \
	$(BIN)/python -m tests.ansible_test units || status=$$?; \
	wait $$sim || status=$$?; cat "$$log"; rm -f "$$log"; exit $$status

sim: $(STAMP) ## simulate SEEDS=2000 histories of clusters in trouble
	@PYTHONPATH=agent/src:. $(BIN)/python -m agent.tests.sim --seeds $(SEEDS)

molecule: $(STAMP) ## deploy a cluster in the tests' lab, verify it, break it
	$(TEST_LAB) python -m lab down
	@# molecule remembers hosts it made before, and would not make them again.
	molecule reset > /dev/null
	@# Those left out take too long for here: make adopt, upgrade, standby-cluster, variants; and of
	@# the others the tests that make thorough runs.
	$(TEST_LAB) molecule test --all --exclude adopt --exclude backup --exclude upgrade \
		--exclude standby_cluster --exclude variants --no-command-borders
	$(TEST_LAB) PGHERD_LAB_BACKUP=pgbackrest molecule test --scenario-name backup --no-command-borders

thorough: $(STAMP) ## the tests of molecule's scenarios that take too long for CI
	$(TEST_LAB) python -m lab down
	$(TEST_LAB) python -m lab up
	$(TEST_LAB) python -c "from lab.playbook import deploy; deploy()"
	for scenario in operation switchover; do $(TEST_LAB) pytest -s -m thorough molecule/$$scenario/tests || exit; done
	$(TEST_LAB) python -m lab down
	$(TEST_LAB) python -m lab up
	$(TEST_LAB) PGHERD_LAB_BACKUP=pgbackrest python -c "from lab.playbook import deploy; deploy()"
	$(TEST_LAB) pytest -s -m thorough molecule/backup/tests
	$(TEST_LAB) python -m lab down

standby-cluster: $(STAMP) ## one cluster follows another, takes its place and gives it back
	$(TEST_LAB) python -m lab down
	molecule reset --scenario-name standby_cluster > /dev/null
	$(TEST_LAB) molecule test --scenario-name standby_cluster --no-command-borders

test: lint sanity unit molecule ## everything CI runs

test-all: test ## the tests of CI and those too long for it
	@# The other release, from bare hosts through the same scenarios.
	PGHERD_LAB_RELEASE=12 $(MAKE) molecule
	PGHERD_LAB_RELEASE=13 $(TEST_LAB) python -m lab down
	$(TEST_LAB) python -m bench.failover --runs 1 --systems normal,tight --samples .ansible/test-all.jsonl
	$(TEST_LAB) python -m lab down
	$(TEST_LAB) python -m bench.path --runs 1 --seconds 3 --clients 8,32
	$(TEST_LAB) python -m lab down
	$(MAKE) thorough
	$(MAKE) drivers
	$(MAKE) standby-cluster
	$(MAKE) variants
	$(MAKE) faults
	$(FAULTS_LAB) python -m lab down
	$(MAKE) upgrade
	$(MAKE) adopt
	$(ADOPT_LAB) python -m bench.switchover
	$(ADOPT_LAB) python -m lab down

drivers: $(STAMP) ## every documented driver connects, and stays through a switchover
	$(TEST_LAB) python -m lab down
	molecule reset --scenario-name drivers > /dev/null
	$(TEST_LAB) PGHERD_DRIVERS="libpq uri jdbc pgx pq node" molecule test --scenario-name drivers \
		--no-command-borders

variants: $(STAMP) ## other ways in: a balancer apart, no poolers, IPv6
	$(TEST_LAB) python -m lab down
	molecule reset --scenario-name variants > /dev/null
	$(TEST_LAB) molecule test --scenario-name variants --no-command-borders

upgrade: $(STAMP) ## from the agent of the commit PREVIOUS to this one, while clients write
	$(TEST_LAB) python -m lab down
	$(TEST_LAB) python -m lab up
	$(TEST_LAB) PGHERD_PREVIOUS=$(PREVIOUS) pytest -s molecule/upgrade/tests
	$(TEST_LAB) python -m lab down

adopt: $(STAMP) ## take a Patroni cluster over and give it back, while clients write
	@$(ADOPT_LAB) python -m lab down
	@molecule reset --scenario-name adopt > /dev/null
	$(ADOPT_LAB) molecule test --scenario-name adopt --no-command-borders

faults: $(STAMP) ## all drills and faults, RUNS=1 times; ROWS=a,drill:b for some, RTO=fast
	@$(FAULTS_LAB) python -m lab.table --rows "$(ROWS)" --runs "$(or $(RUNS),1)" \
		--rto "$(or $(RTO),normal)"

bench-path: $(STAMP) ## what poolers and balancers cost; writes docs/benchmarks.md
	$(TEST_LAB) python -m bench.path --publish

bench-backup: $(STAMP) ## what backups and restores take; writes docs/benchmarks.md
	$(TEST_LAB) python -m bench.backup --publish

bench-failover: $(STAMP) ## pgherd and Patroni when things break; writes docs/benchmarks.md
	$(TEST_LAB) python -m bench.failover --publish

figures: $(STAMP) ## repeat the loss of the primary; print median and spread
	$(TEST_LAB) python -m bench.failover --runs 5 --systems normal,fast --faults "host lost" \
		--samples .ansible/figures.jsonl

clean: ## remove what the commands above left in the tree
	rm -rf $(VENV) .ansible .mypy_cache .pytest_cache .ruff_cache
