/* Linear attention: feature maps, what fades between tokens, sums over the tokens of a chunk, and
 * the recurrence token by token. The products of whole chunks are those of tile.inc.h. */
#ifndef PA_RECURRENCE_INC_H
#define PA_RECURRENCE_INC_H

#include "elements.inc.h"
#include "kernels.h"
#include "vec.h"
#include "vec_math.h"
#include "write.inc.h"

enum { IDENTITY_MAP, ELU_MAP, RELU_MAP, EXP_MAP }; /* the first three in the order of pa_feature */

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
    }
    vf_store(high + i, inverse);
    vf_store(low + i, more);
  }
}

/* --- The recurrence: lanes along the columns of the values, so that no lane needs another. */

/* How many tokens pass over the state at once, their outputs in registers. */
enum { STEP_TOKENS = PA_REGISTERS >= 32 ? 4 : 2, STEP_WAYS = 4 };

/* What `tokens` tokens from `token` on do with the state. */
typedef struct step {
  const real *keys, *queries, *gates;
  ptrdiff_t pitch, query_pitch, gate_pitch,
      gate_step; /* of a token, and of a gate for the next k */
} step;

/* state = gate * state + key * u, out = sum over k of query * state, for each of the tokens. */
PA_INLINE void step_tokens(const int gated, const int tokens, const int width, const step *s,
                           ptrdiff_t d, vf u[][3], real *state, vf out[][3]) {
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) out[t][j] = vf_set1(0);
  for (ptrdiff_t k = 0; k < d; ++k, state += width * LANES) {
    vf x[3];
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) x[j] = vf_load(state + j * LANES);
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) {
      const vf key = vf_set1(s->keys[t * s->pitch + k]);
      const vf query = vf_set1(s->queries[t * s->query_pitch + k]);
      const vf gate = gated ? vf_set1(s->gates[t * s->gate_pitch + k * s->gate_step]) : vf_set1(1);
#pragma GCC unroll 3
      for (int j = 0; j < width; ++j) {
        x[j] = vf_fma(key, u[t][j], gated ? gate * x[j] : x[j]);
        out[t][j] = vf_fma(query, x[j], out[t][j]);
      }
    }
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) vf_store(state + j * LANES, x[j]);
  }
}

/* recalled = sum over k of key * gate * state: what the faded state has for this key. */
PA_INLINE void step_recall(const int gated, const int width, const step *s, ptrdiff_t d,
                           const real *state, vf recalled[3]) {
  vf sum[STEP_WAYS][3];
#pragma GCC unroll 4
  for (int w = 0; w < STEP_WAYS; ++w)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) sum[w][j] = vf_set1(0);
  ptrdiff_t k = 0;
  for (; k + STEP_WAYS <= d; k += STEP_WAYS)
#pragma GCC unroll 4
    for (int w = 0; w < STEP_WAYS; ++w) {
      const ptrdiff_t at = k + w;
      const vf key = vf_set1(s->keys[at] * (gated ? s->gates[at * s->gate_step] : 1));
#pragma GCC unroll 3
      for (int j = 0; j < width; ++j)
        sum[w][j] = vf_fma(key, vf_load(state + (at * width + j) * LANES), sum[w][j]);
    }
  for (; k < d; ++k) {
    const vf key = vf_set1(s->keys[k] * (gated ? s->gates[k * s->gate_step] : 1));
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j)
      sum[0][j] = vf_fma(key, vf_load(state + (k * width + j) * LANES), sum[0][j]);
  }
#pragma GCC unroll 3
  for (int j = 0; j < width; ++j) recalled[j] = (sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]);
}

/* out = sum over k of query * state: the same bits as `step_tokens` has for them. */
PA_INLINE void step_ask(const int width, const real *query, ptrdiff_t d, const real *state,
                        real *out) {
  vf sum[3];
#pragma GCC unroll 3
  for (int j = 0; j < width; ++j) sum[j] = vf_set1(0);
  for (ptrdiff_t k = 0; k < d; ++k, state += width * LANES)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j)
      sum[j] = vf_fma(vf_set1(query[k]), vf_load(state + j * LANES), sum[j]);
#pragma GCC unroll 3
  for (int j = 0; j < width; ++j) vf_store(out + j * LANES, sum[j]);
}

PA_INLINE step step_at(const pa_recurrence *r, ptrdiff_t token) {
  return (step){.keys = (const real *)r->keys + token * r->pitch,
                .queries = (const real *)r->queries + token * r->group * r->pitch,
                .gates = r->gates ? (const real *)r->gates + token * r->gate_pitch : NULL,
                .pitch = r->pitch,
                .query_pitch = r->group * r->pitch,
                .gate_pitch = r->gate_pitch,
                .gate_step = r->gate_pitch > 1};
}

PA_INLINE void recur_tokens(const int gated, const int tokens, const int width,
                            const pa_recurrence *r, int token, const real *values, real *state,
                            real *out) {
  const ptrdiff_t row = (ptrdiff_t)width * LANES;
  const step s = step_at(r, token);
  vf u[STEP_TOKENS][3], sums[STEP_TOKENS][3];
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) u[t][j] = vf_load(values + (token + t) * row + j * LANES);
  if (tokens == 1 && r->beta) {
    const vf beta = vf_set1(((const real *)r->beta)[token]);
    vf recalled[3];
    step_recall(gated, width, &s, r->d, state, recalled);
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) u[0][j] = beta * (u[0][j] - recalled[j]);
  }
  step_tokens(gated, tokens, width, &s, r->d, u, state, sums);
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j)
      vf_store(out + (token + t) * r->group * row + j * LANES, sums[t][j]);
  for (int head = 1; head < r->group; ++head)
    step_ask(width, s.queries + head * r->pitch, r->d, state,
             out + ((ptrdiff_t)token * r->group + head) * row);
}

PA_INLINE void recur_width(const int gated, const int width, const pa_recurrence *r,
                           const real *values, real *state, real *out) {
  int t = 0;
  if (r->group == 1 && !r->beta)
    for (; t + STEP_TOKENS <= r->tokens; t += STEP_TOKENS)
      recur_tokens(gated, STEP_TOKENS, width, r, t, values, state, out);
  for (; t < r->tokens; ++t) recur_tokens(gated, 1, width, r, t, values, state, out);
}

static void recur_kernel(const pa_recurrence *r, const void *values, int width, void *state,
                         void *out) {
#define CALL(w) recur_width(r->gates != NULL, w, r, values, state, out)
  switch (width) {
    case 1: CALL(1); break;
    case 2: CALL(2); break;
    default: CALL(3); break;
  }
#undef CALL
}

static void recur_sums_kernel(const pa_recurrence *r, void *keys, void *sums) {
  real *z = keys;
  for (int t = 0; t < r->tokens; ++t) {
    const step s = step_at(r, t);
    for (ptrdiff_t k = 0; k < r->pitch; k += LANES) {
      vf gate = vf_set1(1);
      if (s.gates) gate = s.gate_step ? vf_load(s.gates + k) : vf_set1(*s.gates);
      vf_store(z + k, vf_fma(gate, vf_load(z + k), vf_load(s.keys + k)));
    }
    for (int head = 0; head < r->group; ++head) {
      vf sum = vf_set1(0);
      for (ptrdiff_t k = 0; k < r->pitch; k += LANES)
        sum = vf_fma(vf_load(s.queries + head * r->pitch + k), vf_load(z + k), sum);
      real total = 0;
      for (int l = 0; l < LANES; ++l) total += sum[l];
      ((real *)sums)[(ptrdiff_t)t * r->group + head] = total;
    }
  }
}

#define WRITE_ROWS(type, TYPE)                                                                  \
  static void write_rows_##type##_kernel(char *to, ptrdiff_t row, ptrdiff_t col, const void *x, \
                                         int rows, ptrdiff_t cols, const void *factor,          \
                                         const void *rest) {                                    \
    write_rows(TYPE, to, row, col, x, rows, cols, factor, rest);                                \
  }
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
#if PA_REAL_BITS == 32
WRITE_ROWS(float16, FLOAT16)
WRITE_ROWS(bfloat16, BFLOAT16)
WRITE_ROWS(float32, FLOAT32)
#else
WRITE_ROWS(float64, FLOAT64)
#endif
#undef WRITE_ROWS

#endif
