/* What comes between the scores and their softmax: the cap, and tiles of what is added or hidden.
 * Lanes are query rows; ids, keys and distances of a block are small enough to compare as they are.
 */
#ifndef PA_TERMS_INC_H
#define PA_TERMS_INC_H

#include <math.h>

#include "kernels.h"
#include "vec_math.h"

PA_INLINE vf hidden_value(void) { return vf_set1((real)-INFINITY); }
PA_INLINE vi is_hidden(vf x) { return (vi)(x == hidden_value()); }

/* `yes` where the mask is set, hidden elsewhere. */
PA_INLINE vf or_hidden(vi mask, vf yes) { return vf_select(mask, yes, hidden_value()); }

static void cap_kernel(void *x, int keys, int width, double cap, void *top) {
  const double log2e = 1.44269504088896340736;
  const vf slope = vf_set1((real)(-2 / cap)), height = vf_set1((real)(cap * log2e));
  const vi magnitude = ~(vi)vf_set1((real)-0.0);
  for (int j = 0; j < width; ++j) {
    real *at = (real *)x + (ptrdiff_t)j * LANES;
    vf best = vf_set1(-REAL_MAX);
    for (int key = 0; key < keys; ++key, at += width * LANES) {
      const vf score = vf_load(at);
      const vf kept = height * vf_tanh_from((vf)((vi)score & magnitude) * slope, score);
      vf_store(at, kept);
      best = vf_max(kept, best);
    }
    vf_store((real *)top + (ptrdiff_t)j * LANES, best);
  }
}

static void bound_kernel(void *tile, int keys, int width, const int32_t *first,
                         const int32_t *last) {
  for (int j = 0; j < width; ++j) {
    vf from, to; /* small whole numbers: comparing them as `real` is exact */
    for (int l = 0; l < LANES; ++l) {
      from[l] = (real)first[j * LANES + l];
      to[l] = (real)last[j * LANES + l];
    }
    real *at = (real *)tile + (ptrdiff_t)j * LANES;
    for (int key = 0; key < keys; ++key, at += width * LANES) {
      const vf here = vf_set1((real)key);
      vf_store(at, or_hidden((vi)(here >= from) & (vi)(here < to), vf_set1(0)));
    }
  }
}

static void match_kernel(void *tile, int keys, int width, const int32_t *own, const int32_t *ids) {
  for (int j = 0; j < width; ++j) {
    vi id;
    for (int l = 0; l < LANES; ++l) id[l] = own[j * LANES + l];
    real *at = (real *)tile + (ptrdiff_t)j * LANES;
    for (int key = 0; key < keys; ++key, at += width * LANES)
      vf_store(at, or_hidden((vi)(id == (real_int)ids[key]), vf_load(at)));
  }
}

static void slopes_kernel(void *tile, int keys, int width, const double *slope,
                          const double *distance, int first) {
  const vi magnitude = ~(vi)vf_set1((real)-0.0);
  for (int j = 0; j < width; ++j) {
    vf minus_slope, start;
    for (int l = 0; l < LANES; ++l) {
      minus_slope[l] = (real)-slope[j * LANES + l];
      start[l] = (real)distance[j * LANES + l];
    }
    real *at = (real *)tile + (ptrdiff_t)j * LANES;
    for (int key = 0; key < keys; ++key, at += width * LANES) {
      const vf old = vf_load(at), steps = start + vf_set1((real)(first + key));
      const vf sum = vf_fma(minus_slope, (vf)((vi)steps & magnitude), old);
      const vf finite = vf_max(vf_set1(-REAL_MAX), sum);
      vf_store(at, vf_select(is_hidden(old), old, finite));
    }
  }
}

static void join_kernel(void *tile, const void *other, size_t numbers) {
  for (size_t i = 0; i < numbers; i += LANES) {
    real *at = (real *)tile + i;
    const vf a = vf_load(at), b = vf_load((const real *)other + i);
    const vf sum = vf_max(vf_set1(-REAL_MAX), a + b); /* two finite ones do not hide */
    vf_store(at, vf_select(is_hidden(a) | is_hidden(b), hidden_value(), sum));
  }
}

static void larger_kernel(void *tile, const void *other, size_t numbers) {
  for (size_t i = 0; i < numbers; i += LANES) {
    real *at = (real *)tile + i;
    vf_store(at, vf_max(vf_load(at), vf_load((const real *)other + i)));
  }
}

static int survey_kernel(const void *tile, int keys, int width, unsigned char *seen) {
  enum { stretch = 8 }; /* keys between two looks at whether there is more to find out */
  int found = 0;
  for (int j = 0; j < width; ++j) {
    const real *at = (const real *)tile + (ptrdiff_t)j * LANES;
    vi shown = (vi)vf_set1(0), other = shown;
    for (int key = 0; key < keys; ++key, at += width * LANES) {
      const vf x = vf_load(at);
      shown |= ~is_hidden(x);
      other |= ~(vi)(x == vf_set1(0));
      if (key % stretch == stretch - 1 && vi_all(shown) && vi_some(other)) break;
    }
    for (int l = 0; l < LANES; ++l) seen[j * LANES + l] |= shown[l] != 0;
    found |= (vi_some(shown) ? PA_FOUND_SEEN : 0) | (vi_some(other) ? PA_FOUND_OTHER : 0);
  }
  return found;
}

/* A score, in units of log2, with what is added to it in natural ones: -inf hides. */
PA_INLINE vf with_added(vf score, vf added) {
  const vf log2e = vf_set1((real)1.44269504088896340736);
  const vf least = vf_set1((real)(-REAL_MAX * 0.6931471)); /* times log2e: still finite */
  /* max: a finite number stays finite, and NaN, the second operand, NaN */
  return vf_select(is_hidden(added), added, vf_fma(vf_max(least, added), log2e, score));
}

static void add_kernel(void *x, const void *tile, int keys, int width, void *top) {
  for (int j = 0; j < width; ++j) {
    real *at = (real *)x + (ptrdiff_t)j * LANES;
    const real *more = (const real *)tile + (ptrdiff_t)j * LANES;
    vf best = vf_set1(-REAL_MAX);
    for (int key = 0; key < keys; ++key, at += width * LANES, more += width * LANES) {
      const vf kept = with_added(vf_load(at), vf_load(more));
      vf_store(at, kept);
      best = vf_max(kept, best);
    }
    vf_store((real *)top + (ptrdiff_t)j * LANES, best);
  }
}

static void mark_kernel(void *weights, const void *tile, int keys, int width) {
  for (ptrdiff_t i = 0; i < (ptrdiff_t)keys * width; ++i) {
    real *at = (real *)weights + i * LANES;
    const vi hidden = is_hidden(vf_load((const real *)tile + i * LANES));
    vf_store(at, vf_select(hidden, vf_set1((real)-0.0), vf_load(at)));
  }
}

#endif
