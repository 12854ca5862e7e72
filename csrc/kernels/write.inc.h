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

PA_INLINE void write_square(int type, char *const *rows, ptrdiff_t at, const real *from,
                            ptrdiff_t stride, int count, const real *factors) {
  const vf factor = vf_load(factors), rest = vf_load(factors + stride);
  vf x[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i] = times_factor(vf_load(from + i * stride), factor, rest);
  transpose_square(x);
  for (int i = 0; i < count; ++i) store_lanes(type, rows[i] + at, x[i]);
}

PA_INLINE void write_panel(int type, char *const *rows, ptrdiff_t col, const void *x, ptrdiff_t d,
                           int width, int count, const void *factor) {
  const ptrdiff_t stride = (ptrdiff_t)width * LANES;
  for (int j = 0; j < width && j * LANES < count; ++j) {
    const real *from = (const real *)x + (ptrdiff_t)j * LANES;
    const real *factors = (const real *)factor + (ptrdiff_t)j * LANES;
    char *const *to = rows + (ptrdiff_t)j * LANES;
    const int lanes = count - j * LANES < LANES ? count - j * LANES : LANES;
    if (col == type_bytes(type) && d >= LANES) {
      for (ptrdiff_t k = 0; k < d; k += LANES) {
        if (k > d - LANES) k = d - LANES;
        write_square(type, to, k * col, from + k * stride, stride, lanes, factors);
      }
    } else { /* the same arithmetic, or a row's bits would tell strides */
      for (ptrdiff_t k = 0; k < d; ++k) {
        char numbers[LANES * sizeof(double)];
        store_lanes(
            type, numbers,
            times_factor(vf_load(from + k * stride), vf_load(factors), vf_load(factors + stride)));
        for (int l = 0; l < lanes; ++l)
          __builtin_memcpy(to[l] + k * col, numbers + l * type_bytes(type),
                           (size_t)type_bytes(type));
      }
    }
  }
}

#define WRITE(type, TYPE)                                                                         \
  static void write_##type##_kernel(char *const *rows, ptrdiff_t col, const void *x, ptrdiff_t d, \
                                    int width, int count, const void *factor) {                   \
    write_panel(TYPE, rows, col, x, d, width, count, factor);                                     \
  }
#if PA_REAL_BITS == 32
WRITE(float16, FLOAT16)
WRITE(bfloat16, BFLOAT16)
WRITE(float32, FLOAT32)
#else
WRITE(float64, FLOAT64)
#endif
#undef WRITE

/* The same of rows of ours, [row][k] in whole vectors, to wherever the caller's lie. */
PA_INLINE void write_rows(const int type, char *to, ptrdiff_t row, ptrdiff_t col, const real *x,
                          int rows, ptrdiff_t cols, const real *factor, const real *rest) {
  const ptrdiff_t bytes = type_bytes(type);
  for (int r = 0; r < rows; ++r, to += row)
    for (ptrdiff_t k = 0; k < cols; k += LANES, x += LANES) {
      const ptrdiff_t count = cols - k < LANES ? cols - k : LANES;
      vf result = vf_load(x);
      if (factor) result = times_factor(result, vf_set1(factor[r]), vf_set1(rest[r]));
      if (col == bytes && count == LANES) store_lanes(type, to + k * bytes, result);
      else scatter_lanes(type, to + k * col, col, count, result);
    }
}

#define WRITE_ROWS(type, TYPE)                                                                  \
  static void write_rows_##type##_kernel(char *to, ptrdiff_t row, ptrdiff_t col, const void *x, \
                                         int rows, ptrdiff_t cols, const void *factor,          \
                                         const void *rest) {                                    \
    write_rows(TYPE, to, row, col, x, rows, cols, factor, rest);                                \
  }
#if PA_REAL_BITS == 32
WRITE_ROWS(float16, FLOAT16)
WRITE_ROWS(bfloat16, BFLOAT16)
WRITE_ROWS(float32, FLOAT32)
#else
WRITE_ROWS(float64, FLOAT64)
#endif
#undef WRITE_ROWS

#endif
