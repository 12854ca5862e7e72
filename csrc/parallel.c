/* A pool of threads for the whole process. Why not OpenMP: docs/architecture.md, "Threads".
 *
 * - Tasks are handed out by one atomic counter, so that a team of any size computes the same tasks;
 *   results do not depend on who computes what.
 * - Nobody waits for a thread to wake up. A job is open while the caller works on it; a thread that
 *   comes in time joins, one that comes late finds it closed. The caller waits only for those
 *   that joined.
 * - A thread without a job stays awake for some microseconds, for calls in a row, then sleeps: it
 *   must not take a core from the BLAS that runs between two calls.
 * - One team at a time. A call that finds the threads taken (another Python thread is inside a
 *   call) computes on its own thread: no more threads than were asked for.
 * - Signals go to other threads. Worker 0 is the calling thread; it polls between pieces of its
 *   own work, and while it waits for the others at the end.
 * - fork: the child has no threads and makes its own when it needs them.
 * - A thread that cannot be created is done without.
 */
#define _POSIX_C_SOURCE 200809L
#include "parallel.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

enum {
  POLL_EVERY_NS = 30 * 1000 * 1000,
  AWAKE_NS = 30 * 1000,  /* a thread without a job; waking one takes about as long */
  SPIN_NS = 1000 * 1000, /* the caller, waiting for the others */
  NAP_NS = 200 * 1000,   /* the caller after that */
  STACK_BYTES = 1 << 20,
  MANY_TASKS = 16, /* for each worker */
};

/* Below the first a second thread costs more than it brings; below the second a call is over before
 * anybody could want to interrupt it, on the slowest machine. */
static const double WORK_FOR_TWO = 0.3e6, WORK_FOR_POLLING = 20e6;

static atomic_int threads_wanted = 1;

static struct {
  /* The job. Written by the caller that holds the threads, while it is closed and nobody is in. */
  pa_team *team;
  pa_task task;
  void *data;
  int64_t tasks;
  atomic_llong next;  /* task */
  atomic_int seats;   /* workers that have come, the caller included */
  fenv_t environment; /* the caller's rounding and denormal modes: same bits whoever computes */

  atomic_int taken;        /* whether some team holds the threads */
  atomic_int open, inside; /* whether the job may be joined; threads that are looking or working */
  atomic_uint round;       /* counts jobs: what a thread waits for */
  atomic_int threads;      /* made so far */
  atomic_int sleeping;
  pthread_mutex_t mutex; /* guards sleeping */
  pthread_cond_t wake;
  atomic_int forks; /* counted in children */
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void pa_threads_set(int threads) { atomic_store(&threads_wanted, threads); }
int pa_threads_get(void) { return atomic_load(&threads_wanted); }

static int poll_now_and_then(pa_team *team) {
  const int64_t now = now_ns();
  if (now - team->polled_at >= POLL_EVERY_NS) {
    if (team->poll()) atomic_store(&team->cancelled, 1);
    team->polled_at = now_ns(); /* polling takes time itself: it may wait for a lock */
  }
  return atomic_load_explicit(&team->cancelled, memory_order_relaxed);
}

int pa_team_cancelled(pa_team *team, int worker) {
  if (worker == 0 && team->poll) return poll_now_and_then(team);
  return atomic_load_explicit(&team->cancelled, memory_order_relaxed);
}

static int64_t claim(atomic_llong *next, int64_t tasks) {
  const int64_t t = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
  return t < tasks ? t : -1;
}

static void work_off(pa_team *team, atomic_llong *next, int64_t tasks, pa_task task, void *data,
                     int worker) {
  /* With many tasks a worker knows its next one before it does the present one. With few, it would
   * hold back one that an idle worker could do. */
  const int ahead = tasks >= MANY_TASKS * (int64_t)team->workers;
  int64_t t = claim(next, tasks);
  while (t >= 0 && !pa_team_cancelled(team, worker)) {
    const int64_t after = ahead ? claim(next, tasks) : -1;
    task(data, t, after, worker);
    t = ahead ? after : claim(next, tasks);
  }
}

/* Joins the job if it is open: `inside` is raised before `open` is read, and the caller closes
 * before it reads `inside`, so either it sees us or we see it closed. */
static void join_job(void) {
  atomic_fetch_add(&pool.inside, 1);
  if (atomic_load(&pool.open)) {
    const int seat = atomic_fetch_add(&pool.seats, 1);
    if (seat < pool.team->workers) {
      fesetenv(&pool.environment);
      work_off(pool.team, &pool.next, pool.tasks, pool.task, pool.data, seat);
    }
  }
  atomic_fetch_sub(&pool.inside, 1);
}

static void wait_for_round(unsigned seen) {
  const int64_t from = now_ns();
  while (now_ns() - from < AWAKE_NS) {
    if (atomic_load(&pool.round) != seen) return;
    for (int i = 0; i < 8; ++i) pause_briefly();
  }
  pthread_mutex_lock(&pool.mutex);
  atomic_fetch_add(&pool.sleeping, 1);
  while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
  atomic_fetch_sub(&pool.sleeping, 1);
  pthread_mutex_unlock(&pool.mutex);
}

static void *live(void *unused) {
  unsigned seen = atomic_load(&pool.round) - 1; /* perhaps made for a job that is open now */
  for (;;) {
    wait_for_round(seen);
    seen = atomic_load(&pool.round);
    join_job();
  }
  return unused;
}

/* The child of a fork has the memory of the pool and none of its threads. */
static void forget_threads(void) {
  atomic_fetch_add(&pool.forks, 1);
  atomic_store(&pool.threads, 0);
  atomic_store(&pool.sleeping, 0);
  atomic_store(&pool.inside, 0);
  atomic_store(&pool.open, 0);
  atomic_store(&pool.taken, 0);
  pthread_mutex_init(&pool.mutex, NULL);
  pthread_cond_init(&pool.wake, NULL);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_threads); }

/* Makes threads until there are `wanted`, the caller included, or no more can be had. */
static int threads_ready(int wanted) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  if (atomic_load(&pool.threads) + 1 < wanted) {
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGBUS), sigdelset(&all, SIGFPE); /* faulthandler's */
    pthread_sigmask(SIG_SETMASK, &all, &before); /* what a thread inherits */
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (atomic_load(&pool.threads) + 1 < wanted) {
      pthread_t thread;
      if (pthread_create(&thread, &attributes, live, NULL) != 0) break;
      atomic_fetch_add(&pool.threads, 1);
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  const int ready = atomic_load(&pool.threads) + 1;
  return wanted < ready ? wanted : ready;
}

void pa_team_begin(pa_team *team, int64_t tasks, double work, pa_poll poll) {
  int workers = pa_threads_get();
  if (workers > tasks) workers = (int)tasks;
  if (work < WORK_FOR_TWO) workers = 1;
  team->holds_threads = workers > 1 && !atomic_exchange(&pool.taken, 1);
  team->workers = team->holds_threads ? threads_ready(workers) : 1;
  team->forks = atomic_load(&pool.forks);
  team->poll = work < WORK_FOR_POLLING ? NULL : poll;
  team->polled_at = team->poll ? now_ns() : 0;
  atomic_init(&team->cancelled, 0);
}

void pa_team_end(pa_team *team) {
  if (team->holds_threads) atomic_store(&pool.taken, 0);
}

int pa_team_lost(pa_team *team) {
  if (!team->holds_threads || team->forks == atomic_load(&pool.forks)) return 0;
  team->workers = 1;
  team->holds_threads = 0;
  return 1;
}

static void open_job(pa_team *team, int64_t tasks, pa_task task, void *data) {
  pool.team = team;
  pool.task = task;
  pool.data = data;
  pool.tasks = tasks;
  fegetenv(&pool.environment);
  atomic_store(&pool.next, 0);
  atomic_store(&pool.seats, 1);
  atomic_store(&pool.open, 1);
  atomic_fetch_add(&pool.round, 1);
  /* A thread that is about to sleep holds the mutex until it does, or sees the new round. */
  pthread_mutex_lock(&pool.mutex);
  const int sleeping = atomic_load(&pool.sleeping);
  pthread_mutex_unlock(&pool.mutex);
  if (sleeping < team->workers) pthread_cond_broadcast(&pool.wake);
  else
    for (int i = 1; i < team->workers; ++i) pthread_cond_signal(&pool.wake);
}

static void close_job(pa_team *team) {
  atomic_store(&pool.open, 0);
  const int64_t from = now_ns();
  const struct timespec nap = {0, NAP_NS};
  while (atomic_load(&pool.inside) > 0) {
    const int64_t waited = now_ns() - from;
    if (team->poll) poll_now_and_then(team);
    if (waited > SPIN_NS) nanosleep(&nap, NULL);
    else if (waited > AWAKE_NS) sched_yield();
    else pause_briefly();
  }
}

pa_status pa_team_run(pa_team *team, int64_t tasks, pa_task task, void *data) {
  if (team->workers > 1) {
    open_job(team, tasks, task, data);
    work_off(team, &pool.next, tasks, task, data, 0);
    close_job(team);
  } else {
    atomic_llong next;
    atomic_init(&next, 0);
    work_off(team, &next, tasks, task, data, 0);
  }
  return atomic_load(&team->cancelled) ? PA_INTERRUPTED : PA_OK;
}
