/* pa_attention on every instruction set: random shapes, strides and terms, every operand flush
 * against an inaccessible page in front or behind, against plain loops in double. */
#include <float.h>

#include "check.h"
#include "pyattn.h"

static int real; /* bytes */

static pa_element element_of(pa_type type) {
  return type == PA_FLOAT32 ? PA_ELEMENT_FLOAT32 : PA_ELEMENT_FLOAT64;
}

static double get(const char *at) {
  float single;
  double wide;
  if (real == 8) return memcpy(&wide, at, sizeof wide), wide;
  return memcpy(&single, at, sizeof single), (double)single;
}
static void put(char *at, double x) {
  const float single = (float)x;
  memcpy(at, real == 4 ? (const void *)&single : (const void *)&x, (size_t)real);
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* What plain loops compute in. On x86-64 more digits than any type here; soft and slow elsewhere.
 */
#if defined(CHECK_UNDER_QEMU)
typedef double loose;
#else
typedef long double loose;
#endif

/* --- Arrays: axes in any order, padded, reversed, and those among `shared` (bits) of stride 0 */

enum { MAX_AXES = 8, ANY_AXIS = 0xFF, MAX_BATCH = 8, MAX_STRONGEST = 100 };

typedef struct array {
  guarded memory;
  char *data;
  int64_t stride[MAX_AXES];
} array;

/* Of the last axis `whole` elements are contiguous. */
static array array_take(const int64_t *extent, int axes, int element, int shared, int whole) {
  array a = {.data = NULL};
  int order[MAX_AXES];
  for (int i = 0; i < axes; ++i) order[i] = i;
  for (int i = whole ? axes - 2 : axes - 1; i > 0 && below(3); --i) { /* often C order */
    const int other = below(i + 1), swapped = order[i];
    order[i] = order[other], order[other] = swapped;
  }
  int64_t step = element, low = 0, high = element;
  for (int i = axes - 1; i >= 0; --i) {
    const int axis = order[i], exact = whole && axis == axes - 1;
    const int64_t n = extent[axis];
    if ((shared >> axis & 1) && !exact && below(4) == 0) continue; /* stride 0 */
    a.stride[axis] = step;
    step *= n + (!exact && below(3) == 0);
    if (exact || below(6)) {
      high += (n - 1) * a.stride[axis];
    } else {
      a.stride[axis] = -a.stride[axis];
      low += (n - 1) * a.stride[axis];
    }
  }
  a.memory = guarded_take((size_t)(high - low), below(2));
  memset(a.memory.data, 0, a.memory.bytes);
  a.data = a.memory.data - low;
  return a;
}

/* (two batch axes, heads, rows, cols) */
static pa_view view_take(array *a, const int64_t extent[5], int element, int shared, int whole) {
  *a = array_take(extent, 5, element, shared, whole);
  return (pa_view){a->data, {a->stride[0], a->stride[1]}, a->stride[2], a->stride[3], a->stride[4]};
}

static void view_fill(const pa_view *v, const int64_t extent[5], double x) {
  for (int64_t b = 0; b < extent[0] * extent[1]; ++b)
    for (int64_t h = 0; h < extent[2]; ++h)
      for (int64_t r = 0; r < extent[3]; ++r)
        for (int64_t c = 0; c < extent[4]; ++c)
          put(v->data + b / extent[1] * v->batch[0] + b % extent[1] * v->batch[1] + h * v->head +
                  r * v->row + c * v->col,
              x == 0 ? normal() : x);
}

static char *at(const pa_attention_call *c, const pa_view *v, int64_t b, int64_t h, int64_t r,
                int64_t k) {
  return v->data + b / c->batch[1] * v->batch[0] + b % c->batch[1] * v->batch[1] + h * v->head +
         r * v->row + k * v->col;
}

/* --- Terms */

static const int element_bytes[] = {2, 2, 4, 8, 1, 1};

/* Numbers that every element type holds, and -inf. */
static void element_put(pa_element e, char *to, double x) {
  const float single = (float)x;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  uint16_t half = (uint16_t)(bits >> 16);
  if (e == PA_ELEMENT_FLOAT16) /* bias 127 to 15; three bits of fraction are enough */
    half = (uint16_t)(x == 0 ? 0
                             : (half & 0x8000) |
                                   (isinf(x) ? 0x7C00
                                             : ((bits >> 13 & 0x3FFFF) - (112 << 10)) & 0x7FFF));
  const char byte = (char)(x != -HUGE_VAL ? 1 << below(8) : 0);
  const void *from[] = {&half, &half, &single, &x, NULL, &byte};
  memcpy(to, from[e], (size_t)element_bytes[e]);
}

static double element_get(pa_element e, const char *from) {
  uint16_t half = 0;
  uint32_t bits;
  float single;
  double wide;
  if (e == PA_ELEMENT_BOOL) return *from ? 0 : -HUGE_VAL;
  if (e == PA_ELEMENT_FLOAT64) return memcpy(&wide, from, sizeof wide), wide;
  if (e == PA_ELEMENT_FLOAT32) return memcpy(&single, from, sizeof single), (double)single;
  memcpy(&half, from, sizeof half);
  if (e == PA_ELEMENT_FLOAT16) {
    const double sign = half >> 15 ? -1 : 1;
    if ((half & 0x7C00) == 0x7C00) return sign * HUGE_VAL;
    return (half & 0x7FFF) ? sign * ldexp(1024 + (half & 1023), (half >> 10 & 31) - 25) : 0;
  }
  bits = (uint32_t)half << 16;
  return memcpy(&single, &bits, sizeof single), (double)single;
}

static double eighths(double x) { return round(x * 8) / 8; }

/* -inf: hidden. Whole regions alike, so that there is something to skip and something to see. */
static double entry_of(int salt, int64_t b, int64_t i, int64_t j, int only_hides) {
  uint64_t hash = (uint64_t)(salt + b * 7 + i / 29 * 31 + j / 70 * 101) * 0x9E3779B97F4A7C15u;
  hash ^= hash >> 31;
  const int how = (int)(hash % 6);
  if (how == 0) return -HUGE_VAL;
  if (how < 3) return 0;
  if (how < 5 && below(2)) return -HUGE_VAL;
  return only_hides ? 0 : eighths(normal() * 2);
}

static int64_t axis_at(const pa_axis *axis, int64_t k) {
  return k / axis->inner * axis->outer + k % axis->inner * axis->stride;
}

static const char *term_at(const pa_attention_call *c, const pa_term *t, int64_t b, int64_t h) {
  return t->data + b / c->batch[1] * t->batch[0] + b % c->batch[1] * t->batch[1] + h * t->head;
}

/* An axis of n in two levels: extents[0] of extents[1]. Often one level, its end unknown. */
static void two_levels(int64_t n, pa_axis *axis, int64_t extents[2]) {
  const int64_t inner = below(2) ? n : 1 + below((int)n);
  extents[0] = (n + inner - 1) / inner, extents[1] = inner;
  axis->inner = inner == n && below(2) ? INT64_MAX : inner;
}

static array table_take(const pa_attention_call *c, pa_term *t, int only_hides) {
  t->element = below(5) ? (pa_element)below(4) : PA_ELEMENT_BOOL;
  int64_t extent[7] = {c->batch[0], c->batch[1], c->heads};
  two_levels(c->queries, &t->row, extent + 3);
  two_levels(c->keys, &t->col, extent + 5);
  const int element = element_bytes[t->element];
  array a;
  if (below(6) == 0) { /* a number for every distance: diagonals */
    a = array_take((int64_t[]){c->queries + c->keys}, 1, element, 0, 1);
    t->row = (pa_axis){c->queries, 0, -element}, t->col = (pa_axis){c->keys, 0, element};
    t->data = a.data + (c->queries - 1) * element;
  } else {
    a = array_take(extent, 7, element, ANY_AXIS, 0);
    t->batch[0] = a.stride[0], t->batch[1] = a.stride[1], t->head = a.stride[2];
    t->row.outer = a.stride[3], t->row.stride = a.stride[4];
    t->col.outer = a.stride[5], t->col.stride = a.stride[6];
    t->data = a.data;
  }
  const int salt = below(1000);
  for (int64_t b = 0; b < c->batch[0] * c->batch[1]; ++b)
    for (int64_t h = 0; h < c->heads; ++h)
      for (int64_t i = 0; i < c->queries; ++i)
        for (int64_t j = 0; j < c->keys; ++j)
          element_put(t->element,
                      (char *)term_at(c, t, b, h) + axis_at(&t->row, i) + axis_at(&t->col, j),
                      entry_of(salt, b, i, j, only_hides));
  return a;
}

static array span_take(const pa_attention_call *c, pa_term *t) {
  const int64_t extent[] = {c->batch[0], c->batch[1], c->heads, c->queries, 2};
  array a = array_take(extent, 5, sizeof(int64_t), ANY_AXIS, 1);
  memcpy(t->batch, a.stride, 2 * sizeof a.stride[0]);
  t->head = a.stride[2], t->row = (pa_axis){INT64_MAX, 0, a.stride[3]}, t->data = a.data;
  const int narrow = below(2);
  for (int64_t b = 0; b < c->batch[0] * c->batch[1]; ++b)
    for (int64_t h = 0; h < c->heads; ++h)
      for (int64_t i = 0; i < c->queries; ++i) {
        int64_t ends[] = {below((int)c->keys + 3) - 2, below((int)c->keys + 9)};
        if (narrow) ends[0] = max64(0, i - below(9)), ends[1] = ends[0] + below(20);
        if (below(12) == 0) ends[below(2)] = (below(2) ? 1 : -1) * (INT64_C(1) << 60);
        memcpy((char *)term_at(c, t, b, h) + i * t->row.stride, ends, sizeof ends);
      }
  return a;
}

static array match_take(const pa_attention_call *c, pa_term *t) {
  const int64_t extent[] = {c->batch[0], c->batch[1], c->queries + c->keys};
  array a = array_take(extent, 3, sizeof(int32_t), ANY_AXIS, 1);
  memcpy(t->batch, a.stride, 2 * sizeof a.stride[0]);
  t->data = a.data;
  const int kinds = 1 + below(4), length = 1 + below(90);
  for (int64_t b = 0; b < c->batch[0] * c->batch[1]; ++b)
    for (int64_t n = 0; n < c->queries + c->keys; ++n) {
      const int64_t place = n < c->queries ? n : n - c->queries;
      const int32_t id = (int32_t)(place / length % kinds - (below(60) == 0));
      memcpy((char *)term_at(c, t, b, 0) + (size_t)n * sizeof id, &id, sizeof id);
    }
  return a;
}

static array slopes_take(const pa_attention_call *c, pa_term *t) {
  const int64_t extent[] = {c->batch[0], c->batch[1], c->heads};
  array a = array_take(extent, 3, sizeof(double), ANY_AXIS, 0);
  memcpy(t->batch, a.stride, 2 * sizeof a.stride[0]);
  t->head = a.stride[2], t->data = a.data;
  for (int64_t b = 0; b < c->batch[0] * c->batch[1]; ++b)
    for (int64_t h = 0; h < c->heads; ++h) {
      const double slope = (below(5) ? 1 : -0.1) * uniform() / 2;
      memcpy((char *)term_at(c, t, b, h), &slope, sizeof slope);
    }
  return a;
}

static array term_take(const pa_attention_call *c, pa_term *t, int clause, int packed) {
  *t = (pa_term){.clause = clause};
  const pa_term_kind kinds[] = {PA_TABLE, PA_TABLE, PA_SPAN, PA_MATCH, PA_SLOPES};
  t->kind = packed ? PA_SLOPES : c->grid ? PA_TABLE : kinds[below(clause < 0 ? 5 : 4)];
  switch (t->kind) {
    case PA_SPAN: return span_take(c, t);
    case PA_MATCH: return match_take(c, t);
    case PA_SLOPES: return slopes_take(c, t);
    default: return table_take(c, t, clause >= 0);
  }
}

/* --- The plain way */

static int64_t pixels(const pa_grid *g) { return g->lines.extent * g->columns.extent; }

static int sees_along(const pa_grid_axis *a, int64_t place, int64_t other) {
  return a->spans[2 * place] <= other && other < a->spans[2 * place + 1] &&
         (other - place) % a->step == 0;
}

static int grid_shows(const pa_grid *g, int64_t i, int64_t j) {
  const int64_t broad = g->columns.extent;
  return sees_along(&g->lines, i / broad, j / broad) &&
         sees_along(&g->columns, i % broad, j % broad);
}

typedef struct sequence {
  int64_t first_query, queries, first_key, keys, start;
} sequence;

static sequence sequence_of(const pa_attention_call *c, int64_t b) {
  sequence s = {0, c->queries, 0, c->keys, 0};
  if (c->query_offsets) {
    s.first_query = c->query_offsets[b], s.queries = c->query_offsets[b + 1] - s.first_query;
    s.first_key = c->key_offsets[b], s.keys = c->key_offsets[b + 1] - s.first_key;
  }
  s.start = c->query_start ? c->query_start[b] : s.keys - s.queries;
  return s;
}

/* What a term adds; -inf where it hides. */
static double term_says(const pa_attention_call *c, const pa_term *t, int64_t b, int64_t h,
                        int64_t i, int64_t j, int64_t start) {
  const char *base = term_at(c, t, b, h);
  int64_t ends[2];
  int32_t ids[2];
  double slope;
  switch (t->kind) {
    case PA_SPAN:
      memcpy(ends, base + i * t->row.stride, sizeof ends);
      return ends[0] <= j && j < ends[1] ? 0 : -HUGE_VAL;
    case PA_MATCH:
      memcpy(ids, base + (size_t)i * sizeof *ids, sizeof *ids);
      memcpy(ids + 1, base + (size_t)(c->queries + j) * sizeof *ids, sizeof *ids);
      return ids[0] == ids[1] ? 0 : -HUGE_VAL;
    case PA_SLOPES:
      memcpy(&slope, base, sizeof slope);
      return -slope * fabs((double)(j - i - start));
    default: return element_get(t->element, base + axis_at(&t->row, i) + axis_at(&t->col, j));
  }
}

/* What all of them add; -inf if it is hidden. *size: the sum of magnitudes. */
static double added(const pa_attention_call *c, int64_t b, int64_t h, int64_t i, int64_t j,
                    double *size) {
  const sequence s = sequence_of(c, b);
  const int64_t ahead = j - (i + s.start);
  double sum = 0, clause[PA_MAX_CLAUSES];
  int clauses = 0, some = 0;
  if (c->grid && !grid_shows(c->grid, i, j)) return -HUGE_VAL;
  if (c->key_lengths && j >= c->key_lengths[b]) return -HUGE_VAL;
  if (c->left < PA_UNLIMITED && ahead < -c->left) return -HUGE_VAL;
  if (c->right < PA_UNLIMITED && ahead > c->right) return -HUGE_VAL;
  for (int t = 0; t < c->term_count; ++t) {
    const pa_term *term = &c->terms[t];
    const double says = term_says(c, term, b, h, i, j, s.start);
    if (term->clause < 0) {
      sum += says, *size += fabs(says);
    } else {
      while (clauses <= term->clause) clause[clauses++] = 0;
      clause[term->clause] += says;
    }
  }
  for (int n = 0; n < clauses; ++n) some |= clause[n] == 0;
  return clauses && !some ? -HUGE_VAL : sum;
}

/* One row: p[j] are its weights (NaN where all are), and its lse. Returns how many keys it sees.
 * *size: how large what is added up in the exponents is. */
static int64_t plain_row(const pa_attention_call *c, int64_t b, int64_t h, int64_t i, loose *p,
                         loose *lse, double *size) {
  const sequence s = sequence_of(c, b);
  const int64_t kv = h / (c->heads / c->kv_heads);
  const char *query = at(c, &c->query, b, h, s.first_query + i, 0);
  const double sink = c->sinks ? c->sinks[h] : -HUGE_VAL;
  loose top = sink, total = 0;
  int64_t seen = 0;
  int poisoned = 0;
  *size = isinf(sink) ? 0 : fabs(sink);
  for (int64_t j = 0; j < s.keys; ++j) {
    const char *key = at(c, &c->key, b, kv, s.first_key + j, 0);
    double parts = 0, biases = 0;
    loose dot = 0;
    const double more = added(c, b, h, i, j, &biases);
    p[j] = -HUGE_VAL;
    if (more == -HUGE_VAL) continue;
    ++seen;
    for (int64_t k = 0; k < c->d; ++k) {
      const loose t = (loose)get(query + k * c->query.col) * get(key + k * c->key.col);
      dot += t, parts += fabs((double)t);
    }
    dot *= c->scale;
    if (c->softcap > 0) dot = c->softcap * tanhl(dot / c->softcap);
    p[j] = dot + more;
    poisoned |= isnan(p[j]);
    top = fmaxl(top, p[j]), *size = fmax(*size, parts * fabs(c->scale) + biases);
  }
  if (sink > -HUGE_VAL) total = expl(sink - top);
  for (int64_t j = 0; j < s.keys; ++j) total += p[j] == -HUGE_VAL ? 0 : expl(p[j] - top);
  for (int64_t j = 0; j < s.keys; ++j)
    p[j] = p[j] == -HUGE_VAL ? 0 : poisoned ? (loose)NAN : expl(p[j] - top) / total;
  *lse = poisoned ? (loose)NAN : total > 0 ? top + logl(total) : -HUGE_VAL;
  return seen;
}

static double unit_of_type(void) { return real == 4 ? 0x1p-24 : 0x1p-53; }

/* Whether `got` is `want`, `off` at most away and what denormals are; what is 0, exactly. NaN is
 * NaN. */
static int near(double got, loose want, double off) {
  if (isnan(want)) return isnan(got);
  if (off == 0) return got == 0 && !signbit(got);
  return fabsl(got - want) <= off + (real == 4 ? 1e-35 : 1e-300);
}

static int wrong_outputs(const pa_attention_call *c, int64_t b, int64_t h, int64_t i,
                         const loose *p, double allowed) {
  const sequence s = sequence_of(c, b);
  const int64_t kv = h / (c->heads / c->kv_heads);
  int wrong = 0;
  for (int64_t k = 0; k < c->dv; ++k) {
    const char *value = at(c, &c->value, b, kv, s.first_key, k);
    loose want = 0, size = 0;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (p[j] == 0) continue;
      const loose t = p[j] * get(value + j * c->value.row);
      want += t, size += fabsl(t);
    }
    const double got = get(at(c, &c->out, b, h, s.first_query + i, k));
    wrong += !near(got, want, (double)size * allowed);
  }
  return wrong;
}

static int wrong_weights(const pa_attention_call *c, int64_t b, int64_t h, int64_t i,
                         const loose *p, double allowed) {
  int wrong = 0, poisoned = 0;
  for (int64_t j = 0; j < c->keys; ++j) poisoned |= isnan(p[j]);
  for (int64_t j = 0; j < c->keys; ++j)
    if (!poisoned || p[j] != 0) /* what a hidden place holds in a row of NaN does not matter */
      wrong += !near(get(at(c, &c->weights, b, h, i, j)), p[j], (double)p[j] * allowed);
  return wrong;
}

static int larger_first(const void *a, const void *b) {
  const loose x = *(const loose *)a, y = *(const loose *)b;
  return (x < y) - (x > y);
}

/* The weights largest first, each that of its key, and no larger one left out. */
static int wrong_strongest(const pa_attention_call *c, int64_t b, int64_t h, int64_t i, loose *p,
                           int64_t seen, double allowed) {
  const sequence s = sequence_of(c, b);
  const int equal = c->key.row == 0 && c->term_count == 0; /* all keys: the first ones are kept */
  int wrong = 0;
  int64_t key[MAX_STRONGEST];
  double got[MAX_STRONGEST];
  for (int64_t n = 0; n < c->strongest; ++n) {
    memcpy(key + n, at(c, &c->indices, b, h, s.first_query + i, n), sizeof *key);
    got[n] = get(at(c, &c->weights, b, h, s.first_query + i, n));
    if (n >= seen) {
      wrong += key[n] != -1 || got[n] != 0 || signbit(got[n]);
      continue;
    }
    if (key[n] < 0 || key[n] >= s.keys) return wrong + 1;
    wrong += !near(got[n], p[key[n]], (double)p[key[n]] * allowed);
    for (int64_t m = 0; m < n; ++m) wrong += key[m] == key[n];
    if (n > 0) wrong += got[n] > got[n - 1] * (1 + 4 * unit_of_type());
    if (n > 0) wrong += equal && key[n] != key[n - 1] + 1;
  }
  qsort(p, (size_t)s.keys, sizeof *p, larger_first);
  for (int64_t n = 0; n < min64(seen, c->strongest); ++n)
    wrong += !near(got[n], p[n], (double)p[n] * allowed);
  return wrong;
}

static int wrong_lse(const pa_attention_call *c, int64_t b, int64_t h, int64_t i, loose want,
                     double allowed) {
  const int64_t row = ((c->query_offsets ? 0 : b) * c->heads + h) * c->queries;
  const double got = get((char *)c->lse + (row + sequence_of(c, b).first_query + i) * real);
  if (isinf(want)) return got != want;
  return !near(got, want, 2 * allowed + 4 * unit_of_type() * fabs((double)want));
}

static int wrong_rows(const pa_attention_call *c) {
  const int64_t batch = c->batch[0] * c->batch[1];
  int wrong = 0;
  loose *p = malloc((size_t)c->keys * sizeof *p), lse;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < c->heads; ++h)
      for (int64_t i = 0; i < sequence_of(c, b).queries; ++i) {
        double size;
        const int64_t seen = plain_row(c, b, h, i, p, &lse, &size);
        double allowed = unit_of_type() * (10 + 8 * size);
        if (sizeof(loose) == sizeof(double)) allowed *= 2; /* the loops' own */
        if (c->lse) wrong += wrong_lse(c, b, h, i, lse, allowed);
        if (c->strongest) wrong += wrong_strongest(c, b, h, i, p, seen, allowed);
        else if (c->weights.data) wrong += wrong_weights(c, b, h, i, p, allowed);
        else wrong += wrong_outputs(c, b, h, i, p, allowed);
      }
  free(p);
  return wrong;
}

/* --- Random calls */

enum { OUTPUTS, WEIGHTS, STRONGEST };
/* Offsets of sequences that add up to `sum`, some of them empty. */
static void cut(int64_t *offsets, int64_t batch, int64_t sum) {
  offsets[0] = 0, offsets[batch] = sum;
  for (int64_t b = 1; b < batch; ++b) {
    int64_t place = below(4) ? below((int)sum + 1) : offsets[b - 1];
    offsets[b] = max64(place, offsets[b - 1]);
  }
}

enum { MAX_EXTENT = 400 };
typedef struct grid {
  pa_grid grid;
  int64_t lines[2 * MAX_EXTENT], columns[2 * MAX_EXTENT];
} grid;

/* Windows that slide, that lie side by side, or whatever does not fall. */
static pa_grid_axis axis_take(int64_t *spans, int64_t extent) {
  const int64_t step = below(3) ? 1 : 1 + below(4), how = below(3), reach = below(9),
                broad = 1 + below(12);
  for (int64_t place = 0; place < extent; ++place) {
    const int64_t back = place / step, ahead = (extent - 1 - place) / step; /* steps there are */
    int64_t left = min64(reach, back), right = min64(reach, ahead);
    if (how == 0) left = min64(back % broad, back), right = min64(broad - 1 - back % broad, ahead);
    if (how == 1) left = below(9), right = below(9);
    int64_t *own = spans + 2 * place;
    own[0] = place - min64(left, back) * step;
    own[1] = place + min64(right, ahead) * step + 1;
    if (place < step) continue;
    own[0] = max64(own[0], own[-2 * step]); /* ends of the place a step before */
    own[1] = max64(own[1], min64(own[1 - 2 * step], extent));
  }
  return (pa_grid_axis){extent, step, spans};
}

static void grid_take(grid *g) {
  const int64_t height = below(4) ? 1 + below(20) : 1 + below(MAX_EXTENT / 8);
  const int64_t width = 1 + below(height < 20 ? 20 : 3);
  g->grid.lines = axis_take(g->lines, height);
  g->grid.columns = axis_take(g->columns, width);
}

typedef struct operands {
  grid grid;
  array query, key, value, out, weights, indices;
  array terms[PA_MAX_TERMS];
  guarded lse, sinks;
  int64_t start[MAX_BATCH], lengths[MAX_BATCH], query_offsets[MAX_BATCH + 1],
      key_offsets[MAX_BATCH + 1];
} operands;

static void choose_positions(pa_attention_call *c, operands *o, int packed) {
  const int64_t batch = c->batch[0] * c->batch[1];
  if (packed) {
    cut(o->query_offsets, batch, c->queries), cut(o->key_offsets, batch, c->keys);
    c->query_offsets = o->query_offsets, c->key_offsets = o->key_offsets;
  }
  c->left = c->right = PA_UNLIMITED;
  if (c->grid) return;
  for (int64_t b = 0; b < batch; ++b) {
    const int keys = (int)sequence_of(c, b).keys, queries = (int)sequence_of(c, b).queries;
    o->start[b] = below(keys + 4) - queries;
    o->lengths[b] = below(3) ? below(keys + 1) : keys;
  }
  if (below(3) == 0) c->query_start = o->start;
  if (below(3) == 0) c->key_lengths = o->lengths;
  c->left = below(3) ? PA_UNLIMITED : below(c->keys > 400 ? 900 : 40);
  c->right = below(2) ? PA_UNLIMITED : below(2) ? 0 : below(50) - 5;
}

static void choose_terms(pa_attention_call *c, operands *o, int packed) {
  const int always = below(2) ? 0 : 1 + below(3),
            clauses = packed || c->grid || below(4) ? 0 : 1 + below(3);
  for (int n = 0; n < always; ++n) {
    o->terms[c->term_count] = term_take(c, &c->terms[c->term_count], -1, packed);
    ++c->term_count;
  }
  for (int clause = 0; clause < clauses; ++clause)
    for (int n = below(2); n >= 0; --n) {
      o->terms[c->term_count] = term_take(c, &c->terms[c->term_count], clause, 0);
      ++c->term_count;
    }
  for (int t = 0; t < c->term_count; ++t) { /* in any order */
    const int other = below(c->term_count);
    const pa_term swapped = c->terms[t];
    c->terms[t] = c->terms[other], c->terms[other] = swapped;
  }
  if (below(3) == 0) c->softcap = exp(normal() * 2);
  if (below(3) == 0) {
    o->sinks = guarded_take((size_t)c->heads * sizeof(double), below(2));
    double *sinks = (double *)o->sinks.data;
    for (int64_t h = 0; h < c->heads; ++h) sinks[h] = below(4) ? normal() * 3 : -HUGE_VAL;
    c->sinks = sinks;
  }
}

/* NaN where only some rows look, or none. */
static void poison(pa_attention_call *c, int64_t kv_rows) {
  const int64_t batch = c->query_offsets ? 0 : c->batch[0] * c->batch[1] - 1;
  for (int n = below(4); n > 0; --n) {
    const int64_t b = below((int)batch + 1), h = below((int)c->kv_heads), j = below((int)kv_rows);
    if (!c->weights.data && below(2)) put(at(c, &c->value, b, h, j, below((int)c->dv)), NAN);
    else put(at(c, &c->key, b, h, j, below((int)c->d)), NAN);
  }
}

static void test_call(pa_type type, int d, int dv, int queries, int keys, int what) {
  static int number;
  static pa_attention_call c; /* large for a stack */
  static operands o;
  const int kv_heads = 1 + below(2), heads = kv_heads * (1 + below(3)),
            packed = below(5) == 0 && what != WEIGHTS;
  memset(&c, 0, sizeof c);
  memset(&o, 0, sizeof o);
  if (what == OUTPUTS && !packed && below(3) == 0) {
    grid_take(&o.grid);
    c.grid = &o.grid.grid;
    queries = keys = (int)pixels(c.grid);
  }
  c.type = type, c.query_element = c.key_element = element_of(type), c.batch_axes = 2;
  c.batch[0] = 1 + below(2), c.batch[1] = 1 + below(packed ? 4 : 2);
  c.heads = heads, c.kv_heads = kv_heads, c.queries = queries, c.keys = keys;
  c.d = d, c.dv = dv, c.scale = (uniform() - 0.3) / sqrt(d);
  ++number;
  choose_positions(&c, &o, packed);
  static pa_term terms[PA_MAX_TERMS];
  c.terms = terms;
  choose_terms(&c, &o, packed);
  /* Packed arrays have no batch axes: extents of 1, strides of 0. */
  const int64_t b0 = packed ? 1 : c.batch[0], b1 = packed ? 1 : c.batch[1];
  const int64_t q[] = {b0, b1, heads, queries, d}, k[] = {b0, b1, kv_heads, keys, d};
  /* A sum of d times the same would be off by more than what sums of many numbers are off by. */
  c.query = view_take(&o.query, q, real, ANY_AXIS & ~(1 << 4), 0);
  c.key = view_take(&o.key, k, real, ANY_AXIS, 0);
  view_fill(&c.query, q, 0), view_fill(&c.key, k, 0);
  if (what == OUTPUTS) {
    const int64_t v[] = {b0, b1, kv_heads, keys, dv}, out[] = {b0, b1, heads, queries, dv};
    c.value = view_take(&o.value, v, real, ANY_AXIS, 0), c.out = view_take(&o.out, out, real, 0, 0);
    view_fill(&c.value, v, 0), view_fill(&c.out, out, NAN);
  } else {
    c.strongest = what == STRONGEST ? 1 + below(below(2) ? 5 : MAX_STRONGEST) : 0;
    const int64_t w[] = {b0, b1, heads, queries, c.strongest ? c.strongest : keys};
    c.weights = view_take(&o.weights, w, real, 0, what == STRONGEST);
    view_fill(&c.weights, w, NAN);
    if (c.strongest) c.indices = view_take(&o.indices, w, sizeof(int64_t), 0, 1);
  }
  pa_view *views[] = {&c.query, &c.key, &c.value, &c.out, &c.weights, &c.indices};
  for (int i = 0; packed && i < 6; ++i) views[i]->batch[0] = views[i]->batch[1] = 0;
  if (below(2)) {
    o.lse = guarded_take((size_t)(b0 * b1 * heads * queries * real), below(2));
    c.lse = o.lse.data;
  }
  if (what != STRONGEST && below(4) == 0) poison(&c, keys);
  pa_threads_set(1 + below(3));
  CHECK(pa_attention(&c) == PA_OK, "status");
  const int wrong = wrong_rows(&c);
  CHECK(wrong == 0,
        "call %d: %s type %d what %d packed %d batch %d heads %d/%d queries %d keys %d d %d dv %d "
        "left %lld right %lld start %d lengths %d softcap %g sinks %d k %d terms %d grid %d: %d "
        "wrong",
        number, pa_isa_name(), type, what, packed, (int)(c.batch[0] * c.batch[1]), heads, kv_heads,
        queries, keys, d, dv, (long long)c.left, (long long)c.right, c.query_start != NULL,
        c.key_lengths != NULL, c.softcap, c.sinks != NULL, (int)c.strongest, c.term_count,
        c.grid != NULL, wrong);
  if (wrong)
    for (int t = 0; t < c.term_count; ++t)
      fprintf(stderr, "  term %d: kind %d element %d clause %d\n", t, c.terms[t].kind,
              c.terms[t].element, c.terms[t].clause);
  array *arrays[] = {&o.query, &o.key, &o.value, &o.out, &o.weights, &o.indices};
  for (int i = 0; i < 6; ++i)
    if (arrays[i]->memory.map) guarded_give(&arrays[i]->memory);
  for (int t = 0; t < c.term_count; ++t) guarded_give(&o.terms[t].memory);
  if (o.lse.map) guarded_give(&o.lse);
  if (o.sinks.map) guarded_give(&o.sinks);
}

/* A bias of the least number there is hides nothing: where all keys have it they weigh the same. */
static void test_least_bias(pa_type type, pa_element element, double least) {
  static pa_attention_call c;
  enum { keys = 70, d = 3 };
  array query, key, value, out;
  const int64_t q[] = {1, 1, 1, 1, d}, k[] = {1, 1, 1, keys, d};
  memset(&c, 0, sizeof c);
  c.type = type, c.query_element = c.key_element = element_of(type);
  c.heads = c.kv_heads = c.queries = 1, c.keys = keys, c.d = c.dv = d, c.scale = 1;
  c.left = c.right = PA_UNLIMITED;
  c.query = view_take(&query, q, real, 0, 0), c.key = view_take(&key, k, real, 0, 0);
  c.value = view_take(&value, k, real, 0, 0), c.out = view_take(&out, q, real, 0, 0);
  view_fill(&c.query, q, 0), view_fill(&c.key, k, 0), view_fill(&c.value, k, 0);
  const float single = (float)least;
  const void *from = element == PA_ELEMENT_FLOAT32 ? (const void *)&single : (const void *)&least;
  c.term_count = 1;
  static pa_term terms[1];
  c.terms = terms;
  c.terms[0] = (pa_term){.kind = PA_TABLE,
                         .element = element,
                         .clause = -1,
                         .data = from,
                         .row = {1, 0, 0},
                         .col = {1, 0, 0}};
  CHECK(pa_attention(&c) == PA_OK, "status");
  for (int i = 0; i < d; ++i) {
    double mean = 0;
    for (int j = 0; j < keys; ++j) mean += get(c.value.data + j * c.value.row + i * c.value.col);
    mean /= keys;
    const double got = get(c.out.data + i * c.out.col);
    CHECK(fabs(got - mean) < 1e-5, "bias %g: %g instead of %g", least, got, mean);
  }
  guarded_give(&query.memory), guarded_give(&key.memory);
  guarded_give(&value.memory), guarded_give(&out.memory);
}

int main(int argc, char **argv) {
  const int thorough = argc > 1 && !strcmp(argv[1], "thorough");
#if defined(__SANITIZE_THREAD__) || \
    defined(CHECK_UNDER_QEMU) /* slow: the plain loops most of all */
  const int step = 4;
#else
  const int step = 1;
#endif
  const char *name;
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) {
    pa_isa_select(name);
    for (int type = 0; type < 2; ++type) {
      const pa_type t = (pa_type)type;
      real = t == PA_FLOAT32 ? 4 : 8;
      for (int round = 0; round < (thorough ? 10 : 1); ++round)
        for (int d = 1; d <= 129; d += d < 34 ? step : 5 * step)
          for (int what = OUTPUTS; what <= STRONGEST; ++what) {
            test_call(t, d, 1 + below(130), 1 + below(60), 1 + below(150), what);
            test_call(t, 1 + below(20), d, 1 + below(120), 1 + below(80), what);
          }
      for (int n = 0;
           n<(thorough ? 40 : 8); n += step> 1 ? 3 : 1) /* several chunks, in waves and not */
        test_call(t, 1 + below(9), 1 + below(9), 1 + below(n % 2 ? 4 : 90),
                  1 + below(n % 4 < 2 ? 1200 : 4000), n % 8 ? OUTPUTS : STRONGEST);
    }
    real = 4;
    test_least_bias(PA_FLOAT32, PA_ELEMENT_FLOAT32, -FLT_MAX);
    test_least_bias(PA_FLOAT32, PA_ELEMENT_FLOAT64, -DBL_MAX);
    real = 8;
    test_least_bias(PA_FLOAT64, PA_ELEMENT_FLOAT64, -DBL_MAX);
    printf("%s done\n", name);
  }
  return check_report();
}
