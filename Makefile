# The verbs of this project. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup hooks demo test test-fast test-forge test-apps test-links check search fuzz bench requirements clean

PYTHON := .venv/bin/python
SHELL_SCRIPTS := scripts/hooks/pre-commit scripts/venv scripts/with-engine scripts/engine scripts/shared.sh scripts/requirements deploy/local-images .ci/run
export PYTHONUNBUFFERED := 1
# Tests start many processes: let them keep their bytecode.
unexport PYTHONDONTWRITEBYTECODE
# More than there are processors: tests that wait for Docker (tests/dealing.py) leave them to others; each takes half a gigabyte.
TOGETHER ?= 7
DEALT := --dist loadfile --no-loadscope-reorder
# ENGINE=29: on a Docker of that version, built from source, instead of the one that is there. MARK=engines: only the tests so marked.
WITH_ENGINE = scripts/with-engine --busybox $(if $(ENGINE),--engine $(ENGINE))

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s%s\n", $$1, $$2}' Makefile

setup: ## make .venv with everything the project needs; does nothing when it is up to date
	@scripts/venv

hooks: setup ## look at each commit of this clone before it is made (formatting, lint, shell scripts)
	@git config --local core.hooksPath scripts/hooks
	@echo "Each commit is looked at now; 'git config --local --unset core.hooksPath' ends that."

demo: setup ## show the whole nightly round on this machine, with small recipes of its own
	@$(WITH_ENGINE) $(PYTHON) -m demo.run

test: setup ## all tests, with a real Docker Engine and Redis; ENGINE=29: on that Docker
	@$(WITH_ENGINE) .venv/bin/pytest -n $(TOGETHER) $(DEALT) $(if $(MARK),-m "$(MARK)")

test-fast: setup ## what can be told in a minute: no Docker, nothing that takes long, few crash points
	@.venv/bin/pytest -m "not real and not long" -n 4 $(DEALT) --crash-stride 30

test-forge: setup ## the tests of mirrors on a real Gitea, built from its Go module
	@CANONQ_GITEA=$$(scripts/engine build gitea) && export CANONQ_GITEA && .venv/bin/pytest -m gitea tests/forges

test-apps: setup ## the tests on real applications with real databases, built from Go modules, PyPI and Debian; FEW=1: those that CI runs
	@CANONQ_APPS=$$(scripts/engine build apps) && export CANONQ_APPS && $(PYTHON) -m tests.apps.images && \
	$(WITH_ENGINE) .venv/bin/pytest -m "apps$(if $(FEW), and not further)" tests/apps

test-links: setup ## three hosts, whose links are cut ROUNDS (100) times while they sweep, and DOCKERS (10) times with a Docker on each; as root
	@$(WITH_ENGINE) .venv/bin/pytest tests/hosts/test_cut_links.py tests/real/test_hosts_apart.py --rounds $(or $(ROUNDS),100) \
	--dockers $(or $(DOCKERS),10) --seed $(or $(SEED),1)

check: setup ## look at formatting, lint, types, import rules, shell scripts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@if command -v shellcheck >/dev/null; then echo "shellcheck $(SHELL_SCRIPTS)"; shellcheck $(SHELL_SCRIPTS); \
	else echo "shellcheck is not installed: the shell scripts were not checked"; fi

search: setup ## look for orders of commands that break something, for SECONDS (3600) from SEED on
	@.venv/bin/python -m tests.search.search --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed $(SEED)) $(if $(MOVES),--moves $(MOVES))

fuzz: setup ## feed CASES (100000) cases of bad input, from SEED on, to all that reads what others wrote
	@.venv/bin/python -m tests.fuzz.play --cases $(or $(CASES),100000) $(if $(SEED),--seed $(SEED))

bench: setup ## measure against the baselines; PARTS="plan start": these alone (bench/__main__.py names them)
	@$(WITH_ENGINE) $(PYTHON) -m bench $(PARTS)

requirements: ## resolve requirements/*.in again; UPGRADE=1 takes the newest versions
	@scripts/requirements $(if $(UPGRADE),--upgrade)

clean: ## remove what the verbs above made in this folder
	rm -rf .demo .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info requirements/wheels
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
