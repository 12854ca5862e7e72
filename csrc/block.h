/* Where the keys and values of one block lie: in the caller's arrays, in a page, or on the desk,
 * once they have been widened to what the kernels take. */
#ifndef PA_BLOCK_H
#define PA_BLOCK_H

#include "job.h"

/* Row 0 of the matrices is key number `from`, a multiple of PA_KEY_BLOCK; of a grid pixel 0, until
 * they are ready. */
typedef struct block {
  int64_t from;
  pa_element key_element, value_element;
  pa_matrix key, value;
  const float *key_scale, *value_scale; /* of each row; NULL: none, or they are multiplied in */
} block;

block pa_block_at(const job *j, const unit *u, int64_t from);

/* Of one of its matrices the rows from key number `first` on. */
static inline pa_matrix pa_block_rows(const block *b, const pa_matrix *m, int64_t first) {
  return (pa_matrix){m->data + (first - b->from) * m->row, m->row, m->col};
}

/* Sees to it that kernels can read the keys (values): unless they can where these lie, copies what
 * the unit sees of them to the desk. */
void pa_block_ready_keys(const job *j, const unit *u, const desk *s, block *b);
void pa_block_ready_values(const job *j, const unit *u, const desk *s, block *b);

#endif
