/* Where queries and keys stand, and which keys a query may see by position alone: lengths, window,
 * spans. What else there is to see or not to see is in terms.h. */
#ifndef PA_GEOMETRY_H
#define PA_GEOMETRY_H

#include "pyattn.h"

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Of one number. */
static inline int64_t pa_element_bytes(pa_element element) {
  static const int64_t bytes[] = {
      [PA_ELEMENT_FLOAT16] = 2, [PA_ELEMENT_BFLOAT16] = 2, [PA_ELEMENT_FLOAT32] = 4,
      [PA_ELEMENT_FLOAT64] = 8, [PA_ELEMENT_INT8] = 1,     [PA_ELEMENT_BOOL] = 1};
  return bytes[element];
}

/* Keys first <= j < last; empty if first >= last. */
typedef struct pa_span {
  int64_t first, last;
} pa_span;

/* Extents of one batch element, and where it starts in packed arrays. */
typedef struct pa_sequence {
  int64_t first_query, queries, first_key, keys;
} pa_sequence;

pa_sequence pa_sequence_of(const pa_attention_call *call, int64_t b);

/* Where query 0 of a batch element stands on its key axis, and how many of its keys count. */
typedef struct pa_place {
  int64_t start, keys;
} pa_place;

pa_place pa_place_of(const pa_attention_call *call, int64_t b);

/* Of leading axes in C order: how many elements, and the bytes to number `index` of them. */
int64_t pa_extents_product(int axes, const int64_t *extents);
int64_t pa_extents_offset(int axes, const int64_t *extents, const int64_t *strides, int64_t index);

/* The bytes from the start of a strided array to batch element `b`. */
int64_t pa_batch_offset(const pa_attention_call *call, const int64_t *strides, int64_t b);

/* Some query rows, in order: each a query of a head. */
enum { PA_MAX_ROWS = 64 };
typedef struct pa_rows {
  int count;
  int64_t heads[PA_MAX_ROWS], queries[PA_MAX_ROWS];
} pa_rows;

/* What each of the rows may see. */
void pa_visible(const pa_attention_call *call, int64_t b, const pa_place *place,
                const pa_rows *rows, pa_span *spans);

/* What any of them may see, and what all may see. */
void pa_visible_range(const pa_attention_call *call, int64_t b, const pa_place *place,
                      const pa_rows *rows, pa_span *any, pa_span *all);

/* What the whole array `span` of a PA_SPAN term says of one query. */
pa_span pa_term_span(const pa_attention_call *call, const pa_term *term, int64_t b, int64_t head,
                     int64_t query);

/* Ends of the keys that any query may see by lengths and window, found without looking at every
 * query. Empty: nothing is seen. */
pa_span pa_visible_hull(const pa_attention_call *call);

/* The number of batch elements: the product of the leading extents. */
int64_t pa_batch(const pa_attention_call *call);

#endif
