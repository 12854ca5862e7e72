/* attention(q, k, v): blocks of queries against blocks of keys, a running softmax between.
 *
 *               keys ->
 *             +-----+-----+-----+-----+      a square: PA_KEY_BLOCK keys x one panel of queries.
 *   queries   |  A  |  B  | hid | hid |      A    all of it visible: scores, softmax, values
 *      |      +-----+-----+-----+-----+      B    in part: a tile is added to the scores, keys
 *      v      |  A  |  A  |  B  | hid |           past the last visible one are not read
 *             +-----+-----+-----+-----+      hid  none of it: never touched
 *
 * Phases of a unit (plan.h has the words): pack the queries; per chunk of keys, per block of keys,
 * per panel: one square (square.h), or with few rows one pass (decode.h); merge the chunks; finish
 * (finish.h).
 */
#include "decode.h"
#include "dispatch.h"
#include "finish.h"
#include "job.h"
#include "scratch.h"
#include "square.h"
#include "terms.h"

static void pack_queries(const job *j, const unit *u) {
  const double log2e = 1.44269504088896340736; /* scores in units of log2: softmax by 2**x */
  for (int64_t i = 0; i < u->panels; ++i) {
    const panel *p = &u->panel[i];
    char *rows[PA_MAX_LANES];
    pa_view_rows(j, u, &j->call->query, p, p->width * j->kernels->lanes, rows);
    j->kernels->pack[j->call->query_element](p->queries, (const char *const *)rows,
                                             j->call->query.col, j->plan.d, p->width,
                                             j->call->scale * log2e);
    pa_terms_rows(j, u, p);
  }
}

/* A chunk of keys into fresh states, one for each panel.
 *
 * In a partly visible block a hidden weight is exactly 0, but 0 * NaN is NaN: a value that must
 * not be seen would show. Rare, so found out afterwards: a panel that met such a block and is not
 * finite is done again, with the same operations in the same order, in which hidden weights do not
 * multiply. Rows that do attend the NaN still become NaN, the others keep their bits. */
static void attend_chunk(job *j, const unit *u, const desk *s, int64_t chunk, char *states) {
  const int64_t first = max64(chunk * PA_KEY_CHUNK, u->keys.first / PA_KEY_BLOCK * PA_KEY_BLOCK);
  const int64_t to = min64((chunk + 1) * PA_KEY_CHUNK, u->keys.last);
  int partly[PA_UNIT_PANELS] = {0};
  if (u->few) {
    pa_decode_chunk(j, u, s, (pa_span){first, to}, states);
    return;
  }
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state state = pa_state_at(j, states, i);
    j->kernels->reset(&state, j->plan.dv, u->panel[i].width);
  }
  for (int64_t from = first; from < to; from += PA_KEY_BLOCK) {
    if (pa_team_cancelled(&j->team, s->worker)) return;
    block b = pa_block_at(j, u, from);
    for (int64_t i = 0; i < u->panels; ++i) {
      pa_state state = pa_state_at(j, states, i);
      partly[i] |= pa_square_attend(j, u, s, &u->panel[i], &b, 0, &state) == PA_PARTLY_SEEN;
    }
  }
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state state = pa_state_at(j, states, i);
    if (!partly[i] || j->kernels->finite(&state, j->plan.dv, u->panel[i].width)) continue;
    j->kernels->reset(&state, j->plan.dv, u->panel[i].width);
    for (int64_t from = first; from < to; from += PA_KEY_BLOCK) {
      block b = pa_block_at(j, u, from);
      pa_square_attend(j, u, s, &u->panel[i], &b, 1, &state);
    }
  }
}

/* Whether the unit sees anything of a chunk; of others there is nothing to compute or merge. */
static int sees_chunk(const unit *u, int64_t chunk) {
  return u->keys.first < (chunk + 1) * PA_KEY_CHUNK && chunk * PA_KEY_CHUNK < u->keys.last;
}

static void merge_chunk(const job *j, const unit *u, char *totals, char *parts) {
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state total = pa_state_at(j, totals, i), part = pa_state_at(j, parts, i);
    j->kernels->merge(&total, &part, j->plan.dv, u->panel[i].width);
  }
}

static void reset_totals(const job *j, const unit *u, char *totals) {
  for (int64_t i = 0; i < u->panels; ++i) {
    pa_state total = pa_state_at(j, totals, i);
    j->kernels->reset(&total, j->plan.dv, u->panel[i].width);
  }
}

/* Task: a whole unit, chunk after chunk. */
static void unit_task(void *data, int64_t task, int64_t next, int worker) {
  job *j = data;
  pa_ahead ahead = {.region = -1};
  const desk s = pa_desk_of(j, worker, &ahead);
  unit u;
  pa_unit_of(j, &s, task, &u);
  if (j->plan.look_ahead && !u.few) pa_look_ahead(j, next, &ahead);
  pack_queries(j, &u);
  if (j->call->strongest) pa_forget_strongest(j, &u);
  /* The first chunk is the total so far: the same bits as merging it into nothing. */
  int64_t chunk = u.keys.first / PA_KEY_CHUNK;
  attend_chunk(j, &u, &s, chunk, s.totals);
  while (sees_chunk(&u, ++chunk)) {
    if (pa_team_cancelled(&j->team, worker)) return;
    attend_chunk(j, &u, &s, chunk, s.parts);
    merge_chunk(j, &u, s.totals, s.parts);
  }
  if (pa_team_cancelled(&j->team, worker)) return; /* what the states hold is not finished */
  pa_finish_unit(j, &u, &s, s.totals);
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
  const int64_t index = task / chunks, chunk = j->wave_from + task % chunks;
  const desk s = pa_desk_of(j, worker, &ahead);
  unit u;
  pa_unit_of(j, &s, index, &u);
  if (!sees_chunk(&u, chunk)) return;
  pack_queries(j, &u);
  attend_chunk(j, &u, &s, chunk, part_of(j, index, chunk));
}

/* Task after a wave: merges the chunks of one unit in key order; after the last wave, finishes. */
static void total_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next;
  job *j = data;
  pa_ahead ahead = {.region = -1};
  const desk s = pa_desk_of(j, worker, &ahead);
  unit u;
  pa_unit_of(j, &s, task, &u);
  char *totals = j->totals + (size_t)(task * j->plan.unit_panels) * j->plan.state_bytes;
  if (j->wave_from == j->plan.first_chunk) reset_totals(j, &u, totals);
  for (int64_t chunk = j->wave_from; chunk < j->wave_to; ++chunk)
    if (sees_chunk(&u, chunk)) merge_chunk(j, &u, totals, part_of(j, task, chunk));
  if (j->wave_to == j->plan.chunks) pa_finish_unit(j, &u, &s, totals);
}

static pa_status run(job *j) {
  const pa_plan *p = &j->plan;
  if (!p->wave) return pa_team_run(&j->team, p->units, unit_task, j);
  pa_status status = PA_OK;
  for (int64_t from = p->first_chunk; from < p->chunks && status == PA_OK; from += p->wave) {
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
  if (j.plan.units == 0) return PA_OK; /* packed sequences, all of them without a query */
  const int64_t tasks = j.plan.units * (j.plan.wave ? j.plan.wave : 1);
  pa_team_begin(&j.team, tasks, j.plan.work, call->poll);
  const size_t workers_bytes = (size_t)j.team.workers * j.plan.worker_bytes;
  const size_t lists_bytes = j.plan.order_bytes + j.plan.grid_bytes;
  call->scratch_bytes = workers_bytes + pa_plan_wave_bytes(&j.plan) + lists_bytes;
  pa_status status = PA_NO_MEMORY;
  char *scratch = pa_scratch_take(call->scratch_bytes);
  if (scratch) {
    j.workers = scratch;
    j.parts = scratch + workers_bytes;
    j.totals =
        j.parts + (size_t)(j.plan.units * j.plan.wave * j.plan.unit_panels) * j.plan.state_bytes;
    char *lists = scratch + call->scratch_bytes - lists_bytes;
    if (call->query_offsets) {
      j.order = (int64_t *)lists;
      j.order_units = j.order + pa_batch(call);
      pa_plan_order(call, &j.plan, j.order, j.order_units);
    }
    if (call->grid) {
      j.lines = (pa_stretch *)lists;
      j.columns = j.lines + j.plan.grid.lines.stretches;
      pa_grid_stretches(&call->grid->lines, j.plan.grid.lines.longest, j.lines);
      pa_grid_stretches(&call->grid->columns, j.plan.grid.columns.longest, j.columns);
    }
    status = run(&j);
    if (pa_team_lost(&j.team)) status = run(&j);
    pa_scratch_give(scratch);
  }
  pa_team_end(&j.team);
  return status;
}
