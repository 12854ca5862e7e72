# `make help` lists the targets. PYTHON chooses the interpreter, CC the compiler.
PYTHON ?= python3
CC ?= cc
BUILD := build/c

WARN := -Wall -Wextra -Wconversion -Wvla -Wmissing-prototypes -Werror
CFLAGS_C := -std=c11 -g -pthread -ffp-contract=off -fno-math-errno $(WARN)
TEST_CFLAGS := -std=c11 -g -O1 -pthread -Wall -Wextra -Wno-unused-function -Icsrc
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
DRIVERS := $(wildcard csrc/*.c)
HEADERS := $(wildcard csrc/*.h csrc/kernels/*)
TESTS := test_kernels test_terms test_positions test_activations test_linear test_norm \
	test_attention test_parallel
AVX2 := -mavx2 -mfma -mf16c
AVX512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512

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

# --- C tests. $(1) folder, $(2) compiler, $(3) flags for all, $(4) isa:flags list, $(5) runner
define build_and_run
	@mkdir -p $(BUILD)/$(1)
	@for f in $(DRIVERS); do \
	  $(2) $(CFLAGS_C) $(3) -c $$f -o $(BUILD)/$(1)/$$(basename $$f .c).o || exit 1; done
	@for isa in $(4); do for bits in 32 64; do \
	  flags=$$(case $$isa in avx2) echo "$(6)";; avx512) echo "$(7)";; esac); \
	  $(2) $(CFLAGS_C) $(3) $$flags -c csrc/isa/$${isa}_f$$bits.c \
	    -o $(BUILD)/$(1)/$${isa}_f$$bits.o || exit 1; done; done
	@for t in $(TESTS); do echo "$(1): $$t" && \
	  $(2) $(TEST_CFLAGS) $(3) tests/c/$$t.c $(BUILD)/$(1)/*.o -o $(BUILD)/$(1)/$$t.run -lm && \
	  $(5) $(BUILD)/$(1)/$$t.run $(THOROUGH) || exit 1; done
endef

check-c: $(HEADERS) ## C tests with AddressSanitizer and UndefinedBehaviorSanitizer, and optimised
ifeq ($(shell uname -m),x86_64)
	$(call build_and_run,asan,$(CC),-O1 $(SANITIZE),generic avx2 avx512,,$(AVX2),$(AVX512))
	$(call build_and_run,plain,$(CC),-O3 -Wstack-usage=16384,generic avx2 avx512,,$(AVX2),$(AVX512))
else
	$(call build_and_run,asan,$(CC),-O1 $(SANITIZE),generic neon,,,)
	$(call build_and_run,plain,$(CC),-O3 -Wstack-usage=16384,generic neon,,,)
endif

check-threads: $(HEADERS) ## C tests with ThreadSanitizer
	$(call build_and_run,tsan,$(CC),-O2 -fsanitize=thread,generic avx2 avx512,,$(AVX2),$(AVX512))

# Needs libsimde-dev, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user (Debian's names).
check-emulated: ## AVX-512 and AVX2 as plain vectors and through SIMDe; NEON under qemu
	$(call build_and_run,vectors,$(CC),-O2 -Wno-psabi -DPA_EMULATED,generic avx2 avx512,,,)
	$(call build_and_run,simde,$(CC),-O2 -Wno-psabi -DPA_EMULATED -DPA_SIMDE,generic avx2 avx512,,,)
	$(call build_and_run,neon,aarch64-linux-gnu-gcc -static,-O2 -DCHECK_UNDER_QEMU,generic neon,qemu-aarch64,,)

check-asm: ## no spills in the micro-kernel's loops: reads the disassembly
	$(PYTHON) tests/c/check_asm.py --cc $(CC)

clean: ## remove what was built
	rm -rf build dist *.egg-info pyattn/*.so pyattn/*.c
