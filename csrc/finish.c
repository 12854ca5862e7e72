#include "finish.h"

#include <string.h>

#include "square.h"

_Static_assert(sizeof((pa_strongest *)0)->weights / sizeof(char *) >= PA_MAX_LANES,
               "pa_strongest has room for the rows of a panel");

static size_t panel_row(const job *j, const panel *p) {
  return (size_t)p->width * (size_t)j->kernels->lanes * (size_t)j->kernels->real_bytes;
}

/* The weights of a panel: its scores once more, now that the denominators are known. */
static void write_weights(job *j, const unit *u, const desk *s, const panel *p,
                          const pa_state *state, const void *factors) {
  const pa_view *view = &j->call->weights;
  const size_t row = panel_row(j, p);
  char *rows[PA_MAX_LANES];
  unsigned char seen[PA_MAX_LANES] = {0};
  double unused[PA_MAX_LANES] = {0};
  pa_state known = {state->top, unused, NULL, NULL};
  pa_view_rows(j, u, view, p, p->count, rows);
  for (int64_t from = 0; from < j->call->keys; from += PA_KEY_BLOCK) {
    block b = pa_block_at(j, u, from);
    if (pa_team_cancelled(&j->team, s->worker)) return;
    const int64_t to = min64(from + PA_KEY_BLOCK, j->call->keys);
    pa_span keys = {from, from};
    memset(unused, 0, sizeof unused);
    if (pa_square_scores(j, u, s, p, &b, &keys, seen) == PA_NOTHING_SEEN)
      keys = (pa_span){from, from};
    else
      j->kernels->softmax(s->scores, (int)(keys.last - keys.first), p->width, state->top, &known,
                          s->alpha);
    const pa_span parts[] = {keys, {from, keys.first}, {keys.last, to}};
    for (int part = 0; part < 3; ++part) {
      const int64_t count = parts[part].last - parts[part].first;
      if (count <= 0) continue;
      if (part > 0) memset(s->scores, 0, (size_t)count * row); /* nothing seen: weights of 0 */
      char *at[PA_MAX_LANES];
      for (int lane = 0; lane < p->count; ++lane)
        at[lane] = rows[lane] + parts[part].first * view->col;
      j->kernels->write[j->call->query_element](at, view->col, s->scores, count, p->width, p->count,
                                                factors);
    }
  }
}

static void strongest_rows(const job *j, const unit *u, const panel *p, char **weights,
                           char **indices) {
  pa_view_rows(j, u, &j->call->weights, p, p->count, weights);
  pa_view_rows(j, u, &j->call->indices, p, p->count, indices);
}

void pa_forget_strongest(const job *j, const unit *u) {
  for (int64_t i = 0; i < u->panels; ++i) {
    const panel *p = &u->panel[i];
    char *rows[PA_MAX_LANES];
    pa_view_rows(j, u, &j->call->indices, p, p->count, rows);
    for (int lane = 0; lane < p->count; ++lane) /* -1: no key */
      memset(rows[lane], 0xFF, (size_t)j->call->strongest * sizeof(int64_t));
  }
}

void pa_keep_strongest(const job *j, const unit *u, const desk *s, const panel *p, pa_span keys) {
  pa_strongest best = {.k = j->call->strongest, .count = p->count, .width = p->width};
  strongest_rows(j, u, p, best.weights, best.indices);
  j->kernels->keep(&best, s->scores, keys.first, (int)(keys.last - keys.first));
}

static void write_strongest(const job *j, const unit *u, const panel *p, const pa_state *state,
                            const void *factors) {
  pa_strongest best = {.k = j->call->strongest, .count = p->count, .width = p->width};
  strongest_rows(j, u, p, best.weights, best.indices);
  j->kernels->weigh(&best, state, factors);
}

static void write_lse(const job *j, const unit *u, const panel *p, const pa_state *state,
                      const double *sinks) {
  const pa_attention_call *c = j->call;
  const size_t real = (size_t)j->kernels->real_bytes;
  const int64_t batch = c->query_offsets ? 0 : u->batch;
  double lse[PA_MAX_LANES]; /* room for either type */
  j->kernels->lse(state, p->width, sinks, lse);
  for (int lane = 0; lane < p->count; ++lane) {
    const int64_t at = (batch * c->heads + p->lanes.heads[lane]) * c->queries +
                       u->sequence.first_query + p->lanes.queries[lane];
    memcpy((char *)c->lse + (size_t)at * real, (const char *)lse + (size_t)lane * real, real);
  }
}

static void finish_panel(job *j, const unit *u, const desk *s, const panel *p,
                         const pa_state *state) {
  const pa_attention_call *c = j->call;
  double factors[2 * PA_MAX_LANES]; /* room for either type */
  double sinks[PA_MAX_LANES];
  for (int lane = 0; lane < p->width * j->kernels->lanes; ++lane)
    sinks[lane] = c->sinks ? c->sinks[p->lanes.heads[lane]] : -__builtin_inf();
  j->kernels->factors(state, p->width, sinks, factors);
  if (c->strongest) {
    write_strongest(j, u, p, state, factors);
  } else if (c->weights.data) {
    write_weights(j, u, s, p, state, factors);
  } else {
    char *rows[PA_MAX_LANES];
    pa_view_rows(j, u, &c->out, p, p->count, rows);
    j->kernels->write[c->query_element](rows, c->out.col, state->out, j->plan.dv, p->width,
                                        p->count, factors);
  }
  if (c->lse) write_lse(j, u, p, state, sinks);
}

void pa_finish_unit(job *j, const unit *u, const desk *s, char *states) {
  for (int64_t i = 0; i < u->panels; ++i) {
    const pa_state state = pa_state_at(j, states, i);
    finish_panel(j, u, s, &u->panel[i], &state);
  }
}
