# `make help` lists the targets. PYTHON chooses the interpreter, CC the compiler.
PYTHON ?= python3
CC ?= cc
BUILD := build/c

WARN := -Wall -Wextra -Wconversion -Wvla -Wmissing-prototypes -Werror
CFLAGS_C := -std=c11 -g1 -pthread -ffp-contract=off -fno-math-errno $(WARN)
TEST_CFLAGS := -std=c11 -g1 -O1 -pthread -Wall -Wextra -Wno-unused-function -Icsrc
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
DRIVERS := $(wildcard csrc/*.c)
HEADERS := $(wildcard csrc/*.h csrc/kernels/*)
TEST_HEADERS := $(wildcard tests/c/*.h)
TESTS := test_kernels test_terms test_decode test_positions test_activations test_linear test_norm \
	test_recurrence test_attention test_parallel
# Those that start threads: the others have nothing to show to ThreadSanitizer.
THREADED := test_positions test_linear test_norm test_recurrence test_attention test_parallel
FLAGS_avx2 := -mavx2 -mfma -mf16c
FLAGS_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512

.PHONY: help build test stress check-c check-threads check-emulated check-asm bench lint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build in place, for an editable install that is already there
	$(PYTHON) -m pip install -q -e .

test: ## the quick test suite
	$(PYTHON) -m pytest -q

stress: ## the long runs: many more random cases, poison, threads; then the thorough C tests
	PYATTN_STRESS=1 $(PYTHON) -m pytest -q -m "stress or not stress"
	$(MAKE) check-c THOROUGH=thorough

bench: ## the benchmark
	$(PYTHON) bench.py

lint: ## formatters and linters, as in pre-commit
	ruff check . && ruff format --check .
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.c' 'csrc/*.h' 'tests/c/*')
	cython-lint pyattn

# --- C tests. A flavour is one way to build csrc/ and tests/c/, in a folder of its own, so that all
# of them can be built and run side by side: make -j2 -O check-c check-threads.
# $(1) folder, $(2) compiler, $(3) flags, $(4) instruction sets, $(5) their own flags, if they are to
# be used: "native", $(6) what runs the tests
define flavour
$(1)_objects := $$(patsubst csrc/%.c,$(BUILD)/$(1)/%.o,$$(DRIVERS) \
	$$(foreach isa,$(4),$$(wildcard csrc/isa/$$(isa)_*.c)))

$$($(1)_objects): $(BUILD)/$(1)/%.o: csrc/%.c $$(HEADERS) Makefile
	@mkdir -p $$(@D)
	@$(2) $$(CFLAGS_C) $(3) $$(if $(5),$$(FLAGS_$$(firstword $$(subst _, ,$$(*F))))) -c $$< -o $$@

$(TESTS:%=$(BUILD)/$(1)/%.run): $(BUILD)/$(1)/%.run: tests/c/%.c $$($(1)_objects) $$(TEST_HEADERS)
	@$(2) $$(TEST_CFLAGS) $(3) $$< $$($(1)_objects) -o $$@ -lm

$(TESTS:%=$(1)-%): $(1)-%: $(BUILD)/$(1)/%.run
	@echo "$(1): $$*"
	@$(6) $$< $$(THOROUGH)

.PHONY: $(1) $(TESTS:%=$(1)-%)
$(1): $(TESTS:%=$(1)-%)
endef

NATIVE := generic $(if $(filter x86_64,$(shell uname -m)),avx2 avx512,neon)
EMULATED := -O2 -Wno-psabi -DPA_EMULATED
$(eval $(call flavour,asan,$(CC),-O1 $(SANITIZE),$(NATIVE),native,))
$(eval $(call flavour,plain,$(CC),-O3 -Wstack-usage=16384,$(NATIVE),native,))
$(eval $(call flavour,tsan,$(CC),-O2 -fsanitize=thread,$(NATIVE),native,))
$(eval $(call flavour,vectors,$(CC),$(EMULATED),generic avx2 avx512,,))
$(eval $(call flavour,simde,$(CC),$(EMULATED) -DPA_SIMDE,generic avx2 avx512,,))
$(eval $(call flavour,qemu,aarch64-linux-gnu-gcc -static,-O2 -DCHECK_UNDER_QEMU,generic neon,,qemu-aarch64))

check-c: asan plain ## C tests with AddressSanitizer and UndefinedBehaviorSanitizer, and optimised

check-threads: $(THREADED:%=tsan-%) ## C tests with ThreadSanitizer

# Needs libsimde-dev, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user (Debian's names).
check-emulated: vectors simde qemu ## AVX-512 and AVX2 as plain vectors and through SIMDe; NEON under qemu

check-asm: ## no spills in the micro-kernel's loops: reads the disassembly
	$(PYTHON) tests/c/check_asm.py --cc $(CC)

clean: ## remove what was built
	rm -rf build dist *.egg-info pyattn/*.so pyattn/*.c
