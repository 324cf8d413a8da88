# make demo    convert the sample model and let it tell a story      make test    everything that is tested on this machine
# make demo-chat    fetch a real model (SmolLM2-135M-Instruct, 98 MB) and ask it something: QUESTION="…"
# make demo-distill    distil the sample model into one of half its size, in a few minutes; a story of each
# make lint    ruff, mypy, clang-format, shellcheck                 make format  put the sources in shape
# make tidy    clang-tidy
# make bench   the native programs of cpp/bench, in build/native     make clean   remove build/, keep .venv

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
SHELL := /bin/bash -o pipefail
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# pyproject.toml's build-system.requires: built without isolation, so that a second build compiles only what changed.
BUILD_REQUIRES := 'setuptools>=77' 'pybind11>=2.13' 'cmake>=3.21' ninja \
    'wgpu==0.32.0; platform_machine in "x86_64 AMD64 aarch64 arm64 ARM64"'
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake
CTEST := PATH="$(CURDIR)/$(BIN):$$PATH" ctest

NATIVE_SOURCES := $(shell find cpp/include cpp/src cpp/bench cmake runtimes/python -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.cmake' -o -name '*.wgsl')
C_FILES = $(shell git ls-files '*.cpp' '*.h' '*.hpp')

.PHONY: demo demo-chat demo-distill test test-python test-cpp bench lint tidy format clean
.DELETE_ON_ERROR:

# ---- environment ---------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: $(PYTHON) is older than Python 3.10" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: no virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(STAMPS)/build-requires: pyproject.toml | $(BIN)/python
	@mkdir -p $(STAMPS)
	$(PIP) $(BUILD_REQUIRES)
	@touch $@

$(STAMPS)/base: pyproject.toml setup.py CMakeLists.txt cpp/CMakeLists.txt $(NATIVE_SOURCES) $(STAMPS)/build-requires
	@command -v $${CXX:-c++} >/dev/null || { echo "error: no C++ compiler; on Debian: apt-get install g++" >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e .
	@touch $@

$(STAMPS)/gguf: pyproject.toml $(STAMPS)/base
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e '.[gguf]'
	@touch $@

$(STAMPS)/train: pyproject.toml $(STAMPS)/base
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e '.[train]'
	@touch $@

$(STAMPS)/test: pyproject.toml $(STAMPS)/base
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e '.[test]'
	@touch $@

$(STAMPS)/lint: pyproject.toml $(STAMPS)/test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation -e '.[lint]'
	@touch $@

# ---- demo ----------------------------------------------------------------------------------------------------------------

build/demo/sample.edge: $(wildcard samples/model/*) $(STAMPS)/base
	@mkdir -p $(@D)
	$(BIN)/edgekit convert samples/model -o $@ --scheme q4

demo: build/demo/sample.edge
	$(BIN)/edgekit run $< "Once upon a time" --raw --echo -n 200 --temperature 0.7 --seed 7

QUESTION ?= Give me three tips for a good night's sleep.
export QUESTION # so that no shell reads it

build/demo/smollm2-135m.gguf: | $(STAMPS)/base
	@mkdir -p $(@D)
	$(BIN)/python tools/smollm2.py $@

# q8: the file's weights have 4 bits already, on another grid than q4's, which keeps 60% of the first choices; q8 keeps 94%.
build/demo/smollm2-135m.edge: build/demo/smollm2-135m.gguf $(STAMPS)/gguf
	$(BIN)/edgekit convert $< -o $@ --scheme q8

demo-chat: build/demo/smollm2-135m.edge
	@echo "$$QUESTION"
	@$(BIN)/edgekit run $< "$$QUESTION" --temperature 0
	@printf '\n\nGo on talking: $(BIN)/edgekit chat $<\n'

demo-distill: $(STAMPS)/train
	$(BIN)/python samples/distill_sample_model.py -o build/distilled $(DISTILL)

# ---- tests ---------------------------------------------------------------------------------------------------------------

test: test-cpp test-python

test-python: $(STAMPS)/test
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile tests

test-cpp: $(STAMPS)/build-requires
	$(CMAKE) -S . -B build/native -GNinja -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_BUILD_BENCH=ON >/dev/null
	$(CMAKE) --build build/native
	$(CTEST) --test-dir build/native --output-on-failure --parallel 2

bench: $(STAMPS)/build-requires
	$(CMAKE) -S . -B build/native -GNinja -DEDGEKIT_BUILD_BENCH=ON >/dev/null
	$(CMAKE) --build build/native

# ---- shape ---------------------------------------------------------------------------------------------------------------

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/shellcheck --external-sources --shell=bash tools/*.sh tools/trixie .ci/run .ci/*.sh

# Minutes the first time, so apart from lint.
tidy: $(STAMPS)/lint
	$(CMAKE) -S . -B build/native -GNinja -DEDGEKIT_BUILD_TESTS=ON -DEDGEKIT_BUILD_BENCH=ON >/dev/null
	tools/tidy.sh build/native $(BIN)/clang-tidy

format: $(STAMPS)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf build dist edgekit.egg-info $(STAMPS)/base runtimes/python/_edgekit.*.so runtimes/python/edgekit_bench
