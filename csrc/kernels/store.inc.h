/* A row of numbers as numbers of another type. Whole numbers are symmetric: the largest magnitude
 * of the row is 127, and one factor takes them all back. */
#ifndef PA_STORE_INC_H
#define PA_STORE_INC_H

#include <math.h>

#include "elements.inc.h"
#include "kernels.h"
#include "vec.h"

PA_INLINE vf some_lanes(int type, const char *at, ptrdiff_t col, ptrdiff_t count) {
  if (col == type_bytes(type) && count >= LANES) return load_lanes(type, at);
  return gather_lanes(type, at, col, count < LANES ? count : LANES);
}

PA_INLINE void store_some(int type, char *at, ptrdiff_t count, vf x) {
  if (count >= LANES) store_lanes(type, at, x);
  else scatter_lanes(type, at, type_bytes(type), count, x);
}

PA_INLINE void store_row_floats(int type, char *to, int from_type, const char *from, ptrdiff_t col,
                                ptrdiff_t cols) {
  for (ptrdiff_t k = 0; k < cols; k += LANES)
    store_some(type, to + k * type_bytes(type), cols - k,
               some_lanes(from_type, from + k * col, col, cols - k));
}

/* The factor, with which numbers become -127 to 127: NaN if the row has a number that is not
 * finite, for a factor is all that whole numbers have to say so. */
PA_INLINE real row_factor(int from_type, const char *from, ptrdiff_t col, ptrdiff_t cols) {
  const vi magnitude = ~(vi)vf_set1((real)-0.0);
  vf most = vf_set1(0), zero = vf_set1(0); /* 0 * x is 0 for finite x, NaN otherwise */
  for (ptrdiff_t k = 0; k < cols; k += LANES) {
    const vf x = some_lanes(from_type, from + k * col, col, cols - k);
    most = vf_max((vf)((vi)x & magnitude), most);
    zero = zero + vf_set1(0) * x;
  }
  real largest = 0, nothing = 0;
  for (int l = 0; l < LANES; ++l) {
    largest = most[l] > largest ? most[l] : largest;
    nothing += zero[l];
  }
  return nothing == 0 ? largest / 127 : (real)NAN;
}

PA_INLINE void store_row_bytes(char *to, int from_type, const char *from, ptrdiff_t col,
                               ptrdiff_t cols, float *scale) {
  const real factor = row_factor(from_type, from, col, cols);
  const vf half_up = vf_set1((real)(PA_REAL_BITS == 32 ? 0x1.8p23 : 0x1.8p52)); /* rounds */
  *scale = (float)factor;
  for (ptrdiff_t k = 0; k < cols; k += LANES) {
    const ptrdiff_t count = cols - k < LANES ? cols - k : LANES;
    vf x = vf_set1(0);
    if (factor > 0) { /* clamped: a factor too small to be precise leaves more than 127 */
      x = some_lanes(from_type, from + k * col, col, cols - k) / vf_set1(factor);
      x = vf_max(vf_set1(-127), (x + half_up) - half_up);
      x = vf_select((vi)(x > vf_set1(127)), vf_set1(127), x);
    }
    for (ptrdiff_t l = 0; l < count; ++l) to[k + l] = (char)(signed char)x[l];
  }
}

#define STORE_ROW(type, body)                                                                     \
  static void store_row_##type##_kernel(char *to, int from_type, const char *from, ptrdiff_t col, \
                                        ptrdiff_t cols, float *scale) {                           \
    (void)scale;                                                                                  \
    switch (from_type) {                                                                          \
      case FLOAT16: body(FLOAT16); break;                                                         \
      case BFLOAT16: body(BFLOAT16); break;                                                       \
      default: body(FLOAT32); break;                                                              \
    }                                                                                             \
  }
#define TO_FLOAT16(from_type) store_row_floats(FLOAT16, to, from_type, from, col, cols)
#define TO_BFLOAT16(from_type) store_row_floats(BFLOAT16, to, from_type, from, col, cols)
#define TO_FLOAT32(from_type) store_row_floats(FLOAT32, to, from_type, from, col, cols)
#define TO_INT8(from_type) store_row_bytes(to, from_type, from, col, cols, scale)
STORE_ROW(float16, TO_FLOAT16)
STORE_ROW(bfloat16, TO_BFLOAT16)
STORE_ROW(float32, TO_FLOAT32)
STORE_ROW(int8, TO_INT8)
#undef STORE_ROW
#undef TO_FLOAT16
#undef TO_BFLOAT16
#undef TO_FLOAT32
#undef TO_INT8

#endif
