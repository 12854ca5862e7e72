/* attention(q, k, v): blocks of queries against blocks of keys, a running softmax between.
 *
 *               keys ->
 *             +-----+-----+-----+-----+      a square: PA_KEY_BLOCK keys x one panel of queries.
 *   queries   |  A  |  B  | hid | hid |      A  all of it visible: scores, softmax, values.
 *      |      +-----+-----+-----+-----+      B  some of it visible: the same, and `hide` between.
 *      v      |  A  |  A  |  B  | hid |         Its keys past the last visible one are not read.
 *             +-----+-----+-----+-----+      hid  none of it visible: never touched.
 *
 * Phases of a unit (plan.h has the words): pack the queries; per chunk of keys, per block of keys,
 * per panel: one square; merge the chunks; finish: divide, transpose back, write.
 */
#include <string.h>

#include "dispatch.h"
#include "geometry.h"
#include "parallel.h"
#include "plan.h"
#include "scratch.h"

typedef struct job {
  const pa_attention_call *call;
  const pa_kernels *kernels;
  pa_plan plan;
  pa_team team;
  char *workers;        /* plan.worker_bytes each */
  char *parts, *totals; /* waves only: states, by (unit, chunk of wave, panel) and (unit, panel) */
  int64_t wave_from, wave_to; /* chunks of the running wave */
} job;

/* One unit, and where its things lie. */
typedef struct unit {
  int64_t batch, kv_head;
  int64_t first_panel, panels;
  pa_matrix key, value;
  int64_t last_key; /* no row of the unit may see this key or a later one */
} unit;

/* One panel of a unit. */
typedef struct panel {
  int width, count; /* vectors; rows that are not just filling lanes */
  int64_t first_row;
  void *queries;
  pa_span any, all; /* keys that some row may see, that every row may see */
} panel;

/* Scratch of one worker. */
typedef struct desk {
  int worker;
  pa_ahead *ahead;                /* what the next unit will want */
  char *queries, *parts, *totals; /* by panel */
  char *scores, *top, *alpha;
} desk;

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static desk desk_of(const job *j, int worker, pa_ahead *ahead) {
  const pa_plan *p = &j->plan;
  const size_t panels = (size_t)p->unit_panels;
  const size_t row = (size_t)p->panel_lanes * (size_t)j->kernels->real_bytes;
  const size_t states = p->wave ? 0 : panels * p->state_bytes;
  desk s = {.worker = worker, .ahead = ahead};
  s.queries = j->workers + (size_t)worker * p->worker_bytes;
  s.parts = s.queries + panels * p->queries_bytes;
  s.totals = s.parts + states;
  s.scores = s.totals + (p->chunks > 1 ? states : 0);
  s.top = s.scores + PA_KEY_BLOCK * row;
  s.alpha = s.top + row;
  return s;
}

static pa_state state_at(const job *j, char *states, int64_t panel) {
  char *at = states + (size_t)panel * j->plan.state_bytes;
  const size_t row = (size_t)j->plan.panel_lanes * (size_t)j->kernels->real_bytes;
  return (pa_state){at, at + row, at + 2 * row};
}

static char *view_head(const job *j, const pa_view *view, int64_t batch, int64_t head) {
  const pa_attention_call *c = j->call;
  char *at = view->data + head * view->head;
  for (int axis = c->batch_axes - 1; axis >= 0; --axis) {
    at += batch % c->batch[axis] * view->batch[axis];
    batch /= c->batch[axis];
  }
  return at;
}

/* Addresses of `count` rows of a key head's group from row `row` on, the last one repeated up to
 * `lanes`; `head0` is the first head of the group. Rows lie query by query, head by head. */
static void view_rows(const job *j, const pa_view *view, char *head0, int64_t row, int count,
                      int lanes, char **rows) {
  const int64_t group = j->plan.group;
  int64_t head = row % group;
  char *at = head0 + row / group * view->row + head * view->head;
  for (int lane = 0; lane < count; ++lane) {
    rows[lane] = at;
    at += view->head;
    if (++head == group) {
      head = 0;
      at += view->row - group * view->head;
    }
  }
  for (int lane = count; lane < lanes; ++lane) rows[lane] = rows[count - 1];
}

static pa_span row_span(const job *j, const unit *u, int64_t row) {
  return pa_visible(j->call, u->batch, row / j->plan.group);
}

static panel panel_of(const job *j, const unit *u, const desk *s, int64_t index) {
  panel p;
  int64_t first_vector;
  pa_plan_panel(&j->plan, u->first_panel + index, &first_vector, &p.width);
  p.first_row = first_vector * j->kernels->lanes;
  p.count = (int)min64(p.width * j->kernels->lanes, j->plan.rows - p.first_row);
  p.queries = s->queries + (size_t)index * j->plan.queries_bytes;
  const pa_span a = row_span(j, u, p.first_row), b = row_span(j, u, p.first_row + p.count - 1);
  p.any = (pa_span){a.first, b.last};
  p.all = (pa_span){b.first, a.last};
  return p;
}

/* Units of a key head follow each other, so that threads share its K and V; among them the last
 * rows, which see the most if causal, come first. */
static unit unit_of(const job *j, int64_t index) {
  const pa_attention_call *c = j->call;
  const pa_plan *p = &j->plan;
  const int64_t head = index / p->blocks, block = p->blocks - 1 - index % p->blocks;
  unit u;
  u.batch = head / c->kv_heads;
  u.kv_head = head % c->kv_heads;
  u.first_panel = block * p->unit_panels;
  u.panels = min64(p->unit_panels, p->panels - u.first_panel);
  u.key = (pa_matrix){view_head(j, &c->key, u.batch, u.kv_head), c->key.row, c->key.col};
  u.value = (pa_matrix){NULL, 0, 0};
  if (!c->weights.data)
    u.value = (pa_matrix){view_head(j, &c->value, u.batch, u.kv_head), c->value.row, c->value.col};
  int64_t first_vector;
  int width;
  pa_plan_panel(p, u.first_panel + u.panels - 1, &first_vector, &width);
  const int64_t end = min64((first_vector + width) * j->kernels->lanes, p->rows);
  u.last_key = row_span(j, &u, end - 1).last;
  return u;
}

static void pack_queries(const job *j, const unit *u, const desk *s) {
  const double log2e = 1.44269504088896340736; /* scores in units of log2: softmax by 2**x */
  const pa_view *query = &j->call->query;
  char *head0 = view_head(j, query, u->batch, u->kv_head * j->plan.group);
  for (int64_t i = 0; i < u->panels; ++i) {
    const panel p = panel_of(j, u, s, i);
    char *rows[PA_MAX_LANES];
    view_rows(j, query, head0, p.first_row, p.count, p.width * j->kernels->lanes, rows);
    j->kernels->pack(p.queries, (const char *const *)rows, query->col, j->plan.d, p.width,
                     j->call->scale * log2e);
  }
}

/* hide() for a block that starts at key `from`: each row by its own span. */
static void hide_block(const job *j, const unit *u, const panel *p, int64_t from, int keys,
                       double fill, void *x, void *top) {
  int32_t first[PA_MAX_LANES], last[PA_MAX_LANES];
  for (int lane = 0; lane < p->width * j->kernels->lanes; ++lane) {
    const pa_span span = row_span(j, u, p->first_row + min64(lane, p->count - 1));
    first[lane] = (int32_t)max64(0, min64(span.first - from, keys));
    last[lane] = (int32_t)max64(0, min64(span.last - from, keys));
  }
  j->kernels->hide(x, keys, p->width, first, last, fill, top);
}

typedef enum { NOTHING_SEEN, PARTLY_SEEN, ALL_SEEN } seen;

/* Scores of a panel against the block of keys at `from`, hidden ones at -inf, and their largest,
 * into the desk. *keys: how many of the block were looked at. */
static seen score_block(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                        int *keys) {
  const int64_t to = min64(from + PA_KEY_BLOCK, min64(p->any.last, j->call->keys));
  if (to <= from || from + PA_KEY_BLOCK <= p->any.first) return NOTHING_SEEN;
  *keys = (int)(to - from);
  const pa_matrix key = {u->key.data + from * u->key.row, u->key.row, u->key.col};
  j->kernels->scores(&key, *keys, j->plan.d, p->queries, p->width, s->scores, s->top, s->ahead);
  if (p->all.first <= from && to <= p->all.last) return ALL_SEEN;
  hide_block(j, u, p, from, *keys, -__builtin_inf(), s->scores, s->top);
  return PARTLY_SEEN;
}

/* One square: adds the block of keys at `from` to the panel's state. */
static seen attend_block(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                         int guarded, pa_state *state) {
  int keys = 0;
  const seen what = score_block(j, u, s, p, from, &keys);
  if (what == NOTHING_SEEN) return what;
  j->kernels->softmax(s->scores, keys, p->width, s->top, state, s->alpha);
  if (j->plan.dv == 0) return what;
  const pa_matrix value = {u->value.data + from * u->value.row, u->value.row, u->value.col};
  if (what == PARTLY_SEEN && guarded) {
    hide_block(j, u, p, from, keys, -0.0, s->scores, s->top);
    j->kernels->values_guarded(&value, keys, j->plan.dv, s->scores, p->width, s->alpha, state->out,
                               s->ahead);
  } else {
    j->kernels->values(&value, keys, j->plan.dv, s->scores, p->width, s->alpha, state->out,
                       s->ahead);
  }
  return what;
}

/* A chunk of keys into fresh states, one for each panel.
 *
 * In a partly visible block a hidden weight is exactly 0, but 0 * NaN is NaN: a value that must
 * not be seen would show. Rare, so found out afterwards: a panel that met such a block and is not
 * finite is done again, with the same operations in the same order, in which hidden weights do not
 * multiply. Rows that do attend the NaN still become NaN, the others keep their bits. */
static void attend_chunk(job *j, const unit *u, const desk *s, int64_t chunk, char *states) {
  const int64_t from = chunk * PA_KEY_CHUNK;
  const int64_t to = min64(from + PA_KEY_CHUNK, u->last_key);
  int partly[PA_UNIT_PANELS] = {0};
  panel panels[PA_UNIT_PANELS];
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state state = state_at(j, states, i);
    panels[i] = panel_of(j, u, s, i);
    j->kernels->reset(&state, j->plan.dv, panels[i].width);
  }
  for (int64_t block = from; block < to; block += PA_KEY_BLOCK) {
    if (pa_team_cancelled(&j->team, s->worker)) return;
    for (int64_t i = 0; i < u->panels; ++i) {
      pa_state state = state_at(j, states, i);
      partly[i] |= attend_block(j, u, s, &panels[i], block, 0, &state) == PARTLY_SEEN;
    }
  }
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state state = state_at(j, states, i);
    if (!partly[i] || j->kernels->finite(&state, j->plan.dv, panels[i].width)) continue;
    j->kernels->reset(&state, j->plan.dv, panels[i].width);
    for (int64_t block = from; block < to; block += PA_KEY_BLOCK)
      attend_block(j, u, s, &panels[i], block, 1, &state);
  }
}

static void merge_chunk(const job *j, const unit *u, const desk *s, char *totals, char *parts) {
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state total = state_at(j, totals, i), part = state_at(j, parts, i);
    j->kernels->merge(&total, &part, j->plan.dv, panel_of(j, u, s, i).width);
  }
}

static void reset_totals(const job *j, const unit *u, const desk *s, char *totals) {
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state total = state_at(j, totals, i);
    j->kernels->reset(&total, j->plan.dv, panel_of(j, u, s, i).width);
  }
}

/* The weights of a panel: its scores once more, now that the denominators are known. */
static void write_weights(job *j, const unit *u, const desk *s, const panel *p,
                          const pa_state *state, const void *factors) {
  const pa_view *view = &j->call->weights;
  const size_t row = (size_t)p->width * (size_t)j->kernels->lanes * (size_t)j->kernels->real_bytes;
  char *head0 = view_head(j, view, u->batch, u->kv_head * j->plan.group);
  double unused[PA_MAX_LANES];
  pa_state known = {state->top, unused, NULL};
  for (int64_t from = 0; from < j->call->keys; from += PA_KEY_BLOCK) {
    if (pa_team_cancelled(&j->team, s->worker)) return;
    char *rows[PA_MAX_LANES];
    view_rows(j, view, head0 + from * view->col, p->first_row, p->count, p->count, rows);
    const int all = (int)min64(PA_KEY_BLOCK, j->call->keys - from);
    int keys = 0;
    memset(unused, 0, sizeof unused);
    if (score_block(j, u, s, p, from, &keys) != NOTHING_SEEN)
      j->kernels->softmax(s->scores, keys, p->width, state->top, &known, s->alpha);
    memset(s->scores + (size_t)keys * row, 0, (size_t)(all - keys) * row);
    j->kernels->write(rows, view->col, s->scores, all, p->width, p->count, factors);
  }
}

static void finish_panel(job *j, const unit *u, const desk *s, const panel *p,
                         const pa_state *state) {
  const pa_attention_call *c = j->call;
  unsigned char empty[PA_MAX_LANES] = {0};
  double factors[2 * PA_MAX_LANES]; /* room for either type */
  for (int lane = 0; lane < p->width * j->kernels->lanes; ++lane) {
    if (p->all.first < p->all.last) break; /* there are keys that every row sees */
    const pa_span span = row_span(j, u, p->first_row + min64(lane, p->count - 1));
    empty[lane] = span.first >= span.last;
  }
  j->kernels->factors(state, p->width, empty, factors);
  if (c->weights.data) {
    write_weights(j, u, s, p, state, factors);
  } else {
    char *head0 = view_head(j, &c->out, u->batch, u->kv_head * j->plan.group);
    char *rows[PA_MAX_LANES];
    view_rows(j, &c->out, head0, p->first_row, p->count, p->count, rows);
    j->kernels->write(rows, c->out.col, state->out, j->plan.dv, p->width, p->count, factors);
  }
  if (c->lse) {
    const size_t real = (size_t)j->kernels->real_bytes;
    double lse[PA_MAX_LANES];
    j->kernels->lse(state, p->width, empty, lse);
    for (int lane = 0; lane < p->count; ++lane) {
      const int64_t row = p->first_row + lane;
      const int64_t head = u->kv_head * j->plan.group + row % j->plan.group;
      const int64_t at = (u->batch * c->heads + head) * c->queries + row / j->plan.group;
      memcpy((char *)c->lse + (size_t)at * real, (const char *)lse + (size_t)lane * real, real);
    }
  }
}

static void finish_unit(job *j, const unit *u, const desk *s, char *states) {
  for (int64_t i = 0; i < u->panels; ++i) {
    const panel p = panel_of(j, u, s, i);
    const pa_state state = state_at(j, states, i);
    finish_panel(j, u, s, &p, &state);
  }
}

/* The rows of some queries in all heads of the unit's group. */
static pa_region rows_region(const job *j, const unit *u, const pa_view *view, int64_t query,
                             int64_t queries, int64_t bytes) {
  const char *head0 = view_head(j, view, u->batch, u->kv_head * j->plan.group);
  return (pa_region){head0 + query * view->row, view->row, view->head, bytes, queries,
                     (int)j->plan.group};
}

/* The memory that unit `index` starts with: its queries, its first keys and values, its output.
 * Only worth while if that is much of what it touches at all: see `ahead_keys`. */
static void look_ahead(const job *j, int64_t index, pa_ahead *ahead) {
  enum { ahead_keys = 4 * PA_KEY_BLOCK };
  const pa_attention_call *c = j->call;
  const pa_plan *p = &j->plan;
  ahead->region = -1;
  if (index < 0) return;
  const unit u = unit_of(j, index);
  int64_t first, last;
  int width;
  pa_plan_panel(p, u.first_panel, &first, &width);
  pa_plan_panel(p, u.first_panel + u.panels - 1, &last, &width);
  const int64_t query = first * j->kernels->lanes / p->group;
  const int64_t queries =
      min64(((last + width) * j->kernels->lanes + p->group - 1) / p->group, c->queries) - query;
  const int64_t keys = max64(0, min64(u.last_key, ahead_keys));
  const int64_t real = j->kernels->real_bytes;
  ahead->byte = ahead->piece = ahead->inner = 0;
  ahead->regions[3] = rows_region(j, &u, &c->query, query, queries, p->d * real);
  ahead->regions[2] = (pa_region){u.key.data, u.key.row, 0, p->d * real, keys, 1};
  ahead->regions[1] = (pa_region){u.value.data, u.value.row, 0, p->dv * real, keys, 1};
  ahead->regions[0] = rows_region(j, &u, &c->out, query, queries, p->dv * real);
  ahead->region = keys > 0 ? 3 : -1;
  const int64_t lines = (queries * p->group + keys) * (p->d + p->dv) * real / 64;
  const int64_t tiles = u.panels * min64(c->keys, PA_KEY_CHUNK) / PA_KEY_BLOCK * 16;
  ahead->lines = (int)(1 + min64(lines / max64(tiles, 1), 8));
}

/* Task: a whole unit, chunk after chunk. */
static void unit_task(void *data, int64_t task, int64_t next, int worker) {
  job *j = data;
  pa_ahead ahead = {.region = -1};
  look_ahead(j, j->plan.look_ahead ? next : -1, &ahead);
  const unit u = unit_of(j, task);
  const desk s = desk_of(j, worker, &ahead);
  char *states = s.parts;
  pack_queries(j, &u, &s);
  if (j->plan.chunks == 1) {
    attend_chunk(j, &u, &s, 0, s.parts);
  } else {
    states = s.totals;
    reset_totals(j, &u, &s, s.totals);
    for (int64_t chunk = 0; chunk * PA_KEY_CHUNK < u.last_key; ++chunk) {
      if (pa_team_cancelled(&j->team, worker)) return;
      attend_chunk(j, &u, &s, chunk, s.parts);
      merge_chunk(j, &u, &s, s.totals, s.parts);
    }
  }
  if (pa_team_cancelled(&j->team, worker)) return; /* what the states hold is not finished */
  finish_unit(j, &u, &s, states);
}

static char *part_of(const job *j, int64_t unit, int64_t chunk) {
  const int64_t slot = unit * j->plan.wave + chunk - j->wave_from;
  return j->parts + (size_t)(slot * j->plan.unit_panels) * j->plan.state_bytes;
}

/* Task of a wave: one chunk of one unit. */
static void part_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next;
  job *j = data;
  pa_ahead ahead = {.region = -1};
  const int64_t chunks = j->wave_to - j->wave_from;
  const int64_t unit_index = task / chunks, chunk = j->wave_from + task % chunks;
  const unit u = unit_of(j, unit_index);
  const desk s = desk_of(j, worker, &ahead);
  pack_queries(j, &u, &s);
  attend_chunk(j, &u, &s, chunk, part_of(j, unit_index, chunk));
}

/* Task after a wave: merges the chunks of one unit in key order; after the last wave, finishes. */
static void total_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next;
  job *j = data;
  pa_ahead ahead = {.region = -1};
  const unit u = unit_of(j, task);
  const desk s = desk_of(j, worker, &ahead);
  char *totals = j->totals + (size_t)(task * j->plan.unit_panels) * j->plan.state_bytes;
  if (j->wave_from == 0) reset_totals(j, &u, &s, totals);
  for (int64_t chunk = j->wave_from; chunk < j->wave_to; ++chunk)
    merge_chunk(j, &u, &s, totals, part_of(j, task, chunk));
  if (j->wave_to == j->plan.chunks) finish_unit(j, &u, &s, totals);
}

static pa_status run(job *j) {
  const pa_plan *p = &j->plan;
  if (!p->wave) return pa_team_run(&j->team, p->units, unit_task, j);
  pa_status status = PA_OK;
  for (int64_t from = 0; from < p->chunks && status == PA_OK; from += p->wave) {
    j->wave_from = from;
    j->wave_to = min64(from + p->wave, p->chunks);
    status = pa_team_run(&j->team, p->units * (j->wave_to - from), part_task, j);
    if (status == PA_OK) status = pa_team_run(&j->team, p->units, total_task, j);
  }
  return status;
}

pa_status pa_attention(pa_attention_call *call) {
  call->scratch_bytes = SIZE_MAX;
  if (!pa_plan_fits(call)) return PA_NO_MEMORY;
  job j = {.call = call, .kernels = pa_dispatch(call->type)};
  j.plan = pa_plan_attention(call, j.kernels);
  const int64_t tasks = j.plan.units * (j.plan.wave ? j.plan.wave : 1);
  pa_team_begin(&j.team, tasks, j.plan.work, call->poll);
  const size_t workers_bytes = (size_t)j.team.workers * j.plan.worker_bytes;
  call->scratch_bytes = workers_bytes + pa_plan_wave_bytes(&j.plan);
  pa_status status = PA_NO_MEMORY;
  char *scratch = pa_scratch_take(call->scratch_bytes);
  if (scratch) {
    j.workers = scratch;
    j.parts = scratch + workers_bytes;
    j.totals =
        j.parts + (size_t)(j.plan.units * j.plan.wave * j.plan.unit_panels) * j.plan.state_bytes;
    status = run(&j);
    if (pa_team_lost(&j.team)) status = run(&j);
    pa_scratch_give(scratch);
  }
  pa_team_end(&j.team);
  return status;
}
