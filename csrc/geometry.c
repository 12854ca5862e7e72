#include "geometry.h"

#include <string.h>

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

pa_sequence pa_sequence_of(const pa_attention_call *call, int64_t b) {
  if (!call->query_offsets) return (pa_sequence){0, call->queries, 0, call->keys};
  const int64_t *q = call->query_offsets + b, *k = call->key_offsets + b;
  return (pa_sequence){q[0], q[1] - q[0], k[0], k[1] - k[0]};
}

int64_t pa_start(const pa_attention_call *call, int64_t b) {
  if (call->query_start) return call->query_start[b];
  const pa_sequence s = pa_sequence_of(call, b);
  return s.keys - s.queries;
}

int64_t pa_batch_offset(const pa_attention_call *call, const int64_t *strides, int64_t b) {
  int64_t offset = 0;
  for (int axis = call->batch_axes - 1; axis >= 0; --axis) {
    offset += b % call->batch[axis] * strides[axis];
    b /= call->batch[axis];
  }
  return offset;
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

/* By position alone. Both ends never fall from query to query. */
static pa_span positions(const pa_attention_call *call, int64_t b, int64_t query) {
  pa_span span = {0, call->key_lengths ? call->key_lengths[b] : pa_sequence_of(call, b).keys};
  if (call->left >= PA_UNLIMITED && call->right >= PA_UNLIMITED) return span;
  const int64_t at = query + pa_start(call, b);
  if (call->left < PA_UNLIMITED) span.first = max64(0, at - call->left);
  if (call->right < PA_UNLIMITED) span.last = min64(span.last, at + call->right + 1);
  return span;
}

pa_span pa_visible(const pa_attention_call *call, int64_t b, int64_t head, int64_t query) {
  pa_span span = positions(call, b, query);
  for (int t = 0; t < call->term_count; ++t) {
    if (call->terms[t].kind != PA_SPAN || call->terms[t].clause >= 0) continue;
    const pa_span own = pa_term_span(call, &call->terms[t], b, head, query);
    span.first = max64(span.first, own.first);
    span.last = min64(span.last, own.last);
  }
  return span;
}

void pa_visible_range(const pa_attention_call *call, int64_t b, const int64_t heads[2],
                      const int64_t queries[2], pa_span *any, pa_span *all) {
  const pa_span low = positions(call, b, queries[0]), high = positions(call, b, queries[1] - 1);
  *any = (pa_span){low.first, high.last};
  *all = (pa_span){high.first, low.last};
  if (!has_spans(call)) return;
  *any = (pa_span){INT64_MAX, 0};
  for (int64_t query = queries[0]; query < queries[1]; ++query)
    for (int64_t head = heads[0]; head < heads[1]; ++head) {
      const pa_span own = pa_visible(call, b, head, query);
      all->first = max64(all->first, own.first);
      all->last = min64(all->last, own.last);
      if (own.first >= own.last) continue;
      any->first = min64(any->first, own.first);
      any->last = max64(any->last, own.last);
    }
}

int64_t pa_batch(const pa_attention_call *call) {
  int64_t n = 1;
  for (int axis = 0; axis < call->batch_axes; ++axis) n *= call->batch[axis];
  return n;
}

int64_t pa_visible_last(const pa_attention_call *call) {
  const int64_t batch = pa_batch(call);
  int64_t last = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t queries = pa_sequence_of(call, b).queries;
    if (queries) last = max64(last, positions(call, b, queries - 1).last);
  }
  return last;
}
