# Each target does its own set-up: a virtual environment in .venv, and the packages it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bundles publish gpu site train-fashion gallery browser docs measured cards demo demo-finetune demo-hub test test-slow test-times mutate lint types tables clean bench bench-model bench-export analyses \
	parity bench-start bench-load bench-batch bench-gpsa bench-convit bench-conv-attention bench-graphs

demo: .venv/.demo
	@$(BIN)/convattn demo --out demo-out

demo-finetune: .venv/.train
	@$(BIN)/python examples/finetune.py --out finetune-out

demo-hub: .venv/.demo
	@$(BIN)/python examples/hub_walkthrough.py

# Two workers; tests/groups.py says what they share and what begins.
TWO := -n 2 --dist loadscope --no-loadscope-reorder
test: .venv/.dev
	$(BIN)/python -m pytest -q $(TWO) -m "not slow" $(ARGS)

test-slow: .venv/.dev
	$(BIN)/python -m pytest -q $(TWO) -m slow $(ARGS)

# Small errors put into the code, one at a time: which do the tests notice? An hour at most.
mutate: .venv/.dev
	$(BIN)/python -m benchmarks.mutation $(ARGS)
	$(BIN)/python -m benchmarks.readme

# Both suites, with seconds by folder; on a quiet machine.
test-times:
	mkdir -p build
	$(MAKE) test ARGS="--junitxml build/quick.xml"
	$(MAKE) test-slow ARGS="--junitxml build/slow.xml"
	$(BIN)/python -m benchmarks.suite --quick build/quick.xml --slow build/slow.xml
	$(BIN)/python -m benchmarks.readme

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --offline --quiet .github/workflows
	@if command -v actionlint >/dev/null; then actionlint; \
		else echo "actionlint is not installed: zizmor alone has checked the workflows" >&2; fi

types: .venv/.dev
	$(BIN)/mypy

# A page per bundled model, in which it runs and is proven in the visitor's browser; needs npm.
gallery: .venv/.docs
	$(BIN)/convattn gallery --smallest --out gallery-out

# This documentation as a site, with the gallery in it, in build/site; needs npm.
site: .venv/.docs
	$(BIN)/python site/build.py

# Parity of every exported file in Chromium; needs node, npm and chromium.
site/gallery/node_modules: site/gallery/package-lock.json
	cd site/gallery && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

browser: .venv/.dev site/gallery/node_modules
	$(BIN)/python -m benchmarks.browser --webgpu convit_nano.digits resnet_nano.digits \
		--out model_cards/measured

# Fashion-MNIST in all eight families, one after the other, about three hours on one core; a run that
# was stopped goes on. Then `python -m benchmarks.seeds fashion-out/NAME` prints what a record needs.
FASHION := resnet_nano convit_nano alternet_nano fcvit_nano hdvw_vit_nano conv_attention_vit_nano \
	csan_encoder_nano hdvw_swin_nano
train-fashion: .venv/.train
	for name in $(FASHION); do \
		$(BIN)/convattn train $$name --data fashion_mnist --img-size 28 --cpu --threads 1 --resume \
			--out fashion-out/$$name || exit 1; done

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

.venv/.docs: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install analysis,docs
	@touch $@ .venv/.demo

.venv/.dev: pyproject.toml | .venv/bin/python
	@$(BIN)/python .ci/install dev
	@touch $@ .venv/.demo .venv/.train .venv/.docs

clean:
	rm -rf .venv build dist *.egg-info demo-out analyses-out finetune-out measured-out gallery-out fashion-out

docs: .venv/.dev tables
	$(BIN)/python -m pytest -q tests/test_golden.py --golden-report model_cards/measured/goldens.json
	$(BIN)/convattn demo --out demo-out > docs/transcripts/demo.txt
	$(BIN)/python examples/finetune.py --out finetune-out > docs/transcripts/finetune.txt
	$(BIN)/python -W ignore examples/hub_walkthrough.py > docs/transcripts/hub.txt
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
		$(BIN)/convattn evaluate $$name --data $${name#*.} --part validation --part test \
			--out model_cards/measured || exit 1; done
	$(BIN)/convattn verify measured-out/convit_nano.digits --per-node \
		--picture docs/images/parity.png > docs/transcripts/parity.txt
	$(BIN)/convattn evaluate convit_nano --data digits > docs/transcripts/evaluation.txt

# What a release sends to the Hub: a directory for each set of bundled weights, then one commit and one
# tag of each in ORGANISATION; the same bytes again change nothing.
bundles: .venv/.demo
	for name in $(BUNDLED); do \
		$(BIN)/convattn bundle $$name --out build/bundles/$$name --overwrite || exit 1; done

publish: .venv/.demo
	@test -n "$(ORGANISATION)" || { echo "make publish ORGANISATION=NAME"; exit 2; }
	for name in $(BUNDLED); do \
		version=$$($(BIN)/python -c "import zoo; print(zoo.get_record('$$name').selected.version)"); \
		$(BIN)/convattn publish build/bundles/$$name --repo $(ORGANISATION)/$$name --tag v$$version \
			--yes || exit 1; done

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

# Everything that waits for a GPU, in less than eight minutes: --plan says what would run.
gpu: .venv/.dev
	timeout 480 $(BIN)/python -m benchmarks.gpu --out model_cards/measured

# Measures in one group after the other, about a quarter of an hour on a quiet machine; each can be
# repeated alone (make bench-graphs). make docs shows the results.
GOALS := bench-gpsa bench-convit bench-conv-attention bench-graphs
bench: $(GOALS) bench-export bench-start bench-load bench-batch bench-model

$(GOALS): bench-%: .venv/.dev
	$(BIN)/python -m benchmarks.attention --group $* --out model_cards/measured

bench-export: .venv/.dev
	$(BIN)/python -m benchmarks.export_comparison --out model_cards/measured

bench-start: .venv/.dev
	$(BIN)/python -m benchmarks.start --out model_cards/measured

bench-load: .venv/.dev
	$(BIN)/convattn bench load --out model_cards/measured

bench-batch: .venv/.dev
	$(BIN)/python -m benchmarks.batch --out model_cards/measured/bench-batch.json

bench-model: .venv/.dev
	$(BIN)/convattn bench model $(RANDOM) $(BUNDLED) --out model_cards/measured
