/* Lanes back into rows, where the user wants them: the way of rows.inc.h backwards. */
#ifndef PA_WRITE_INC_H
#define PA_WRITE_INC_H

#include "kernels.h"
#include "rows.inc.h"
#include "vec.h"

/* x times a factor in two parts. Adding +0 turns -0 into +0: see docs/numerics.md. */
PA_INLINE vf times_factor(vf x, vf factor, vf rest) {
  return vf_fma(x, factor, vf_fma(x, rest, vf_set1(0)));
}

static void write_square(char *const *rows, ptrdiff_t at, const real *from, ptrdiff_t stride,
                         int count, const real *factors) {
  const vf factor = vf_load(factors), rest = vf_load(factors + stride);
  vf x[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i] = times_factor(vf_load(from + i * stride), factor, rest);
  transpose_square(x);
  for (int i = 0; i < count; ++i) vf_store(rows[i] + at, x[i]);
}

static void write_kernel(char *const *rows, ptrdiff_t col, const void *x, ptrdiff_t d, int width,
                         int count, const void *factor) {
  const ptrdiff_t stride = (ptrdiff_t)width * LANES;
  for (int j = 0; j < width && j * LANES < count; ++j) {
    const real *from = (const real *)x + (ptrdiff_t)j * LANES;
    const real *factors = (const real *)factor + (ptrdiff_t)j * LANES;
    char *const *to = rows + (ptrdiff_t)j * LANES;
    const int lanes = count - j * LANES < LANES ? count - j * LANES : LANES;
    if (col == (ptrdiff_t)sizeof(real) && d >= LANES) {
      for (ptrdiff_t k = 0; k < d; k += LANES) {
        if (k > d - LANES) k = d - LANES;
        write_square(to, k * col, from + k * stride, stride, lanes, factors);
      }
    } else {
      for (ptrdiff_t k = 0; k < d;
           ++k) { /* the same arithmetic, or a row's bits would tell strides */
        const vf x =
            times_factor(vf_load(from + k * stride), vf_load(factors), vf_load(factors + stride));
        for (int l = 0; l < lanes; ++l) *(real_any *)(to[l] + k * col) = x[l];
      }
    }
  }
}

#endif
