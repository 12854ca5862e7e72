/* Rows of tables that lie anywhere and hold numbers of any type: into tiles, transposed; packing
 * the queries is the same with a factor. Squares of LANES x LANES numbers are transposed in
 * registers; what is no square, or not contiguous, goes number by number. */
#ifndef PA_ROWS_INC_H
#define PA_ROWS_INC_H

#include <math.h>

#include "elements.inc.h"
#include "kernels.h"
#include "vec.h"

/* x[i][j] becomes x[j][i]: log2(LANES) perfect shuffles of the list of vectors. */
PA_INLINE void transpose_square(vf x[LANES]) {
#pragma GCC unroll 4
  for (int step = 1; step < LANES; step *= 2) {
    vf y[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES / 2; ++i) {
      y[2 * i] = vf_zip_low(x[i], x[i + LANES / 2]);
      y[2 * i + 1] = vf_zip_high(x[i], x[i + LANES / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) x[i] = y[i];
  }
}

/* Fewer than LANES keys of a run, side by side in either direction: as `square` and `run` below. */
PA_INLINE void part_of_square(real *to, ptrdiff_t stride, const char *const *rows, ptrdiff_t at,
                              ptrdiff_t step, ptrdiff_t length, real scale) {
  vf x[LANES];
  if (step < 0) {
    at += (length - 1) * step;
    to += (length - 1) * stride;
    stride = -stride;
  }
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i] = vf_load_first(rows[i] + at, length);
  transpose_square(x);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i)
    if (i < length) vf_store(to + i * stride, x[i] * vf_set1(scale));
}

/* Keys of one run into to[key * stride], for LANES rows that begin at rows[lane] + at. */
#define RUN(type, bytes)                                                                          \
  PA_INLINE void square_##type(real *to, ptrdiff_t stride, const char *const *rows, ptrdiff_t at, \
                               real scale) {                                                      \
    vf x[LANES];                                                                                  \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; ++i) x[i] = load_##type(rows[i] + at);    \
    transpose_square(x);                                                                          \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; ++i)                                      \
        vf_store(to + i * stride, x[i] * vf_set1(scale));                                         \
  }                                                                                               \
  static void run_##type(real *to, ptrdiff_t stride, const char *const *rows, ptrdiff_t at,       \
                         ptrdiff_t step, ptrdiff_t length, real scale) {                          \
    if (step == (bytes) && length >= LANES) {                                                     \
      for (ptrdiff_t k = 0; k < length; k += LANES) {                                             \
        if (k > length - LANES) k = length - LANES; /* overlapping squares: no over-read */       \
        square_##type(to + k * stride, stride, rows, at + k * step, scale);                       \
      }                                                                                           \
    } else if (step == -(bytes) && length >= LANES) { /* read forwards, stored backwards */       \
      for (ptrdiff_t k = 0; k < length; k += LANES) {                                             \
        if (k > length - LANES) k = length - LANES;                                               \
        const ptrdiff_t last = k + LANES - 1;                                                     \
        square_##type(to + last * stride, -stride, rows, at + last * step, scale);                \
      }                                                                                           \
    } else if ((bytes) == sizeof(real) && (step == (bytes) || step == -(bytes)) && length > 2) {  \
      part_of_square(to, stride, rows, at, step, length, scale);                                  \
    } else {                                                                                      \
      for (ptrdiff_t k = 0; k < length; ++k)                                                      \
        for (int l = 0; l < LANES; ++l)                                                           \
          to[k * stride + l] = read_##type(rows[l] + at + k * step) * scale;                      \
    }                                                                                             \
  }
RUN(bfloat16, 2)
RUN(float16, 2)
RUN(float32, 4)
RUN(float64, 8)
#undef RUN

PA_INLINE int equal_rows(const char *const *rows) {
  int equal = 1;
  for (int l = 1; l < LANES; ++l) equal &= rows[l] == rows[0];
  return equal;
}

/* The same for LANES rows that are one. */
#define SPREAD(type)                                                                        \
  PA_INLINE void spread_##type(real *to, ptrdiff_t stride, const char *row, ptrdiff_t step, \
                               ptrdiff_t length, real scale) {                              \
    for (ptrdiff_t k = 0; k < length; ++k)                                                  \
      vf_store(to + k * stride, vf_set1(read_##type(row + k * step) * scale));              \
  }
SPREAD(float16)
SPREAD(bfloat16)
SPREAD(float32)
SPREAD(float64)
#undef SPREAD

#define PACK(type)                                                                      \
  static void pack_##type##_kernel(void *panel, const char *const *rows, ptrdiff_t col, \
                                   ptrdiff_t d, int width, double scale) {              \
    const ptrdiff_t stride = (ptrdiff_t)width * LANES;                                  \
    for (real *to = panel; width > 0; --width, to += LANES, rows += LANES) {            \
      if (equal_rows(rows)) spread_##type(to, stride, rows[0], col, d, (real)scale);    \
      else run_##type(to, stride, rows, 0, col, d, (real)scale);                        \
    }                                                                                   \
  }
#if PA_REAL_BITS == 32
PACK(float16)
PACK(bfloat16)
PACK(float32)
#else
PACK(float64)
#endif
#undef PACK

#if PA_REAL_BITS == 32
#define pack_real_kernel pack_float32_kernel
#else
#define pack_real_kernel pack_float64_kernel
#endif

PA_INLINE void widen_rows(int type, real *to, const pa_matrix *from, int rows, ptrdiff_t cols,
                          const float *scale) {
  const ptrdiff_t bytes = type_bytes(type), whole = cols / LANES * LANES;
  const char *at = from->data;
  for (int r = 0; r < rows; ++r, at += from->row) {
    const vf factor = vf_set1(scale ? (real)scale[r] : 1);
    ptrdiff_t k = 0;
    if (from->col == bytes)
      for (; k < whole; k += LANES, to += LANES)
        vf_store(to, factor * load_lanes(type, at + k * bytes));
    for (; k < cols; k += LANES, to += LANES) {
      const ptrdiff_t count = cols - k < LANES ? cols - k : LANES;
      vf_store(to, factor * gather_lanes(type, at + k * from->col, from->col, count));
    }
  }
}

#define WIDEN_ROWS(type, TYPE)                                                      \
  static void widen_rows_##type##_kernel(void *to, const pa_matrix *from, int rows, \
                                         ptrdiff_t cols, const float *scale) {      \
    widen_rows(TYPE, to, from, rows, cols, scale);                                  \
  }
#if PA_REAL_BITS == 32
WIDEN_ROWS(float16, FLOAT16)
WIDEN_ROWS(bfloat16, BFLOAT16)
WIDEN_ROWS(float32, FLOAT32)
WIDEN_ROWS(int8, INT8)
#else
WIDEN_ROWS(float64, FLOAT64)
#endif
#undef WIDEN_ROWS

#define LAY(type)                                                                                 \
  static void lay_##type##_kernel(void *tile, const char *const *rows, const pa_columns *columns, \
                                  int width) {                                                    \
    const ptrdiff_t stride = (ptrdiff_t)width * LANES;                                            \
    for (int j = 0; j < width; ++j, rows += LANES) {                                              \
      const int equal = equal_rows(rows);                                                         \
      real *to = (real *)tile + (ptrdiff_t)j * LANES;                                             \
      for (int r = 0; r < columns->count; ++r) {                                                  \
        const pa_run *run = &columns->runs[r];                                                    \
        if (equal)                                                                                \
          spread_##type(to, stride, rows[0] + run->offset, columns->step, run->length, 1);        \
        else run_##type(to, stride, rows, run->offset, columns->step, run->length, 1);            \
        to += run->length * stride;                                                               \
      }                                                                                           \
    }                                                                                             \
  }
LAY(float16)
LAY(bfloat16)
LAY(float32)
LAY(float64)
#undef LAY

/* A table of bools goes by way of bits, one word for each row: key k of the block is bit k. */
PA_INLINE uint64_t run_bits(const char *at, ptrdiff_t step, int length) {
  if (step == 1 && length == 64) return bits_of_64(at);
  uint64_t bits = 0;
  int key = 0;
  if (step == 1)
    for (; key + 8 <= length; key += 8) bits |= bits_of_8(at + key) << key;
  for (; key < length; ++key) bits |= (uint64_t)(at[key * step] != 0) << key;
  return bits;
}

static int scan_kernel(const char *const *rows, const pa_columns *columns, int lanes,
                       uint64_t *bits) {
  uint64_t any = 0, all = ~(uint64_t)0;
  int keys = 0;
  for (int r = 0; r < columns->count; ++r) keys += columns->runs[r].length;
  for (int lane = 0; lane < lanes; ++lane) {
    if (lane > 0 && rows[lane] == rows[lane - 1]) {
      bits[lane] = bits[lane - 1];
      continue;
    }
    uint64_t row = 0;
    for (int r = 0, from = 0; r < columns->count; from += columns->runs[r++].length)
      row |= run_bits(rows[lane] + columns->runs[r].offset, columns->step, columns->runs[r].length)
             << from;
    bits[lane] = row;
    any |= row;
    all &= row;
  }
  const uint64_t whole = ~(uint64_t)0 >> (64 - keys);
  return (any ? PA_FOUND_SEEN : 0) | (all != whole ? PA_FOUND_OTHER : 0);
}

static void unfold_kernel(void *tile, const uint64_t *bits, int keys, int width) {
  enum { word_bits = PA_REAL_BITS };
  const ptrdiff_t stride = (ptrdiff_t)width * LANES;
  const vi hidden = (vi)vf_set1((real)-INFINITY);
  for (int j = 0; j < width; ++j, bits += LANES) {
    for (int from = 0; from < keys; from += word_bits) {
      const int count = keys - from < word_bits ? keys - from : word_bits;
      vi word; /* the bit of the last key becomes the sign, then the one before, ... */
      for (int l = 0; l < LANES; ++l)
        word[l] = (real_int)(bits[l] >> from << (64 - count) >> (64 - word_bits));
      real *to = (real *)tile + (ptrdiff_t)j * LANES + from * stride;
      for (int key = count - 1; key >= 0; --key) {
        vf_store(to + key * stride, (vf)(hidden & ~(word >> (word_bits - 1))));
        word = word << 1;
      }
    }
  }
}

#endif
