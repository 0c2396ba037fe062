# `make` alone lists the targets. Everything runs from .venv, which `make setup` fills from the lock files.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-foreign demo test unit nightly bench-api bench-ahead bench-attacks test-stripe check format lock schema docs clients ide words

PY := .venv/bin/python
# Much of the suite waits for real plays, so that a few more workers than processors pay.
WORKERS ?= 3
# Folders whose tests run real plays, servers and whole stories.
SLOW_PARTS := commands scenarios real playbooks reconciler/runs simulators billing/stripe
export PYTHONDONTWRITEBYTECODE ?= 1
# Ansible refuses to work without a UTF-8 locale; C.UTF-8 is everywhere.
export LC_ALL := C.UTF-8
# Nor may modules from elsewhere stand before the locked ones.
unexport PYTHONPATH PYTHONHOME

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## Prepare .venv to run the product
	@sh scripts/setup.sh run

setup-dev: ## Prepare .venv to work on the product
	@sh scripts/setup.sh dev

setup-foreign: ## Prepare .venv-foreign, tools of others that the API is tried with
	@sh scripts/setup.sh foreign

demo: setup ## Run the product on simulators; ARGS="--once" tells one whole story and checks it
	@exec $(PY) -m api.cli demo $(ARGS)

test: setup-dev ## Run the test suite; ARGS="-k name" narrows it
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

unit: setup-dev ## Run the tests that need no server, no root and no time
	@$(PY) -m pytest -n $(WORKERS) -m "not slow and not postgres and not lxc and not nightly" $(foreach part,$(SLOW_PARTS),--ignore=tests/$(part)) $(ARGS)

nightly: setup-dev setup-foreign ## Run the proofs that take too long for every change
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m nightly $(ARGS)

bench-ahead: setup-dev ## Measure the forecast of a large fleet; ARGS="--accounts 5000" is quick
	@$(PY) -m benchmarks.ahead $(ARGS)

bench-api: setup-dev ## Measure the API against a hand-written one; ARGS="--fleet small" is quick
	@$(PY) -m benchmarks.api $(ARGS)

bench-attacks: setup-dev ## Measure how fast operations that are made to cost are refused
	@$(PY) -m benchmarks.attacks $(ARGS)

test-stripe: setup-dev ## Run the suite against a Stripe sandbox; tests/sandbox/README.md says what it needs
	@$(PY) -m pytest tests/sandbox $(ARGS)

check: setup-dev ## Formatting, types, import contracts, playbook lint, schema and documents
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy
	@MYPYPATH=playbooks/plugins $(PY) -m mypy --strict --cache-dir .mypy_cache/plugins -p abeyance_platforms
	@.venv/bin/lint-imports --no-logo
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/ansible-lint --offline -q
	@$(PY) -m api.cli actions check
	@for file in billing/policies/*.yaml; do $(PY) -m api.cli policy check $$file >/dev/null || exit 1; done
	@$(PY) -m api.cli schema | diff -u api/graphql/schema.graphql - || { echo 'The checked-in schema is old: make schema'; exit 1; }

format: setup-dev ## Format the code
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix --quiet .

schema: setup-dev ## Write the checked-in GraphQL schema anew
	@$(PY) -m api.cli schema > api/graphql/schema.graphql

docs: setup-dev ## Write the generated part of docs/policy.md anew
	@$(PY) -m api.cli policy table billing/policies/standard.yaml --into docs/policy.md

clients: setup-dev setup-foreign ## Write the typed clients anew (needs Node.js)
	@$(PY) -m clients.generate

words: setup-dev ## Collect what customers read and compile its translations; LANGUAGE=fr begins another one
	@sh scripts/words.sh $(LANGUAGE)

ide: ## Bundle the page for trying queries anew (needs Node.js)
	@cd scripts/ide && npm ci --ignore-scripts && npm run --silent build

lock: ## Write the lock files anew (needs uv)
	@sh scripts/lock.sh
