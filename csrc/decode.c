/* With few query rows time goes into reading keys and values: every number of them is multiplied
 * once for every row, and no more. So they are read as they come, a key's numbers side by side, by
 * all rows at a time (kernels/decode.inc.h), and while one block is multiplied, the next may be
 * asked for: the values behind the keys, the next keys behind the values.
 *
 * What may be seen, what is added, chunks, merging, and finishing are those of many rows. */
#include "decode.h"

#include "block.h"
#include "square.h"

/* The part of the desk that belongs to the rows of one panel; a unit has PA_FEW_ROWS at most. */
typedef struct few {
  int rows;
  int64_t d, dv; /* whole vectors */
  char *queries, *scores;
  pa_rows_state state;
} few;

static few few_of(const job *j, const desk *s, const panel *p) {
  const size_t real = (size_t)j->kernels->real_bytes, first = (size_t)p->first_row;
  few f = {.rows = p->count, .d = j->plan.whole_d, .dv = j->plan.whole_dv};
  char *queries = s->few, *out = queries + PA_FEW_ROWS * (size_t)f.d * real;
  char *numbers = out + PA_FEW_ROWS * (size_t)f.dv * real;
  f.queries = queries + first * (size_t)f.d * real;
  f.state.out = out + first * (size_t)f.dv * real;
  f.state.top = numbers + first * real;
  f.state.sum = numbers + (PA_FEW_ROWS + first) * real;
  f.state.alpha = numbers + (2 * PA_FEW_ROWS + first) * real;
  f.scores = numbers + 3 * PA_FEW_ROWS * real;
  return f;
}

/* From rows to rows that will be wanted next, if they are equally far apart; else 0. */
static ptrdiff_t distance(const pa_matrix *from, const pa_matrix *to) {
  return from->row == to->row ? (ptrdiff_t)((intptr_t)to->data - (intptr_t)from->data) : 0;
}

/* One block against the rows of one panel. */
static pa_sight attend_rows(const job *j, const unit *u, const desk *s, const panel *p, block *b,
                            int guarded, const few *f, unsigned char *seen) {
  const pa_kernels *k = j->kernels;
  pa_span keys;
  const pa_sight sight = pa_square_look(j, u, s, p, b->from, &keys, seen);
  if (sight == PA_NOTHING_SEEN) return sight;
  const int count = (int)(keys.last - keys.first);
  const int64_t first = keys.first - b->from;
  pa_block_ready_keys(j, u, s, b);
  pa_matrix m = pa_block_rows(b, &b->key, keys.first),
            next = pa_block_rows(b, &b->value, keys.first);
  /* A single row of what needs no widening goes as fast as the hardware's prefetchers, and better
   * alone; where more is done for every line, they are too late at every change of stream. */
  const int ask = f->rows > 1 || j->call->key_element != j->plan.element;
  ptrdiff_t ahead = ask && j->plan.values_fit[1] ? distance(&m, &next) : 0;
  k->row_scores[b->key_element](&m, count, f->d, f->queries, f->rows, f->scores, ahead);
  if (b->key_scale) k->row_scale(f->scores, b->key_scale + first, count, f->rows);
  if (j->call->softcap > 0) /* numbers one by one, so the shape does not matter */
    k->cap(f->scores, f->rows * PA_KEY_BLOCK / k->lanes, 1, j->call->softcap, s->top);
  if (sight == PA_PARTLY_SEEN) k->row_add(f->scores, s->tiles, count, p->width, f->rows);
  k->row_softmax(f->scores, count, f->rows, &f->state);
  pa_block_ready_values(j, u, s, b);
  if (b->value_scale) k->row_scale(f->scores, b->value_scale + first, count, f->rows);
  if (sight == PA_PARTLY_SEEN && guarded)
    k->row_mark(f->scores, s->tiles, count, p->width, f->rows);
  m = pa_block_rows(b, &b->value, keys.first);
  ahead = 0;
  if (ask && j->plan.keys_fit[1] && b->from + PA_KEY_BLOCK < u->keys.last) {
    next = pa_block_at(j, u, b->from + PA_KEY_BLOCK).key;
    ahead = distance(&m, &next);
  }
  k->row_values[b->value_element](&m, count, f->dv, f->scores, f->rows, guarded, f->state.alpha,
                                  f->state.out, ahead);
  return sight;
}

void pa_decode_chunk(job *j, const unit *u, const desk *s, pa_span keys, char *states) {
  /* One panel but for the narrowest vectors: those read the keys twice. */
  for (int64_t i = 0; i < u->panels; ++i) {
    const panel *p = &u->panel[i];
    const few f = few_of(j, s, p);
    pa_state state = pa_state_at(j, states, i);
    int partly = 0, guarded = 0;
    j->kernels->reset(&state, 0, p->width);
    j->kernels->row_queries(f.queries, p->queries, j->plan.d, p->width, f.rows);
    do { /* a second time if something hidden may have been seen: see attention.c */
      j->kernels->row_reset(&f.state, f.dv, f.rows);
      for (int64_t from = keys.first; from < keys.last; from += PA_KEY_BLOCK) {
        if (pa_team_cancelled(&j->team, s->worker)) return;
        block b = pa_block_at(j, u, from);
        partly |= attend_rows(j, u, s, p, &b, guarded, &f, state.seen) == PA_PARTLY_SEEN;
      }
      j->kernels->row_finish(&f.state, f.dv, f.rows, &state, j->plan.dv, p->width);
    } while (partly && !guarded++ && !j->kernels->finite(&state, j->plan.dv, p->width));
  }
}
