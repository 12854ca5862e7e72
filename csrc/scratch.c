#include "scratch.h"

#include <stdlib.h>

size_t pa_scratch_round(size_t bytes) {
  return (bytes + PA_SCRATCH_ALIGN - 1) / PA_SCRATCH_ALIGN * PA_SCRATCH_ALIGN;
}

void *pa_scratch_take(size_t bytes) {
  return aligned_alloc(PA_SCRATCH_ALIGN, pa_scratch_round(bytes));
}

void pa_scratch_give(void *memory) { free(memory); }
