#include "dispatch.h"
#include "parallel.h"
#include "scratch.h"

static const double MUCH_WORK = 1e9; /* enough that all threads are woken */

enum { PIECES = 32 }; /* for each worker: one that comes late still finds some */

typedef struct probe {
  const pa_kernels *kernels;
  int64_t rounds;
  const char *data;
  char *to;
  size_t piece, bytes;
  double *results;
} probe;

static void fma_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next, (void)worker;
  probe *p = data;
  p->results[task] = p->kernels->burn(p->rounds);
}

static void read_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next, (void)worker;
  probe *p = data;
  p->results[task] = p->kernels->read(p->data + (size_t)task * p->piece, p->piece);
}

static void copy_task(void *data, int64_t task, int64_t next, int worker) {
  (void)next, (void)worker;
  probe *p = data;
  p->results[task] = 0;
  const size_t at = (size_t)task * p->piece;
  if (at >= p->bytes) return;
  const size_t left = p->bytes - at;
  p->kernels->copy(p->to + at, p->data + at, left < p->piece ? left : p->piece);
}

static double run(probe *p, pa_team *team, int64_t tasks, pa_task task) {
  double sum = -1;
  p->results = pa_scratch_take((size_t)tasks * sizeof *p->results);
  if (p->results) {
    pa_team_run(team, tasks, task, p);
    sum = 0;
    for (int64_t i = 0; i < tasks; ++i) sum += p->results[i];
    pa_scratch_give(p->results);
  }
  pa_team_end(team);
  return sum;
}

double pa_probe_fma(pa_type type, int64_t rounds) {
  probe p = {.kernels = pa_dispatch(type), .rounds = rounds / PIECES + 1};
  pa_team team;
  pa_team_begin(&team, pa_threads_get(), MUCH_WORK, NULL);
  return run(&p, &team, PIECES * team.workers, fma_task);
}

double pa_probe_read(const char *data, size_t bytes) {
  probe p = {.kernels = pa_dispatch(PA_FLOAT64), .data = data};
  pa_team team;
  pa_team_begin(&team, pa_threads_get(), MUCH_WORK, NULL);
  const int64_t pieces = PIECES * (int64_t)team.workers;
  p.piece = bytes / (size_t)pieces;
  return run(&p, &team, pieces, read_task);
}

int pa_probe_copy(char *to, const char *from, size_t bytes) {
  probe p = {.kernels = pa_dispatch(PA_FLOAT64), .data = from, .to = to, .bytes = bytes};
  pa_team team;
  pa_team_begin(&team, pa_threads_get(), MUCH_WORK, NULL);
  const int64_t pieces = PIECES * (int64_t)team.workers;
  p.piece = bytes / (size_t)pieces + 1;
  return run(&p, &team, pieces, copy_task) < 0 ? -1 : 0;
}
