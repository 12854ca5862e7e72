/* For tests of kernels: the table at work, numbers of its type and of all, panels between guard
 * pages. */
#ifndef TABLES_H
#define TABLES_H

#include <float.h>

#include "check.h"
#include "dispatch.h"
#include "pyattn.h"

enum { MAX_D = 140, MAX_KEYS = PA_KEY_BLOCK, MAX_PANEL = 64 };

static const pa_kernels *K;
static double unit; /* rounding unit of the table's type */

static double real_max(void) { return K->real_bytes == 4 ? (double)FLT_MAX : DBL_MAX; }
static double real_min(void) { return K->real_bytes == 4 ? (double)FLT_MIN : DBL_MIN; }
static double real_tiny(void) { return K->real_bytes == 4 ? 0x1p-149 : 0x1p-1074; }

/* Whether the table has a fused multiply-add: the second part of a factor is of no use without. */
static int fused(void) {
#if defined(PA_EMULATED)
  return 0;
#else
  return strcmp(K->isa, "generic") != 0;
#endif
}

static size_t real_bytes(void) { return (size_t)K->real_bytes; }

/* Number i of an array that may lie at any address. */
static double get(const void *x, ptrdiff_t i) {
  const char *at = (const char *)x + i * K->real_bytes;
  float single;
  double wide;
  if (K->real_bytes == 8) return memcpy(&wide, at, sizeof wide), wide;
  return memcpy(&single, at, sizeof single), (double)single;
}

static void put(void *x, ptrdiff_t i, double value) {
  const float single = (float)value;
  memcpy((char *)x + i * K->real_bytes,
         K->real_bytes == 4 ? (const void *)&single : (const void *)&value, real_bytes());
}

/* The table's type. */
static pa_element real_element(void) {
  return K->real_bytes == 4 ? PA_ELEMENT_FLOAT32 : PA_ELEMENT_FLOAT64;
}

static double rounded(double x) { return K->real_bytes == 4 ? (double)(float)x : x; }

/* Equal, the sign of 0 included; a NaN is like another. */
static int same(double a, double b) {
  return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

static void fill(void *x, ptrdiff_t count) {
  for (ptrdiff_t i = 0; i < count; ++i) put(x, i, normal());
}

static guarded panel_take(ptrdiff_t rows, int width) {
  guarded g = guarded_take((size_t)(rows * width * K->lanes) * real_bytes(), below(2));
  fill(g.data, rows * width * K->lanes);
  return g;
}

static guarded copy_take(const guarded *of) {
  guarded g = guarded_take(of->bytes, below(2));
  memcpy(g.data, of->data, of->bytes);
  return g;
}

typedef struct state {
  guarded top, sum, out, seen;
  pa_state view;
} state;

static state state_take(int d, int width) {
  state s = {panel_take(1, width), panel_take(1, width), panel_take(d, width), {0}, {0}};
  s.seen = guarded_take((size_t)(width * K->lanes), below(2));
  s.view = (pa_state){s.top.data, s.sum.data, s.out.data, (unsigned char *)s.seen.data};
  K->reset(&s.view, d, width);
  return s;
}

static void state_give(state *s) {
  guarded_give(&s->top), guarded_give(&s->sum), guarded_give(&s->out), guarded_give(&s->seen);
}

/* --- Numbers of every type, by the book */

static const int element_bytes[] = {2, 2, 4, 8, 1, 1};

static double single_of(uint32_t bits) {
  float x;
  return memcpy(&x, &bits, sizeof x), (double)x;
}

/* The number at `at`. */
static double element_at(pa_element element, const char *at) {
  uint16_t half;
  uint32_t word;
  double wide;
  if (element_bytes[element] == 2) memcpy(&half, at, sizeof half);
  else half = 0;
  switch (element) {
    case PA_ELEMENT_FLOAT16: {
      const int exponent = half >> 10 & 31, fraction = half & 1023;
      const double size = exponent == 31  ? (fraction ? NAN : HUGE_VAL)
                          : exponent == 0 ? ldexp(fraction, -24)
                                          : ldexp(1024 + fraction, exponent - 25);
      return half >> 15 ? -size : size;
    }
    case PA_ELEMENT_BFLOAT16: return single_of((uint32_t)half << 16);
    case PA_ELEMENT_FLOAT32: return memcpy(&word, at, sizeof word), single_of(word);
    case PA_ELEMENT_INT8: return *(const signed char *)at;
    default: return memcpy(&wide, at, sizeof wide), wide;
  }
}

/* Calls `test` for every table that this machine can run. */
static void for_each_table(void (*test)(void)) {
  const char *name;
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) {
    pa_isa_select(name);
    for (int type = 0; type < 2; ++type) {
      K = pa_dispatch((pa_type)type);
      unit = K->real_bytes == 4 ? 0x1p-24 : 0x1p-53;
      const long passed = check_passed;
      printf("%s f%d", name, 8 * K->real_bytes);
      test();
      printf(": %ld checks\n", check_passed - passed);
    }
  }
}

#endif
