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
