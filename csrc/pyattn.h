/* pyattn.h - all that the outside may know of csrc/.
 *
 * Attention over arrays where they lie. The caller (pyattn/_core.pyx, or a C program) has already
 * decided *what* is computed: defaults, broadcasting, alignment of the causal mask. Here is decided
 * *how*. Extents are at least 1; every element that a view describes is readable (for `out` and
 * `lse`: writable), outputs overlap neither each other nor an input.
 *
 * Nothing is global but two settings, the instruction set and the number of threads. All functions
 * may be called from any number of threads at once.
 */
#ifndef PYATTN_H
#define PYATTN_H

#include <stddef.h>
#include <stdint.h>

typedef enum pa_status {
  PA_OK = 0,
  PA_NO_MEMORY,   /* scratch memory could not be had; nothing was written */
  PA_INTERRUPTED, /* `poll` asked to stop; outputs are written in part */
} pa_status;

typedef enum pa_type { PA_FLOAT32 = 0, PA_FLOAT64 = 1 } pa_type;

enum { PA_MAX_BATCH_AXES = 64 };

/* A strided array (batch..., head, row, col); strides in bytes, of any sign and size, 0 included.
 */
typedef struct pa_view {
  char *data;
  int64_t batch[PA_MAX_BATCH_AXES]; /* the first `batch_axes` of the call count */
  int64_t head, row, col;
} pa_view;

/* Called now and then, on the calling thread only, during long calls; nonzero asks to stop. */
typedef int (*pa_poll)(void);

/* out[b, h, i] = sum over j of p[b, h, i, j] * value[b, h / (heads / kv_heads), j], where
 * p[b, h, i, :] = softmax(scale * query[b, h, i] . key[b, h / (heads / kv_heads), :]) over the keys
 * j < key_lengths[b], and j <= i + query_start[b] if `causal`. A row that may see no key is 0. */
typedef struct pa_attention_call {
  pa_type type;
  int batch_axes;
  int64_t batch[PA_MAX_BATCH_AXES]; /* extents of the leading axes */
  int64_t heads, kv_heads, queries, keys, d, dv;
  double scale;
  int causal;
  const int64_t *query_start; /* one per batch element, C order; NULL: keys - queries */
  const int64_t *key_lengths; /* one per batch element, 0 <= length <= keys; NULL: keys */
  pa_view query, key;         /* (..., heads, queries, d), (..., kv_heads, keys, d) */
  pa_view value, out;         /* (..., kv_heads, keys, dv), (..., heads, queries, dv) */
  pa_view weights;            /* (..., heads, queries, keys): if data is set, p goes here instead,
                                 and value, out, dv are not looked at */
  void *lse;                  /* C-contiguous (..., heads, queries) of `type`, or NULL */
  pa_poll poll;               /* or NULL */
  size_t scratch_bytes;       /* set by pa_attention: what it asked for */
} pa_attention_call;

pa_status pa_attention(pa_attention_call *call);

/* Instruction sets this machine can run, best first: names by index, NULL past the last. */
const char *pa_isa_runnable(int index);
const char *pa_isa_name(void);
int pa_isa_select(const char *name); /* 0, or -1 if unknown here or not runnable */

void pa_threads_set(int threads);
int pa_threads_get(void); /* what the next call may use */

/* Measuring sticks for the benchmark, on pa_threads_get() threads. Returns the floating-point
 * operations made (-1: no memory) by `rounds` rounds of FMAs in registers on every thread; the sum
 * of the doubles in `bytes` bytes of memory, split over the threads. */
double pa_probe_fma(pa_type type, int64_t rounds);
double pa_probe_read(const char *data, size_t bytes);

#endif
