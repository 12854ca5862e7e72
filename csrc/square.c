#include "square.h"

#include "finish.h"

/* The keys of the block at `from` that the panel has to do with. */
static pa_span block_keys(const panel *p, int64_t from) {
  if (p->any.first >= p->any.last) return (pa_span){from, from};
  pa_span keys = {from, min64(from + PA_KEY_BLOCK, p->any.last)};
  /* What lies before the first key of all rows is skipped in whole steps: a row's terms then stand
   * in the same chains and trees as without skipping, and what is left out there are zeros. */
  if (p->any.first > from) keys.first = from + (p->any.first - from) / PA_KEY_STEP * PA_KEY_STEP;
  return keys;
}

pa_sight pa_square_look(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                        pa_span *keys, unsigned char *seen) {
  *keys = block_keys(p, from);
  if (keys->first >= keys->last) return PA_NOTHING_SEEN;
  const pa_sight sight = pa_terms_look(j, u, s, p, *keys, seen);
  return sight;
}

pa_sight pa_square_scores(const job *j, const unit *u, const desk *s, const panel *p, block *b,
                          pa_span *keys, unsigned char *seen) {
  const pa_attention_call *c = j->call;
  const pa_sight sight = pa_square_look(j, u, s, p, b->from, keys, seen);
  if (sight == PA_NOTHING_SEEN) return sight;
  pa_terms_ahead(j, u, s, p, b->from);
  pa_block_ready_keys(j, u, s, b);
  const int count = (int)(keys->last - keys->first);
  const pa_matrix key = pa_block_rows(b, &b->key, keys->first);
  j->kernels->scores(&key, count, j->plan.d, p->queries, p->width, s->scores, s->top, s->ahead);
  if (c->softcap > 0) j->kernels->cap(s->scores, count, p->width, c->softcap, s->top);
  if (sight == PA_PARTLY_SEEN) j->kernels->add(s->scores, s->tiles, count, p->width, s->top);
  return sight;
}

pa_sight pa_square_attend(const job *j, const unit *u, const desk *s, const panel *p, block *b,
                          int guarded, pa_state *state) {
  pa_span keys;
  const pa_sight sight = pa_square_scores(j, u, s, p, b, &keys, state->seen);
  if (sight == PA_NOTHING_SEEN) return sight;
  const int count = (int)(keys.last - keys.first);
  if (j->call->strongest) pa_keep_strongest(j, u, s, p, keys);
  j->kernels->softmax(s->scores, count, p->width, s->top, state, s->alpha);
  if (j->plan.dv == 0) return sight;
  pa_block_ready_values(j, u, s, b);
  const pa_matrix value = pa_block_rows(b, &b->value, keys.first);
  if (sight == PA_PARTLY_SEEN && guarded) {
    j->kernels->mark(s->scores, s->tiles, count, p->width);
    j->kernels->values_guarded(&value, count, j->plan.dv, s->scores, p->width, s->alpha, state->out,
                               s->ahead);
  } else {
    j->kernels->values(&value, count, j->plan.dv, s->scores, p->width, s->alpha, state->out,
                       s->ahead);
  }
  return sight;
}
