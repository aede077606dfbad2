# The commands of a developer's day; `make help` lists them. The work itself is CMake's, Cargo's and pytest's.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

MODEL ?= smollm2:135m
HOST ?= 127.0.0.1
PORT ?= 8080
THREADS ?=
AUTH ?= --no-auth
ARGS ?=
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 300
JOBS ?= $(shell nproc)

# Found at each use: the bootstrap may only just have installed it.
WITH_RUST = PATH="$$(tools/bootstrap rust-dir):$$PATH"
STAGE = $(WITH_RUST) tools/stage
RIDGE = build/release/ridge
VENV_PYTHON = build/venv/bin/python
# gtest's, CTest's, cargo's, pytest's, unittest's, Playwright's and svelte-check's last words.
CTEST_CLOSING = ^[0-9]+% tests passed|^Total Test time
CARGO_CLOSING = ^test result:
PYTEST_CLOSING = ^=+ .*(passed|failed|error|no tests ran).* =+$$
# The crate's own stage shows cargo's words, which CTest would swallow.
CTEST = ctest -E '^textkit\.cargo_test$$' -j $(JOBS)
CONSOLE_CLOSING = ^ +[0-9]+ (passed|failed|flaky|skipped|did not run)|^svelte-check found
UNITTEST_CLOSING = ^Ran [0-9]+ tests? in|^(OK|FAILED)|^tidy:

.PHONY: help bootstrap run build test test-asan test-tsan fuzz bench bench-peers bench-serving install format clean

help: ## what can be made
	@echo "Ridgeline: make TARGET [VARIABLE=value ...]"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16
	@echo "VERBOSE=1 shows all output as it comes; it is kept in build/logs/ either way."

bootstrap: ## install what is missing to build and to test (Debian packages, Rust)
	@tools/bootstrap test

run: build ## build a release, fetch MODEL, serve it; asks for no key unless AUTH= (MODEL, HOST, PORT, THREADS, AUTH, ARGS)
	@[ -f "$(MODEL)" ] || $(RIDGE) pull "$(MODEL)"
	@exec $(RIDGE) serve "$(MODEL)" --host "$(HOST)" --port "$(PORT)" $(AUTH) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

build: ## build build/release/ridge
	@tools/bootstrap run
	@$(STAGE) "configure release" cmake --preset release
	@$(STAGE) "build release" cmake --build --preset release --target ridge -j $(JOBS)

# Tests of a release wait much of their time, for servers, databases and a browser: what they leave of the cores, the build of
# test-asan takes beside them. Where that fails, test-asan's own stage says so.
test: ## build and run every test (C++, Rust, Python, sanitizers); what .ci/run runs
	@rm -rf build/logs
	@tools/bootstrap test
	@$(MAKE) check-sources
	@$(STAGE) "configure release" cmake --preset release
	@$(STAGE) "build release and tests" cmake --build --preset release -j $(JOBS)
	@$(STAGE) "configure asan-ubsan" cmake --preset asan-ubsan
	@$(WITH_RUST) nice -n 19 ninja -C build/asan-ubsan -j $(JOBS) >build/logs/build-asan-ubsan-beside.log 2>&1 & beside=$$!; \
	trap 'kill $$beside 2>/dev/null || true' EXIT; \
	$(MAKE) test-release; \
	tools/stage "wait for build asan-ubsan" tail -f --pid=$$beside build/logs/build-asan-ubsan-beside.log
	@$(MAKE) test-asan
	@echo "== All tests passed. The runners' own last lines:"
	@cat build/logs/closing

.PHONY: check-sources test-release test-rust test-integration test-console test-clients test-kill test-twin
check-sources:
	@tools/stage --closing "$(UNITTEST_CLOSING)" "tests of tidy" python3 -m unittest discover -s tests/tidy -p '*_test.py'
	@tools/stage --closing "$(UNITTEST_CLOSING)" "tests of benchmarks/peers" \
	  python3 -m unittest discover -s tests/benchmarks -p '*_test.py'
	@tools/stage --closing "$(UNITTEST_CLOSING)" "tidy" python3 tools/tidy/tidy.py

test-release:
	@$(STAGE) --closing "$(CTEST_CLOSING)" "C++ tests" $(CTEST) --preset release
	@$(MAKE) test-rust
	@$(MAKE) test-integration
	@$(MAKE) test-console

# The profile and the folder of src/text/CMakeLists.txt, which has built the dependencies already.
test-rust:
	@CARGO_TARGET_DIR="$(CURDIR)/build/rust" $(STAGE) --closing "$(CARGO_CLOSING)" "Rust tests" \
	  cargo test --release --locked --manifest-path rust/textkit/Cargo.toml

build/venv/.installed: tests/integration/requirements.txt
	@tools/stage "Python packages" bash -c 'python3 -m venv --clear build/venv && \
	  $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check -r $<'
	@touch $@

test-integration: build/venv/.installed
	@RIDGE_BINARY="$(CURDIR)/$(RIDGE)" tools/stage --closing "$(PYTEST_CLOSING)" "integration tests" \
	  $(VENV_PYTHON) -m pytest -rs -n $(JOBS) --maxprocesses 4 --dist loadfile tests/integration

test-console: ## the console's types, and its tests in Chromium against build/release/ridge
	@tools/stage --closing "$(CONSOLE_CLOSING)" "console's types" tools/console npm run check
	@RIDGE_BINARY="$(CURDIR)/$(RIDGE)" tools/stage --closing "$(CONSOLE_CLOSING)" "console in a browser" tools/console npm test

KILLS ?= 1000
test-kill: build build/venv/.installed ## end a loaded server with kill -9 KILLS times, on SQLite and PostgreSQL; no usage may be lost
	@for database in sqlite postgresql; do RIDGE_BINARY="$(CURDIR)/$(RIDGE)" \
	  $(VENV_PYTHON) tests/integration/kill_server.py --kills $(KILLS) --database $$database || exit 1; done

build/clients-venv/.installed: tests/clients/requirements.txt
	@tools/stage "Python packages" bash -c 'python3 -m venv --clear build/clients-venv && \
	  build/clients-venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<'
	@touch $@

test-clients: build build/clients-venv/.installed ## heavy clients against a release: lm-eval, schemathesis
	@RIDGE_BINARY="$(CURDIR)/$(RIDGE)" tools/stage --closing "$(PYTEST_CLOSING)" "heavy clients" \
	  build/clients-venv/bin/python -m pytest -rP tests/clients

test-asan: ## the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/bootstrap test
	@$(STAGE) "configure asan-ubsan" cmake --preset asan-ubsan
	@$(STAGE) "build asan-ubsan" cmake --build --preset asan-ubsan -j $(JOBS)
	@$(STAGE) --closing "$(CTEST_CLOSING)" "C++ tests, asan-ubsan" $(CTEST) --preset asan-ubsan

# GCC 12's ThreadSanitizer cannot map its shadow where addresses are fully randomised.
test-tsan: ## the C++ tests under ThreadSanitizer
	@tools/bootstrap test
	@$(STAGE) "configure tsan" setarch -R cmake --preset tsan
	@$(STAGE) "build tsan" setarch -R cmake --build --preset tsan -j $(JOBS)
	@$(STAGE) --closing "$(CTEST_CLOSING)" "C++ tests, tsan" setarch -R $(CTEST) --preset tsan

SEEDS ?= 100
test-twin: build/venv/.installed ## on the model of an Ascend chip: an answer of 32 tokens, then each kernel and layers in SEEDS delayed schedules; goes on where it was
	@tools/bootstrap test
	@$(STAGE) "configure release" cmake --preset release
	@$(STAGE) "build tests on the twin" cmake --build --preset release --target ridge backend_ascend_test conformance_test -j $(JOBS)
	@RIDGE_TWIN_TOKENS=32 RIDGE_BINARY="$(CURDIR)/$(RIDGE)" tools/stage --closing "$(PYTEST_CLOSING)" "an answer on the twin" \
	  $(VENV_PYTHON) -m pytest -q tests/integration/test_ascend.py -k default_model
	@tools/twin_schedules $(SEEDS)

fuzz: ## run each fuzzer for FUZZ_SECONDS (300)
	@tools/bootstrap fuzz
	@$(STAGE) "configure fuzz" cmake --preset fuzz
	@$(STAGE) "build fuzz" cmake --build --preset fuzz --target fuzzers -j $(JOBS)
	@rm -f build/logs/closing; \
	for fuzzer in build/fuzz/fuzzers/*; do \
	  tools/stage --closing '^Done [0-9]+ runs' "$${fuzzer##*/}" tools/fuzz "$$fuzzer" $(FUZZ_SECONDS); \
	done; cat build/logs/closing

bench: build ## measure MODEL here (MODEL, THREADS, ARGS); prints JSON
	@[ -f "$(MODEL)" ] || $(RIDGE) pull "$(MODEL)"
	@$(RIDGE) bench "$(MODEL)" -p 512 -n 64 -b 1,4,16 -t $(or $(THREADS),$(JOBS)) --json $(ARGS)

bench-peers: build ## compare with llama.cpp and OpenVINO, installed by pip (ARGS; benchmarks/peers/README.md)
	@$(STAGE) "build random_model" cmake --build --preset release --target random_model -j $(JOBS)
	@python3 benchmarks/peers/compare.py $(if $(THREADS),--threads $(THREADS)) $(ARGS)

bench-serving: build ## serve MODEL to many, beside LLAMA_SERVER=path where it is given (MODEL=file.gguf, THREADS, ARGS)
	@python3 benchmarks/peers/serving.py "$(MODEL)" $(if $(LLAMA_SERVER),--llama-server "$(LLAMA_SERVER)") \
	  $(if $(THREADS),--threads $(THREADS)) $(ARGS)

# Builds only what is missing: `sudo make install` must not build as root what `make build` has built.
install: ## install binary, completions and systemd unit (PREFIX, DESTDIR)
	@[ -x $(RIDGE) ] || $(MAKE) build
	@DESTDIR="$(DESTDIR)" cmake --install build/release --strip --prefix "$(PREFIX)"

format: ## format the C++ and Rust sources
	@tools/bootstrap format
	@git ls-files -z '*.h' '*.cc' | xargs -0r clang-format -i
	@$(WITH_RUST) cargo fmt --manifest-path rust/textkit/Cargo.toml

clean: ## remove everything that was built
	@rm -rf build rust/textkit/target
