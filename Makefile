# Each target does its own set-up: a virtual environment in .venv, and the packages it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: docs measured cards demo demo-finetune demo-hub test test-slow lint types tables clean bench bench-model bench-export analyses \
	parity bench-start bench-load bench-gpsa bench-convit bench-conv-attention bench-graphs

demo: .venv/.demo
	@$(BIN)/convattn demo --out demo-out

demo-finetune: .venv/.train
	@$(BIN)/python examples/finetune.py --out finetune-out

demo-hub: .venv/.demo
	@$(BIN)/python examples/hub_walkthrough.py

test: .venv/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)

test-slow: .venv/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

tables: .venv/.dev
	$(BIN)/python -m benchmarks.model_costs

analyses: .venv/.dev
	$(BIN)/python -m benchmarks.analyses --run

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install analysis
	@touch $@

.venv/.train: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install train,analysis
	@touch $@ .venv/.demo

.venv/.dev: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install dev
	@touch $@ .venv/.demo .venv/.train

clean:
	rm -rf .venv build dist *.egg-info demo-out analyses-out finetune-out measured-out

docs: .venv/.dev tables
	$(BIN)/python -m pytest -q tests/test_golden.py --golden-report model_cards/measured/goldens.json
	$(BIN)/convattn demo --out demo-out > docs/demo.txt
	$(BIN)/python examples/finetune.py --out finetune-out > docs/finetune.txt
	$(BIN)/python -W ignore examples/hub_walkthrough.py > docs/hub.txt
	mkdir -p docs/images && cp demo-out/predictions.png demo-out/gpsa.png docs/images/
	$(MAKE) measured
	$(BIN)/python -m benchmarks.plots docs/images/bench-attention.png
	$(MAKE) cards

# Exports, verifies and evaluates every set of bundled weights; the cards show the results.
BUNDLED = $$($(BIN)/python -c 'import zoo; \
	names = zoo.list_models(pretrained=True, with_tags=True); \
	print(*(name for name in names if zoo.get_record(name).selected.bundled))')
measured: .venv/.dev
	for name in $(BUNDLED); do \
		$(BIN)/convattn export $$name --out measured-out/$$name --format onnx \
			--format torchscript --format pt2 --precision float16 --precision int8 && \
		$(BIN)/convattn verify measured-out/$$name --out model_cards/measured && \
		$(BIN)/convattn evaluate $$name --data digits --part validation --part test \
			--out model_cards/measured || exit 1; done
	$(BIN)/convattn verify measured-out/convit_nano.digits --per-node \
		--picture docs/images/parity.png > docs/parity.txt
	$(BIN)/convattn evaluate convit_nano --data digits > docs/evaluation.txt

cards: .venv/.dev
	$(BIN)/convattn card --all --out model_cards
	$(BIN)/python -m benchmarks.readme

# Reports of one model per attention family, exported with random weights of seed 0.
RANDOM := convit_tiny conv_attention_vit_tiny alternet_18 fcvit_b12
parity: .venv/.dev
	rm -rf build/parity
	for name in $(RANDOM); do \
		$(BIN)/convattn export $$name --init 0 --out build/parity/$$name && \
		$(BIN)/convattn verify build/parity/$$name --out model_cards/measured || exit 1; done
	$(BIN)/python -m benchmarks.readme

# Measures in one group after the other, about a quarter of an hour on a quiet machine; each can be
# repeated alone (make bench-graphs). make docs shows the results.
GOALS := bench-gpsa bench-convit bench-conv-attention bench-graphs
bench: $(GOALS) bench-export bench-start bench-load bench-model

$(GOALS): bench-%: .venv/.dev
	$(BIN)/convattn bench attention --group $* --out model_cards/measured

bench-export bench-start bench-load: bench-%: .venv/.dev
	$(BIN)/convattn bench $* --out model_cards/measured

bench-model: .venv/.dev
	$(BIN)/convattn bench model $(RANDOM) $(BUNDLED) --out model_cards/measured
