/* Rows brought to one size: layer_norm (Ba et al. 2016, arXiv 1607.06450) and rms_norm (Zhang and
 * Sennrich 2019, arXiv 1910.07467). Two passes, the second over the distances from the mean, so
 * that nothing cancels. The row of `out` holds what is between the passes. */
#ifndef PA_NORM_INC_H
#define PA_NORM_INC_H

#include <math.h>

#include "kernels.h"
#include "vec.h"

enum { NORM_WAYS = 4, REAL_BYTES = sizeof(real) };

/* A sum over a row: vectors in turn into NORM_WAYS chains, what is left into one more. */
typedef struct row_sum {
  vf ways[NORM_WAYS], rest;
} row_sum;

PA_INLINE double row_sum_total(const row_sum *sum) {
  vf all = sum->rest;
#pragma GCC unroll 4
  for (int i = 0; i < NORM_WAYS; ++i) all = all + sum->ways[i];
  double total = 0;
  for (int l = 0; l < LANES; ++l) total += (double)all[l];
  return total;
}

/* The first `lanes` numbers, then zeros; and back. */
PA_INLINE vf load_first(const char *at, ptrdiff_t lanes) {
  if (lanes >= LANES) return vf_load(at);
  vf x = vf_set1(0);
  for (ptrdiff_t l = 0; l < lanes; ++l) x[l] = ((const real_any *)at)[l];
  return x;
}
PA_INLINE void store_first(char *at, ptrdiff_t lanes, vf x) {
  if (lanes >= LANES) vf_store(at, x);
  else
    for (ptrdiff_t l = 0; l < lanes; ++l) ((real_any *)at)[l] = x[l];
}

/* step(column, lanes, sum) over a row; `lanes` is less than LANES in the last vector only. */
#define FOR_EACH_VECTOR(step, cols, sum, ...)                                        \
  do {                                                                               \
    ptrdiff_t col = 0;                                                               \
    for (; col + NORM_WAYS * LANES <= (cols); col += NORM_WAYS * LANES) {            \
      _Pragma("GCC unroll 4") for (int i = 0; i < NORM_WAYS; ++i)                    \
          step(col + i * LANES, LANES, &(sum)->ways[i], __VA_ARGS__);                \
    }                                                                                \
    for (; col < (cols); col += LANES)                                               \
      step(col, (cols)-col < LANES ? (cols)-col : LANES, &(sum)->rest, __VA_ARGS__); \
  } while (0)

PA_INLINE void gather_step(ptrdiff_t col, ptrdiff_t lanes, vf *sum, const char *x,
                           const char *residual, char *out) {
  vf y = load_first(x + col * REAL_BYTES, lanes);
  if (residual) y = y + load_first(residual + col * REAL_BYTES, lanes);
  store_first(out + col * REAL_BYTES, lanes, y);
  *sum = *sum + y;
}

PA_INLINE void centre_step(ptrdiff_t col, ptrdiff_t lanes, vf *sum, char *out, vf mean) {
  vf y = load_first(out + col * REAL_BYTES, lanes) - mean;
  store_first(out + col * REAL_BYTES, lanes, y);
  for (ptrdiff_t l = lanes; l < LANES; ++l) y[l] = 0;
  *sum = vf_fma(y, y, *sum);
}

PA_INLINE void scale_step(ptrdiff_t col, ptrdiff_t lanes, const pa_norm_row *n, vf factor) {
  vf y = load_first(n->out + col * REAL_BYTES, lanes) * factor;
  if (n->weight) y = y * load_first((const char *)n->weight + col * REAL_BYTES, lanes);
  if (n->bias) y = y + load_first((const char *)n->bias + col * REAL_BYTES, lanes);
  store_first(n->out + col * REAL_BYTES, lanes, y);
}

static void norm_kernel(const pa_norm_row *n) {
  const row_sum nothing = {{vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)}, vf_set1(0)};
  row_sum sum = nothing, squares = nothing;
  const double cols = (double)n->cols;
  FOR_EACH_VECTOR(gather_step, n->cols, &sum, n->x, n->residual, n->out);
  const vf mean = vf_set1(n->centred ? (real)(row_sum_total(&sum) / cols) : 0);
  FOR_EACH_VECTOR(centre_step, n->cols, &squares, n->out, mean);
  const vf factor = vf_set1((real)(1 / sqrt(row_sum_total(&squares) / cols + n->eps)));
  ptrdiff_t col = 0;
  for (; col + LANES <= n->cols; col += LANES) scale_step(col, LANES, n, factor);
  if (col < n->cols) scale_step(col, n->cols - col, n, factor);
}

#endif
