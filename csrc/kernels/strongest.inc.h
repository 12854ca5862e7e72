/* The largest scores of each row and their keys, by insertion: rare once the first blocks are past.
 */
#ifndef PA_STRONGEST_INC_H
#define PA_STRONGEST_INC_H

#include <math.h>

#include "kernels.h"
#include "vec_math.h"
#include "write.inc.h"

static void keep_kernel(const pa_strongest *best, const void *scores, int64_t from, int keys) {
  const int lanes = best->width * LANES;
  const int64_t last = best->k - 1;
  for (int row = 0; row < best->count; ++row) {
    real *kept = (real *)best->weights[row];
    int64_t *at = (int64_t *)best->indices[row];
    const real *score = (const real *)scores + row;
    real least = at[last] < 0 ? (real)-INFINITY : kept[last];
    for (int key = 0; key < keys; ++key, score += lanes) {
      if (!(*score > least)) continue; /* equal ones stay behind those that came before; NaN too */
      int64_t place = last;
      for (; place > 0 && (at[place - 1] < 0 || kept[place - 1] < *score); --place) {
        kept[place] = kept[place - 1];
        at[place] = at[place - 1];
      }
      kept[place] = *score;
      at[place] = from + key;
      if (at[last] >= 0) least = kept[last];
    }
  }
}

/* The arithmetic of `softmax` and `write`: the same bits as attention weights. */
static void weigh_kernel(const pa_strongest *best, const pa_state *state, const void *factor) {
  const int lanes = best->width * LANES;
  for (int row = 0; row < best->count; ++row) {
    real *kept = (real *)best->weights[row];
    const int64_t *at = (const int64_t *)best->indices[row];
    const vf top = vf_set1(((const real *)state->top)[row]);
    const vf whole = vf_set1(((const real *)factor)[row]);
    const vf rest = vf_set1(((const real *)factor)[lanes + row]);
    for (int64_t i = 0; i < best->k; ++i) {
      const vf weight = times_factor(vf_exp2(vf_set1(kept[i]) - top), whole, rest);
      kept[i] =
          at[i] < 0 ? whole[0] * 0 + 0 : weight[0]; /* NaN in all of a row that attends to one */
    }
  }
}

#endif
