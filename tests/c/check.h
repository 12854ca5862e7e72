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

static double normal(void) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform();
  return sum;
}

/* `bytes` bytes that end at (or, with at_front, start behind) a page nobody may touch. */
typedef struct guarded {
  char *data, *map;
  size_t mapped;
} guarded;

static guarded guarded_take(size_t bytes, int at_front) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t inner = (bytes + page - 1) / page * page;
  guarded g = {.mapped = inner + 2 * page};
  g.map = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.map == MAP_FAILED || mprotect(g.map, page, PROT_NONE) ||
      mprotect(g.map + page + inner, page, PROT_NONE)) {
    perror("guarded_take");
    exit(2);
  }
  g.data = g.map + page + (at_front ? 0 : inner - bytes);
  return g;
}

static void guarded_give(guarded *g) { munmap(g->map, g->mapped); }

#endif
