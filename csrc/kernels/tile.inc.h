/* The micro-kernel, and the two products made of it.
 *
 *   acc[r][lane] = sum over k < steps of  A[r, k] * B[k][lane]
 *
 * A is read where it lies, one number at a time, broadcast to all lanes: any byte strides.
 * B is a packed panel: `width` vectors for every k, 1 <= width <= MAX_WIDTH, of `real`, or of
 * halves that are widened as they are read. Scores:  A[key, d] = K, B[d][query] = the packed
 * queries. Values:  A[d, key] = V (the same reading with rows and columns exchanged), B[key][query]
 * = weights.
 */
#ifndef PA_TILE_INC_H
#define PA_TILE_INC_H

#include "elements.inc.h"
#include "kernels.h"
#include "vec.h"

/* Rows of the tile for each width: as many accumulators as the register file holds beside `width`
 * panel vectors and one broadcast. 16 registers: 4x3, 6x2, 8x1. 32 registers: 8x3, 12x2, 16x1. */
#ifndef PA_REGISTERS
#error "isa/<name>.c must say how many vector registers there are"
#endif
#define MAX_WIDTH 3
#define MAX_ROWS 16
#define FAR_BYTES 4096

/* Every value sum is made of fresh chains of at most 16 terms, folded into the output afterwards:
 * what keeps the error small (docs/numerics.md). Where registers allow, two chains run side by
 * side, and folding is rarer by half. Divides PA_KEY_BLOCK. */
#define VALUE_WAYS (PA_REGISTERS >= 32 ? 2 : 1)
#define VALUE_KEYS (16 * VALUE_WAYS)

PA_INLINE int tile_rows(int width) {
#if PA_REGISTERS >= 32
  return width == 3 ? 8 : width == 2 ? 12 : 16;
#else
  return width == 3 ? 4 : width == 2 ? 6 : 8;
#endif
}

/* With `ways` = 2, steps alternate between two sets of accumulators, added at the end: two chains
 * of half the length, for sums that must not lose digits.
 *
 * With `guarded`, a lane whose B is -0.0 keeps its sum untouched, so that it cannot
 * see what A holds there: 0 * NaN would be NaN. Everything else is the same, in the same order. */
PA_INLINE void tile_step(const int guarded, const int rows, const int width, const char *at,
                         ptrdiff_t a_row, const int type, const char *b, vf acc[][MAX_WIDTH]) {
  const vi hidden = (vi)vf_set1((real)-0.0);
  vf bk[MAX_WIDTH];
#pragma GCC unroll 3
  for (int j = 0; j < width; ++j) {
    const char *from = b + j * LANES * type_bytes(type);
    bk[j] = load_lanes(type, from);
    /* For a single row panels of weights come from memory, and asking early is worth a tenth. */
    if (rows == 1) __builtin_prefetch(from + FAR_BYTES, 0, 2);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const vf ark = vf_set1_at(at + r * a_row);
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) {
      const vf sum = vf_fma(ark, bk[j], acc[r][j]);
      acc[r][j] = guarded ? vf_select((vi)bk[j] == hidden, acc[r][j], sum) : sum;
    }
  }
}

PA_INLINE void tile_clear(const int rows, const int width, vf acc[][MAX_WIDTH]) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) acc[r][j] = vf_set1(0);
}

/* Adds the products of `steps` steps to what is there. */
PA_INLINE void tile_sum(const int guarded, const int ways, const int rows, const int width,
                        const pa_matrix *a, const int type, const char *b, ptrdiff_t steps,
                        vf acc[][MAX_WIDTH]) {
  const char *at = a->data;
  ptrdiff_t k = 0;
#pragma GCC unroll 4
  for (; k + ways <= steps; k += ways) {
#pragma GCC unroll 2
    for (int w = 0; w < ways; ++w) {
      tile_step(guarded, rows, width, at, a->row, type, b, acc + w * rows);
      at += a->col;
      b += width * LANES * type_bytes(type);
    }
  }
  if (k < steps) tile_step(guarded, rows, width, at, a->row, type, b, acc);
}

PA_INLINE void tile_product(const int guarded, const int ways, const int rows, const int width,
                            const pa_matrix *a, const real *b, ptrdiff_t steps,
                            vf acc[][MAX_WIDTH]) {
  tile_clear(ways * rows, width, acc);
  tile_sum(guarded, ways, rows, width, a, REAL, (const char *)b, steps, acc);
#pragma GCC unroll 16
  for (int r = 0; r < (ways - 1) * rows; ++r)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) acc[r][j] = acc[r][j] + acc[rows + r][j];
}

/* Calls tile(rows, width, first row, ...) over `count` rows: full tiles, then what is left in
 * powers of two. `full` and `width` must be constants where this is expanded. */
#define FOR_EACH_TILE(tile, full, width, count, ...)        \
  do {                                                      \
    ptrdiff_t row = 0;                                      \
    for (; row + (full) <= (count); row += (full)) {        \
      tile(full, width, row, __VA_ARGS__);                  \
    }                                                       \
    for (int part = 8; part > 0; part /= 2) {               \
      if (part >= (full) || row + part > (count)) continue; \
      switch (part) {                                       \
        case 8: tile(8, width, row, __VA_ARGS__); break;    \
        case 4: tile(4, width, row, __VA_ARGS__); break;    \
        case 2: tile(2, width, row, __VA_ARGS__); break;    \
        default: tile(1, width, row, __VA_ARGS__); break;   \
      }                                                     \
      row += part;                                          \
    }                                                       \
  } while (0)

/* One text for every width: the compiler sees the constant and unrolls. */
#define FOR_WIDTH(width, call) \
  switch (width) {             \
    case 1: call(1); break;    \
    case 2: call(2); break;    \
    default: call(3); break;   \
  }

static void fetch_lines(pa_ahead *a) {
  for (int n = a->row_lines; n > 0 && a->row < a->row_count; --n) {
    __builtin_prefetch(a->rows[a->row] + a->row_offset + a->row_byte, 0, 3);
    if ((a->row_byte += 64) < a->row_bytes) continue;
    a->row_byte = 0;
    ++a->row;
  }
  for (int n = a->lines; n > 0 && a->region >= 0; --n) {
    const pa_region *r = &a->regions[a->region];
    __builtin_prefetch(r->data + a->piece * r->stride + a->inner * r->inner_stride + a->byte, 0, 2);
    if ((a->byte += 64) < r->bytes) continue;
    a->byte = 0;
    if (++a->inner < r->inner) continue;
    a->inner = 0;
    if (++a->piece < r->count) continue;
    a->piece = 0;
    --a->region;
  }
}

PA_INLINE void scores_tile(const int rows, const int width, ptrdiff_t row, const pa_matrix *key,
                           ptrdiff_t d, const real *panel, real *scores, real *top,
                           pa_ahead *ahead) {
  const pa_matrix a = {key->data + row * key->row, key->row, key->col};
  vf acc[MAX_ROWS][MAX_WIDTH];
  fetch_lines(ahead);
  tile_product(0, 1, rows, width, &a, panel, d, acc);
#pragma GCC unroll 3
  for (int j = 0; j < width; ++j) {
    vf best = vf_load(top + j * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      vf_store(scores + ((row + r) * width + j) * LANES, acc[r][j]);
      best = vf_max(acc[r][j], best); /* a NaN score never becomes the maximum */
    }
    vf_store(top + j * LANES, best);
  }
}

static void scores_kernel(const pa_matrix *key, int keys, ptrdiff_t d, const void *panel, int width,
                          void *scores, void *top, pa_ahead *ahead) {
  for (int j = 0; j < width; ++j) vf_store((real *)top + j * LANES, vf_set1(-REAL_MAX));
#define CALL(w) FOR_EACH_TILE(scores_tile, tile_rows(w), w, keys, key, d, panel, scores, top, ahead)
  FOR_WIDTH(width, CALL)
#undef CALL
}

PA_INLINE void values_tile(const int rows, const int width, ptrdiff_t row, const int guarded,
                           const pa_matrix *value, int keys, const real *weights, const real *alpha,
                           real *out, pa_ahead *ahead) {
  fetch_lines(ahead);
  for (int from = 0; from < keys; from += VALUE_KEYS) {
    const char *at = value->data + row * value->col + from * value->row;
    const pa_matrix a = {at, value->col, value->row};
    const int steps = keys - from < VALUE_KEYS ? keys - from : VALUE_KEYS;
    vf acc[MAX_ROWS][MAX_WIDTH];
    tile_product(guarded, VALUE_WAYS, rows, width, &a, weights + (ptrdiff_t)from * width * LANES,
                 steps, acc);
    /* What came before the block fades once. Only once a product, too: on many processors sums have
     * units of their own, and the multipliers are what is scarce. */
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) {
      real *to = out + (row * width + j) * LANES;
      if (from == 0) {
        const vf fade = vf_load(alpha + j * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, to += width * LANES)
          vf_store(to, vf_fma(fade, vf_load(to), acc[r][j]));
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, to += width * LANES) vf_store(to, vf_load(to) + acc[r][j]);
      }
    }
  }
}

static void values_kernel(const pa_matrix *value, int keys, ptrdiff_t d, const void *weights,
                          int width, const void *alpha, void *out, pa_ahead *ahead) {
#define CALL(w)                                                                                    \
  FOR_EACH_TILE(values_tile, tile_rows(w) / VALUE_WAYS, w, d, 0, value, keys, weights, alpha, out, \
                ahead)
  FOR_WIDTH(width, CALL)
#undef CALL
}

static void values_guarded_kernel(const pa_matrix *value, int keys, ptrdiff_t d,
                                  const void *weights, int width, const void *alpha, void *out,
                                  pa_ahead *ahead) {
#define CALL(w)                           \
  for (ptrdiff_t row = 0; row < d; ++row) \
  values_tile(1, w, row, 1, value, keys, weights, alpha, out, ahead)
  FOR_WIDTH(width, CALL)
#undef CALL
}

#endif
