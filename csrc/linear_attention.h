/* A call of linear attention at work. Words:
 *
 * A head is a key head of a batch element, and the query heads that share it.
 *
 * A state is what all tokens so far leave behind, or a chunk of them by itself: S as panels of
 * value columns, [panel][k][lane], then z, [k].
 *
 * A chunk is up to `call.chunk` tokens, at multiples of it: what they leave is summed by itself,
 * and then added to the faded state.
 *
 * A step is a token by itself: the recurrence as it is written.
 */
#ifndef PA_LINEAR_ATTENTION_H
#define PA_LINEAR_ATTENTION_H

#include "geometry.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "plan.h"
#include "pyattn.h"

typedef struct linear_job {
  const pa_linear_attention_call *call;
  const pa_kernels *kernels;
  pa_team team;
  pa_element real;              /* the type that is computed in, as an element */
  int64_t heads, group, chunks; /* chunks: of the longest head */
  int steps;                    /* whether tokens go one by one whatever the chunks are */
  int64_t step_tokens;          /* of which so many are read together */
  pa_cut values;                /* columns of the values in panels */
  int64_t lanes, d_pitch, dv_pitch;
  /* Bytes of the parts of a desk, and of a state. */
  size_t keys_bytes, values_bytes, gates_bytes, queries_bytes, scores_bytes, out_bytes, row_bytes,
      worker_bytes, state_bytes;
  char *workers;        /* worker_bytes each */
  char *states;         /* waves only: by (head, chunk of wave + 1), the first as before it */
  char *fades;          /* how much of the state a chunk leaves, a number each */
  char *one;            /* the number 1 */
  int64_t wave;         /* chunks of a wave; 0: a head is one task */
  int64_t wave_from;    /* where the running one began */
  int64_t query_blocks; /* not causal: of PA_KEY_BLOCK queries */
} linear_job;

/* One head, and where its things lie. */
typedef struct linear_head {
  const char *query, *key, *value, *decay, *beta, *state;
  char *out, *new_state;
  int64_t keys; /* that count */
} linear_head;

/* Scratch of one worker. */
typedef struct linear_desk {
  pa_ahead *ahead; /* what the next chunk will want */
  char *keys;      /* [token][k], mapped */
  char *values;    /* [panel][token][lane] */
  char *gates;     /* see `products`; or [token][k] */
  char *beta;      /* [token] */
  char *queries;   /* a panel [k][lane]; of steps [token * group + head][k] */
  char *scores;    /* [key][lane] */
  char *out;       /* a panel [dv][lane]; of steps [panel][token * group + head][lane] */
  char *alpha, *sum, *total, *factor, *rest, *zeros; /* by lane, or by row of steps */
  char *states[2];
} linear_desk;

/* Panel of value columns number `panel`: its first column, how many there are, its vectors. */
typedef struct linear_columns {
  int64_t first, count;
  int width;
} linear_columns;

linear_columns pa_linear_columns(const linear_job *j, int64_t panel);

static inline size_t linear_bytes(const linear_job *j, int64_t numbers) {
  return (size_t)numbers * (size_t)j->kernels->real_bytes;
}

/* Where the panel's part of an array [panel][row][lane] of `rows` rows begins; and z in a state. */
static inline char *linear_panel(const linear_job *j, char *array, const linear_columns *c,
                                 int64_t rows) {
  return array + linear_bytes(j, c->first * rows);
}
static inline char *linear_sums(const linear_job *j, char *state) {
  return state + linear_bytes(j, j->call->d * j->dv_pitch);
}

linear_head pa_linear_head(const linear_job *j, int64_t head);
linear_desk pa_linear_desk(const linear_job *j, int worker, pa_ahead *ahead);

/* The memory that a chunk starts with, nothing of no tokens: keys and values; queries and outputs
 * if it will `attend`. */
void pa_linear_look_ahead(const linear_job *j, const linear_head *h, int64_t first, int tokens,
                          int attend, pa_ahead *ahead);

/* The caller's state, or 0; and back, if it is wanted. */
void pa_linear_load(const linear_job *j, const linear_head *h, char *state);
void pa_linear_store(const linear_job *j, const linear_head *h, const char *state);

/* Tokens of a chunk onto the desk. */
void pa_linear_read(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                    int tokens);

/* What the tokens on the desk leave behind by themselves. The keys there have faded then. */
void pa_linear_sum(const linear_job *j, const linear_desk *s, int tokens, char *state);

/* By how much they fade what was before them: a number, as `fold` wants it. */
const char *pa_linear_fade(const linear_job *j, const linear_desk *s, int tokens);

/* Outputs of queries from the state before them and, if causal, the tokens on the desk, of which
 * these are the queries. */
void pa_linear_attend(const linear_job *j, const linear_head *h, const linear_desk *s,
                      int64_t first, int tokens, const char *state);

/* Tokens one by one, at most `step_tokens`: outputs, and what they do to the state. */
void pa_linear_step(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                    int tokens, char *state);

/* Outputs of causal queries from the key length on: 0. */
void pa_linear_clear(const linear_job *j, const linear_head *h, const linear_desk *s, int64_t first,
                     int64_t last);

#endif
