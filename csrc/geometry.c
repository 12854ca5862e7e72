#include "geometry.h"

pa_span pa_visible(const pa_attention_call *call, int64_t b, int64_t query) {
  pa_span span = {0, call->key_lengths ? call->key_lengths[b] : call->keys};
  if (call->causal) {
    const int64_t start = call->query_start ? call->query_start[b] : call->keys - call->queries;
    const int64_t last = query + start + 1;
    if (last < span.last) span.last = last;
  }
  return span;
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
    const int64_t end = pa_visible(call, b, call->queries - 1).last;
    if (end > last) last = end;
  }
  return last;
}
