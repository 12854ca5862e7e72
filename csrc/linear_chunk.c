/* Linear attention of one chunk of tokens, or of some tokens one by one. */
#include <string.h>

#include "linear_attention.h"

void pa_linear_read(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                    int tokens) {
  const pa_linear_attention_call *c = j->call;
  const pa_kernels *kernels = j->kernels;
  const pa_matrix key = {h->key + first * c->key.row, c->key.row, c->key.col};
  kernels->widen_rows[c->key_element](s->keys, &key, tokens, c->d, NULL);
  kernels->map(s->keys, tokens, c->d, (int)c->feature);
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    const pa_matrix value = {h->value + first * c->value.row + some.first * c->value.col,
                             c->value.row, c->value.col};
    kernels->widen_rows[c->key_element](linear_panel(j, s->values, &some, tokens), &value, tokens,
                                        some.count, NULL);
  }
  if (h->decay && c->decay_cols == 1) { /* a row of all tokens */
    const pa_matrix decay = {h->decay + first * c->decay.row, 0, c->decay.row};
    kernels->widen_rows[j->real](s->gates, &decay, 1, tokens, NULL);
    kernels->map(s->gates, 1, tokens, PA_MAP_EXP);
    kernels->products(s->gates, tokens);
  } else if (h->decay) {
    const pa_matrix decay = {h->decay + first * c->decay.row, c->decay.row, c->decay.col};
    kernels->widen_rows[j->real](s->gates, &decay, tokens, c->d, NULL);
    kernels->map(s->gates, tokens, c->d, PA_MAP_EXP);
  }
  if (h->beta) {
    const pa_matrix beta = {h->beta + first * c->beta.row, 0, c->beta.row};
    kernels->widen_rows[j->real](s->beta, &beta, 1, tokens, NULL);
  }
}

static const char *gates_row(const linear_job *j, const linear_desk *s, int row) {
  return s->gates + linear_bytes(j, row * PA_KEY_BLOCK);
}

void pa_linear_sum(const linear_job *j, const linear_desk *s, int tokens, char *state) {
  const pa_linear_attention_call *c = j->call;
  if (c->decay.data) j->kernels->scale_rows(s->keys, tokens, j->d_pitch, gates_row(j, s, 2));
  const pa_matrix key = {s->keys, (ptrdiff_t)linear_bytes(j, j->d_pitch), j->kernels->real_bytes};
  memset(state, 0, j->state_bytes);
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    j->kernels->values(&key, tokens, c->d, linear_panel(j, s->values, &some, tokens), some.width,
                       s->zeros, linear_panel(j, state, &some, c->d), s->ahead);
  }
  if (c->normalized) j->kernels->sum_rows(linear_sums(j, state), s->keys, tokens, j->d_pitch);
}

const char *pa_linear_fade(const linear_job *j, const linear_desk *s, int tokens) {
  if (j->call->decay.data) return gates_row(j, s, 1) + linear_bytes(j, tokens - 1);
  return j->one;
}

/* Some query rows of a chunk in lanes: row r is query r / group in head r % group of the group. */
typedef struct rows {
  int width, count, keys; /* keys: of the chunk that some row sees */
  ptrdiff_t query[PA_MAX_LANES], out[PA_MAX_LANES];
  int32_t position[PA_MAX_LANES];
} rows;

static void rows_of(const linear_job *j, const pa_cut *cut, int64_t panel, rows *r) {
  const pa_linear_attention_call *c = j->call;
  int64_t vector;
  pa_plan_panel(cut, panel, &vector, &r->width);
  const int64_t first = vector * j->lanes, lanes = r->width * j->lanes;
  r->count = (int)min64(lanes, cut->rows - first);
  for (int64_t lane = 0; lane < lanes; ++lane) { /* spare lanes repeat the last row */
    const int64_t row = min64(first + lane, cut->rows - 1);
    const int64_t token = row / j->group, head = row % j->group;
    r->position[lane] = (int32_t)token;
    r->query[lane] = (ptrdiff_t)(head * c->query.head + token * c->query.row);
    r->out[lane] = (ptrdiff_t)(head * c->out.head + token * c->out.row);
  }
  r->keys = r->position[r->count - 1] + 1;
}

/* out[dv][lane]: what the queries find in the state, which fades, and in the tokens before them.
 *
 * A score that must not be seen is 0, but 0 * NaN is NaN. So what is not finite is computed again,
 * as in square.c, in the same order, and hidden scores do not multiply then. */
static void outputs_of(const linear_job *j, const linear_desk *s, const rows *r, int tokens,
                       const char *state, int guarded) {
  const pa_linear_attention_call *c = j->call;
  const pa_kernels *kernels = j->kernels;
  const ptrdiff_t real = kernels->real_bytes;
  memset(s->out, 0, linear_bytes(j, c->dv * r->width * j->lanes));
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    const ptrdiff_t pitch = (ptrdiff_t)linear_bytes(j, some.width * j->lanes);
    char *out = s->out + linear_bytes(j, some.first * r->width * j->lanes);
    const pa_matrix sums = {linear_panel(j, (char *)state, &some, c->d), pitch, real};
    kernels->values(&sums, (int)c->d, some.count, s->queries, r->width, s->zeros, out, s->ahead);
    if (!c->causal) continue;
    const pa_matrix value = {linear_panel(j, s->values, &some, tokens), pitch, real};
    (guarded ? kernels->values_guarded : kernels->values)(&value, r->keys, some.count, s->scores,
                                                          r->width, s->alpha, out, s->ahead);
  }
}

/* total[lane]: the denominators, of which `sum` has the part of the chunk itself. */
static void totals_of(const linear_job *j, const linear_desk *s, const rows *r, const char *state) {
  const pa_kernels *kernels = j->kernels;
  const pa_matrix keys = {linear_sums(j, (char *)state), kernels->real_bytes, 0};
  memset(s->total, 0, j->row_bytes);
  kernels->values(&keys, (int)j->call->d, 1, s->queries, r->width, s->zeros, s->total, s->ahead);
  if (!j->call->causal) return;
  const pa_matrix one = {j->one, 0, 0}; /* alpha * total + 1 * sum */
  kernels->values(&one, 1, 1, s->sum, r->width, s->alpha, s->total, s->ahead);
}

void pa_linear_attend(const linear_job *j, const linear_head *h, const linear_desk *s,
                      int64_t first, int tokens, const char *state) {
  const pa_linear_attention_call *c = j->call;
  const pa_kernels *kernels = j->kernels;
  const char *query = h->query + first * c->query.row;
  char *out = h->out + first * c->out.row;
  const pa_matrix key = {s->keys, (ptrdiff_t)linear_bytes(j, j->d_pitch), kernels->real_bytes};
  pa_cut cut = {.rows = tokens * j->group};
  cut.vectors = ceil_div(cut.rows, j->lanes);
  cut.panels = ceil_div(cut.vectors, kernels->max_width);
  rows r;
  for (int64_t panel = 0; panel < cut.panels; ++panel) {
    const char *from[PA_MAX_LANES];
    char *to[PA_MAX_LANES];
    rows_of(j, &cut, panel, &r);
    const int lanes = r.width * (int)j->lanes;
    for (int lane = 0; lane < lanes; ++lane) {
      from[lane] = query + r.query[lane];
      to[lane] = out + r.out[lane];
    }
    kernels->pack[c->query_element](s->queries, from, c->query.col, c->d, r.width, 1);
    kernels->map(s->queries, c->d, lanes, (int)c->feature);
    if (c->causal) {
      kernels->scores(&key, r.keys, c->d, s->queries, r.width, s->scores, s->total, s->ahead);
      kernels->fade(s->scores, r.keys, r.width, r.position, c->decay.data ? s->gates : NULL, s->sum,
                    s->alpha);
    }
    outputs_of(j, s, &r, tokens, state, 0);
    const pa_state result = {NULL, NULL, s->out, NULL};
    if (c->causal && !kernels->finite(&result, c->dv, r.width))
      outputs_of(j, s, &r, tokens, state, 1);
    if (c->normalized) totals_of(j, s, &r, state);
    kernels->shares(s->factor, s->factor + linear_bytes(j, lanes), lanes,
                    c->normalized ? s->total : NULL, c->scale);
    kernels->write[c->query_element](to, c->out.col, s->out, c->dv, r.width, r.count, s->factor);
  }
}

/* Calls for rows (token, head) that follow each other in memory of ours: all at once, or as many as
 * lie evenly in the caller's. */
static int even_rows(const linear_job *j, int rows) { return j->group == 1 ? rows : (int)j->group; }

void pa_linear_step(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                    int tokens, char *state) {
  const pa_linear_attention_call *c = j->call;
  const pa_kernels *kernels = j->kernels;
  const int rows = tokens * (int)j->group, even = even_rows(j, rows);
  pa_linear_read(j, h, s, first, tokens);
  for (int row = 0; row < rows; row += even) {
    const pa_matrix query = {h->query + (first + row / j->group) * c->query.row,
                             j->group == 1 ? c->query.row : c->query.head, c->query.col};
    kernels->widen_rows[c->query_element](s->queries + linear_bytes(j, row * j->d_pitch), &query,
                                          even, c->d, NULL);
  }
  kernels->map(s->queries, rows, c->d, (int)c->feature);
  const pa_recurrence r = {.tokens = tokens,
                           .group = (int)j->group,
                           .d = c->d,
                           .pitch = j->d_pitch,
                           .queries = s->queries,
                           .keys = s->keys,
                           .gates = c->decay.data ? s->gates : NULL,
                           .gate_pitch = c->decay_cols == 1 ? 1 : j->d_pitch,
                           .beta = c->beta.data ? s->beta : NULL};
  memset(s->total, 0, j->row_bytes);
  if (c->normalized) kernels->recur_sums(&r, linear_sums(j, state), s->total);
  kernels->shares(s->factor, s->rest, ceil_div(rows, j->lanes) * j->lanes,
                  c->normalized ? s->total : NULL, c->scale);
  for (int64_t panel = 0; panel < j->values.panels; ++panel) {
    const linear_columns some = pa_linear_columns(j, panel);
    char *out = linear_panel(j, s->out, &some, rows);
    kernels->recur(&r, linear_panel(j, s->values, &some, tokens), some.width,
                   linear_panel(j, state, &some, c->d), out);
    for (int row = 0; row < rows; row += even)
      kernels->write_rows[c->query_element](
          h->out + (first + row / j->group) * c->out.row + some.first * c->out.col,
          j->group == 1 ? c->out.row : c->out.head, c->out.col,
          out + linear_bytes(j, row * some.width * j->lanes), even, some.count,
          s->factor + linear_bytes(j, row), s->rest + linear_bytes(j, row));
  }
}

void pa_linear_clear(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                     int64_t last) {
  const pa_linear_attention_call *c = j->call;
  if (first < last) memset(s->out, 0, linear_bytes(j, j->dv_pitch));
  for (int64_t head = 0; head < j->group; ++head)
    for (int64_t token = first; token < last; ++token)
      j->kernels->write_rows[c->query_element](h->out + head * c->out.head + token * c->out.row, 0,
                                               c->out.col, s->out, 1, c->dv, NULL, NULL);
}
