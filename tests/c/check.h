/* A small harness: checks that count, random numbers, and memory with inaccessible neighbours. */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What runs on one thread has nothing to show to ThreadSanitizer, under which it takes long. */
#if defined(__SANITIZE_THREAD__)
enum { THREADS_ONLY = 1 };
#else
enum { THREADS_ONLY = 0 };
#endif

static long check_passed, check_failed;

#define CHECK(condition, ...)                                         \
  do {                                                                \
    if (condition) {                                                  \
      ++check_passed;                                                 \
    } else if (++check_failed <= 20) {                                \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      fprintf(stderr, __VA_ARGS__);                                   \
      fputc('\n', stderr);                                            \
    }                                                                 \
  } while (0)

static int check_report(void) {
  printf("%ld passed, %ld failed\n", check_passed, check_failed);
  return check_failed != 0 || check_passed == 0;
}

static uint64_t check_seed = 88172645463325252u;

static double uniform(void) { /* [0, 1), xorshift64* */
  check_seed ^= check_seed >> 12;
  check_seed ^= check_seed << 25;
  check_seed ^= check_seed >> 27;
  return (double)((check_seed * 2685821657736338717u) >> 11) * 0x1p-53;
}

static int below(int n) { return (int)(uniform() * n); }

static double normal(void) { /* nearly: mean 0, variance 1 */
  return (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772;
}

/* `bytes` bytes that end at (or, with at_front, start behind) a page nobody may touch. What is left
 * of their pages on the other side holds a pattern that must still be there in the end. */
typedef struct guarded {
  char *data, *map;
  size_t bytes, mapped;
} guarded;

enum { GUARDED_PATTERN = 0xA5, GUARDED_POOL = 512 };

static struct { /* of one page, to be used again: asking the system takes long */
  char *maps[GUARDED_POOL];
  int count;
} guarded_pool;

static size_t page_bytes(void) {
  static size_t bytes;
  if (!bytes) bytes = (size_t)sysconf(_SC_PAGESIZE);
  return bytes;
}

static char *guarded_map(size_t mapped) {
  const size_t page = page_bytes();
  if (mapped == 3 * page && guarded_pool.count) return guarded_pool.maps[--guarded_pool.count];
  char *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) ||
      mprotect(map + mapped - page, page, PROT_NONE)) {
    perror("guarded_take");
    exit(2);
  }
  return map;
}

static guarded guarded_take(size_t bytes, int at_front) {
  const size_t page = page_bytes(), inner = (bytes + page - 1) / page * page;
  guarded g = {.bytes = bytes, .mapped = inner + 2 * page};
  g.map = guarded_map(g.mapped);
  g.data = g.map + page + (at_front ? 0 : inner - bytes);
  memset(g.map + page, GUARDED_PATTERN, inner);
  return g;
}

static int guarded_untouched(const char *from, const char *to) {
  return from == to || (*from == (char)GUARDED_PATTERN &&
                        !memcmp(from, from + 1, (size_t)(to - from) - 1)); /* all like the first */
}

static void guarded_give(guarded *g) {
  const size_t page = page_bytes();
  CHECK(guarded_untouched(g->map + page, g->data) &&
            guarded_untouched(g->data + g->bytes, g->map + g->mapped - page),
        "written outside of %zu bytes", g->bytes);
  if (g->mapped == 3 * page && guarded_pool.count < GUARDED_POOL)
    guarded_pool.maps[guarded_pool.count++] = g->map;
  else munmap(g->map, g->mapped);
}

#endif
