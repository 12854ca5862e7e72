/* The recurrence of linear attention, token by token, and the delta rule: lanes along the columns
 * of the values, so that no lane needs another. */
#ifndef PA_RECURRENCE_INC_H
#define PA_RECURRENCE_INC_H

#include "kernels.h"
#include "tile.inc.h"
#include "vec.h"

/* How many tokens pass over the state at once, their outputs in registers. */
enum { STEP_TOKENS = PA_REGISTERS >= 32 ? 4 : 2, STEP_WAYS = 4 };

/* Where the numbers of some tokens lie. */
typedef struct step {
  const real *keys, *queries, *gates;
  ptrdiff_t pitch, query_pitch, gate_pitch; /* of a token */
  ptrdiff_t gate_step;                      /* 1: a gate for each k, 0: one for all */
} step;

/* state = gate * state + key * u, out = sum over k of query * state, for each of the tokens. */
PA_INLINE void step_tokens(const int gated, const int tokens, const int width, const step *s,
                           ptrdiff_t d, vf u[][MAX_WIDTH], real *state, vf out[][MAX_WIDTH]) {
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) out[t][j] = vf_set1(0);
  for (ptrdiff_t k = 0; k < d; ++k, state += width * LANES) {
    vf x[MAX_WIDTH];
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
                           const real *state, vf recalled[MAX_WIDTH]) {
  vf sum[STEP_WAYS][MAX_WIDTH];
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
  vf sum[MAX_WIDTH];
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
  vf u[STEP_TOKENS][MAX_WIDTH], sums[STEP_TOKENS][MAX_WIDTH];
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j) u[t][j] = vf_load(values + (token + t) * row + j * LANES);
  if (tokens == 1 && r->beta) {
    const vf beta = vf_set1(((const real *)r->beta)[token]);
    vf recalled[MAX_WIDTH];
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

#endif
