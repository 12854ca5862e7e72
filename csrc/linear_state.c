/* Finding the things of linear attention: of a head its arrays, of a worker its scratch, of a chunk
 * the memory that it will want; and the caller's states. */
#include <string.h>

#include "linear_attention.h"

/* Tiles of a chunk, of its sum alone, about; cache lines that are fetched before each. */
enum { TILES = 96, SUM_TILES = 22, MOST_LINES = 24 };

linear_head pa_linear_head(const linear_job *j, int64_t head) {
  const pa_linear_attention_call *c = j->call;
  const int64_t b = head / c->kv_heads, kv_head = head % c->kv_heads;
  const pa_view *views[] = {&c->query, &c->key,  &c->value, &c->out,
                            &c->decay, &c->beta, &c->state, &c->new_state};
  char *at[8];
  for (int i = 0; i < 8; ++i) {
    const pa_view *v = views[i];
    const int of_query = v == &c->query || v == &c->out;
    at[i] = v->data;
    if (v->data)
      at[i] += pa_extents_offset(c->batch_axes, c->batch, v->batch, b) +
               (of_query ? kv_head * j->group : kv_head) * v->head;
  }
  return (linear_head){.query = at[0],
                       .key = at[1],
                       .value = at[2],
                       .out = at[3],
                       .decay = at[4],
                       .beta = at[5],
                       .state = at[6],
                       .new_state = at[7],
                       .keys = c->key_lengths ? c->key_lengths[b] : c->keys};
}

linear_desk pa_linear_desk(const linear_job *j, int worker, pa_ahead *ahead) {
  linear_desk s = {.ahead = ahead};
  char *at = j->workers + (size_t)worker * j->worker_bytes;
  const struct {
    char **part;
    size_t bytes;
  } parts[] = {
      {&s.keys, j->keys_bytes}, {&s.values, j->values_bytes},   {&s.gates, j->gates_bytes},
      {&s.beta, j->row_bytes},  {&s.queries, j->queries_bytes}, {&s.scores, j->scores_bytes},
      {&s.out, j->out_bytes},   {&s.alpha, j->row_bytes},       {&s.sum, j->row_bytes},
      {&s.total, j->row_bytes}, {&s.factor, 2 * j->row_bytes},  {&s.rest, j->row_bytes},
      {&s.zeros, j->row_bytes}, {&s.states[0], j->state_bytes}, {&s.states[1], j->state_bytes}};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
    *parts[i].part = at;
    at += parts[i].bytes;
  }
  memset(s.zeros, 0, j->row_bytes);
  return s;
}

/* Rows of queries or outputs: heads of the group beside each other; of keys or values with one. */
static pa_region region_of(const pa_view *view, const char *data, int64_t first, int64_t rows,
                           int64_t bytes, int64_t heads) {
  return (pa_region){data + first * view->row, view->row, view->head, bytes, rows, (int)heads};
}

void pa_linear_look_ahead(const linear_job *j, const linear_head *h, int64_t first, int tokens,
                          int attend, pa_ahead *ahead) {
  const pa_linear_attention_call *c = j->call;
  const int64_t of_number = pa_element_bytes(c->query_element);
  const int64_t of_query = attend ? j->group * of_number : 0;
  const int64_t of_key = pa_element_bytes(c->key_element);
  if (tokens <= 0) return;
  ahead->regions[3] = region_of(&c->query, h->query, first, tokens, c->d * of_number, j->group);
  ahead->regions[2] = region_of(&c->out, h->out, first, tokens, c->dv * of_number, j->group);
  ahead->regions[1] = region_of(&c->key, h->key, first, tokens, c->d * of_key, 1);
  ahead->regions[0] = region_of(&c->value, h->value, first, tokens, c->dv * of_key, 1);
  ahead->region = attend ? 3 : 1;
  const int64_t lines = tokens * (of_key + of_query) * (c->d + c->dv) / 64;
  ahead->lines = (int)(1 + min64(lines / (attend ? TILES : SUM_TILES), MOST_LINES));
}

linear_columns pa_linear_columns(const linear_job *j, int64_t panel) {
  linear_columns c;
  int64_t vector;
  pa_plan_panel(&j->values, panel, &vector, &c.width);
  c.first = vector * j->lanes;
  c.count = min64(c.width * j->lanes, j->call->dv - c.first);
  return c;
}

void pa_linear_load(const linear_job *j, const linear_head *h, char *state) {
  const pa_linear_attention_call *c = j->call;
  memset(state, 0, j->state_bytes);
  if (!h->state) return;
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    const pa_matrix from = {h->state + some.first * c->state.col, c->state.row, c->state.col};
    j->kernels->widen_rows[j->real](linear_panel(j, state, &some, c->d), &from, (int)c->d,
                                    some.count, NULL);
  }
  const pa_matrix keys = {h->state + c->dv * c->state.col, 0, c->state.row};
  if (c->normalized) j->kernels->widen_rows[j->real](linear_sums(j, state), &keys, 1, c->d, NULL);
}

void pa_linear_store(const linear_job *j, const linear_head *h, const char *state) {
  const pa_linear_attention_call *c = j->call;
  const pa_view *to = &c->new_state;
  if (!h->new_state) return;
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    j->kernels->write_rows[j->real](h->new_state + some.first * to->col, to->row, to->col,
                                    linear_panel(j, (char *)state, &some, c->d), (int)c->d,
                                    some.count, NULL, NULL);
  }
  if (c->normalized)
    j->kernels->write_rows[j->real](h->new_state + c->dv * to->col, 0, to->row,
                                    linear_sums(j, (char *)state), 1, c->d, NULL, NULL);
}
