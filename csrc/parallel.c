/* Rules this file keeps:
 *
 * - Tasks are handed out by one atomic counter, so a team of any size, even one smaller than asked
 *   for, computes the same tasks; results do not depend on who computes what.
 * - One team at a time. A call that finds the threads taken (another Python thread is inside a
 *   call) runs on its own thread: no oversubscription, and no thread pool per calling thread
 *   fighting over the cores.
 * - Signals: worker 0 is the calling thread. It polls between pieces of its own work, and while it
 *   waits for the others at the end.
 * - fork: libgomp's threads do not survive fork, and a region of two in the child hangs for ever.
 *   Once a team has run, children compute on one thread.
 * - libgomp ends the process if it cannot create a thread. So before a thread's first team, the
 *   same number of threads is created and joined once; what cannot be had is not asked for.
 */
#define _POSIX_C_SOURCE 200809L
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <time.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

enum { POLL_EVERY_NS = 30 * 1000 * 1000 };

static atomic_int threads_wanted = 1;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int team_poll(pa_team *team) {
  const int64_t now = now_ns();
  if (now - team->polled_at >= POLL_EVERY_NS) {
    if (team->poll()) atomic_store(&team->cancelled, 1);
    team->polled_at = now_ns(); /* polling takes time itself: it may wait for a lock */
  }
  return atomic_load_explicit(&team->cancelled, memory_order_relaxed);
}

int pa_team_cancelled(pa_team *team, int worker) {
  if (worker == 0 && team->poll) return team_poll(team);
  return atomic_load_explicit(&team->cancelled, memory_order_relaxed);
}

void pa_threads_set(int threads) { atomic_store(&threads_wanted, threads); }

#if defined(_OPENMP)

enum {
  SPIN_NS = 1000 * 1000, /* how long worker 0 waits awake for the others */
  NAP_NS = 200 * 1000,
};

/* Below this a second thread costs more than it brings: waking one takes some microseconds. */
static const double WORK_FOR_TWO = 0.3e6;

static atomic_int team_busy = 0;
static atomic_int forked_after_team = 0;

static void after_fork_in_child(void) {
  atomic_store(&forked_after_team, 1);
  atomic_store(&team_busy, 0);
}

static void register_fork_handler(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

typedef struct gate {
  pthread_mutex_t mutex;
} gate;

static void *pass_gate(void *data) {
  gate *g = data;
  pthread_mutex_lock(&g->mutex);
  pthread_mutex_unlock(&g->mutex);
  return NULL;
}

/* How many threads, this one included, can exist at once: up to `wanted`. */
static int threads_available(int wanted) {
  enum { batch = 512 };
  pthread_t others[batch];
  gate g = {PTHREAD_MUTEX_INITIALIZER};
  int made = 0;
  if (wanted > batch) wanted = batch;
  pthread_mutex_lock(&g.mutex);
  while (made < wanted - 1 && pthread_create(&others[made], NULL, pass_gate, &g) == 0) ++made;
  pthread_mutex_unlock(&g.mutex);
  for (int i = 0; i < made; ++i) pthread_join(others[i], NULL);
  pthread_mutex_destroy(&g.mutex);
  return made + 1;
}

static int threads_proven(int wanted) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  static _Thread_local int proven = 1, tried = 1;
  if (wanted > tried) {
    pthread_once(&once, register_fork_handler);
    proven = threads_available(wanted);
    tried = wanted;
  }
  return wanted < proven ? wanted : proven;
}

int pa_threads_openmp(void) { return _OPENMP; }

int pa_threads_get(void) {
  return atomic_load(&forked_after_team) ? 1 : atomic_load(&threads_wanted);
}

void pa_team_begin(pa_team *team, int64_t tasks, double work, pa_poll poll) {
  int workers = pa_threads_get();
  if (workers > tasks) workers = (int)tasks;
  if (work < WORK_FOR_TWO || omp_in_parallel()) workers = 1;
  team->holds_threads = workers > 1 && !atomic_exchange(&team_busy, 1);
  if (!team->holds_threads) workers = 1;
  team->workers = workers > 1 ? threads_proven(workers) : 1;
  team->poll = poll;
  team->polled_at = poll ? now_ns() : 0;
  atomic_init(&team->cancelled, 0);
}

void pa_team_end(pa_team *team) {
  if (team->holds_threads) atomic_store(&team_busy, 0);
}

/* Worker 0 must not sleep in the barrier: a Ctrl-C would wait for the slowest of the others. */
static void wait_for_others(pa_team *team, atomic_int *working) {
  const int64_t from = now_ns();
  const struct timespec nap = {0, NAP_NS};
  while (atomic_load(working) > 0) {
    if (team->poll) team_poll(team);
    if (now_ns() - from > SPIN_NS) nanosleep(&nap, NULL);
    else sched_yield();
  }
}

#else

int pa_threads_openmp(void) { return 0; }
int pa_threads_get(void) { return 1; }

void pa_team_begin(pa_team *team, int64_t tasks, double work, pa_poll poll) {
  (void)tasks, (void)work;
  team->workers = 1;
  team->holds_threads = 0;
  team->poll = poll;
  team->polled_at = poll ? now_ns() : 0;
  atomic_init(&team->cancelled, 0);
}

void pa_team_end(pa_team *team) { (void)team; }

#endif

static void work_off(pa_team *team, atomic_llong *next, int64_t tasks, pa_task task, void *data,
                     int worker) {
  for (;;) {
    const int64_t t = atomic_fetch_add(next, 1);
    if (t >= tasks || pa_team_cancelled(team, worker)) return;
    task(data, t, worker);
  }
}

pa_status pa_team_run(pa_team *team, int64_t tasks, pa_task task, void *data) {
  atomic_llong next;
  atomic_init(&next, 0);
#if defined(_OPENMP)
  if (team->workers > 1) {
    atomic_int working;
    atomic_init(&working, team->workers);
#pragma omp parallel num_threads(team->workers)
    {
      const int worker = omp_get_thread_num();
      if (worker == 0) /* those that did not come will not leave either */
        atomic_fetch_sub(&working, team->workers - omp_get_num_threads());
      work_off(team, &next, tasks, task, data, worker);
      atomic_fetch_sub(&working, 1);
      if (worker == 0) wait_for_others(team, &working);
    }
  } else
#endif
    work_off(team, &next, tasks, task, data, 0);
  return atomic_load(&team->cancelled) ? PA_INTERRUPTED : PA_OK;
}
