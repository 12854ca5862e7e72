/* Arrays as planes: rows and columns in two levels each. */
#ifndef PLANES_H
#define PLANES_H

#include "arrays.h"
#include "pyattn.h"

typedef struct plane {
  array memory;
  pa_plane view;
} plane;

enum { SHARED_ROWS = 3, SHARED_COLS = 12, SHARED_ALL = 15 };

/* An axis of n in two levels: extents[0] of extents[1]. Often one level, its end unknown. */
static void two_levels(int64_t n, pa_axis *axis, int64_t extents[2]) {
  const int64_t inner = below(2) ? n : 1 + below((int)n);
  extents[0] = (n + inner - 1) / inner, extents[1] = inner;
  axis->inner = inner == n && below(2) ? INT64_MAX : inner;
}

/* WHOLE: numbers of a row beside each other. */
static plane plane_take(int64_t rows, int64_t cols, int bytes, int shared, layout how) {
  plane p;
  int64_t extent[4];
  two_levels(rows, &p.view.row, extent);
  two_levels(cols, &p.view.col, extent + 2);
  if (how == WHOLE) p.view.col.inner = cols, extent[2] = 1, extent[3] = cols;
  p.memory = array_take(4, extent, bytes, shared, how);
  p.view.data = p.memory.data;
  p.view.row.outer = p.memory.stride[0], p.view.row.stride = p.memory.stride[1];
  p.view.col.outer = p.memory.stride[2], p.view.col.stride = p.memory.stride[3];
  return p;
}

static int64_t axis_at(const pa_axis *axis, int64_t k) {
  return k / axis->inner * axis->outer + k % axis->inner * axis->stride;
}

static char *plane_at(const pa_plane *p, int64_t row, int64_t col) {
  return p->data + axis_at(&p->row, row) + axis_at(&p->col, col);
}

/* The same plane as it was. */
static pa_plane plane_before(const plane *p) {
  pa_plane before = p->view;
  before.data = array_before(&p->memory).data;
  return before;
}

#endif
