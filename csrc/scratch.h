/* Scratch memory: taken once per call, before anything is written; the only thing that can fail. */
#ifndef PA_SCRATCH_H
#define PA_SCRATCH_H

#include <stddef.h>

enum { PA_SCRATCH_ALIGN = 64 }; /* a cache line, and the widest vector */

/* `bytes` rounded up, so that pieces laid end to end stay aligned. */
size_t pa_scratch_round(size_t bytes);

void *pa_scratch_take(size_t bytes); /* aligned; NULL if there is none */
void pa_scratch_give(void *memory);

#endif
