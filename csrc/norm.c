/* The driver of layer_norm and rms_norm: which rows make a task. */
#include "dispatch.h"
#include "geometry.h"
#include "parallel.h"
#include "plane.h"

enum {
  TASK_BYTES = 64 << 10, /* of a row array: some microseconds, and half of L2 at most */
  FLOPS_PER_BYTE = 8,    /* what a byte costs, beside what the pool counts in */
};

typedef struct job {
  const pa_norm_call *call;
  const pa_kernels *kernels;
  pa_team team;
  int64_t task_rows;
} job;

static void task(void *data, int64_t number, int64_t next, int worker) {
  (void)next, (void)worker;
  const job *j = data;
  const pa_norm_call *c = j->call;
  const int64_t end = min64((number + 1) * j->task_rows, c->rows);
  for (int64_t row = number * j->task_rows; row < end; ++row) {
    const pa_norm_row one = {.cols = c->cols,
                             .x = pa_plane_row(&c->x, row),
                             .residual = c->residual.data ? pa_plane_row(&c->residual, row) : NULL,
                             .out = pa_plane_row(&c->out, row),
                             .weight = c->weight,
                             .bias = c->bias,
                             .eps = c->eps,
                             .centred = c->centred};
    j->kernels->norm(&one);
  }
}

pa_status pa_norm(const pa_norm_call *call) {
  job j = {.call = call, .kernels = pa_dispatch(call->type)};
  const int64_t row_bytes = call->cols * j.kernels->real_bytes;
  j.task_rows = max64(1, TASK_BYTES / row_bytes);
  const int64_t tasks = ceil_div(call->rows, j.task_rows);
  const int in_place = call->out.data == call->x.data || call->out.data == call->residual.data;
  const double work = FLOPS_PER_BYTE * (double)call->rows * (double)row_bytes;
  pa_team_begin(&j.team, tasks, work, in_place ? NULL : call->poll);
  pa_status status = pa_team_run(&j.team, tasks, task, &j);
  if (!in_place && pa_team_lost(&j.team)) status = pa_team_run(&j.team, tasks, task, &j);
  pa_team_end(&j.team);
  return status;
}
