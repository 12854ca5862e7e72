/* The thread pool: every task once, whoever comes, however many ask at once, cancelled or forked.
 */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

#include "parallel.h"

enum { CALLERS = 4, ROUNDS = 300, MOST_TASKS = 60, JOBS = 3 };

typedef struct job {
  pa_team *team;
  int slow; /* long enough to be polled */
  int done[MOST_TASKS];
} job;

static atomic_int wrong, interrupted;
static _Thread_local int polls_left; /* until poll() asks to stop; 0: never */

static int poll_counted(void) { return polls_left && --polls_left == 0; }

static void task(void *data, int64_t t, int64_t next, int worker) {
  job *j = data;
  if (worker < 0 || worker >= j->team->workers || next == t) ++wrong;
  ++j->done[t]; /* not atomic: the sanitizer sees whether two do the same task */
  const int turns = j->slow ? 1000000 : 200 + (int)(t % 7) * 300;
  for (volatile int i = 0; i < turns; ++i) continue;
  (void)pa_team_cancelled(j->team, worker);
}

static void *call_often(void *seed) {
  unsigned s = (unsigned)(size_t)seed;
  for (int round = 0; round < ROUNDS; ++round) {
    if (rand_r(&s) % 50 == 0) pa_threads_set(1 + rand_r(&s) % 6);
    const int tasks = 1 + rand_r(&s) % MOST_TASKS;
    pa_team team;
    const int slow = round % 100 == 50;
    polls_left = slow;
    pa_team_begin(&team, tasks, 1e9, poll_counted);
    for (int n = 0; n < JOBS; ++n) {
      job j = {.team = &team, .slow = slow && n == 1};
      if (pa_team_run(&team, tasks, task, &j) == PA_OK) {
        for (int t = 0; t < tasks; ++t) wrong += j.done[t] != 1;
      } else {
        ++interrupted;
        for (int t = 0; t < tasks; ++t) wrong += j.done[t] > 1;
      }
    }
    pa_team_end(&team);
    if (rand_r(&s) % 20 == 0) usleep((useconds_t)(rand_r(&s) % 200)); /* threads fall asleep */
  }
  return NULL;
}

static int child_of_fork(size_t seed) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20); /* a hang is a failure */
    wrong = 0;
    call_often((void *)seed);
    _exit(wrong != 0);
  }
  int status;
  waitpid(child, &status, 0);
  return status;
}

int main(void) {
  pthread_t callers[CALLERS];
  pa_threads_set(4);
  for (size_t i = 0; i < CALLERS; ++i)
    pthread_create(&callers[i], NULL, call_often, (void *)(i + 1));
/* Neither ThreadSanitizer nor qemu-user follows threads through forks. */
#if !defined(__SANITIZE_THREAD__) && !defined(CHECK_UNDER_QEMU)
  for (size_t i = 0; i < 8; ++i) {
    usleep(2000);
    CHECK(child_of_fork(100 + i) == 0, "child %zu", i);
  }
#endif
  for (int i = 0; i < CALLERS; ++i) pthread_join(callers[i], NULL);
  CHECK(interrupted > 0, "nothing was interrupted");
  CHECK(wrong == 0, "%d wrong", wrong);
  printf("%d runs interrupted\n", interrupted);
  return check_report();
}
