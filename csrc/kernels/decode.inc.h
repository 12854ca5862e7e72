/* Few query rows against a block of keys: lanes along the head size, keys and values read once for
 * all rows, straight through. Memory is what limits this; how a row is summed depends on nothing
 * but the head size.
 *
 *   scores   every lane of the head size a chain of its own; the lanes of a whole vector of sums
 *            are then added at once (`sums_of_vectors`)
 *   values   fresh chains of 16 keys, as in tile.inc.h, folded into the output
 */
#ifndef PA_DECODE_INC_H
#define PA_DECODE_INC_H

#include <math.h>

#include "elements.inc.h"
#include "kernels.h"
#include "rows.inc.h"
#include "terms.inc.h"
#include "tile.inc.h"
#include "vec_math.h"

enum {
  ROW_VALUE_KEYS = 16,
  MANY_ROWS = LANES < 4 ? LANES : 4,
  LINE_BYTES = 64,
};

/* sums[i] = sum of the lanes of x[i]: halves are added, pairs of vectors become one. */
PA_INLINE vf sums_of_vectors(vf x[LANES]) {
#pragma GCC unroll 4
  for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      x[i] = vf_zip_low(x[i], x[i + half]) + vf_zip_high(x[i], x[i + half]);
  return x[0];
}

/* Asks for what lies `ahead` bytes behind byte `byte` of a row, once for every line. */
PA_INLINE void fetch_behind(const char *at, ptrdiff_t byte, ptrdiff_t ahead) {
  if (byte % LINE_BYTES == 0) __builtin_prefetch(at + ahead, 0, 2);
}

/* What a kernel works on: keys or values, what they are multiplied with, and what comes of it. */
typedef struct row_block {
  const char *data;
  ptrdiff_t row, ahead, d;
  int keys;
  const real *from, *alpha;
  real *to;
} row_block;

/* The scores of `rows` rows and LANES / rows keys from `key` on; past the last key it is repeated.
 * One key after the other, as they lie: the hardware's prefetchers want it so. */
PA_INLINE void row_scores_tile(const int type, const int rows, const row_block *b, int key) {
  const int count = LANES / rows;
  const ptrdiff_t bytes = LANES * type_bytes(type);
  vf acc[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < count; ++i) {
    const char *at = b->data + (key + i < b->keys ? key + i : b->keys - 1) * b->row;
    vf sum[MANY_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) sum[r] = vf_set1(0);
    for (ptrdiff_t k = 0, byte = 0; k < b->d; k += LANES, byte += bytes) {
      const vf x = load_lanes(type, at + byte);
      fetch_behind(at + byte, byte, b->ahead);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) sum[r] = vf_fma(x, vf_load(b->from + r * b->d + k), sum[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) acc[r * count + i] = sum[r];
  }
  real sums[LANES];
  vf_store(sums, sums_of_vectors(acc));
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
    __builtin_memcpy(b->to + r * PA_KEY_BLOCK + key, sums + r * count,
                     (size_t)count * sizeof(real));
}

PA_INLINE void row_scores(const int type, const int rows, int row, row_block b) {
  b.from += row * b.d, b.to += row * PA_KEY_BLOCK;
  for (int key = 0; key < b.keys; key += LANES / rows) row_scores_tile(type, rows, &b, key);
}

/* Calls tile(rows, first row) over `count` rows: by fours, where vectors have so many lanes, then
 * one by one. */
#define FOR_EACH_ROWS(tile, count, ...)                                                     \
  do {                                                                                      \
    int row = 0;                                                                            \
    for (; row + MANY_ROWS <= (count); row += MANY_ROWS) tile(MANY_ROWS, row, __VA_ARGS__); \
    for (; row < (count); ++row) tile(1, row, __VA_ARGS__);                                 \
  } while (0)

static void row_add_kernel(void *scores, const void *tile, int keys, int width, int rows) {
  const ptrdiff_t step = (ptrdiff_t)width * LANES;
  for (int r = 0; r < rows; ++r)
    for (int key = 0; key < keys; key += LANES) {
      real *at = (real *)scores + r * PA_KEY_BLOCK + key;
      const real *more = (const real *)tile + key * step + r;
      vf added = vf_set1(0);
      for (int l = 0; l < LANES && key + l < keys; ++l) added[l] = more[l * step];
      vf_store(at, with_added(vf_load(at), added));
    }
}

static void row_mark_kernel(void *weights, const void *tile, int keys, int width, int rows) {
  for (int r = 0; r < rows; ++r)
    for (int key = 0; key < keys; ++key)
      if (((const real *)tile)[(ptrdiff_t)key * width * LANES + r] == (real)-INFINITY)
        ((real *)weights)[r * PA_KEY_BLOCK + key] = (real)-0.0;
}

static void row_scale_kernel(void *x, const float *scale, int keys, int rows) {
  for (int r = 0; r < rows; ++r)
    for (int key = 0; key < keys; ++key) ((real *)x)[r * PA_KEY_BLOCK + key] *= (real)scale[key];
}

/* As softmax.inc.h, of one row; sums are a tree over all places of a block. */
PA_INLINE void row_softmax(real *x, int keys, real *top, real *sum, real *alpha) {
  enum { vectors = PA_KEY_BLOCK / LANES };
  vf weights[vectors], best = vf_set1(-REAL_MAX);
  const int used = (keys + LANES - 1) / LANES;
  for (int key = keys; key < used * LANES; ++key) x[key] = (real)-INFINITY;
  for (int i = 0; i < used; ++i) best = vf_max(vf_load(x + i * LANES), best);
  real largest = *top;
  for (int l = 0; l < LANES; ++l) largest = best[l] > largest ? best[l] : largest;
  for (int i = 0; i < vectors; ++i) {
    weights[i] = vf_set1(0);
    if (i >= used) continue;
    weights[i] = vf_exp2(vf_load(x + i * LANES) - vf_set1(largest));
    vf_store(x + i * LANES, weights[i]);
  }
  for (int half = vectors / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) weights[i] = weights[i] + weights[i + half];
  vf total = weights[0];
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) total[l] += total[l + half];
  *alpha = vf_exp2(vf_set1(*top - largest))[0];
  *sum = *alpha * *sum + total[0];
  *top = largest;
}

static void row_softmax_kernel(void *scores, int keys, int rows, const pa_rows_state *state) {
  for (int r = 0; r < rows; ++r)
    row_softmax((real *)scores + r * PA_KEY_BLOCK, keys, (real *)state->top + r,
                (real *)state->sum + r, (real *)state->alpha + r);
}

/* Keys from `first` on, a chain of them, into `vectors` vectors of the outputs of `rows` rows, from
 * number k on. Guarded, of one row: a weight of -0.0 does not multiply. */
PA_INLINE void row_values_tile(const int type, const int guarded, const int rows, const int vectors,
                               const row_block *b, int first, ptrdiff_t k) {
  const ptrdiff_t bytes = LANES * type_bytes(type), byte = k * type_bytes(type);
  const int last = first + ROW_VALUE_KEYS < b->keys ? first + ROW_VALUE_KEYS : b->keys;
  const char *at = b->data + first * b->row + byte;
  vf acc[MANY_ROWS][8];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) acc[r][j] = vf_set1(0);
  for (int key = first; key < last; ++key, at += b->row) {
    const real *weights = b->from + key;
    vf weight[MANY_ROWS];
    if (guarded && weights[0] == 0 && __builtin_signbit(weights[0])) continue;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) weight[r] = vf_set1(weights[r * PA_KEY_BLOCK]);
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) {
      const vf x = load_lanes(type, at + j * bytes);
      fetch_behind(at + j * bytes, byte + j * bytes, b->ahead);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) acc[r][j] = vf_fma(x, weight[r], acc[r][j]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    real *to = b->to + r * b->d + k;
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j, to += LANES)
      vf_store(to, first == 0 ? vf_fma(vf_set1(b->alpha[r]), vf_load(to), acc[r][j])
                              : vf_load(to) + acc[r][j]);
  }
}

PA_INLINE void row_values(const int type, const int rows, int row, row_block b) {
  enum { accumulators = PA_REGISTERS / 2 }; /* the other half is for what they are made of */
  const int full = accumulators / rows < 8 ? accumulators / rows : 8;
  b.from += row * PA_KEY_BLOCK, b.alpha += row, b.to += row * b.d;
  for (int key = 0; key < b.keys; key += ROW_VALUE_KEYS) {
    ptrdiff_t k = 0;
    for (; k + full * LANES <= b.d; k += full * LANES)
      row_values_tile(type, 0, rows, full, &b, key, k);
    if (full == 8)
      for (; k + 4 * LANES <= b.d; k += 4 * LANES) row_values_tile(type, 0, rows, 4, &b, key, k);
    for (; k < b.d; k += LANES) row_values_tile(type, 0, rows, 1, &b, key, k);
  }
}

/* Rare, so one text for all shapes: the sums are the same. */
PA_INLINE void row_values_guarded(const int type, int rows, row_block b) {
  for (; rows > 0; --rows, b.from += PA_KEY_BLOCK, ++b.alpha, b.to += b.d)
    for (int key = 0; key < b.keys; key += ROW_VALUE_KEYS)
      for (ptrdiff_t k = 0; k < b.d; k += LANES) row_values_tile(type, 1, 1, 1, &b, key, k);
}

#define SCORES(rows, row, type) row_scores(type, rows, row, b)
#define VALUES(rows, row, type) row_values(type, rows, row, b)
#define ROW_KERNELS(type, TYPE)                                                           \
  static void row_scores_##type##_kernel(const pa_matrix *key, int keys, ptrdiff_t d,     \
                                         const void *queries, int rows, void *scores,     \
                                         ptrdiff_t ahead) {                               \
    const row_block b = {key->data, key->row, ahead, d, keys, queries, NULL, scores};     \
    FOR_EACH_ROWS(SCORES, rows, TYPE);                                                    \
  }                                                                                       \
  static void row_values_##type##_kernel(const pa_matrix *value, int keys, ptrdiff_t d,   \
                                         const void *weights, int rows, int guarded,      \
                                         const void *alpha, void *out, ptrdiff_t ahead) { \
    const row_block b = {value->data, value->row, ahead, d, keys, weights, alpha, out};   \
    if (guarded) row_values_guarded(TYPE, rows, b);                                       \
    else FOR_EACH_ROWS(VALUES, rows, TYPE);                                               \
  }
#if PA_REAL_BITS == 32
ROW_KERNELS(float16, FLOAT16)
ROW_KERNELS(bfloat16, BFLOAT16)
ROW_KERNELS(float32, FLOAT32)
ROW_KERNELS(int8, INT8)
#else
ROW_KERNELS(float64, FLOAT64)
#endif
#undef ROW_KERNELS
#undef SCORES
#undef VALUES

static void row_queries_kernel(void *queries, const void *panel, ptrdiff_t d, int width, int rows) {
  const ptrdiff_t whole = (d + LANES - 1) / LANES * LANES;
  for (int r = 0; r < rows; ++r) {
    real *to = (real *)queries + r * whole;
    for (ptrdiff_t k = 0; k < whole; ++k)
      to[k] = k < d ? ((const real *)panel)[k * width * LANES + r] : 0;
  }
}

static void row_reset_kernel(const pa_rows_state *state, ptrdiff_t d, int rows) {
  for (int r = 0; r < rows; ++r) {
    ((real *)state->top)[r] = -REAL_MAX;
    ((real *)state->sum)[r] = 0;
  }
  __builtin_memset(state->out, 0, (size_t)(rows * d) * sizeof(real));
}

static void row_finish_kernel(const pa_rows_state *rows, ptrdiff_t d, int count, pa_state *state,
                              ptrdiff_t cols, int width) {
  const char *out[MAX_WIDTH * LANES];
  for (int lane = 0; lane < width * LANES; ++lane) { /* spare lanes repeat the last row */
    const int r = lane < count ? lane : count - 1;
    ((real *)state->top)[lane] = ((const real *)rows->top)[r];
    ((real *)state->sum)[lane] = ((const real *)rows->sum)[r];
    out[lane] = (const char *)((const real *)rows->out + r * d);
  }
  pack_real_kernel(state->out, out, (ptrdiff_t)sizeof(real), cols, width, 1);
}

#endif
