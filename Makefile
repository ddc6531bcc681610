# The front door. `make help` lists what there is.
BUILD ?= build
.DEFAULT_GOAL := help

.PHONY: help setup build test
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## installs what is missing: Debian packages and the Python environment in .venv
	@tools/setup

build: setup ## builds everything into build/
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
	@cmake --build $(BUILD)

test: build ## sets up, builds, runs every test
	@ctest --test-dir $(BUILD) --output-on-failure -j2
