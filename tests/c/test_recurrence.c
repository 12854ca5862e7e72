/* Linear attention: its kernels, and the call made of them and of the products of tile.inc.h, on
 * every table this machine can run, against plain loops. Every operand is flush against an
 * inaccessible page in front or behind. */
#include "arrays.h"
#include "elements.h"

#if defined(__SANITIZE_THREAD__) || defined(CHECK_UNDER_QEMU) /* slow */
enum { ROUNDS = 1, CALLS = 30 };
#else
enum { ROUNDS = 6, CALLS = 250 };
#endif

static guarded reals_take(ptrdiff_t count) {
  guarded g = guarded_take((size_t)count * real_bytes(), below(2));
  fill(g.data, count);
  return g;
}

static int whole(int count) { return (count + K->lanes - 1) / K->lanes * K->lanes; }

/* --- The kernels */

static double phi(int map, double x) {
  switch (map) {
    case PA_FEATURE_ELU: return x > 0 ? x + 1 : exp(x);
    case PA_FEATURE_RELU: return x > 0 ? x : 0;
    case PA_MAP_EXP: return exp(x);
    default: return x;
  }
}

static void test_map(int rows, int cols, int map) {
  const int pitch = whole(cols);
  guarded x = reals_take(rows * pitch), was = copy_take(&x);
  K->map(x.data, rows, cols, map);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < pitch; ++k) {
      const double want = k < cols ? phi(map, get(was.data, r * pitch + k)) : 0;
      const double got = get(x.data, r * pitch + k);
      if (map == PA_FEATURE_IDENTITY) bad += k < cols && got != want;
      else bad += !(fabs(got - want) <= (fused() ? 3 : 12) * unit * fabs(want));
    }
  CHECK(bad == 0, "map %d: rows %d cols %d: %d wrong", map, rows, cols, bad);
  guarded_give(&x), guarded_give(&was);
}

/* Infinities, NaN, and what overflows or vanishes. */
static void test_map_limits(void) {
  const double numbers[] = {NAN, HUGE_VAL, -HUGE_VAL, 1e4, -1e4, 0.0, -0.0};
  const int count = sizeof numbers / sizeof *numbers;
  for (int map = PA_FEATURE_ELU; map <= PA_MAP_EXP; ++map) {
    guarded x = reals_take(whole(count));
    for (int i = 0; i < count; ++i) put(x.data, i, numbers[i]);
    K->map(x.data, 1, count, map);
    for (int i = 0; i < count; ++i) {
      const double got = get(x.data, i), want = rounded(phi(map, numbers[i]));
      CHECK(isnan(numbers[i]) ? isnan(got) : got == want, "map %d of %g: %g", map, numbers[i], got);
    }
    guarded_give(&x);
  }
}

static void gates_fill(const guarded *gates, int count) {
  for (int t = 0; t < count; ++t) put(gates->data, t, below(8) ? uniform() : below(2));
}

static void test_products_and_fade(int keys, int width, int gated) {
  const int lanes = width * K->lanes;
  guarded gates = reals_take(3 * PA_KEY_BLOCK), scores = panel_take(keys, width);
  put(scores.data, below(lanes), -0.0); /* what is seen must not look as if it were not */
  guarded was = copy_take(&scores), sum = panel_take(1, width), alpha = panel_take(1, width);
  guarded places = guarded_take((size_t)lanes * sizeof(int32_t), below(2));
  int32_t *position = (int32_t *)(void *)places.data;
  int bad = 0;
  gates_fill(&gates, keys);
  K->products(gates.data, keys);
  for (int t = 0; t < keys; ++t) {
    double before = 1, after = 1;
    for (int i = 0; i <= t; ++i) before *= get(gates.data, i);
    for (int i = t + 1; i < keys; ++i) after *= get(gates.data, i);
    bad += !(fabs(get(gates.data, PA_KEY_BLOCK + t) - before) <= 64 * unit * before + real_min());
    bad += !(fabs(get(gates.data, 2 * PA_KEY_BLOCK + t) - after) <= 64 * unit * after + real_min());
  }
  CHECK(bad == 0, "products: keys %d: %d wrong", keys, bad);
  for (int l = 0; l < lanes; ++l) position[l] = below(keys);
  /* What is hidden may hold anything, and so may a gate that it would need. */
  for (int key = 0; key < keys; ++key)
    for (int l = 0; l < lanes; ++l)
      if (key > position[l] && below(2)) put(scores.data, key * lanes + l, below(2) ? NAN : 1e30);
  K->fade(scores.data, keys, width, position, gated ? gates.data : NULL, sum.data, alpha.data);
  bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double fade = 1, total = 0, size = 0;
    for (int key = keys - 1; key >= 0; --key) {
      const double got = get(scores.data, key * lanes + l);
      if (key > position[l]) {
        bad += !same(got, -0.0);
        continue;
      }
      if (gated && key < position[l]) fade *= get(gates.data, key + 1);
      const double want = fade * get(was.data, key * lanes + l) + 0.0;
      bad += !(fabs(got - want) <= 66 * unit * fabs(want) + real_min()) || same(got, -0.0);
      total += got, size += fabs(got);
    }
    bad += !(fabs(get(sum.data, l) - total) <= 20 * unit * size + real_tiny());
    bad += get(alpha.data, l) != (gated ? get(gates.data, PA_KEY_BLOCK + position[l]) : 1);
  }
  CHECK(bad == 0, "fade: keys %d width %d gated %d: %d wrong", keys, width, gated, bad);
  guarded_give(&gates), guarded_give(&scores), guarded_give(&was), guarded_give(&sum);
  guarded_give(&alpha), guarded_give(&places);
}

static void test_sums(int rows, int cols) {
  cols = whole(cols);
  guarded x = reals_take(rows * cols), was = copy_take(&x), to = reals_take(cols);
  guarded by = reals_take(rows), other = reals_take(cols), alpha = reals_take(1);
  K->sum_rows(to.data, x.data, rows, cols);
  int bad = 0;
  for (int k = 0; k < cols; ++k) {
    double sum = 0, size = 0;
    for (int r = 0; r < rows; ++r) {
      const double term = get(x.data, r * cols + k);
      sum += term, size += fabs(term);
    }
    bad += !(fabs(get(to.data, k) - sum) <= 20 * unit * size);
  }
  guarded before = copy_take(&to);
  K->fold(to.data, other.data, cols, alpha.data);
  for (int k = 0; k < cols; ++k) {
    const double faded = get(alpha.data, 0) * get(other.data, k), part = get(before.data, k);
    bad += !(fabs(get(to.data, k) - (faded + part)) <= 2 * unit * (fabs(faded) + fabs(part)));
  }
  K->scale_rows(x.data, rows, cols, by.data);
  for (int i = 0; i < rows * cols; ++i)
    bad += get(x.data, i) != rounded(get(was.data, i) * get(by.data, i / cols));
  CHECK(bad == 0, "sums: rows %d cols %d: %d wrong", rows, cols, bad);
  guarded_give(&x), guarded_give(&was), guarded_give(&to), guarded_give(&by), guarded_give(&other);
  guarded_give(&alpha), guarded_give(&before);
}

/* 1 / sum to more digits than the type has; or a scale. Then rows that are written with them. */
static void test_shares_and_write(int rows, int cols, int with_sum) {
  const int count = whole(rows), pitch = whole(cols), element = real_element();
  guarded sum = reals_take(count), factor = reals_take(count), rest = reals_take(count);
  if (below(2)) put(sum.data, below(rows), 0);
  K->shares(factor.data, rest.data, count, with_sum ? sum.data : NULL, 0.3);
  int bad = 0;
  for (int i = 0; i < count; ++i) {
    const double of = get(sum.data, i), want = !with_sum ? 0.3 : of == 0 ? 0 : 1 / of;
    const double got = get(factor.data, i) + get(rest.data, i);
    bad += !(fabs(got - want) <= (K->real_bytes == 4 && fused() ? 0x1p-40 : 4 * unit) * fabs(want));
  }
  CHECK(bad == 0, "shares: %d sums %d: %d wrong", rows, with_sum, bad);
  const int64_t extent[] = {rows, cols};
  guarded x = reals_take(rows * pitch);
  array to = array_take(2, extent, K->real_bytes, 0, (layout)below(2));
  array_keep(&to);
  for (int plain = 0; plain < 2; ++plain) {
    K->write_rows[element](to.data, to.stride[0], to.stride[1], x.data, rows, cols,
                           plain ? NULL : factor.data, plain ? NULL : rest.data);
    bad = 0;
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < cols; ++k) {
        const double number = get(x.data, r * pitch + k);
        const double by = plain ? 1 : get(factor.data, r) + get(rest.data, r);
        const double got = get(to.data + r * to.stride[0] + k * to.stride[1], 0);
        bad += !(fabs(got - by * number) <= (plain ? 0 : 3 * unit) * fabs(by * number));
      }
    CHECK(bad == 0 && array_only_numbers(&to, K->real_bytes), "write_rows: %d x %d plain %d: %d",
          rows, cols, plain, bad);
  }
  guarded_give(&sum), guarded_give(&factor), guarded_give(&rest), guarded_give(&x);
  array_give(&to);
}

enum { NO_GATE, GATE, GATE_OF_ROWS };

/* One token after the other, as the header has it; `sums` likewise with 1 for the value. */
static void test_recur(int tokens, int group, int d, int width, int gate, int delta) {
  const int pitch = whole(d), lanes = width * K->lanes;
  guarded keys = reals_take(tokens * pitch), queries = reals_take(tokens * group * pitch);
  guarded gates = reals_take(tokens * (gate == GATE_OF_ROWS ? pitch : 1)),
          beta = reals_take(tokens);
  guarded values = panel_take(tokens, width), state = panel_take(d, width);
  guarded out = panel_take(tokens * group, width), z = reals_take(pitch);
  guarded sums = reals_take(tokens * group);
  for (int i = 0; i < tokens * pitch; ++i) put(keys.data, i, i % pitch < d ? normal() / d : 0);
  for (int i = 0; i < tokens * group * pitch; ++i)
    if (i % pitch >= d) put(queries.data, i, 0);
  gates_fill(&gates, gate == GATE_OF_ROWS ? tokens * pitch : tokens);
  const pa_recurrence r = {.tokens = tokens,
                           .group = group,
                           .d = d,
                           .pitch = pitch,
                           .queries = queries.data,
                           .keys = keys.data,
                           .gates = gate ? gates.data : NULL,
                           .gate_pitch = gate == GATE_OF_ROWS ? pitch : 1,
                           .beta = delta ? beta.data : NULL};
  static double s[MAX_D][MAX_PANEL + 1], size[MAX_D][MAX_PANEL + 1];
  for (int k = 0; k < d; ++k)
    for (int l = 0; l <= lanes; ++l) {
      s[k][l] = l < lanes ? get(state.data, k * lanes + l) : get(z.data, k);
      size[k][l] = fabs(s[k][l]);
    }
  K->recur(&r, values.data, width, state.data, out.data);
  K->recur_sums(&r, z.data, sums.data);
  double worst = 0;
  for (int t = 0; t < tokens; ++t) {
    for (int l = 0; l <= lanes; ++l) {
      double u = l < lanes ? get(values.data, t * lanes + l) : 1, of_u = fabs(u);
      for (int k = 0; k < d; ++k) {
        const double by = !gate ? 1 : get(gates.data, gate == GATE ? t : t * pitch + k);
        s[k][l] *= by, size[k][l] *= by;
      }
      for (int k = 0; delta && l < lanes && k < d; ++k) {
        u -= get(keys.data, t * pitch + k) * s[k][l];
        of_u += fabs(get(keys.data, t * pitch + k)) * size[k][l];
      }
      if (delta && l < lanes) {
        u *= get(beta.data, t);
        of_u *= fabs(get(beta.data, t));
      }
      for (int k = 0; k < d; ++k) {
        s[k][l] += get(keys.data, t * pitch + k) * u;
        size[k][l] += fabs(get(keys.data, t * pitch + k)) * of_u;
      }
      for (int head = 0; head < group; ++head) {
        const int row = t * group + head;
        double want = 0, of_want = 0;
        for (int k = 0; k < d; ++k) {
          want += get(queries.data, row * pitch + k) * s[k][l];
          of_want += fabs(get(queries.data, row * pitch + k)) * size[k][l];
        }
        const double got = l < lanes ? get(out.data, row * lanes + l) : get(sums.data, row);
        worst = fmax(worst, fabs(got - want) / (unit * of_want * (d + 4 * t + 8)));
      }
    }
  }
  for (int k = 0; k < d; ++k)
    for (int l = 0; l <= lanes; ++l) {
      const double got = l < lanes ? get(state.data, k * lanes + l) : get(z.data, k);
      worst = fmax(worst, fabs(got - s[k][l]) / (unit * size[k][l] * (d + 4 * tokens)));
    }
  CHECK(worst <= 1, "recur: tokens %d group %d d %d width %d gate %d delta %d: error %g", tokens,
        group, d, width, gate, delta, worst);
  guarded_give(&keys), guarded_give(&queries), guarded_give(&gates), guarded_give(&beta);
  guarded_give(&values), guarded_give(&state), guarded_give(&out), guarded_give(&z);
  guarded_give(&sums);
}

static void test_kernels(void) {
  test_map_limits();
  for (int i = 0; i < ROUNDS; ++i)
    for (int map = PA_FEATURE_IDENTITY; map <= PA_MAP_EXP; ++map)
      test_map(1 + below(5), 1 + below(70), map);
  for (int i = 0; i < ROUNDS; ++i)
    for (int width = 1; width <= K->max_width; ++width) {
      for (int gated = 0; gated < 2; ++gated)
        test_products_and_fade(1 + below(PA_KEY_BLOCK), width, gated);
      for (int gate = NO_GATE; gate <= GATE_OF_ROWS; ++gate)
        for (int delta = 0; delta < 2; ++delta)
          for (int group = 1; group < 4; group += 2)
            test_recur(1 + below(9), group, 1 + below(40), width, gate, delta);
    }
  for (int i = 0; i < 4 * ROUNDS; ++i) {
    test_sums(1 + below(PA_KEY_BLOCK), 1 + below(70));
    test_shares_and_write(1 + below(20), 1 + below(70), below(2));
  }
}

/* --- The call: against the formulas, in whatever chunks; any strides; threads change no bit. */

typedef struct operands {
  array query, key, value, out, decay, beta, state, new_state;
} operands;

static void view_of(pa_view *v, const array *a) {
  memcpy(v->batch, a->stride, sizeof *a->stride);
  v->data = a->data, v->head = a->stride[1], v->row = a->stride[2], v->col = a->stride[3];
}

static array operand(int64_t heads, int64_t rows, int64_t cols, pa_element element, double scale,
                     double offset) {
  const int64_t extent[] = {2, heads, rows, cols};
  array a = array_take(4, extent, element_bytes[element], 0, (layout)below(2));
  for (int64_t n = 0; n < numbers(&a); ++n)
    element_put(element, number_at(&a, n), offset + scale * normal());
  array_keep(&a);
  return a;
}

static double number(const array *a, pa_element element, int64_t b, int64_t h, int64_t r,
                     int64_t k) {
  return element_at(
      element, a->data + b * a->stride[0] + h * a->stride[1] + r * a->stride[2] + k * a->stride[3]);
}

/* The largest error of a key head, in rounding units of its sums. */
static double head_error(const pa_linear_attention_call *c, const operands *o, int64_t b,
                         int64_t h) {
  enum { most = 80 };
  static double s[most][most], size[most][most];
  const pa_element real = real_element(), e = c->key_element;
  const int64_t d = c->d, cols = c->dv + c->normalized, group = c->heads / c->kv_heads;
  const int64_t length = c->key_lengths[b];
  double worst = 0;
  for (int64_t k = 0; k < d; ++k)
    for (int64_t v = 0; v < cols; ++v) {
      s[k][v] = c->state.data ? number(&o->state, real, b, h, k, v) : 0;
      size[k][v] = fabs(s[k][v]);
    }
  const int64_t steps = c->causal ? c->keys : c->keys + c->queries;
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t v = 0; t < length && v < cols; ++v) {
      double u = v < c->dv ? number(&o->value, e, b, h, t, v) : 1, of_u = fabs(u);
      for (int64_t k = 0; k < d; ++k) {
        const double key = phi((int)c->feature, number(&o->key, e, b, h, t, k));
        double by = 1;
        if (c->decay.data) by = exp(number(&o->decay, real, b, h, t, c->decay_cols > 1 ? k : 0));
        s[k][v] *= by, size[k][v] *= by;
        u -= c->beta.data ? key * s[k][v] : 0, of_u += c->beta.data ? fabs(key) * size[k][v] : 0;
      }
      const double beta = c->beta.data ? number(&o->beta, real, b, h, t, 0) : 1;
      for (int64_t k = 0; k < d; ++k) {
        const double key = phi((int)c->feature, number(&o->key, e, b, h, t, k));
        s[k][v] += key * beta * u, size[k][v] += fabs(key * beta) * of_u;
      }
    }
    const int64_t query = c->causal ? t : t - c->keys;
    for (int64_t g = h * group; query >= 0 && g < (h + 1) * group; ++g) {
      double sums[most] = {0}, sizes[most] = {0};
      for (int64_t v = 0; v < cols; ++v)
        for (int64_t k = 0; k < d; ++k) {
          const double q =
              phi((int)c->feature, number(&o->query, c->query_element, b, g, query, k));
          sums[v] += q * s[k][v], sizes[v] += fabs(q) * size[k][v];
        }
      for (int64_t v = 0; v < c->dv; ++v) {
        const double got = number(&o->out, c->query_element, b, g, query, v);
        double by = c->scale, extra = 0;
        if (c->causal && t >= length) by = sums[v] = sizes[v] = 0;
        else if (c->normalized) by = sums[c->dv] == 0 ? 0 : 1 / sums[c->dv];
        if (c->normalized) extra = fabs(sums[v] * by * by) * sizes[c->dv];
        const double halves = element_bytes[c->query_element] == 2 ? 0x1p-8 : 0;
        const double off = unit * (sizes[v] * fabs(by) + extra) + halves * fabs(sums[v] * by);
        worst = fmax(worst, fabs(got - sums[v] * by) / (off + real_tiny() + halves * 0x1p-14));
      }
    }
  }
  for (int64_t k = 0; k < d; ++k)
    for (int64_t v = 0; v < cols; ++v)
      worst = fmax(worst, fabs(number(&o->new_state, real, b, h, k, v) - s[k][v]) /
                              (unit * size[k][v] + real_tiny()));
  return worst;
}

static double largest;
static int never(void) { return 0; }

static void test_call(pa_type type) {
  static int count;
  static pa_linear_attention_call c;
  const pa_element real = real_element();
  const pa_element element = type == PA_FLOAT32 && below(4) == 0 ? (pa_element)below(2) : real;
  int64_t lengths[2];
  memset(&c, 0, sizeof c);
  c.type = type, c.query_element = below(2) && type == PA_FLOAT32 ? real : element;
  c.key_element = element, c.batch_axes = 1, c.batch[0] = 2;
  c.kv_heads = 1 + below(3), c.heads = c.kv_heads * (1 + below(3));
  c.causal = below(3) > 0, c.keys = 1 + below(150), c.queries = c.causal ? c.keys : 1 + below(99);
  c.d = 1 + below(70), c.dv = 1 + below(70), c.scale = 0.3;
  c.chunk = below(3) ? 1 + below(64) : 1 + below(9);
  c.feature = (pa_feature)below(3);
  c.normalized = c.feature == PA_FEATURE_ELU && below(3);
  for (int b = 0; b < 2; ++b) lengths[b] = below(2) ? c.keys : below((int)c.keys + 1);
  c.key_lengths = lengths;
  const double scale = 1 / sqrt((double)c.d);
  c.decay_cols = below(3) ? 1 : c.d;
  operands o = {.query = operand(c.heads, c.queries, c.d, c.query_element, 1, 0),
                .key = operand(c.kv_heads, c.keys, c.d, element, scale, 0),
                .value = operand(c.kv_heads, c.keys, c.dv, element, 1, 0),
                .out = operand(c.heads, c.queries, c.dv, c.query_element, 1, 0),
                .decay = operand(c.kv_heads, c.keys, c.decay_cols, real, 0.1, -0.3),
                .beta = operand(c.kv_heads, c.keys, 1, real, 0.2, 0.5),
                .state = operand(c.kv_heads, c.d, c.dv + c.normalized, real, 0.1, 1),
                .new_state = operand(c.kv_heads, c.d, c.dv + c.normalized, real, 1, 0)};
  view_of(&c.query, &o.query), view_of(&c.key, &o.key), view_of(&c.value, &o.value);
  view_of(&c.out, &o.out), view_of(&c.new_state, &o.new_state);
  if (below(2)) view_of(&c.state, &o.state);
  if (c.causal && below(2)) view_of(&c.decay, &o.decay);
  if (c.causal && !c.feature && below(2)) view_of(&c.beta, &o.beta);
  if (below(2)) c.poll = never;
  ++count;
  char *first[2] = {malloc(o.out.memory.bytes), malloc(o.new_state.memory.bytes)};
  const array *results[] = {&o.out, &o.new_state};
  for (int threads = 1; threads <= 3; ++threads) {
    pa_threads_set(threads);
    array_restore(&o.out), array_restore(&o.new_state);
    CHECK(pa_linear_attention(&c) == PA_OK, "status");
    for (int i = 0; i < 2; ++i) {
      const guarded *memory = &results[i]->memory;
      if (threads == 1) memcpy(first[i], memory->data, memory->bytes);
      else
        CHECK(!memcmp(first[i], memory->data, memory->bytes), "call %d: other bits on %d threads",
              count, threads);
    }
  }
  double error = 0;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t h = 0; h < c.kv_heads; ++h) error = fmax(error, head_error(&c, &o, b, h));
  largest = fmax(largest, error);
  CHECK(error <= 40,
        "call %d: %s element %d causal %d chunk %d heads %d of %d queries %d keys %d d %d dv %d "
        "feature %d normalized %d decay %d beta %d: error %g",
        count, pa_isa_name(), element, c.causal, (int)c.chunk, (int)c.heads, (int)c.kv_heads,
        (int)c.queries, (int)c.keys, (int)c.d, (int)c.dv, c.feature, c.normalized,
        c.decay.data ? (int)c.decay_cols : 0, c.beta.data != NULL, error);
  CHECK(array_only_numbers(&o.out, element_bytes[c.query_element]) &&
            array_only_numbers(&o.new_state, K->real_bytes),
        "call %d: written beside", count);
  free(first[0]), free(first[1]);
  array *all[] = {&o.query, &o.key, &o.value, &o.out, &o.decay, &o.beta, &o.state, &o.new_state};
  for (int i = 0; i < 8; ++i) array_give(all[i]);
}

/* --- Interruption, and sizes that no memory has */

static int polls;
static int at_once(void) { return ++polls; }

static void test_interrupted(int threads, int64_t chunk) {
  static pa_linear_attention_call c;
  enum { d = 64 };
  const int64_t keys = 1 << 17, row = d * (int64_t)sizeof(float);
  float *x = calloc((size_t)keys, (size_t)row), *out = calloc((size_t)keys, (size_t)row);
  const pa_view view = {.data = (char *)x, .row = row, .col = sizeof *x};
  memset(&c, 0, sizeof c);
  c = (pa_linear_attention_call){.type = PA_FLOAT32,
                                 .query_element = PA_ELEMENT_FLOAT32,
                                 .key_element = PA_ELEMENT_FLOAT32,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .queries = keys,
                                 .keys = keys,
                                 .d = d,
                                 .dv = d,
                                 .decay_cols = 1,
                                 .causal = 1,
                                 .scale = 1,
                                 .chunk = chunk,
                                 .query = view,
                                 .key = view,
                                 .value = view,
                                 .out = view,
                                 .poll = at_once};
  c.out.data = (char *)out;
  polls = 0;
  pa_threads_set(threads);
  CHECK(pa_linear_attention(&c) == PA_INTERRUPTED && polls > 0, "not interrupted: %d", polls);
  c.d = c.dv = (int64_t)1 << 40;
  CHECK(pa_linear_attention(&c) == PA_NO_MEMORY, "sizes that overflow");
  free(x), free(out);
}

static void test_table(void) {
  largest = 0;
  if (!THREADS_ONLY) test_kernels();
  for (int i = 0; i < CALLS; ++i) test_call(K->real_bytes == 4 ? PA_FLOAT32 : PA_FLOAT64);
  printf("; error up to %.1f units", largest);
}

int main(void) {
  for_each_table(test_table);
  for (int threads = 1; threads <= 3; ++threads)
    for (int64_t chunk = 1; chunk <= 64; chunk *= 64) test_interrupted(threads, chunk);
  return check_report();
}
