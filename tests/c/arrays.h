/* Arrays with axes in any order, apart, reversed, and those among `shared` (bits) of stride 0;
 * flush against a page nobody may touch. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include "check.h"

enum { MAX_AXES = 6 };

/* WHOLE: the numbers of the last axis beside each other. LINED_UP: so, and other strides such that
 * rows can be written past the caches. */
typedef enum layout { ANY_LAYOUT, WHOLE, LINED_UP } layout;

typedef struct array {
  guarded memory;
  char *data, *was; /* was: what the memory held when it was filled */
  int axes;
  int64_t extent[MAX_AXES], stride[MAX_AXES];
} array;

static array array_take(int axes, const int64_t *extent, int element, int shared, layout how) {
  array a = {.axes = axes};
  int order[MAX_AXES];
  memcpy(a.extent, extent, (size_t)axes * sizeof *extent);
  for (int i = 0; i < axes; ++i) order[i] = i;
  for (int i = how == ANY_LAYOUT ? axes - 1 : axes - 2; i > 0 && below(3); --i) {
    const int other = below(i + 1), swapped = order[i];
    order[i] = order[other], order[other] = swapped;
  }
  int64_t step = element, low = 0, high = element;
  if (how == ANY_LAYOUT && below(3) == 0) step += below(2) ? element * (1 + below(2)) : below(20);
  for (int i = axes - 1; i >= 0; --i) {
    const int axis = order[i], exact = how != ANY_LAYOUT && axis == axes - 1;
    const int64_t n = extent[axis];
    if ((shared >> axis & 1) && !exact && below(4) == 0) continue; /* stride 0 */
    a.stride[axis] = step;
    step *= n + (!exact && below(3) == 0);
    if (exact && how == LINED_UP) step = (step + 15) / 16 * 16;
    if (exact || below(6)) {
      high += (n - 1) * a.stride[axis];
    } else {
      a.stride[axis] = -a.stride[axis];
      low += (n - 1) * a.stride[axis];
    }
  }
  const int odd = how == LINED_UP ? 0 : below(8) == 0; /* any address will do */
  a.memory = guarded_take((size_t)(high - low + odd), below(2));
  a.data = a.memory.data - low + odd;
  return a;
}

/* Number n in C order. */
static char *number_at(const array *a, int64_t n) {
  char *at = a->data;
  for (int i = a->axes - 1; i >= 0; --i) at += n % a->extent[i] * a->stride[i], n /= a->extent[i];
  return at;
}

static int64_t numbers(const array *a) {
  int64_t n = 1;
  for (int i = 0; i < a->axes; ++i) n *= a->extent[i];
  return n;
}

static void array_keep(array *a) {
  a->was = malloc(a->memory.bytes);
  memcpy(a->was, a->memory.data, a->memory.bytes);
}

static void array_restore(array *a) { memcpy(a->memory.data, a->was, a->memory.bytes); }

/* The same array as it was. */
static array array_before(const array *a) {
  array before = *a;
  before.data = a->was + (a->data - a->memory.data);
  return before;
}

static int array_unchanged(const array *a) {
  return !memcmp(a->memory.data, a->was, a->memory.bytes);
}

/* Whether nothing has changed but its numbers; these become what they were. */
static int array_only_numbers(array *a, int element) {
  const array before = array_before(a);
  for (int64_t n = 0; n < numbers(a); ++n)
    memcpy(number_at(a, n), number_at(&before, n), (size_t)element);
  return array_unchanged(a);
}

static void array_give(array *a) {
  guarded_give(&a->memory);
  free(a->was);
}

#endif
