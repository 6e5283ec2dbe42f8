# The two commands of a newcomer: `make demo` and `make test`. Both set up what they need.
.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage lint docs lock proto clean
BIN := .venv/bin
# One process begins with the whole stacks, one after another; the other with the unit tests.
IN_TWO := -n 2 --dist loadscope --no-loadscope-reorder
# A run of the tests starts a thousand programs: without bytecode each compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## Install everything this checkout needs, into .venv
	@./scripts/setup.sh

demo: setup ## Start the stack, ask the real model a question, stop again
	@$(BIN)/dreamseed demo

test: setup lint ## Run the linters and every test, on real servers
	$(BIN)/python -m pytest $(IN_TWO)

coverage: setup ## Run every test with its coverage, which takes half as long again
	$(BIN)/python -m pytest $(IN_TWO) --cov --cov-report=term:skip-covered

lint: setup ## Check style, types and the directions between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## Write docs/cli.md, docs/dreamseed.1, docs/schemas/ and the alerts' page from the program itself
	$(BIN)/python scripts/generate_cli_reference.py
	$(BIN)/python scripts/generate_man_page.py
	$(BIN)/python scripts/generate_schemas.py
	$(BIN)/python scripts/generate_alerts_page.py

proto: setup ## Generate the gRPC code from llm.proto
	$(BIN)/python scripts/generate_proto.py

lock: setup ## Resolve pyproject.toml into requirements/*.lock
	./scripts/lock.sh

clean: ## Remove what was built here (the prepared model stays in the user's cache)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
