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
  const int64_t row = c->grid ? 0 : from; /* of pixels all, until those of the block are chosen */
  b.key = matrix_at(u->key, &c->key, 0, row);
  if (u->value) b.value = matrix_at(u->value, &c->value, 0, row);
  return b;
}

/* The rows that kernels read for the unit, widened; `cols` of them fill whole vectors there. */
static void widen(const job *j, const unit *u, const block *b, pa_matrix *from, pa_element element,
                  int64_t cols, const float *scale, char *to) {
  const pa_grid *grid = j->call->grid;
  const int64_t real = j->kernels->real_bytes;
  const int64_t row = ceil_div(cols, j->kernels->lanes) * j->kernels->lanes * real;
  /* Kernels begin at whole steps (square.c), though nobody sees what comes before. */
  const int64_t first = max64(0, u->keys.first - b->from) / PA_KEY_STEP * PA_KEY_STEP;
  const int64_t last = min64(PA_KEY_BLOCK, u->keys.last - b->from);
  for (int64_t key = first, count; key < last; key += count) {
    pa_matrix run = {from->data + key * from->row, from->row, from->col};
    count = last - key;
    if (grid) {
      const int64_t number = b->from + key, line = u->patch.columns.keys;
      run.data = from->data + pa_patch_key(grid, &u->patch, number) * from->row;
      run.row = grid->columns.step * from->row;
      count = min64(count, line - number % line);
    }
    j->kernels->widen_rows[element](to + key * row, &run, (int)count, cols,
                                    scale ? scale + key : NULL);
  }
  *from = (pa_matrix){to, (ptrdiff_t)row, (ptrdiff_t)real};
}

void pa_block_ready_keys(const job *j, const unit *u, const desk *s, block *b) {
  if (j->plan.keys_fit[u->few] || b->key.data == s->keys) return;
  widen(j, u, b, &b->key, b->key_element, j->plan.d, b->key_scale, s->keys);
  b->key_element = j->plan.element;
  b->key_scale = NULL;
}

void pa_block_ready_values(const job *j, const unit *u, const desk *s, block *b) {
  if (j->plan.values_fit[u->few] || b->value.data == s->values) return;
  widen(j, u, b, &b->value, b->value_element, j->plan.dv, b->value_scale, s->values);
  b->value_element = j->plan.element;
  b->value_scale = NULL;
}
