/* Linear attention in chunks of tokens, beside the products of tile.inc.h: feature maps, what fades
 * between tokens, sums over a chunk, divisors. */
#ifndef PA_CHUNK_INC_H
#define PA_CHUNK_INC_H

#include "kernels.h"
#include "vec.h"
#include "vec_math.h"

enum { IDENTITY_MAP, ELU_MAP, RELU_MAP, EXP_MAP = PA_MAP_EXP }; /* in the order of pa_feature */

enum { SUM_ROWS = 16 }; /* terms of a chain, as in tile.inc.h */

/* exp(x) of any x. Above 0 the quotient costs another half unit in the last place. */
PA_INLINE vf exp_any(vf x) {
  const vf e = vf_exp(vf_set1(0) - vf_abs(x));
  return vf_select((vi)(x > 0), vf_set1(1) / e, e);
}

PA_INLINE vf mapped(const int map, vf x) {
  switch (map) {
    case ELU_MAP: return vf_select((vi)(x > 0), x + vf_set1(1), vf_exp(vf_set1(0) - vf_abs(x)));
    case RELU_MAP: return vf_max(vf_set1(0), x); /* NaN, second, stays */
    case EXP_MAP: return exp_any(x);
    default: return x;
  }
}

PA_INLINE void map_rows(const int map, real *x, ptrdiff_t rows, ptrdiff_t cols) {
  const ptrdiff_t pitch = (cols + LANES - 1) / LANES * LANES;
  for (ptrdiff_t r = 0; r < rows; ++r, x += pitch) {
    for (ptrdiff_t k = 0; k < pitch; k += LANES) vf_store(x + k, mapped(map, vf_load(x + k)));
    for (ptrdiff_t k = cols; k < pitch; ++k) x[k] = 0;
  }
}

static void map_kernel(void *x, ptrdiff_t rows, ptrdiff_t cols, int map) {
  switch (map) {
    case ELU_MAP: map_rows(ELU_MAP, x, rows, cols); break;
    case RELU_MAP: map_rows(RELU_MAP, x, rows, cols); break;
    case EXP_MAP: map_rows(EXP_MAP, x, rows, cols); break;
    default: break;
  }
}

static void products_kernel(void *gates, int count) {
  real *own = gates, *before = own + PA_KEY_BLOCK, *after = before + PA_KEY_BLOCK;
  real product = 1;
  for (int t = 0; t < count; ++t) before[t] = product *= own[t];
  product = 1;
  for (int t = count - 1; t >= 0; --t) {
    after[t] = product;
    product *= own[t];
  }
}

/* From the last key to the first, so that a lane's product of gates grows by one with each. Taking
 * it from sums of logarithms instead would meet infinities that cancel. */
PA_INLINE void fade_vector(const int gated, real *scores, ptrdiff_t stride, int keys, vi position,
                           const real *gates, real *sum) {
  const vf hidden = vf_set1((real)-0.0);
  vf fade = vf_set1(0), total = vf_set1(0), part = vf_set1(0);
  for (int key = keys - 1; key >= 0; --key) {
    const vi at = (vi){0} + (real_int)key;
    vf score = vf_load(scores + key * stride);
    if (gated) { /* of lanes whose own key is still to come it is of no account */
      const real gate = key + 1 < keys ? gates[key + 1] : 0;
      fade = vf_select((vi)(position == at), vf_set1(1), fade * vf_set1(gate));
      score = score * fade;
    }
    score = vf_select((vi)(position >= at), score + vf_set1(0), hidden); /* what is seen is +0 */
    vf_store(scores + key * stride, score);
    part = part + score;
    if (key % SUM_ROWS == 0) {
      total = total + part;
      part = vf_set1(0);
    }
  }
  vf_store(sum, total);
}

static void fade_kernel(void *scores, int keys, int width, const int32_t *position,
                        const void *gates, void *sum, void *alpha) {
  const ptrdiff_t stride = (ptrdiff_t)width * LANES;
  const real *own = gates, *before = own ? own + PA_KEY_BLOCK : NULL;
  for (ptrdiff_t lane = 0; lane < stride; lane += LANES, position += LANES) {
    real *x = (real *)scores + lane, *to = (real *)sum + lane;
    vi at;
    for (int l = 0; l < LANES; ++l) at[l] = position[l];
    if (own) fade_vector(1, x, stride, keys, at, own, to);
    else fade_vector(0, x, stride, keys, at, own, to);
    for (int l = 0; l < LANES; ++l) ((real *)alpha)[lane + l] = own ? before[position[l]] : 1;
  }
}

static void scale_rows_kernel(void *x, int rows, ptrdiff_t cols, const void *factor) {
  real *at = x;
  for (int r = 0; r < rows; ++r) {
    const vf by = vf_set1(((const real *)factor)[r]);
    for (ptrdiff_t k = 0; k < cols; k += LANES, at += LANES) vf_store(at, vf_load(at) * by);
  }
}

static void sum_rows_kernel(void *to, const void *x, int rows, ptrdiff_t cols) {
  for (ptrdiff_t k = 0; k < cols; k += LANES) {
    const real *from = (const real *)x + k;
    vf total = vf_set1(0);
    for (int first = 0; first < rows; first += SUM_ROWS) {
      const int end = first + SUM_ROWS < rows ? first + SUM_ROWS : rows;
      vf part = vf_set1(0);
      for (int r = first; r < end; ++r, from += cols) part = part + vf_load(from);
      total = total + part;
    }
    vf_store((real *)to + k, total);
  }
}

static void fold_kernel(void *to, const void *from, ptrdiff_t numbers, const void *alpha) {
  real *at = to;
  const vf fade = vf_set1(*(const real *)alpha);
  for (ptrdiff_t i = 0; i < numbers; i += LANES)
    vf_store(at + i, vf_fma(fade, vf_load((const real *)from + i), vf_load(at + i)));
}

static void shares_kernel(void *factor, void *rest, ptrdiff_t count, const void *sum,
                          double scale) {
  real *high = factor, *low = rest;
  for (ptrdiff_t i = 0; i < count; i += LANES) {
    vf inverse = vf_set1((real)scale), more = vf_set1((real)(scale - (double)(real)scale));
    if (sum) {
      const vf total = vf_load((const real *)sum + i);
      const vi nothing = (vi)(total == 0);
      inverse = vf_select(nothing, vf_set1(0), vf_set1(1) / total);
      more = vf_fma(vf_set1(0) - total, inverse, vf_set1(1)) * inverse; /* a step of Newton's */
      more = vf_select((vi)(more - more == 0), more, vf_set1(0)); /* none from what overflowed */
    }
    vf_store(high + i, inverse);
    vf_store(low + i, more);
  }
}

#endif
