# Everything here needs only python3 (>= 3.11, with venv) and make. Each environment is made from a hashed lock.
PYTHON ?= python3
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
SOAK_FLAGS ?=
DRILL_FLAGS ?=
WATCH_FLAGS ?=
SCALE ?= 10
VENV := .venv
DEMO_VENV := .venv-demo
COMMAND := dynamodb-migration-monitor

.PHONY: help test faults soak drill simulate demo bench compose-test watch-test lock docs clean

help:
	@echo "make test   lint, types and tests, in their own environment ($(VENV)); in CI the fault tests as well"
	@echo "make faults every fault by itself, more than a hundred kills; prints a table (half an hour)"
	@echo "make soak   ten minutes at a steady rate with faults: is memory flat? (SOAK_FLAGS='--minutes 60')"
	@echo "make drill  a million changes, a million cold items, planted faults: missed, false alarms, time to detection (half an hour;"
	@echo "            DRILL_FLAGS=--small: two minutes)"
	@echo "make simulate   the judging rule in a simulated world, SCALE times as large as in the tests (SCALE=10)"
	@echo "make demo   the whole system on embedded servers, against planted faults ($(DEMO_VENV))"
	@echo "make bench  what it costs, against plain boto3 in the same run (BENCH_FLAGS=--quick: a minute; needs cc)"
	@echo "make compose-test   the stack in real containers, with the demo (root, docker, Debian 12)"
	@echo "make watch-test   kill each part of a watched migration: what the wall shows, what pages after how long (half an"
	@echo "            hour; needs Debian's prometheus, prometheus-alertmanager and prometheus-redis-exporter)"
	@echo "make lock   pin the dependencies anew (requirements*.lock)"
	@echo "make docs   write what is generated: docs/configuration.md, docs/metrics.md, docs/runbook.html, the dashboard and the links to it"
	@echo "make clean  remove caches and both environments"

# Nothing but what is listed (--no-deps), and that is all that is needed (check): left to choose, the pip of Debian 12 takes
# the newest release of what another package asks for with an extra, such as coverage[toml], and then lacks its hash.
define install
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(1)/bin/python -m pip check --disable-pip-version-check
	touch $@
endef

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	$(call install,$(VENV),requirements-dev.lock)

$(DEMO_VENV)/.installed: requirements-demo.lock pyproject.toml
	$(call install,$(DEMO_VENV),requirements-demo.lock)

test: $(VENV)/.installed
	PYTEST_FLAGS="$(PYTEST_FLAGS)" ./scripts/check $(VENV)

faults: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -q tests/faults --faults-full

soak: $(VENV)/.installed
	$(VENV)/bin/python -m tests.faults.soak $(SOAK_FLAGS)

# Exit code 1: something was missed, an alarm was false, or the interval overstated.
drill: $(VENV)/.installed
	$(VENV)/bin/python -m tests.drill $(DRILL_FLAGS)

simulate: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -q -n auto --timeout 0 tests/core/test_simulation.py --simulation-scale $(SCALE)

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/$(COMMAND) demo

# Exit code 1: a figure is not what is required of it.
bench: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks $(BENCH_FLAGS)

# --no-header and no index options: the locks name no host.
lock: $(VENV)/.installed
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --upgrade --extra embedded --group build pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --upgrade --extra demo --group build -c requirements.lock pyproject.toml -o requirements-demo.lock
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --upgrade --extra dev --group build -c requirements-demo.lock pyproject.toml -o requirements-dev.lock

docs: $(VENV)/.installed
	$(VENV)/bin/python tools/configuration_doc.py > docs/configuration.md
	$(VENV)/bin/python tools/metrics_doc.py > docs/metrics.md
	$(VENV)/bin/python tools/runbook_html.py > docs/runbook.html
	$(VENV)/bin/python -m deploy.grafana.generate > deploy/grafana/dashboards/cutover.json
	$(VENV)/bin/python -m deploy.grafana.links

# The stand-in images are kept in COMPOSE_TEST_DIR, if that is set.
compose-test:
	$(PYTHON) tests/compose/run.py

# The table in docs/operations.md, with the rules and waits that are shipped.
watch-test: $(VENV)/.installed
	$(VENV)/bin/python -m tests.deploy.watch $(WATCH_FLAGS)

clean:
	rm -rf $(VENV) $(DEMO_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
