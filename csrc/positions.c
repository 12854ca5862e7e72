/* The driver of positions: which rows make a task, and how they are written.
 *
 * A task is a stretch of positions of one batch element in many heads, so that the rows of the
 * table it needs are read from memory once. Within it the kernel walks along what lies beside each
 * other: the positions of a head, or the heads of a position.
 *
 * A large result goes past the caches: written the usual way, every line would be read from memory
 * first, a third of all traffic. */
#include <stdlib.h>

#include "dispatch.h"
#include "geometry.h"
#include "parallel.h"

enum {
  RUN_BYTES = 8 << 10, /* of x, of one head in a task: with their rows of the table half a cache */
  TASK_BYTES = 512 << 10, /* of x, at most, where that leaves a row */
  FEW_TASKS = 64,         /* longer runs of a single head rather than more tasks than this */
  LONG_RUN = 8,           /* times RUN_BYTES */
  ASK_EVERY = 16,         /* runs, whether to go on: looking at the clock takes a tenth of a run */
  FLOPS_PER_BYTE = 8,     /* what a byte of x costs, beside what the pool counts in */
};

/* A result of this size has left the caches by the time that anybody reads it. */
static const double STREAMED_BYTES = 16 << 20;

typedef void (*row_kernel)(const pa_positions_call *call, const pa_kernels *kernels,
                           const pa_table_rows *rows);

typedef struct job {
  const pa_positions_call *call;
  const pa_kernels *kernels;
  row_kernel kernel;
  pa_team team;
  int64_t task_rows, blocks;  /* positions of a task, stretches of positions */
  int64_t task_heads, groups; /* heads of a task, groups of heads */
  int stream;                 /* whether the result goes past the caches */
} job;

static void rope_rows(const pa_positions_call *call, const pa_kernels *kernels,
                      const pa_table_rows *rows) {
  kernels->rotate[call->element](rows, call->pairs, call->interleaved);
}

static void add_rows(const pa_positions_call *call, const pa_kernels *kernels,
                     const pa_table_rows *rows) {
  kernels->shift[call->element](rows);
}

/* The first position and the first head of a task. */
static int64_t first_row(const job *j, int64_t number) {
  return number / j->groups % j->blocks * j->task_rows;
}
static int64_t first_head(const job *j, int64_t number) {
  return number % j->groups * j->task_heads;
}

/* Where the rows of a task begin in an array. */
static char *rows_of(const job *j, const pa_view *view, int64_t number) {
  const pa_positions_call *c = j->call;
  const int64_t b = number / j->groups / j->blocks;
  return view->data + pa_extents_offset(c->batch_axes, c->batch, view->batch, b) +
         first_head(j, number) * view->head + first_row(j, number) * view->row;
}

static void task(void *data, int64_t number, int64_t next, int worker) {
  job *j = data;
  const pa_positions_call *c = j->call;
  const int64_t positions = min64(j->task_rows, c->rows - first_row(j, number));
  const int64_t heads = min64(j->task_heads, c->heads - first_head(j, number));
  /* The inner loop goes along the axis whose results lie closer together. */
  const int along_heads = heads > 1 && (positions == 1 || llabs(c->out.head) < llabs(c->out.row));
  const int64_t outer = along_heads ? positions : heads;
  const int64_t from_outer = along_heads ? c->x.row : c->x.head;
  const int64_t to_outer = along_heads ? c->out.row : c->out.head;
  pa_table_rows rows = {
      .from = rows_of(j, &c->x, number),
      .to = rows_of(j, &c->out, number),
      .from_step = along_heads ? c->x.head : c->x.row,
      .from_col = c->x.col,
      .to_step = along_heads ? c->out.head : c->out.row,
      .to_col = c->out.col,
      .count = along_heads ? heads : positions,
      .cols = c->cols,
      .index = rows_of(j, &c->index, number),
      .index_step = along_heads ? 0 : c->index.row,
      .table = c->table,
      .table_row = c->table_row,
      .table_col = c->table_col,
      .stream = j->stream,
  };
  const char *after = next < 0 ? rows.from : rows_of(j, &c->x, next);
  for (int64_t n = 0; n < outer; ++n) {
    if (n % ASK_EVERY == 0 && pa_team_cancelled(&j->team, worker)) break;
    rows.next = n + 1 < outer ? rows.from + from_outer : after;
    j->kernel(c, j->kernels, &rows);
    rows.from += from_outer;
    rows.to += to_outer;
    rows.index += along_heads ? c->index.row : 0;
  }
  if (j->stream) j->kernels->settle();
}

static pa_status run(const pa_positions_call *call, row_kernel kernel) {
  const pa_type computed = pa_element_bytes(call->element) == 2 ? PA_FLOAT32 : PA_FLOAT64;
  job j = {.call = call, .kernels = pa_dispatch(computed), .kernel = kernel};
  const int64_t batch = pa_extents_product(call->batch_axes, call->batch);
  const int64_t row_bytes = call->cols * pa_element_bytes(call->element);
  const double rows = (double)batch * (double)call->heads * (double)call->rows;
  const double bytes = rows * (double)row_bytes;
  j.task_rows = max64(1, RUN_BYTES / row_bytes);
  if (call->heads == 1)
    j.task_rows = max64(j.task_rows, min64(LONG_RUN * j.task_rows, call->rows * batch / FEW_TASKS));
  j.blocks = (call->rows + j.task_rows - 1) / j.task_rows;
  j.task_heads = max64(1, TASK_BYTES / (j.task_rows * row_bytes));
  j.groups = (call->heads + j.task_heads - 1) / j.task_heads;
  const int64_t tasks = batch * j.blocks * j.groups;
  const int in_place = call->out.data == call->x.data;
  j.stream = bytes >= STREAMED_BYTES && !in_place;
  pa_team_begin(&j.team, tasks, FLOPS_PER_BYTE * bytes, call->poll);
  pa_status status = pa_team_run(&j.team, tasks, task, &j);
  /* In place nothing can be done twice; but then nothing polls, and no handler can have forked. */
  if (pa_team_lost(&j.team) && !in_place) status = pa_team_run(&j.team, tasks, task, &j);
  pa_team_end(&j.team);
  return status;
}

pa_status pa_rope(const pa_positions_call *call) { return run(call, rope_rows); }
pa_status pa_add_positions(const pa_positions_call *call) { return run(call, add_rows); }
