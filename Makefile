# The front door. `make help` lists what there is.
BUILD ?= build
PREFIX ?= /usr/local
STEPS ?= 80
PYTHON = .venv/bin/python
GEMMA_HF = .cache/gemma-hf
HFA = .cache/hfa/bin/python
.DEFAULT_GOAL := help

.PHONY: help setup build test models demo bench bench-finetune bench-peft bench-curriculum bench-llm bench-dsa bench-indexer bench-retrieval bench-hfa bench-reliance bench-deepseek bench-device bench-programs asan fuzz lint docs install
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## installs what is missing: Debian packages and the Python environment in .venv
	@tools/setup

build: setup ## builds everything into build/
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
	@cmake --build $(BUILD)

models: build ## fetches the tokenizers and the models that tests use; what cannot be fetched is left out
	@$(PYTHON) tools/fetch_tokenizers || true
	@DEEPSEEK_PYTHON=$(PYTHON) $(BUILD)/bin/deepseek-cli pull gemma-3-270m --quiet || echo "tests of the real model will be skipped"
	@DEEPSEEK_PYTHON=$(PYTHON) $(BUILD)/bin/deepseek-cli pull all-minilm-l6-v2 --quiet || echo "tests of the real encoder will be skipped"

test: models ## sets up, builds, runs every test
	@ctest --test-dir $(BUILD) --output-on-failure -j2

demo: models ## fine-tunes Gemma 3 270M on questions about finance (STEPS=80)
	@tools/demo $(STEPS)

bench-programs: build
	@cmake -S . -B $(BUILD) -G Ninja -DDEEPSEEK_BENCH=ON
	@cmake --build $(BUILD)
$(GEMMA_HF)/bf16/config.json: | models
	@$(PYTHON) tests/golden/gemma.py "$$($(BUILD)/bin/deepseek-cli pull gemma-3-270m --quiet)" --save-hf $(GEMMA_HF)
bench-finetune: models bench-programs $(GEMMA_HF)/bf16/config.json ## speed and memory of a training step beside PEFT
	@$(PYTHON) bench/finetune_bench.py --model $(GEMMA_HF)/bf16
bench-peft: models bench-programs $(GEMMA_HF)/bf16/config.json ## adapters in both directions beside PEFT
	@$(PYTHON) bench/peft_bench.py --model $(GEMMA_HF)/f32
bench-llm: models bench-programs $(GEMMA_HF)/bf16/config.json ## inference beside llama.cpp (builds it once)
	@tools/setup_llama
	@$(PYTHON) bench/llm_bench.py --model "$$($(BUILD)/bin/deepseek-cli pull gemma-3-270m --quiet)" --tokenizer $(GEMMA_HF)/bf16/tokenizer.json
bench-dsa: models bench-programs $(GEMMA_HF)/bf16/config.json ## sparse attention beside torch and dense, and what it costs
	@$(PYTHON) bench/dsa_sample_bench.py --library $(BUILD)/lib/libdeepseek_ops.so
	@$(PYTHON) bench/dsa_bench.py --model $(GEMMA_HF)/bf16
bench-indexer: models bench-programs $(GEMMA_HF)/bf16/config.json ## trained indexers beside untrained ones and the choice of tiles
	@$(PYTHON) bench/indexer_bench.py --model $(GEMMA_HF)/bf16
bench-retrieval: build ## a small model that looks values up, read by its trained indexers
	@$(PYTHON) bench/retrieval_bench.py
bench-hfa: bench-programs ## attribution beside shap, shapiq and captum
	@test -x $(HFA) || python3 -m venv .cache/hfa
	@$(HFA) -c "import captum" 2>/dev/null || ($(HFA) -m pip install -q torch==2.13.0 && $(HFA) -m pip install -q shap shapiq scikit-learn xgboost-cpu lightgbm tqdm && $(HFA) -m pip install -q --no-deps captum)
	@$(HFA) bench/hfa_bench.py
bench-reliance: bench-programs ## a reliance planted into census income, found and cut
	@$(BUILD)/bin/deepseek-bench-reliance "$${DEEPSEEK_DATA:-../shared/data}/adult.csv"
bench-deepseek: build ## DeepSeek-V3 and V3.2 in the shape of a small model beside Transformers
	@$(PYTHON) bench/deepseek_bench.py --ours $(BUILD)/bin
bench-device: build bench-programs ## a model on a GPU beside Transformers
	@$(PYTHON) bench/device_bench.py
bench-curriculum: models ## curriculum beside random order, three seeds
	@$(PYTHON) bench/curriculum_bench.py

asan: setup ## tests of what reads files from outside, under AddressSanitizer and UBSan
	@cmake --preset asan
	@cmake --build --preset asan
	@ctest --test-dir build-asan --output-on-failure -j2

fuzz: setup ## each fuzzer for SECONDS_EACH seconds (60)
	@tools/fuzz

lint: build ## formatting, layers, shell scripts
	@tools/lint

docs: build ## runs the snippets of README and docs
	@$(PYTHON) tools/check_snippets $(BUILD)/bin

install: build ## headers, libraries, CMake package and deepseek-cli into PREFIX
	@cmake --install $(BUILD) --prefix $(PREFIX)
