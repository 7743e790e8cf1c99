# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
BIN := .cache/venv/bin
COLLECTION := .cache/ansible_collections/matrixops/synapse

export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache

.PHONY: help demo demo-site demo-ghosts demo-hosts test unit sanity integration lab nightly faults mutations matrix newcomer judges
.PHONY: durations tests-table test-dendrite
.PHONY: bench bench-quick bench-report bench-compare lint docs galaxy clean FORCE

help: ## list the targets (PYTHON=python3.12 selects another Python)
	@sed -n 's/^\([a-z -]*\):.*## /  \1\t/p' Makefile | expand -t 24

demo: .cache/demo.installed .cache/synapse.installed $(COLLECTION) ## decommission a real homeserver on this machine
	PYTHONPATH=tests $(BIN)/python -m demo

demo-site: .cache/demo.installed .cache/synapse.installed $(COLLECTION) ## replace a homeserver by a static site (needs nginx or caddy)
	PYTHONPATH=tests:.cache $(BIN)/python -m demo.site

demo-ghosts: .cache/demo.installed .cache/synapse.installed $(COLLECTION) ## remove the ghosts of a homeserver that is already gone
	PYTHONPATH=tests:.cache $(BIN)/python -m demo.ghosts

demo-hosts: .cache/demo.installed $(COLLECTION) ## decommission real machines over SSH (as root)
	PYTHONPATH=tests $(BIN)/python -m demo.hosts

test: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## run all tests except the nightly ones (26 minutes)
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --junit-xml .cache/test.xml

durations: ## record the durations of the last make test, which order the next one
	$(BIN)/python tests/durations.py .cache/test.xml

tests-table: .cache/dev.installed $(COLLECTION) ## write the table of tests into CONTRIBUTING.md
	PYTHONPATH=tests $(BIN)/python -m overview

unit: .cache/dev.installed $(COLLECTION) ## run the unit tests (10 s)
	PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/.cache/pycache $(BIN)/pytest tests/$@ --numprocesses 2 --quiet

sanity: .cache/dev.installed $(COLLECTION) ## run ansible-test sanity, and check the documentation against the code
	$(BIN)/pytest tests/$@ -m ""

integration: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## run the tests that start homeservers
	$(BIN)/pytest tests/$@

test-dendrite: .cache/dev.installed .cache/synapse.installed .cache/dendrite.installed $(COLLECTION) ## run the tests with Dendrite, which is built first (7 minutes, Go)
	$(BIN)/pytest tests/dendrite -m ""

lab: .cache/dev.installed .cache/synapse.installed ## start two homeservers with accounts and rooms (LAB=down stops them)
	PYTHONPATH=tests $(BIN)/python -m lab $(or $(LAB),up)
	$(if $(LAB),,PYTHONPATH=tests $(BIN)/python -m lab fill)

nightly: .cache/dev.installed .cache/synapse.installed .cache/dendrite.installed $(COLLECTION) ## run the long tests (hours), or NIGHTLY="memory browser"
	PYTHONPATH=tests $(BIN)/python -m nightly $(NIGHTLY)

faults: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## inject faults at every stage, and write docs/maintainers/faults.md
	PYTHONPATH=tests $(BIN)/python -m nightly faults
	PYTHONPATH=tests $(BIN)/python -m faults

mutations: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## break each rule of safety, and check that a test fails
	$(BIN)/python tests/mutations.py

BENCH := PYTHONPATH=tests:.cache $(BIN)/python -m benchmarks
RESULT ?= latest.jsonl
PAGE ?= docs/maintainers/benchmarks-details.md
BENCH_NEEDS := .cache/dev.installed .cache/synapse.installed .cache/synadm.installed $(COLLECTION)

bench: $(BENCH_NEEDS) ## compare with other tools (many hours; RESULT=file resumes)
	$(BENCH) run benchmarks/measured/$(RESULT) $(BENCH_OPTIONS)

bench-quick: $(BENCH_NEEDS) ## run the benchmarks with small sizes (minutes)
	rm -f .cache/benchmarks/quick.jsonl
	$(BENCH) run .cache/benchmarks/quick.jsonl --quick $(BENCH_OPTIONS)
	$(BENCH) report .cache/benchmarks/quick.jsonl

bench-report: $(BENCH_NEEDS) ## write the figures of RESULT into PAGE and the overview
	$(BENCH) report --into $(PAGE) benchmarks/measured/$(RESULT)

bench-compare: $(BENCH_NEEDS) ## check whether the claims of RESULT hold in OTHER
	$(BENCH) compare benchmarks/measured/$(RESULT) benchmarks/measured/$(OTHER)

lint: .cache/dev.installed $(COLLECTION) ## check style, types, changelog and documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint
	PATH="$(CURDIR)/$(BIN):$$PATH" antsibull-changelog lint
	PATH="$(CURDIR)/$(BIN):$$PATH" antsibull-docs lint-collection-docs --plugin-docs .
	$(BIN)/reuse lint --quiet || $(BIN)/reuse lint

docs: .cache/dev.installed $(COLLECTION) ## generate docs/reference, and build the modules' HTML without warnings
	$(BIN)/python tests/reference.py
	rm -rf .cache/docs && mkdir -p -m 700 .cache/docs/rst
	umask 022 && cd .cache/docs && PATH="$(CURDIR)/$(BIN):$$PATH" \
		antsibull-docs collection --use-current --fail-on-error --squash-hierarchy --dest-dir rst matrixops.synapse
	$(BIN)/sphinx-build -q -C -n -D project=matrixops.synapse -D extensions=sphinx_antsibull_ext \
		-D pygments_style=ansible -D highlight_language=YAML+Jinja -D default_role=any -D html_theme=alabaster \
		.cache/docs/rst .cache/docs/html 2>.cache/docs/warnings || { cat .cache/docs/warnings; exit 1; }
	@# Labels of the Ansible documentation are not defined here.
	! grep -vE "^$$|undefined label: '(action_plugins|ansible_configuration_settings|common_return_values)'" .cache/docs/warnings
	@echo Built .cache/docs/html/index.html

galaxy: .cache/galaxy.installed $(COLLECTION) ## build the tarball, and check it with galaxy-importer
	rm -rf .cache/tarball && mkdir -p .cache/tarball
	PATH="$(CURDIR)/.cache/galaxy/bin:$$PATH" ansible-galaxy collection build --output-path .cache/tarball
	cd .cache/tarball && PATH="$(CURDIR)/.cache/galaxy/bin:$$PATH" GALAXY_IMPORTER_CONFIG=$(CURDIR)/tests/galaxy-importer.cfg \
		python -m galaxy_importer.main *.tar.gz >importer.log 2>&1 || { cat importer.log; exit 1; }
	! grep -E '^(WARNING|ERROR)' .cache/tarball/importer.log

newcomer: .cache/demo.installed .cache/synapse.installed ## run the quick start of the README in a fresh clone
	PYTHONPATH=tests $(BIN)/python -m newcomer

matrix: .cache/dev.installed .cache/synapse.installed $(COLLECTION) ## test every ansible-core and Synapse, or CORES="2.16 2.21", SYNAPSES=1.120 (hours)
	PYTHONPATH=tests $(BIN)/python -m compatibility $(if $(CORES),--core $(CORES)) $(if $(SYNAPSES),--synapse $(SYNAPSES))

judges: lint unit sanity docs galaxy newcomer ## run all checks except the matrix and the tests with homeservers

clean: ## remove everything that the other targets have created
	rm -rf .cache

$(COLLECTION):
	mkdir -p $(@D)
	ln -s ../../.. $@

.cache/demo.installed .cache/dev.installed: venv := .cache/venv
.cache/synapse.installed: venv := .cache/synapse
.cache/synadm.installed: venv := .cache/synadm
.cache/galaxy.installed: venv := .cache/galaxy
.cache/dev.installed: requirements/demo.txt

.cache/%.installed: requirements/%.txt .cache/python
	$(PYTHON) -m venv $(venv)
	$(venv)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

DENDRITE := github.com/matrix-org/dendrite/cmd
DENDRITE_VERSION := v0.13.8

# Without Go nothing is built, and the tests report that.
.cache/dendrite.installed:
	@mkdir -p $(@D)
	! command -v go || { GOBIN=$(CURDIR)/.cache/dendrite/bin GOTOOLCHAIN=local \
		go install $(DENDRITE)/dendrite@$(DENDRITE_VERSION) $(DENDRITE)/generate-keys@$(DENDRITE_VERSION) && touch $@; }

# With another Python than before, the environments are created again.
.cache/python: FORCE
	@mkdir -p $(@D)
	@$(PYTHON) -VV | cmp --quiet - $@ || { rm -rf .cache/venv .cache/synapse .cache/synadm .cache/galaxy && $(PYTHON) -VV >$@; }
