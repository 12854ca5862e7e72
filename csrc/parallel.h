/* Threads. The only file that knows any; everything else sees tasks 0..n-1 and workers 0..w-1. */
#ifndef PA_PARALLEL_H
#define PA_PARALLEL_H

#include <stdatomic.h>
#include <stdint.h>

#include "pyattn.h"

/* One call's hold on the threads. `workers` may be fewer than asked for, never more. */
typedef struct pa_team {
  int workers;
  int holds_threads; /* whether this team keeps the others out */
  pa_poll poll;
  int64_t polled_at; /* nanoseconds; worker 0 only */
  atomic_int cancelled;
  int forks; /* of this process and its ancestors, when the team began */
} pa_team;

/* `next`: the task that this worker does afterwards, or -1 if that is not known. */
typedef void (*pa_task)(void *data, int64_t task, int64_t next, int worker);

/* `work`: estimated floating-point operations; too little for a second thread runs on this one. */
void pa_team_begin(pa_team *team, int64_t tasks, double work, pa_poll poll);
void pa_team_end(pa_team *team);

/* Runs task(data, t, next, worker) once for every t < tasks, in order of starting, on all workers.
 */
pa_status pa_team_run(pa_team *team, int64_t tasks, pa_task task, void *data);

/* Whether this is the child of a fork that happened in the middle of the call (a signal handler
 * can): the other workers stayed with the parent, and with them what they had computed. The team is
 * then down to this thread, and everything is to be run again. */
int pa_team_lost(pa_team *team);

/* To be asked by tasks every millisecond or so: whether to return early. Polls, on worker 0. */
int pa_team_cancelled(pa_team *team, int worker);

#endif
