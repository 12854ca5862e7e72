/* The driver of positions: which rows make a task, and how they are written.
 *
 * A task is a stretch of positions of one batch element in all heads, so that the rows of the table
 * it needs are read from memory once. Within it the kernel walks along what lies beside each other:
 * the positions of a head, or the heads of a position.
 *
 * A large result goes past the caches: written the usual way, every line would be read from memory
 * first, a third of all traffic. */
#include "dispatch.h"
#include "geometry.h"
#include "parallel.h"

enum {
  RUN_BYTES = 8 << 10, /* of x, of one head in a task: with their rows of the table half a cache */
  FLOPS_PER_BYTE = 8,  /* what a byte of x costs, beside what the pool counts in */
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
  int64_t task_rows, blocks; /* positions of a task, tasks of a batch element */
  int stream;                /* whether the result goes past the caches */
} job;

static const int64_t element_bytes[] = {[PA_ELEMENT_FLOAT16] = 2,
                                        [PA_ELEMENT_BFLOAT16] = 2,
                                        [PA_ELEMENT_FLOAT32] = 4,
                                        [PA_ELEMENT_FLOAT64] = 8};

static void rope_rows(const pa_positions_call *call, const pa_kernels *kernels,
                      const pa_table_rows *rows) {
  kernels->rotate[call->element](rows, call->pairs, call->interleaved);
}

static void add_rows(const pa_positions_call *call, const pa_kernels *kernels,
                     const pa_table_rows *rows) {
  kernels->shift[call->element](rows);
}

static void task(void *data, int64_t number, int64_t next, int worker) {
  (void)next, (void)worker;
  const job *j = data;
  const pa_positions_call *c = j->call;
  const int64_t b = number / j->blocks, first = number % j->blocks * j->task_rows;
  const int64_t positions = min64(j->task_rows, c->rows - first);
  pa_table_rows rows = {
      .from = c->x.data + pa_extents_offset(c->batch_axes, c->batch, c->x.batch, b),
      .to = c->out.data + pa_extents_offset(c->batch_axes, c->batch, c->out.batch, b),
      .from_col = c->x.col,
      .to_col = c->out.col,
      .cols = c->cols,
      .index = c->index.data + pa_extents_offset(c->batch_axes, c->batch, c->index.batch, b),
      .table = c->table,
      .table_row = c->table_row,
      .table_col = c->table_col,
      .stream = j->stream,
  };
  rows.from += first * c->x.row;
  rows.to += first * c->out.row;
  rows.index += first * c->index.row;
  /* The inner loop goes along the axis whose results lie closer together. */
  const int along_heads =
      c->heads > 1 && (positions == 1 || (c->out.head < c->out.row && c->out.head > -c->out.row));
  rows.count = along_heads ? c->heads : positions;
  rows.from_step = along_heads ? c->x.head : c->x.row;
  rows.to_step = along_heads ? c->out.head : c->out.row;
  rows.index_step = along_heads ? 0 : c->index.row;
  const int64_t outer = along_heads ? positions : c->heads;
  const int64_t from_outer = along_heads ? c->x.row : c->x.head;
  for (int64_t n = 0; n < outer; ++n) {
    rows.next = rows.from + from_outer;
    j->kernel(c, j->kernels, &rows);
    rows.from += from_outer;
    rows.to += along_heads ? c->out.row : c->out.head;
    rows.index += along_heads ? c->index.row : 0;
  }
  if (j->stream) j->kernels->settle();
}

static pa_status run(const pa_positions_call *call, row_kernel kernel) {
  const pa_type computed = element_bytes[call->element] == 2 ? PA_FLOAT32 : PA_FLOAT64;
  job j = {.call = call, .kernels = pa_dispatch(computed), .kernel = kernel};
  const int64_t batch = pa_extents_product(call->batch_axes, call->batch);
  const int64_t row_bytes = call->cols * element_bytes[call->element];
  const double rows = (double)batch * (double)call->heads * (double)call->rows;
  const double bytes = rows * (double)row_bytes;
  j.task_rows = max64(1, RUN_BYTES / row_bytes);
  j.blocks = (call->rows + j.task_rows - 1) / j.task_rows;
  const int in_place = call->out.data == call->x.data;
  j.stream = bytes >= STREAMED_BYTES && !in_place;
  pa_team_begin(&j.team, batch * j.blocks, FLOPS_PER_BYTE * bytes, call->poll);
  pa_status status = pa_team_run(&j.team, batch * j.blocks, task, &j);
  /* In place nothing can be done twice; but then nothing polls, and no handler can have forked. */
  if (pa_team_lost(&j.team) && !in_place) status = pa_team_run(&j.team, batch * j.blocks, task, &j);
  pa_team_end(&j.team);
  return status;
}

pa_status pa_rope(const pa_positions_call *call) { return run(call, rope_rows); }
pa_status pa_add_positions(const pa_positions_call *call) { return run(call, add_rows); }
