# Everything a developer or a newcomer runs. Each target sets up .venv first where needed (scripts/setup.py).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-extras lint format wheel-check setup train clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup:
	@$(PYTHON) scripts/setup.py

demo: setup  ## set up, then answer questions from the documents in examples/
	@$(BIN)/python examples/demo.py

test: setup  ## lint, types and the core test suite
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest tests -m "not extras"

test-extras: setup wheel-check  ## the wheel in an empty environment, then the slow tests
	@$(PYTHON) scripts/setup.py --extra retrievers --extra servers
	$(BIN)/python -m pytest tests -m extras

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p fourcorners
	$(BIN)/mypy --explicit-package-bases tests scripts examples benchmarks training
	$(BIN)/lint-imports

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-check: setup  ## build the wheel and run the main job from it, outside the checkout
	$(BIN)/python scripts/check_wheel.py

train:  ## train the bundled reader (see training/README.md)
	@$(PYTHON) scripts/setup.py --extra training
	@echo "Environment ready: now follow training/README.md"

clean:
	rm -rf .venv build dist *.egg-info
