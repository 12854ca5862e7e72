/* The driver of linear attention.
 *
 *      tokens ->   |  chunk 0  |  chunk 1  |  chunk 2  |
 *      state       S0 -------> S1 -------> S2 -------> S3      S1 = fade * S0 + what chunk 0 leaves
 *
 * Outputs of a chunk need the state before it and the chunk itself, nothing else. So a head is a
 * task that goes from chunk to chunk; or, where heads would leave threads without work, chunks are
 * tasks, in waves: what each leaves by itself, then the states before them, one after the other,
 * then all outputs. Both do the same with the same numbers, so no bit tells which it was.
 *
 * Some rules have no form in which a chunk is a product of matrices, and their tokens are steps
 * (linear_attention.h). So is a chunk of a single token: a product with one row would leave most
 * lanes idle.
 */
#include "linear_attention.h"

#include <limits.h>
#include <string.h>

#include "dispatch.h"
#include "scratch.h"

enum {
  WAVE_STATES = 128,
  WAVE_BYTES = 1 << 24, /* of all of them: about what stays in the caches between the steps */
};

static int64_t chunk_tokens(const linear_job *j, const linear_head *h, int64_t chunk) {
  return max64(0, min64(j->call->chunk, h->keys - chunk * j->call->chunk));
}

/* Whether a chunk of so many tokens is a step. */
static int is_step(const linear_job *j, int64_t tokens) { return j->call->causal && tokens == 1; }

static void fold(const linear_job *j, char *to, const char *from, const char *fade) {
  j->kernels->fold(to, from, (ptrdiff_t)(j->call->d * j->dv_pitch + j->d_pitch), fade);
}

static void attend_block(const linear_job *j, const linear_head *h, const linear_desk *s,
                         int64_t block, const char *state) {
  const int64_t first = block * PA_KEY_BLOCK;
  pa_linear_attend(j, h, s, first, (int)min64(PA_KEY_BLOCK, j->call->queries - first), state);
}

/* Task: a head from the first token to the last. */
static void head_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next;
  linear_job *j = data;
  pa_ahead ahead = {.region = -1};
  const linear_desk s = pa_linear_desk(j, worker, &ahead);
  const linear_head h = pa_linear_head(j, task);
  const int64_t longest = j->steps ? j->step_tokens : j->call->chunk;
  char *state = s.states[0], *part = s.states[1];
  pa_linear_load(j, &h, state);
  for (int64_t first = 0; first < h.keys; first += longest) {
    if (pa_team_cancelled(&j->team, worker)) return;
    const int tokens = (int)min64(longest, h.keys - first);
    if (j->steps || is_step(j, tokens)) {
      pa_linear_step(j, &h, &s, first, tokens, state);
      continue;
    }
    pa_linear_read(j, &h, &s, first, tokens);
    ahead.region = -1;
    pa_linear_look_ahead(j, &h, first + tokens, (int)min64(longest, h.keys - first - tokens),
                         j->call->causal, &ahead);
    if (j->call->causal) pa_linear_attend(j, &h, &s, first, tokens, state);
    pa_linear_sum(j, &s, tokens, part);
    fold(j, part, state, pa_linear_fade(j, &s, tokens));
    char *before = state;
    state = part;
    part = before;
  }
  for (int64_t block = 0; block < j->query_blocks; ++block) {
    if (pa_team_cancelled(&j->team, worker)) return;
    attend_block(j, &h, &s, block, state);
  }
  if (j->call->causal) pa_linear_clear(j, &h, &s, h.keys, j->call->queries);
  pa_linear_store(j, &h, state);
}

/* The state before chunk `index` of the wave; the last is the one behind all of them. */
static char *state_at(const linear_job *j, int64_t head, int64_t index) {
  return j->states + (size_t)(head * (j->wave + 1) + index) * j->state_bytes;
}

static char *fade_at(const linear_job *j, int64_t head, int64_t index) {
  return j->fades + (size_t)((head * j->wave + index) * j->kernels->real_bytes);
}

static int64_t wave_chunks(const linear_job *j) { return min64(j->wave, j->chunks - j->wave_from); }

/* What the task of a wave that comes next will want. */
static void look_ahead(const linear_job *j, int64_t next, int attend, pa_ahead *ahead) {
  if (next < 0) return;
  const int64_t count = wave_chunks(j), chunk = j->wave_from + next % count;
  const linear_head h = pa_linear_head(j, next / count);
  pa_linear_look_ahead(j, &h, chunk * j->call->chunk, (int)chunk_tokens(j, &h, chunk), attend,
                       ahead);
}

/* Task of a wave: what a chunk leaves by itself, where the state behind it will be. */
static void sum_task(void *data, int64_t task, int64_t next, int worker) {
  linear_job *j = data;
  const int64_t count = wave_chunks(j), head = task / count, index = task % count;
  pa_ahead ahead = {.region = -1};
  const linear_desk s = pa_linear_desk(j, worker, &ahead);
  const linear_head h = pa_linear_head(j, head);
  const int64_t chunk = j->wave_from + index, tokens = chunk_tokens(j, &h, chunk);
  if (tokens == 0 || is_step(j, tokens) || pa_team_cancelled(&j->team, worker)) return;
  look_ahead(j, next, 0, &ahead);
  pa_linear_read(j, &h, &s, chunk * j->call->chunk, (int)tokens);
  pa_linear_sum(j, &s, (int)tokens, state_at(j, head, index + 1));
  memcpy(fade_at(j, head, index), pa_linear_fade(j, &s, (int)tokens),
         (size_t)j->kernels->real_bytes);
}

/* Task of a wave: the states of a head, one after the other. */
static void scan_task(void *data, int64_t head, int64_t next, int worker) {
  (void)next, (void)worker;
  linear_job *j = data;
  const linear_head h = pa_linear_head(j, head);
  if (j->wave_from == 0) pa_linear_load(j, &h, state_at(j, head, 0));
  for (int64_t index = 0; index < wave_chunks(j); ++index) {
    const int64_t tokens = chunk_tokens(j, &h, j->wave_from + index);
    char *from = state_at(j, head, index), *to = state_at(j, head, index + 1);
    if (tokens == 0 || is_step(j, tokens)) memcpy(to, from, j->state_bytes);
    else fold(j, to, from, fade_at(j, head, index));
  }
}

/* Task of a wave: the outputs of a chunk. One that is a step is the last that has a token, so that
 * nobody waits for the state behind it. */
static void attend_task(void *data, int64_t task, int64_t next, int worker) {
  linear_job *j = data;
  const int64_t count = wave_chunks(j), head = task / count, index = task % count;
  pa_ahead ahead = {.region = -1};
  const linear_desk s = pa_linear_desk(j, worker, &ahead);
  const linear_head h = pa_linear_head(j, head);
  const int64_t chunk = j->wave_from + index, tokens = chunk_tokens(j, &h, chunk);
  const int64_t first = chunk * j->call->chunk;
  if (tokens == 0 || pa_team_cancelled(&j->team, worker)) return;
  if (is_step(j, tokens)) {
    pa_linear_step(j, &h, &s, first, 1, state_at(j, head, count));
    return;
  }
  look_ahead(j, next, 1, &ahead);
  pa_linear_read(j, &h, &s, first, (int)tokens);
  pa_linear_attend(j, &h, &s, first, (int)tokens, state_at(j, head, index));
}

/* Task after the last wave: a block of queries that are not causal. */
static void block_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next;
  linear_job *j = data;
  const int64_t head = task / j->query_blocks;
  pa_ahead ahead = {.region = -1};
  const linear_desk s = pa_linear_desk(j, worker, &ahead);
  const linear_head h = pa_linear_head(j, head);
  if (pa_team_cancelled(&j->team, worker)) return;
  attend_block(j, &h, &s, task % j->query_blocks, state_at(j, head, 0));
}

static void store_task(void *data, int64_t head, int64_t next, int worker) {
  (void)next;
  linear_job *j = data;
  pa_ahead ahead = {.region = -1};
  const linear_desk s = pa_linear_desk(j, worker, &ahead);
  const linear_head h = pa_linear_head(j, head);
  if (j->call->causal) pa_linear_clear(j, &h, &s, h.keys, j->call->queries);
  pa_linear_store(j, &h, state_at(j, head, 0));
}

static pa_status run_wave(linear_job *j) {
  const int64_t count = wave_chunks(j);
  pa_status status = pa_team_run(&j->team, j->heads * count, sum_task, j);
  if (status == PA_OK) status = pa_team_run(&j->team, j->heads, scan_task, j);
  if (status == PA_OK && j->call->causal)
    status = pa_team_run(&j->team, j->heads * count, attend_task, j);
  for (int64_t head = 0; head < j->heads; ++head)
    memcpy(state_at(j, head, 0), state_at(j, head, count), j->state_bytes);
  return status;
}

static pa_status run(linear_job *j) {
  if (!j->wave) return pa_team_run(&j->team, j->heads, head_task, j);
  pa_status status = PA_OK;
  for (j->wave_from = 0; j->wave_from < j->chunks && status == PA_OK; j->wave_from += j->wave)
    status = run_wave(j);
  if (status == PA_OK && j->query_blocks)
    status = pa_team_run(&j->team, j->heads * j->query_blocks, block_task, j);
  if (status == PA_OK) status = pa_team_run(&j->team, j->heads, store_task, j);
  return status;
}

/* Sizes of everything; 0 if they are more than there can be. */
static int plan(linear_job *j) {
  const pa_linear_attention_call *c = j->call;
  const int64_t real = j->kernels->real_bytes;
  j->lanes = j->kernels->lanes;
  j->real = c->type == PA_FLOAT32 ? PA_ELEMENT_FLOAT32 : PA_ELEMENT_FLOAT64;
  j->heads = pa_extents_product(c->batch_axes, c->batch) * c->kv_heads;
  j->group = c->heads / c->kv_heads;
  /* As numbers that cannot overflow: far above any memory, far below what size_t holds. */
  const double wide = 64, state = ((double)c->d + wide) * ((double)c->dv + wide);
  const double rows = ((double)j->group + wide) * ((double)c->d + (double)c->dv + wide);
  if ((state + rows) * wide * 8 > 0x1p48 || c->d > INT_MAX / 2 || j->group > INT_MAX / 2) return 0;
  j->steps = c->beta.data || c->chunk == 1 || (c->decay.data && c->decay_cols > 1) || c->keys == 1;
  j->steps = j->steps && c->causal;
  j->step_tokens = max64(1, PA_KEY_BLOCK / j->group);
  j->chunks = ceil_div(c->keys, c->chunk);
  j->query_blocks = c->causal ? 0 : ceil_div(c->queries, PA_KEY_BLOCK);
  j->values = (pa_cut){.rows = c->dv, .vectors = ceil_div(c->dv, j->lanes)};
  j->values.panels = ceil_div(j->values.vectors, j->kernels->max_width);
  j->d_pitch = ceil_div(c->d, j->lanes) * j->lanes;
  j->dv_pitch = j->values.vectors * j->lanes;
  /* What a single token needs no room for is not taken: to get memory would be most of its time. */
  const int64_t tokens = min64(j->steps ? j->step_tokens : c->chunk, c->keys);
  const int64_t step_rows = j->steps ? tokens * j->group : j->group;
  const int64_t panel = j->steps ? 0 : j->kernels->max_width * j->lanes;
  const int64_t gates = max64(3 * PA_KEY_BLOCK, c->decay_cols > 1 ? tokens * j->d_pitch : 0);
  j->keys_bytes = pa_scratch_round((size_t)(tokens * j->d_pitch * real));
  j->values_bytes = pa_scratch_round((size_t)(tokens * j->dv_pitch * real));
  j->gates_bytes = pa_scratch_round((size_t)(gates * real));
  j->queries_bytes = pa_scratch_round((size_t)(max64(c->d * panel, step_rows * j->d_pitch) * real));
  j->scores_bytes = pa_scratch_round((size_t)(tokens * panel * real));
  j->out_bytes = pa_scratch_round((size_t)(max64(c->dv * panel, step_rows * j->dv_pitch) * real));
  j->row_bytes = pa_scratch_round((size_t)(max64(PA_MAX_LANES, step_rows + j->lanes) * real));
  j->state_bytes = pa_scratch_round((size_t)((c->d * j->dv_pitch + j->d_pitch) * real));
  j->worker_bytes = j->keys_bytes + j->values_bytes + j->gates_bytes + j->queries_bytes +
                    j->scores_bytes + j->out_bytes + 8 * j->row_bytes +
                    (j->steps ? 1 : 2) * j->state_bytes;
  return 1;
}

/* Chunks become tasks where heads alone would leave threads without work. Threads may decide that,
 * as no bit depends on it. */
static void plan_waves(linear_job *j) {
  const int64_t workers = j->team.workers;
  const int64_t slots = min64(WAVE_STATES, WAVE_BYTES / (int64_t)j->state_bytes) / j->heads;
  if (j->steps || workers == 1 || j->heads >= 4 * workers || j->heads % workers == 0) return;
  if (j->chunks > 1 && slots * j->heads >= workers) j->wave = min64(j->chunks, slots);
}

pa_status pa_linear_attention(pa_linear_attention_call *call) {
  linear_job j = {.call = call, .kernels = pa_dispatch(call->type)};
  call->scratch_bytes = SIZE_MAX;
  if (!plan(&j)) return PA_NO_MEMORY;
  const double tokens = (double)call->keys + (call->causal ? 0 : (double)call->queries);
  const double work = (double)(j.heads * (1 + j.group)) * tokens * (double)(call->d * call->dv) * 4;
  pa_team_begin(&j.team, j.steps ? j.heads : j.heads * (j.chunks + j.query_blocks), work,
                call->poll);
  plan_waves(&j);
  const size_t workers_bytes = (size_t)j.team.workers * j.worker_bytes;
  const size_t states_bytes = j.wave ? (size_t)(j.heads * (j.wave + 1)) * j.state_bytes : 0;
  const size_t fades_bytes = pa_scratch_round((size_t)((j.heads * j.wave) * j.kernels->real_bytes));
  const size_t one_bytes = 2 * pa_scratch_round((size_t)(j.lanes * j.kernels->real_bytes));
  call->scratch_bytes = workers_bytes + states_bytes + fades_bytes + one_bytes;
  pa_status status = PA_NO_MEMORY;
  char *scratch = pa_scratch_take(call->scratch_bytes);
  if (scratch) {
    j.workers = scratch;
    j.states = scratch + workers_bytes;
    j.fades = j.states + states_bytes;
    j.one = j.fades + fades_bytes;
    j.kernels->shares(j.one, j.one + one_bytes / 2, j.lanes, NULL, 1);
    status = run(&j);
    if (pa_team_lost(&j.team)) status = run(&j);
    pa_scratch_give(scratch);
  }
  pa_team_end(&j.team);
  return status;
}
