# What people and CI run. A fresh machine needs Python 3.11 or newer and make; the rest comes by itself.

PYTHON ?= python3
VENV   ?= .venv
ENGINE ?=
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' argotun/__init__.py)
# Where a release goes, such as registry.example.com/platform: image and charts/ are below it.
REGISTRY   ?=
REPOSITORY ?= $(if $(REGISTRY),$(REGISTRY)/)argotun
IMAGE      ?= $(REPOSITORY):$(VERSION)
HELM       ?= helm

# More arguments for one run: make test PYTEST_ARGS='-k credit', make demo DEMO_ARGS=--demo-once
DEMO_ARGS   ?=
PYTEST_ARGS ?=
BENCH_ARGS  ?=
SOAK_ARGS   ?=
SOAK        ?= 600
# More than nothing puts a second replica between client and agent: make e2e HOP=1, make argocd HOP=1
HOP         ?=
# Seconds for each target of the fuzzer: make fuzz FUZZ=3600
FUZZ        ?= 7
FUZZ_ARGS   ?=
# The minor version for make skew: make skew KUBERNETES=1.34.4
KUBERNETES  ?= 1.33.13
# Another release for make argocd than the one it is pinned to: make argocd ARGOCD=3.4.13
ARGOCD      ?=

RUN  = $(VENV)/bin/python
PIP  = $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes
# What starts processes, and what measures, is left to `make test`.
PURE = tests/wire tests/config tests/policy tests/options tests/observe tests/fuzz tests/suites/test_verdicts.py \
       --ignore tests/options/test_entry.py --ignore tests/options/test_completion.py \
       --ignore tests/observe/test_lifetime.py --ignore tests/wire/test_head_linear.py
# Most tests wait, so more workers than cores. A file stays with one worker, as its fixtures do; the files that
# wait longest come first. A worker that hangs says where, and ends the run.
WORKERS  ?= 6
PARALLEL = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
LAZY     = tests/survival
# These need more than Python packages, or more of them, and have targets of their own.
LONG = tests/e2e tests/chart tests/image tests/argocd tests/gateways tests/conformance tests/skew
# An hour, or root on a machine that they may make namespaces of: no CI runs these, but for what is pure in them.
APART = tests/nodes tests/suites
ALL  = $(wildcard tests/test_*.py) tests/suites/test_verdicts.py \
       $(filter-out $(LONG) $(APART) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo quick test fuzz conformance suites e2e skew argocd chart gateways nodes
.PHONY: bench bench-compare scenarios plots soak lint docs
.PHONY: image push chart-package chart-push wheel

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## Start server, agent and a stand-in API here, and deploy through the tunnel
	$(RUN) argotun.py --mode demo $(DEMO_ARGS)

quick: $(VENV)/.dev ## Run the pure tests, with fewer random examples: for the time between two thoughts
	$(RUN) -m pytest $(PURE) --hypothesis-profile=quick --numprocesses auto $(PYTEST_ARGS)

test: $(VENV)/.dev ## Run all tests but e2e, in parallel
	$(RUN) -m pytest $(PARALLEL) $(LAZY) $(filter-out $(LAZY),$(ALL)) $(PYTEST_ARGS)

fuzz: $(VENV)/.fuzz ## Fuzz the wire for FUZZ seconds a target, guided by coverage (needs Linux on x86-64)
	$(RUN) -m tests.fuzz --seconds $(FUZZ) $(FUZZ_ARGS)

conformance: $(VENV)/.conformance ## Run other people's suites against both ends of a tunnel, and older releases at either
	$(RUN) -m pytest tests/conformance tests/skew -o faulthandler_timeout=900 $(PYTEST_ARGS)

suites: $(VENV)/.dev ## Run Kubernetes' own suites directly and through argotun (an hour; needs Go and bubblewrap)
	$(RUN) -m pytest tests/suites -o faulthandler_timeout=7200 $(PYTEST_ARGS)

e2e: $(VENV)/.dev ## Run the tests with a real kube-apiserver (needs Go, or KUBEBUILDER_ASSETS)
	ARGOTUN_E2E_HOP='$(HOP)' $(RUN) -m pytest tests/e2e -o faulthandler_timeout=900 $(PYTEST_ARGS)

skew: $(VENV)/.dev ## Run the tests with another kube-apiserver, KUBERNETES=1.33.13 (needs Go, and half an hour once)
	KUBEBUILDER_ASSETS="$$($(RUN) tests/skew/kubernetes.py '$(KUBERNETES)')" \
	  $(RUN) -m pytest tests/e2e -o faulthandler_timeout=900 $(PYTEST_ARGS)

chart: $(VENV)/.dev ## Check chart and image, and install both sides (needs npm or helm; Go, bubblewrap and Python 3.13)
	$(RUN) -m pytest tests/chart tests/image -o faulthandler_timeout=900 $(PYTEST_ARGS)

argocd: $(VENV)/.dev ## Run the tests with a real Argo CD (needs Go, redis-server and npm, or Helm)
	ARGOTUN_ARGOCD='$(ARGOCD)' ARGOTUN_E2E_HOP='$(HOP)' \
	  $(RUN) -m pytest tests/argocd -o faulthandler_timeout=900 $(PYTEST_ARGS)

gateways: $(VENV)/.gateways ## Run agents and Argo CD's clients through a real Envoy (needs npm, or helm)
	$(RUN) -m pytest tests/gateways tests/differential $(PYTEST_ARGS)

nodes: $(VENV)/.dev ## Run both sides as real pods on real nodes (needs root, Go, and half an hour once)
	$(RUN) -m pytest tests/nodes -o faulthandler_timeout=1800 $(PYTEST_ARGS)

bench: $(VENV)/.dev ## Measure speed and memory (needs nginx-light, wrk and openssl)
	$(RUN) -m bench $(BENCH_ARGS)

bench-compare: $(VENV)/.dev ## Measure BASE, a commit, and this tree in turn; fails where this one is slower
	$(RUN) -m bench.compare $(BENCH_ARGS) $(BASE)

scenarios: $(VENV)/.dev ## Measure scenarios beside what others use, and keep the run (on a quiet machine)
	$(RUN) -m bench --peers --scenario all --json bench/results/scenarios.json $(BENCH_ARGS)
	$(RUN) -m bench.pages

plots: $(VENV)/.dev ## Draw what is kept in bench/results, into docs/benchmark.md and README.md too
	$(RUN) -m bench.pages

soak: $(VENV)/.dev ## Load and kill everything for SOAK seconds, and look what is left (needs openssl)
	$(RUN) -m bench.soak --seconds $(SOAK) $(SOAK_ARGS)

lint: $(VENV)/.dev ## Check format, style and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy --strict argotun

docs: $(VENV)/.docs ## Build the documents as a site into build/docs/VERSION; a link that leads nowhere fails it
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --config-file site/mkdocs.yml

# The engine that answers, as $$engine of the same line.
FIND_ENGINE = engine='$(ENGINE)'; \
	for each in docker podman; do \
	  [ -n "$$engine" ] || ! $$each info >/dev/null 2>&1 || engine=$$each; \
	done; \
	[ -n "$$engine" ] || ! command -v buildah >/dev/null || engine=buildah; \
	if [ -z "$$engine" ]; then \
	  echo 'make $@ needs a running docker, or podman, or buildah: none of them answers here.' >&2; exit 1; \
	fi
NEED_REGISTRY = [ -n '$(REGISTRY)' ] || { \
	  echo 'make $@ needs to know where: make $@ REGISTRY=registry.example.com/platform' >&2; exit 1; }

image: ## Build the container image IMAGE with docker, podman or buildah
	@$(FIND_ENGINE); \
	set -x; $$engine build --build-arg VERSION='$(VERSION)' --tag '$(IMAGE)' .

push: ## Push IMAGE to REGISTRY, where docker, podman or buildah is logged in
	@$(NEED_REGISTRY); $(FIND_ENGINE); set -x; $$engine push '$(IMAGE)'

NEED_HELM = command -v '$(HELM)' >/dev/null || { echo 'make $@ needs helm, or HELM=/path/to/helm' >&2; exit 1; }

chart-package: ## Package the chart into dist/, with the image of REGISTRY as its default (needs helm)
	@$(NEED_HELM)
	@rm -rf dist/chart && mkdir -p dist && cp -R chart dist/chart
	@sed 's#^  repository: argotun$$#  repository: $(REPOSITORY)#' chart/values.yaml > dist/chart/values.yaml
	$(HELM) package dist/chart --version '$(VERSION)' --app-version '$(VERSION)' --destination dist
	@rm -rf dist/chart

chart-push: ## Push that package to REGISTRY/charts, where helm is logged in
	@$(NEED_REGISTRY)
	@$(NEED_HELM)
	$(HELM) push 'dist/argotun-$(VERSION).tgz' 'oci://$(REGISTRY)/charts'

wheel: $(VENV)/.run ## Build the wheel into dist/
	$(RUN) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# Two stamps, so that the demo does not wait for the tools of the tests.
$(VENV)/.run: requirements.txt | $(VENV)/bin/python
	@echo 'Once: the packages of requirements.txt go into $(VENV)'
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-otel.txt requirements-dev.txt | $(VENV)/bin/python
	$(PIP) -r requirements-dev.txt
	@touch $@ $(VENV)/.run

$(VENV)/.gateways: $(VENV)/.dev tests/gateways/requirements.txt
	$(PIP) -r tests/gateways/requirements.txt
	@touch $@

$(VENV)/.docs: site/requirements.txt | $(VENV)/bin/python
	$(PIP) -r site/requirements.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev tests/fuzz/requirements.txt
	$(PIP) -r tests/fuzz/requirements.txt
	@touch $@

$(VENV)/.conformance: $(VENV)/.dev tests/conformance/requirements.txt
	$(PIP) -r tests/conformance/requirements.txt
	@touch $@

# Debian's python3 comes without ensurepip; a pip that is there can then fill the environment.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'argotun needs Python 3.11 or newer as $(PYTHON); name another one: make PYTHON=python3.13' >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install --quiet pip; \
	else \
	  echo '$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv' >&2; \
	  exit 1; \
	fi
