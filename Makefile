# Each target does its own set-up: a virtual environment in .venv, and the packages it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: docs demo test test-slow lint types tables clean

demo: .venv/.demo
	@$(BIN)/convattn demo --out demo-out

test: .venv/.dev
	$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

test-slow: .venv/.dev
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

tables: .venv/.dev
	$(BIN)/python benchmarks/model_costs.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install analysis
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install dev
	@touch $@ .venv/.demo

clean:
	rm -rf .venv build dist *.egg-info demo-out

docs: .venv/.dev tables
	$(BIN)/python -m pytest -q tests/test_golden.py --golden-report model_cards/measured/goldens.json
	$(BIN)/convattn demo --out demo-out > docs/demo.txt
	mkdir -p docs/images && cp demo-out/predictions.png demo-out/gpsa.png docs/images/
	for name in convit_nano conv_attention_vit_nano; do \
		$(BIN)/convattn verify demo-out/$$name --out model_cards/measured && \
		$(BIN)/convattn evaluate $$name --data digits --part validation --part test \
			--out model_cards/measured || exit 1; done
	$(BIN)/python benchmarks/readme.py
