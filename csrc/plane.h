/* Where rows and columns of a plane lie. */
#ifndef PA_PLANE_H
#define PA_PLANE_H

#include <stddef.h>

#include "pyattn.h"

static inline ptrdiff_t pa_axis_place(const pa_axis *axis, int64_t number) {
  return (ptrdiff_t)(number / axis->inner * axis->outer + number % axis->inner * axis->stride);
}

/* The places of `count` numbers from `first` on. */
static inline void pa_axis_places(const pa_axis *axis, int64_t first, int count,
                                  ptrdiff_t *places) {
  int64_t outer = first / axis->inner, inner = first % axis->inner;
  for (int i = 0; i < count; ++i) {
    places[i] = (ptrdiff_t)(outer * axis->outer + inner * axis->stride);
    if (++inner == axis->inner) inner = 0, ++outer;
  }
}

static inline char *pa_plane_row(const pa_plane *plane, int64_t row) {
  return plane->data + pa_axis_place(&plane->row, row);
}

#endif
