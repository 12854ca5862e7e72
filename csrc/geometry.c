#include "geometry.h"

#include <string.h>

pa_sequence pa_sequence_of(const pa_attention_call *call, int64_t b) {
  if (!call->query_offsets) return (pa_sequence){0, call->queries, 0, call->keys};
  const int64_t *q = call->query_offsets + b, *k = call->key_offsets + b;
  return (pa_sequence){q[0], q[1] - q[0], k[0], k[1] - k[0]};
}

int64_t pa_extents_product(int axes, const int64_t *extents) {
  int64_t product = 1;
  for (int axis = 0; axis < axes; ++axis) product *= extents[axis];
  return product;
}

int64_t pa_extents_offset(int axes, const int64_t *extents, const int64_t *strides, int64_t index) {
  int64_t offset = 0;
  for (int axis = axes - 1; axis >= 0; --axis) {
    offset += index % extents[axis] * strides[axis];
    index /= extents[axis];
  }
  return offset;
}

int64_t pa_batch(const pa_attention_call *call) {
  return pa_extents_product(call->batch_axes, call->batch);
}

int64_t pa_batch_offset(const pa_attention_call *call, const int64_t *strides, int64_t b) {
  return pa_extents_offset(call->batch_axes, call->batch, strides, b);
}

pa_span pa_term_span(const pa_attention_call *call, const pa_term *term, int64_t b, int64_t head,
                     int64_t query) {
  int64_t ends[2];
  memcpy(ends,
         term->data + pa_batch_offset(call, term->batch, b) + head * term->head +
             query * term->row.stride,
         sizeof ends);
  return (pa_span){ends[0], ends[1]};
}

static int has_spans(const pa_attention_call *call) {
  for (int t = 0; t < call->term_count; ++t)
    if (call->terms[t].kind == PA_SPAN && call->terms[t].clause < 0) return 1;
  return 0;
}

pa_place pa_place_of(const pa_attention_call *call, int64_t b) {
  const pa_sequence s = pa_sequence_of(call, b);
  return (pa_place){call->query_start ? call->query_start[b] : s.keys - s.queries,
                    call->key_lengths ? call->key_lengths[b] : s.keys};
}

/* By position alone. Both ends never fall from query to query. */
static pa_span positions(const pa_attention_call *call, const pa_place *place, int64_t query) {
  pa_span span = {0, place->keys};
  const int64_t at = query + place->start;
  if (call->left < PA_UNLIMITED) span.first = max64(0, at - call->left);
  if (call->right < PA_UNLIMITED) span.last = min64(span.last, at + call->right + 1);
  return span;
}

void pa_visible(const pa_attention_call *call, int64_t b, const pa_place *place,
                const pa_rows *rows, pa_span *spans) {
  for (int row = 0; row < rows->count; ++row)
    spans[row] = positions(call, place, rows->queries[row]);
  for (int t = 0; t < call->term_count; ++t) {
    if (call->terms[t].kind != PA_SPAN || call->terms[t].clause >= 0) continue;
    for (int row = 0; row < rows->count; ++row) {
      const pa_span own =
          pa_term_span(call, &call->terms[t], b, rows->heads[row], rows->queries[row]);
      spans[row].first = max64(spans[row].first, own.first);
      spans[row].last = min64(spans[row].last, own.last);
    }
  }
}

void pa_visible_range(const pa_attention_call *call, int64_t b, const pa_place *place,
                      const pa_rows *rows, pa_span *any, pa_span *all) {
  const pa_span low = positions(call, place, rows->queries[0]);
  const pa_span high = positions(call, place, rows->queries[rows->count - 1]);
  *any = (pa_span){low.first, high.last};
  *all = (pa_span){high.first, low.last};
  if (!has_spans(call)) return;
  pa_span spans[PA_MAX_ROWS];
  pa_visible(call, b, place, rows, spans);
  *any = (pa_span){INT64_MAX, 0};
  for (int row = 0; row < rows->count; ++row) {
    all->first = max64(all->first, spans[row].first);
    all->last = min64(all->last, spans[row].last);
    if (spans[row].first >= spans[row].last) continue;
    any->first = min64(any->first, spans[row].first);
    any->last = max64(any->last, spans[row].last);
  }
}

pa_span pa_visible_hull(const pa_attention_call *call) {
  const int64_t batch = pa_batch(call);
  pa_span hull = {INT64_MAX, 0};
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t queries = pa_sequence_of(call, b).queries;
    if (queries == 0) continue;
    const pa_place place = pa_place_of(call, b);
    const int64_t first = positions(call, &place, 0).first;
    const int64_t last = positions(call, &place, queries - 1).last;
    if (first >= last) continue;
    hull.first = min64(hull.first, first);
    hull.last = max64(hull.last, last);
  }
  return hull.first < hull.last ? hull : (pa_span){0, 0};
}
