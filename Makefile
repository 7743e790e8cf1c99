# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
BIN := .cache/venv/bin
COLLECTION := .cache/ansible_collections/matrixops/synapse

export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache

.PHONY: help demo demo-hosts test unit sanity integration faults nightly mutations
.PHONY: bench bench-quick bench-report bench-compare lint clean FORCE

help: ## say what there is (PYTHON=python3.12 picks another Python)
	@sed -n 's/^\([a-z -]*\):.*## /  \1\t/p' Makefile | expand -t 24

demo: .cache/demo.installed .cache/synapse.installed $(COLLECTION) ## retire real homeservers on this machine
	PYTHONPATH=tests $(BIN)/python -m demo

demo-hosts: .cache/demo.installed $(COLLECTION) ## retire real machines, over SSH (as root)
	PYTHONPATH=tests $(BIN)/python -m demo.hosts

test: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## run all tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

unit sanity: .cache/dev.installed $(COLLECTION) ## run the tests that need no homeserver
	$(BIN)/pytest tests/$@

integration: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## run those that start one
	$(BIN)/pytest tests/$@

faults: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## let everything go wrong at every stage (some hours)
	FAULTS=matrix $(BIN)/pytest tests/faults
	PYTHONPATH=tests $(BIN)/python -m faults

nightly: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## let things go wrong in 200 retirements, by chance
	FAULTS=200 $(BIN)/pytest tests/faults

mutations: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## break each rule of safety, and see a test fail
	$(BIN)/python tests/mutations.py

BENCH := PYTHONPATH=tests:.cache $(BIN)/python -m benchmarks
RESULT ?= latest.jsonl
BENCH_NEEDS := .cache/dev.installed .cache/synapse.installed .cache/synadm.installed $(COLLECTION)

bench: $(BENCH_NEEDS) ## compare with what one would use instead (many hours; RESULT=file goes on with one)
	$(BENCH) run $(BENCH_OPTIONS) benchmarks/results/$(RESULT)

bench-quick: $(BENCH_NEEDS) ## see in some minutes that this works
	rm -f .cache/benchmarks/quick.jsonl
	$(BENCH) run --quick $(BENCH_OPTIONS) .cache/benchmarks/quick.jsonl
	$(BENCH) report .cache/benchmarks/quick.jsonl

bench-report: $(BENCH_NEEDS) ## write the figures of RESULT into docs/benchmarks.md
	$(BENCH) report --into docs/benchmarks.md benchmarks/results/$(RESULT)

bench-compare: $(BENCH_NEEDS) ## see whether what RESULT says holds in OTHER
	$(BENCH) compare benchmarks/results/$(RESULT) benchmarks/results/$(OTHER)

lint: .cache/dev.installed $(COLLECTION) ## check style, types, changelog and documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint
	PATH="$(CURDIR)/$(BIN):$$PATH" antsibull-changelog lint
	PATH="$(CURDIR)/$(BIN):$$PATH" antsibull-docs lint-collection-docs --plugin-docs .

clean: ## remove what the other targets have made
	rm -rf .cache

$(COLLECTION):
	mkdir -p $(@D)
	ln -s ../../.. $@

.cache/demo.installed .cache/dev.installed: venv := .cache/venv
.cache/synapse.installed: venv := .cache/synapse
.cache/synadm.installed: venv := .cache/synadm
.cache/dev.installed: requirements/demo.txt

.cache/%.installed: requirements/%.txt .cache/python
	$(PYTHON) -m venv $(venv)
	$(venv)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Another Python than the last time: the environments start anew.
.cache/python: FORCE
	@mkdir -p $(@D)
	@$(PYTHON) -VV | cmp --quiet - $@ || { rm -rf .cache/venv .cache/synapse .cache/synadm && $(PYTHON) -VV >$@; }
