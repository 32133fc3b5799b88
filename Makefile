# Everything a newcomer needs: `make demo` and `make test`. Both make the environment by themselves.

.DEFAULT_GOAL := help
.PHONY: help environment demo test test-long test-all test-install coverage docs mutants check format lock clean-demo

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO ?= demo
# Each test process would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml environment.in environment.sh
	@sh environment.sh $(VENV)
	@touch $@

environment: $(READY) ## make or update the environment in .venv from the lock file

demo: $(READY) ## the whole guide, end to end (SOURCE=, GROUP=, SEGMENTER=, LIMIT= for photos of your own)
	@$(BIN)/python -m cls demo --folder "$(DEMO)" $(if $(SOURCE),--source "$(SOURCE)") \
		$(if $(GROUP),--group "$(GROUP)") $(if $(SEGMENTER),--segmenter "$(SEGMENTER)") $(if $(LIMIT),--limit "$(LIMIT)")

test: $(READY) ## the tests, long ones left out (TESTS=tests/package: some of them)
	$(BIN)/python -m pytest $(if $(TESTS),$(TESTS),-n 3 --dist loadfile --no-loadscope-reorder) -m "not long"

coverage: $(READY) ## which lines the tests run (TESTS=…); the page is build/coverage/index.html
	@mkdir -p build
	$(BIN)/python -m coverage run --data-file=build/.coverage --source=cls --branch -m pytest $(TESTS) -m "not long"
	$(BIN)/python -m coverage html --data-file=build/.coverage -d build/coverage
	$(BIN)/python -m coverage report --data-file=build/.coverage --skip-covered --sort=cover

test-long: $(READY) ## the tests that take minutes
	$(BIN)/python -m pytest -m long

test-all: test test-long ## all tests

test-install: $(READY) ## wheel, uv and poetry in empty environments (downloads several GB)
	@sh tests/install.sh $(BIN)/python

docs: $(READY) ## the documentation as a site, its links checked: build/docs/index.html
	@rm -rf build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs
	$(BIN)/python -m tests.site build/docs

mutants: $(READY) ## small changes of ROOM's code that its tests should notice (N=100 SEED=1 JOBS=1 MODULES=)
	@$(BIN)/python benchmarks/mutants "$(ROOM)" $(if $(N),-n $(N)) $(if $(SEED),--seed $(SEED)) \
		$(if $(JOBS),--jobs $(JOBS)) $(if $(MODULES),--modules "$(MODULES)")

check: $(READY) ## lint, formatting, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## compute the lock file anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml environment.in --extra all --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o requirements.lock

clean-demo: ## remove what `make demo` made
	rm -rf "$(DEMO)"
