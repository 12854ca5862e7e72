/* The running softmax over blocks of keys, all lanes vertical: a lane is a query row.
 * Source of the recurrence: Milakov and Gimelshein 2018, "Online normalizer calculation for
 * softmax"; scores arrive in units of log2 (rows.inc.h), so that 2**x serves for exp. */
#ifndef PA_SOFTMAX_INC_H
#define PA_SOFTMAX_INC_H

#include <math.h>

#include "kernels.h"
#include "vec_math.h"

/* A score becomes its weight, in place. */
PA_INLINE vf softmax_weight(real *at, vf top) {
  const vf weight = vf_exp2(vf_load(at) - top);
  vf_store(at, weight);
  return weight;
}

static void softmax_kernel(void *scores, int keys, int width, const void *top, pa_state *state,
                           void *alpha) {
  for (int j = 0; j < width; ++j) {
    const ptrdiff_t lane = (ptrdiff_t)j * LANES;
    real *tops = (real *)state->top + lane, *sums = (real *)state->sum + lane;
    const vf before = vf_load(tops);
    const vf after = vf_max(vf_load((const real *)top + lane), before);
    const vf fade = vf_exp2(before - after);
    /* Sums of four, of these four, ...: a tree, since a long chain would lose digits. Where a key
     * stands in it depends on the key alone, and a weight of 0 changes nothing. */
    vf sum[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    real *x = (real *)scores + lane;
    const ptrdiff_t next = (ptrdiff_t)width * LANES;
    int key = 0;
    for (; key + 4 <= keys; key += 4, x += 4 * next) {
      const vf a = softmax_weight(x, after), b = softmax_weight(x + next, after);
      const vf c = softmax_weight(x + 2 * next, after), d = softmax_weight(x + 3 * next, after);
      sum[key / 4 % 4] = sum[key / 4 % 4] + ((a + b) + (c + d));
    }
    vf rest[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    for (int i = 0; key + i < keys; ++i) rest[i] = softmax_weight(x + i * next, after);
    sum[key / 4 % 4] = sum[key / 4 % 4] + ((rest[0] + rest[1]) + (rest[2] + rest[3]));
    vf_store(tops, after);
    vf_store(sums, vf_fma(fade, vf_load(sums), (sum[0] + sum[1]) + (sum[2] + sum[3])));
    vf_store((real *)alpha + lane, fade);
  }
}

static void reset_kernel(pa_state *state, ptrdiff_t d, int width) {
  for (ptrdiff_t i = 0; i < width; ++i) {
    vf_store((real *)state->top + i * LANES, vf_set1(-REAL_MAX));
    vf_store((real *)state->sum + i * LANES, vf_set1(0));
  }
  for (ptrdiff_t i = 0; i < d * width; ++i) vf_store((real *)state->out + i * LANES, vf_set1(0));
  for (int lane = 0; lane < width * LANES; ++lane) state->seen[lane] = 0;
}

static int finite_kernel(const pa_state *state, ptrdiff_t d, int width) {
  vf zero = vf_set1(0); /* 0 * x is 0 for finite x, NaN otherwise, and NaN stays */
  for (ptrdiff_t i = 0; i < d * width; ++i)
    zero = zero + vf_set1(0) * vf_load((const real *)state->out + i * LANES);
  for (int l = 0; l < LANES; ++l)
    if (!(zero[l] == 0)) return 0;
  return 1;
}

static void merge_kernel(pa_state *total, const pa_state *part, ptrdiff_t d, int width) {
  for (int lane = 0; lane < width * LANES; ++lane) total->seen[lane] |= part->seen[lane];
  for (int j = 0; j < width; ++j) {
    const ptrdiff_t lane = (ptrdiff_t)j * LANES;
    real *top = (real *)total->top + lane, *sum = (real *)total->sum + lane;
    const vf a = vf_load(top), b = vf_load((const real *)part->top + lane);
    const vf both = vf_max(a, b);
    const vf fade_a = vf_exp2(a - both), fade_b = vf_exp2(b - both);
    vf_store(top, both);
    vf_store(sum, vf_fma(fade_a, vf_load(sum), fade_b * vf_load((const real *)part->sum + lane)));
    for (ptrdiff_t k = 0; k < d; ++k) {
      real *out = (real *)total->out + k * width * LANES + lane;
      const vf more = vf_load((const real *)part->out + k * width * LANES + lane);
      vf_store(out, vf_fma(fade_a, vf_load(out), fade_b * more));
    }
  }
}

/* A sink is one more score: both it and the sum fade to the larger of the tops. */
static void factors_kernel(const pa_state *state, int width, const double *sink, void *factor) {
  const double log2e = 1.44269504088896340736;
  for (int j = 0; j < width; ++j) {
    const ptrdiff_t lane = (ptrdiff_t)j * LANES;
    const vf top = vf_load((const real *)state->top + lane);
    vf logit;
    for (int l = 0; l < LANES; ++l) logit[l] = (real)(sink[lane + l] * log2e);
    const vf both = vf_max(logit, top);
    const vf fade = vf_exp2(top - both);
    const vf sum = vf_fma(vf_load((const real *)state->sum + lane), fade, vf_exp2(logit - both));
    vf inverse = vf_set1(1) / sum;
    vf rest = vf_fma(vf_set1(0) - sum, inverse, vf_set1(1)) * inverse; /* a step of Newton's */
    inverse = inverse * fade;
    rest = rest * fade;
    for (int l = 0; l < LANES; ++l)
      if (!state->seen[lane + l]) inverse[l] = rest[l] = 0;
    vf_store((real *)factor + lane, inverse);
    vf_store((real *)factor + (ptrdiff_t)width * LANES + lane, rest);
  }
}

static void lse_kernel(const pa_state *state, int width, const double *sink, void *lse) {
  const double ln2 = 0.69314718055994530942;
  for (int lane = 0; lane < width * LANES; ++lane) {
    const double top = (double)((const real *)state->top)[lane] * ln2, more = sink[lane];
    const double sum = (double)((const real *)state->sum)[lane];
    double log_sum = state->seen[lane] ? top + log(sum) : -INFINITY;
    if (more > -INFINITY) { /* log(exp(a) + exp(b)), of the larger first; NaN stays */
      const double high = log_sum < more ? more : log_sum, low = log_sum < more ? log_sum : more;
      log_sum = high + log1p(exp(low - high));
    }
    ((real *)lse)[lane] = (real)log_sum;
  }
}

#endif
