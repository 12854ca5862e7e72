/* The linear layer: the micro-kernel with rows of x as A and packed weights as B, and what is done
 * to its sums before they are written. */
#ifndef PA_LINEAR_INC_H
#define PA_LINEAR_INC_H

#include "activations.inc.h"
#include "elements.inc.h"
#include "kernels.h"
#include "tile.inc.h"
#include "vec.h"

PA_INLINE vf outlet_load(const pa_outlet *o, ptrdiff_t row, int vector, int lanes) {
  const ptrdiff_t *cols = o->cols + vector * LANES;
  const char *at = o->data + o->rows[row];
  if (o->beside >> vector & 1) return vf_load(at + cols[0]);
  vf x = vf_set1(0);
  for (int l = 0; l < lanes; ++l) x[l] = *(const real_any *)(at + cols[l]);
  return x;
}

PA_INLINE void outlet_store(const pa_outlet *o, ptrdiff_t row, int vector, int lanes, vf x) {
  const ptrdiff_t *cols = o->cols + vector * LANES;
  char *at = o->data + o->rows[row];
  if (o->beside >> vector & 1) vf_store(at + cols[0], x);
  else
    for (int l = 0; l < lanes; ++l) *(real_any *)(at + cols[l]) = x[l];
}

PA_INLINE void outlet_prefetch(const pa_outlet *o, ptrdiff_t row, int count) {
  if (!o->data) return;
  for (int lane = 0; lane < count; lane += LANES)
    __builtin_prefetch(o->data + o->rows[row] + o->cols[lane], 0, 3);
}

PA_INLINE void complete_as(const int activation, const pa_completion *c, const real *sums,
                           ptrdiff_t row, int rows, int width) {
  for (int j = 0; j < width && j * LANES < c->count; ++j) {
    const int lanes = c->count - j * LANES < LANES ? c->count - j * LANES : LANES;
    const vf bias = vf_load((const real *)c->bias + j * LANES);
    for (ptrdiff_t r = row; r < row + rows; ++r) {
      vf y = activate(activation, vf_load(sums + (r * width + j) * LANES) + bias);
      if (c->gate.data) y = y * outlet_load(&c->gate, r, j, lanes);
      if (c->residual.data) y = y + outlet_load(&c->residual, r, j, lanes);
      outlet_store(&c->out, r, j, lanes, y);
    }
  }
}

static void complete(const pa_completion *c, const real *sums, ptrdiff_t row, int rows, int width) {
  switch (c->activation) {
    case GELU: complete_as(GELU, c, sums, row, rows, width); break;
    case GELU_TANH: complete_as(GELU_TANH, c, sums, row, rows, width); break;
    case QUICK_GELU: complete_as(QUICK_GELU, c, sums, row, rows, width); break;
    case SILU: complete_as(SILU, c, sums, row, rows, width); break;
    case RELU: complete_as(RELU, c, sums, row, rows, width); break;
    default: complete_as(IDENTITY, c, sums, row, rows, width); break;
  }
}

/* Completed tile by tile, so that stores go on beside the next products. What completion reads and
 * writes is fetched before, a row at a time between parts of the products: all rows at once would
 * take every place there is for lines on their way, and the products would wait. */
PA_INLINE void linear_tile(const int rows, const int width, ptrdiff_t row, const int type,
                           const pa_matrix *x, ptrdiff_t steps, const char *panel, int fresh,
                           real *sums, const pa_completion *completion) {
  pa_matrix a = {x->data + row * x->row, x->row, (ptrdiff_t)sizeof(real)};
  vf acc[MAX_ROWS][MAX_WIDTH];
  tile_clear(rows, width, acc);
  const ptrdiff_t part = (steps + rows - 1) / rows;
  for (ptrdiff_t from = 0, r = row; from < steps; from += part, ++r) {
    if (completion) {
      outlet_prefetch(&completion->out, r, completion->count);
      outlet_prefetch(&completion->gate, r, completion->count);
      outlet_prefetch(&completion->residual, r, completion->count);
    }
    tile_sum(0, 1, rows, width, &a, type, panel, steps - from < part ? steps - from : part, acc);
    a.data += part * (ptrdiff_t)sizeof(real);
    panel += part * width * LANES * type_bytes(type);
  }
  real *to = sums + row * width * LANES;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 3
    for (int j = 0; j < width; ++j, to += LANES)
      vf_store(to, fresh ? acc[r][j] : vf_load(to) + acc[r][j]);
  if (completion) complete(completion, sums, row, rows, width);
}

static void linear_kernel(const pa_matrix *x, int rows, ptrdiff_t steps, const void *panel,
                          int width, int fresh, void *sums, const pa_completion *completion){
#define CALL(w) \
  FOR_EACH_TILE(linear_tile, tile_rows(w), w, rows, REAL, x, steps, panel, fresh, sums, completion)
    FOR_WIDTH(width, CALL)
#undef CALL
}

/* By fours and ones: every shape there is takes the compiler its time. */
#define LINEAR_FEW(type, TYPE)                                                                \
  static void linear_few_##type##_kernel(const pa_matrix *x, int rows, ptrdiff_t steps,       \
                                         const void *panel, int width, int fresh, void *sums, \
                                         const pa_completion *completion) {                   \
    ptrdiff_t row = 0;                                                                        \
    FOR_WIDTH(width, CALL_##TYPE)                                                             \
  }
#define CALL(w, TYPE)                                                       \
  for (; row + 4 <= rows; row += 4)                                         \
    linear_tile(4, w, row, TYPE, x, steps, panel, fresh, sums, completion); \
  for (; row < rows; ++row) linear_tile(1, w, row, TYPE, x, steps, panel, fresh, sums, completion)
#define CALL_FLOAT16(w) CALL(w, FLOAT16)
#define CALL_BFLOAT16(w) CALL(w, BFLOAT16)
#if PA_REAL_BITS == 32
LINEAR_FEW(float16, FLOAT16) LINEAR_FEW(bfloat16, BFLOAT16)
#endif
#undef CALL_FLOAT16
#undef CALL_BFLOAT16
#undef CALL
#undef LINEAR_FEW

/* Panels hold whole vectors, so there is no rest. */
#define CONVERT(type, TYPE)                                                         \
  static void widen_##type##_kernel(void *to, const char *from, ptrdiff_t count) {  \
    for (ptrdiff_t i = 0; i < count; i += LANES)                                    \
      vf_store((real *)to + i, load_##type(from + i * type_bytes(TYPE)));           \
  }                                                                                 \
  static void narrow_##type##_kernel(char *to, const void *from, ptrdiff_t count) { \
    for (ptrdiff_t i = 0; i < count; i += LANES)                                    \
      store_##type(to + i * type_bytes(TYPE), vf_load((const real *)from + i));     \
  }
    CONVERT(float16, FLOAT16) CONVERT(bfloat16, BFLOAT16)
#undef CONVERT

#endif
