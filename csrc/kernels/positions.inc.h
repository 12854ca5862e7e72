/* Positions: rows are rotated by angles, or get a row of a table added. Both are bound by memory,
 * so they compute in a type with more digits than the numbers have, which costs nothing. */
#ifndef PA_POSITIONS_INC_H
#define PA_POSITIONS_INC_H

#include "elements.inc.h"
#include "kernels.h"
#include "vec.h"

/* Row n of the call, and its row of the table. */
PA_INLINE const char *table_row(const pa_table_rows *rows, int64_t n) {
  int64_t index;
  __builtin_memcpy(&index, rows->index + n * rows->index_step, sizeof index);
  return rows->table + index * rows->table_row;
}

/* How many rows ahead to ask for. Hardly more than there are, since those that come after are as
 * many; but not exactly as many: the same row of another head often belongs to the same sets of the
 * caches as the one at work, which costs a tenth. */
PA_INLINE int64_t rows_ahead(const pa_table_rows *rows, ptrdiff_t bytes) {
  enum { distance = 8192 };
  const int64_t ahead = distance / bytes + 1, most = rows->count + rows->count / 8;
  return ahead < most ? ahead : most;
}

/* Asks the second cache for the row that comes `ahead` rows after row n: arithmetic fills the
 * window in which the processor looks ahead by itself. Into the first cache is slower: it has room
 * for few requests. */
PA_INLINE void fetch_ahead(const pa_table_rows *rows, int64_t n, int64_t ahead, ptrdiff_t bytes) {
  enum { line = 64, second_cache = 2 };
  const int64_t later = n + ahead, beyond = later - rows->count;
  const uintptr_t at = beyond < 0 ? (uintptr_t)rows->from + (uintptr_t)(later * rows->from_step)
                                  : (uintptr_t)rows->next + (uintptr_t)(beyond * rows->from_step);
  for (ptrdiff_t k = 0; k < bytes; k += line)
    __builtin_prefetch((const void *)(at + (uintptr_t)k), 0, second_cache);
}

/* (a, b) turned by the angle of which the table has cosine and sine. */
PA_INLINE void turn(vf *a, vf *b, vf cosine, vf sine) {
  const vf turned = vf_fma(*a, cosine, -(*b * sine));
  *b = vf_fma(*a, sine, *b * cosine);
  *a = turned;
}

/* Whether the numbers of a row lie beside each other. */
PA_INLINE int is_whole(const pa_table_rows *rows, ptrdiff_t bytes) {
  return rows->from_col == bytes && rows->to_col == bytes;
}

/* Whether all results start where they can be written past the caches; `apart`: in bytes, parts of
 * a row. */
PA_INLINE int may_stream(const pa_table_rows *rows, ptrdiff_t apart) {
  const uintptr_t all = (uintptr_t)rows->to | (uintptr_t)rows->to_step | (uintptr_t)apart;
  return rows->stream && all % PA_STREAM_ALIGN == 0;
}

PA_INLINE void put_lanes(int type, int stream, char *at, vf x) {
  if (stream) stream_lanes(type, at, x);
  else store_lanes(type, at, x);
}

/* LANES pairs: half of them at `from`, half at `from + partner`. */
PA_INLINE void turn_lanes(int type, int interleaved, int stream, const char *from, char *to,
                          ptrdiff_t partner, const real *cosines, const real *sines) {
  vf a = load_lanes(type, from), b = load_lanes(type, from + partner);
  if (interleaved) {
    const vf both = a;
    a = vf_even(both, b), b = vf_odd(both, b);
  }
  turn(&a, &b, vf_load(cosines), vf_load(sines));
  if (interleaved) {
    const vf first = a;
    a = vf_zip_low(first, b), b = vf_zip_high(first, b);
  }
  put_lanes(type, stream, to, a);
  put_lanes(type, stream, to + partner, b);
}

/* `count` <= LANES pairs, the first ones at `from`, `step` apart; the second at `from + partner`.
 */
PA_INLINE void turn_apart(int type, const char *from, ptrdiff_t from_col, char *to,
                          ptrdiff_t to_col, ptrdiff_t partner, ptrdiff_t step, ptrdiff_t count,
                          const real *cosines, const real *sines) {
  vf a = gather_lanes(type, from, step * from_col, count);
  vf b = gather_lanes(type, from + partner * from_col, step * from_col, count);
  turn(&a, &b, gather_lanes(REAL, (const char *)cosines, sizeof(real), count),
       gather_lanes(REAL, (const char *)sines, sizeof(real), count));
  scatter_lanes(type, to, step * to_col, count, a);
  scatter_lanes(type, to + partner * to_col, step * to_col, count, b);
}

PA_INLINE void copy_rest(int type, const char *from, ptrdiff_t from_col, char *to, ptrdiff_t to_col,
                         int64_t count) {
  if (to == from) return;
  for (int64_t k = 0; k < count; ++k)
    __builtin_memcpy(to + k * to_col, from + k * from_col, (size_t)type_bytes(type));
}

PA_INLINE void rotate_rows(int type, int interleaved, int stream, const pa_table_rows *rows,
                           int64_t pairs) {
  const ptrdiff_t bytes = type_bytes(type), row_bytes = rows->cols * bytes;
  const ptrdiff_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : pairs;
  const ptrdiff_t partner = (interleaved ? LANES : pairs) * bytes;
  const int whole = is_whole(rows, bytes);
  const int64_t ahead = rows_ahead(rows, row_bytes), vectors = whole ? pairs / LANES * LANES : 0;
  for (int64_t n = 0; n < rows->count; ++n) {
    const char *from = rows->from + n * rows->from_step;
    char *to = rows->to + n * rows->to_step;
    const real *cosines = (const real *)(const void *)table_row(rows, n), *sines = cosines + pairs;
    if (whole) fetch_ahead(rows, n, ahead, row_bytes);
    int64_t i = 0;
    for (; i < vectors; i += LANES)
      turn_lanes(type, interleaved, stream, from + i * step * bytes, to + i * step * bytes, partner,
                 cosines + i, sines + i);
    for (; i < pairs; i += LANES)
      turn_apart(type, from + i * step * rows->from_col, rows->from_col,
                 to + i * step * rows->to_col, rows->to_col, apart, step,
                 pairs - i < LANES ? pairs - i : LANES, cosines + i, sines + i);
    copy_rest(type, from + 2 * pairs * rows->from_col, rows->from_col,
              to + 2 * pairs * rows->to_col, rows->to_col, rows->cols - 2 * pairs);
  }
}

PA_INLINE void rotate_any(int type, const pa_table_rows *rows, int64_t pairs, int interleaved) {
  const int stream = may_stream(rows, interleaved ? 0 : pairs * type_bytes(type));
  if (interleaved && stream) rotate_rows(type, 1, 1, rows, pairs);
  else if (interleaved) rotate_rows(type, 1, 0, rows, pairs);
  else if (stream) rotate_rows(type, 0, 1, rows, pairs);
  else rotate_rows(type, 0, 0, rows, pairs);
}

PA_INLINE void shift_rows(int type, int stream, const pa_table_rows *rows) {
  const ptrdiff_t bytes = type_bytes(type), row_bytes = rows->cols * bytes;
  const int whole = is_whole(rows, bytes) && rows->table_col == bytes;
  const int64_t ahead = rows_ahead(rows, row_bytes),
                vectors = whole ? rows->cols / LANES * LANES : 0;
  for (int64_t n = 0; n < rows->count; ++n) {
    const char *from = rows->from + n * rows->from_step, *more = table_row(rows, n);
    char *to = rows->to + n * rows->to_step;
    if (whole) fetch_ahead(rows, n, ahead, row_bytes);
    int64_t k = 0;
    for (; k < vectors; k += LANES)
      put_lanes(type, stream, to + k * bytes,
                load_lanes(type, from + k * bytes) + load_lanes(type, more + k * bytes));
    for (; k < rows->cols; k += LANES) {
      const int64_t count = rows->cols - k < LANES ? rows->cols - k : LANES;
      const vf x = gather_lanes(type, from + k * rows->from_col, rows->from_col, count);
      const vf y = gather_lanes(type, more + k * rows->table_col, rows->table_col, count);
      scatter_lanes(type, to + k * rows->to_col, rows->to_col, count, x + y);
    }
  }
}

PA_INLINE void shift_any(int type, const pa_table_rows *rows) {
  if (may_stream(rows, 0)) shift_rows(type, 1, rows);
  else shift_rows(type, 0, rows);
}

#define KERNELS(name, type)                                                                       \
  static void rotate_##name##_kernel(const pa_table_rows *rows, int64_t pairs, int interleaved) { \
    rotate_any(type, rows, pairs, interleaved);                                                   \
  }                                                                                               \
  static void shift_##name##_kernel(const pa_table_rows *rows) { shift_any(type, rows); }
#if PA_REAL_BITS == 32
KERNELS(float16, FLOAT16)
KERNELS(bfloat16, BFLOAT16)
#else
KERNELS(float32, FLOAT32)
KERNELS(float64, FLOAT64)
#endif
#undef KERNELS

static void settle_kernel(void) { vf_stream_end(); }

#endif
