#include "block.h"

static pa_matrix matrix_at(const char *data, const pa_view *view, int64_t head, int64_t row) {
  return (pa_matrix){data + head * view->head + row * view->row, view->row, view->col};
}

block pa_block_at(const job *j, const unit *u, int64_t from) {
  const pa_attention_call *c = j->call;
  block b = {.from = from, .key_element = c->key_element, .value_element = c->key_element};
  if (c->pages) {
    const pa_page *page = c->pages + u->batch * c->page_count + from / c->page_rows;
    const int64_t row = from % c->page_rows, scale = u->kv_head * c->page_rows + row;
    b.key = matrix_at(page->key, &c->key, u->kv_head, row);
    b.value = matrix_at(page->value, &c->value, u->kv_head, row);
    if (page->key_scale) b.key_scale = page->key_scale + scale;
    if (page->value_scale) b.value_scale = page->value_scale + scale;
    return b;
  }
  if (c->grid) return b; /* in pieces, until they are on the desk */
  b.key = matrix_at(u->key, &c->key, 0, from);
  if (u->value) b.value = matrix_at(u->value, &c->value, 0, from);
  return b;
}

/* Keys of the block that kernels read for the unit, counted in it. They begin at whole steps
 * (square.c), though nobody sees what comes before. */
static pa_span read_of(const unit *u, const block *b) {
  return (pa_span){max64(0, u->keys.first - b->from) / PA_KEY_STEP * PA_KEY_STEP,
                   min64(PA_KEY_BLOCK, u->keys.last - b->from)};
}

/* The rows that kernels read for the unit, widened; `cols` of them fill whole vectors there. */
static void widen(const job *j, const unit *u, const block *b, pa_matrix *from, pa_element element,
                  int64_t cols, const float *scale, char *to) {
  const int64_t real = j->kernels->real_bytes;
  const int64_t row = ceil_div(cols, j->kernels->lanes) * j->kernels->lanes * real;
  const pa_span read = read_of(u, b);
  const pa_matrix seen = {from->data + read.first * from->row, from->row, from->col};
  j->kernels->widen_rows[element](to + read.first * row, &seen, (int)(read.last - read.first), cols,
                                  scale ? scale + read.first : NULL);
  *from = (pa_matrix){to, (ptrdiff_t)row, (ptrdiff_t)real};
}

/* The same of a patch, line by line. */
static void collect(const job *j, const unit *u, const block *b, const char *head,
                    const pa_view *view, int64_t cols, char *to, pa_matrix *m) {
  const pa_grid *grid = j->call->grid;
  const int64_t real = j->kernels->real_bytes, broad = u->patch.columns.keys;
  const int64_t row = ceil_div(cols, j->kernels->lanes) * j->kernels->lanes * real;
  const pa_span read = read_of(u, b);
  for (int64_t key = read.first; key < read.last;) {
    const int64_t number = b->from + key;
    const int64_t count = min64(broad - number % broad, read.last - key);
    const pa_matrix line = {head + pa_patch_key(grid, &u->patch, number) * view->row,
                            grid->columns.step * view->row, view->col};
    j->kernels->widen_rows[j->call->key_element](to + key * row, &line, (int)count, cols, NULL);
    key += count;
  }
  *m = (pa_matrix){to, (ptrdiff_t)row, (ptrdiff_t)real};
}

void pa_block_ready_keys(const job *j, const unit *u, const desk *s, block *b) {
  if (j->plan.keys_fit[u->few] || b->key.data == s->keys) return;
  if (j->call->grid) collect(j, u, b, u->key, &j->call->key, j->plan.d, s->keys, &b->key);
  else widen(j, u, b, &b->key, b->key_element, j->plan.d, b->key_scale, s->keys);
  b->key_element = j->plan.element;
  b->key_scale = NULL;
}

void pa_block_ready_values(const job *j, const unit *u, const desk *s, block *b) {
  if (j->plan.values_fit[u->few] || b->value.data == s->values) return;
  if (j->call->grid) collect(j, u, b, u->value, &j->call->value, j->plan.dv, s->values, &b->value);
  else widen(j, u, b, &b->value, b->value_element, j->plan.dv, b->value_scale, s->values);
  b->value_element = j->plan.element;
  b->value_scale = NULL;
}
