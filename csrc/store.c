/* Rows of keys or values into a page, as the numbers that it holds. Little work, and its caller has
 * much to do besides: one thread. */
#include "dispatch.h"
#include "geometry.h"

void pa_store(const pa_store_call *call) {
  const pa_kernels *kernels = pa_dispatch(PA_FLOAT32);
  const int64_t row_bytes = call->cols * pa_element_bytes(call->to_element);
  for (int64_t head = 0; head < call->heads; ++head) {
    const pa_matrix from = {call->data + head * call->head, call->row, call->col};
    float *scale = call->scale ? call->scale + head * call->scale_head : NULL;
    char *to = call->to + head * call->to_head;
    for (int64_t row = 0; row < call->rows; ++row)
      kernels->store_row[call->to_element](to + row * row_bytes, call->from_element,
                                           from.data + row * from.row, from.col, call->cols,
                                           scale ? scale + row : NULL);
  }
}
