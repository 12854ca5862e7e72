/* Every kernel of every table this machine can run, against plain loops in double. */
#include <float.h>

#include "check.h"
#include "dispatch.h"
#include "pyattn.h"

enum { MAX_D = 140, MAX_KEYS = PA_KEY_BLOCK, MAX_PANEL = 64 };

static const pa_kernels *K;
static double unit; /* rounding unit of the table's type */

static double real_max(void) { return K->real_bytes == 4 ? (double)FLT_MAX : DBL_MAX; }

/* Whether the table has a fused multiply-add: the second part of a factor is of no use without. */
static int fused(void) {
#if defined(PA_EMULATED)
  return 0;
#else
  return strcmp(K->isa, "generic") != 0;
#endif
}

static size_t real_bytes(void) { return (size_t)K->real_bytes; }

static double get(const void *x, ptrdiff_t i) {
  return K->real_bytes == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static void put(void *x, ptrdiff_t i, double value) {
  if (K->real_bytes == 4) ((float *)x)[i] = (float)value;
  else ((double *)x)[i] = value;
}

static void fill(void *x, ptrdiff_t count) {
  for (ptrdiff_t i = 0; i < count; ++i) put(x, i, normal());
}

static guarded panel_take(ptrdiff_t rows, int width) {
  guarded g = guarded_take((size_t)(rows * width * K->lanes) * real_bytes(), 0);
  fill(g.data, rows * width * K->lanes);
  return g;
}

static void test_pack_and_write(int d, int width, int gap, int at_front) {
  const int lanes = width * K->lanes;
  const ptrdiff_t col = K->real_bytes * (1 + gap);
  const size_t row_bytes = (size_t)((d - 1) * col) + real_bytes();
  guarded row[MAX_PANEL], back[MAX_PANEL];
  const char *from[MAX_PANEL];
  char *to[MAX_PANEL];
  for (int l = 0; l < lanes; ++l) {
    row[l] = guarded_take(row_bytes, at_front);
    back[l] = guarded_take(row_bytes, at_front);
    memset(back[l].data, 0x5a, row_bytes);
    for (int k = 0; k < d; ++k) put(row[l].data + k * col, 0, normal());
    from[l] = row[l].data;
    to[l] = back[l].data;
  }
  guarded panel = panel_take(d, width), factor = panel_take(2, width);
  K->pack(panel.data, from, col, d, width, 0.5);
  int bad = 0;
  for (int k = 0; k < d; ++k)
    for (int l = 0; l < lanes; ++l)
      bad += get(panel.data, k * lanes + l) != 0.5 * get(from[l] + k * col, 0);
  CHECK(bad == 0, "pack: d %d width %d gap %d: %d wrong", d, width, gap, bad);

  const int count = lanes - below(K->lanes);
  for (int l = 0; l < lanes; ++l) put(factor.data, l, 3), put(factor.data, lanes + l, 1);
  K->write(to, col, panel.data, d, width, count, factor.data);
  bad = 0;
  for (int l = 0; l < lanes; ++l)
    for (int k = 0; k < d; ++k) {
      const double want = 2 * get(from[l] + k * col, 0);
      char untouched[8];
      memset(untouched, 0x5a, sizeof untouched);
      bad += l < count ? get(to[l] + k * col, 0) != want
                       : memcmp(to[l] + k * col, untouched, real_bytes()) != 0;
    }
  CHECK(bad == 0, "write: d %d width %d gap %d count %d: %d wrong", d, width, gap, count, bad);
  for (int l = 0; l < lanes; ++l) guarded_give(&row[l]), guarded_give(&back[l]);
  guarded_give(&panel), guarded_give(&factor);
}

/* Something to look ahead to; asking for memory that may not be touched is no error. */
static pa_ahead ahead_take(const guarded *g) {
  const pa_region r = {g->map, 100, -7, 130, 5, 2};
  return (pa_ahead){.regions = {r, r, r, r}, .lines = 3, .region = 3};
}

/* Rows of a matrix `gap` numbers apart beyond d, flush against a guard page at either end. */
static pa_matrix matrix_take(guarded *g, int rows, int d, int gap, int at_front) {
  const ptrdiff_t row = (ptrdiff_t)real_bytes() * (d + gap);
  *g = guarded_take((size_t)((rows - 1) * row) + (size_t)d * real_bytes(), at_front);
  for (int r = 0; r < rows; ++r) fill(g->data + r * row, d);
  return (pa_matrix){g->data, row, K->real_bytes};
}

static void test_scores(int keys, int d, int width, int gap, int at_front) {
  const int lanes = width * K->lanes;
  guarded memory, panel = panel_take(d, width), out = panel_take(keys, width);
  guarded top = panel_take(1, width);
  const pa_matrix key = matrix_take(&memory, keys, d, gap, at_front);
  pa_ahead ahead = ahead_take(&memory);
  K->scores(&key, keys, d, panel.data, width, out.data, top.data, &ahead);
  double worst = 0;
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double best = -HUGE_VAL;
    for (int r = 0; r < keys; ++r) {
      double sum = 0, size = 0;
      for (int k = 0; k < d; ++k) {
        const double term = get(key.data + r * key.row, k) * get(panel.data, k * lanes + l);
        sum += term, size += fabs(term);
      }
      const double got = get(out.data, r * lanes + l);
      worst = fmax(worst, fabs(got - sum) / (unit * size * (d + 1)));
      best = fmax(best, got);
    }
    bad += get(top.data, l) != best;
  }
  CHECK(worst <= 1 && bad == 0, "scores: keys %d d %d width %d: error %g, %d maxima wrong", keys, d,
        width, worst, bad);
  guarded_give(&memory), guarded_give(&panel), guarded_give(&out), guarded_give(&top);
}

static void test_values(int keys, int d, int width, int gap, int at_front) {
  const int lanes = width * K->lanes;
  guarded memory, weights = panel_take(keys, width), out = panel_take(d, width);
  guarded before = panel_take(d, width), alpha = panel_take(1, width), again = panel_take(d, width);
  const pa_matrix value = matrix_take(&memory, keys, d, gap, at_front);
  pa_ahead ahead = ahead_take(&memory);
  const size_t out_bytes = (size_t)(d * lanes) * real_bytes();
  memcpy(out.data, before.data, out_bytes);
  memcpy(again.data, before.data, out_bytes);
  K->values(&value, keys, d, weights.data, width, alpha.data, out.data, &ahead);
  double worst = 0;
  for (int k = 0; k < d; ++k)
    for (int l = 0; l < lanes; ++l) {
      double sum = get(alpha.data, l) * get(before.data, k * lanes + l), size = fabs(sum);
      for (int r = 0; r < keys; ++r) {
        const double term = get(value.data + r * value.row, k) * get(weights.data, r * lanes + l);
        sum += term, size += fabs(term);
      }
      worst = fmax(worst, fabs(get(out.data, k * lanes + l) - sum) / (unit * size * (keys + 1)));
    }
  CHECK(worst <= 1, "values: keys %d d %d width %d: error %g", keys, d, width, worst);

  /* Guarded: hide some weights; what they would multiply becomes NaN, and no bit may change. */
  int hidden_key = below(keys), hidden_lane = below(lanes);
  for (int l = 0; l < lanes; ++l)
    for (int r = 0; r < keys; ++r) {
      const ptrdiff_t at = r * lanes + l;
      const double w = fabs(get(weights.data, at));
      put(weights.data, at, (r == hidden_key && l != hidden_lane) ? -0.0 : w);
    }
  memcpy(out.data, before.data, out_bytes);
  K->values(&value, keys, d, weights.data, width, alpha.data, out.data, &ahead);
  for (int k = 0; k < d; ++k) put((char *)value.data + hidden_key * value.row, k, NAN);
  K->values_guarded(&value, keys, d, weights.data, width, alpha.data, again.data, &ahead);
  int bad = 0;
  for (int k = 0; k < d; ++k)
    for (int l = 0; l < lanes; ++l) {
      const ptrdiff_t at = k * lanes + l;
      if (l == hidden_lane) bad += !isnan(get(again.data, at));
      else bad += get(again.data, at) != get(out.data, at);
    }
  CHECK(bad == 0, "values_guarded: keys %d d %d width %d: %d wrong", keys, d, width, bad);
  guarded_give(&memory), guarded_give(&weights), guarded_give(&out), guarded_give(&before);
  guarded_give(&alpha), guarded_give(&again);
}

static void test_hide(int keys, int width) {
  const int lanes = width * K->lanes;
  guarded x = panel_take(keys, width), was = panel_take(keys, width), top = panel_take(1, width);
  int32_t first[MAX_PANEL], last[MAX_PANEL];
  memcpy(was.data, x.data, (size_t)(keys * lanes) * real_bytes());
  for (int l = 0; l < lanes; ++l) first[l] = below(keys + 1), last[l] = below(keys + 1);
  K->hide(x.data, keys, width, first, last, -HUGE_VAL, top.data);
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double best = -real_max();
    for (int r = 0; r < keys; ++r) {
      const int seen = first[l] <= r && r < last[l];
      const double want = seen ? get(was.data, r * lanes + l) : -HUGE_VAL;
      bad += get(x.data, r * lanes + l) != want;
      best = fmax(best, want);
    }
    bad += get(top.data, l) != best;
  }
  CHECK(bad == 0, "hide: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&x), guarded_give(&was), guarded_give(&top);
}

typedef struct state {
  guarded top, sum, out;
  pa_state view;
} state;

static state state_take(int d, int width) {
  state s = {panel_take(1, width), panel_take(1, width), panel_take(d, width), {0}};
  s.view = (pa_state){s.top.data, s.sum.data, s.out.data};
  K->reset(&s.view, d, width);
  return s;
}

static void state_give(state *s) {
  guarded_give(&s->top), guarded_give(&s->sum), guarded_give(&s->out);
}

static void test_softmax(int keys, int width) {
  const int lanes = width * K->lanes;
  guarded x = panel_take(keys, width), was = panel_take(keys, width);
  guarded top = panel_take(1, width), alpha = panel_take(1, width);
  state s = state_take(1, width);
  double worst = 0, sums = 0;
  int bad = 0;
  double total[MAX_PANEL] = {0}, best[MAX_PANEL];
  for (int l = 0; l < lanes; ++l) best[l] = -real_max();
  for (int block = 0; block < 3; ++block) {
    for (int l = 0; l < lanes; ++l) {
      double here = -HUGE_VAL;
      for (int r = 0; r < keys; ++r) {
        const double score = below(8) ? normal() * (block + 1) * 20 : -HUGE_VAL;
        put(was.data, r * lanes + l, score);
        put(x.data, r * lanes + l, score);
        here = fmax(here, get(x.data, r * lanes + l));
      }
      put(top.data, l, fmax(here, -real_max()));
    }
    K->softmax(x.data, keys, width, top.data, &s.view, alpha.data);
    for (int l = 0; l < lanes; ++l) {
      const double before = best[l];
      best[l] = fmax(best[l], get(top.data, l));
      bad += get(s.top.data, l) != best[l];
      const double step = before - best[l], fade = exp2(step);
      worst = fmax(worst, fabs(get(alpha.data, l) - fade) / unit / fmax(fade, 1e-30) /
                              (1 + 0.35 * fabs(step)));
      total[l] *= fade;
      for (int r = 0; r < keys; ++r) {
        const double score = get(was.data, r * lanes + l), t = score - best[l];
        const double want = score == -HUGE_VAL ? 0 : exp2(t), got = get(x.data, r * lanes + l);
        if (score == -HUGE_VAL) bad += got != 0 || signbit(got);
        else if (t > (K->real_bytes == 4 ? -120 : -1000)) /* t itself is rounded: |t| ln2 / 2 */
          worst = fmax(worst, fabs(got - want) / want / unit / (1 + 0.35 * fabs(t)));
        else bad += !(got >= 0 && got <= 1e-36);
        total[l] += want;
      }
      sums = fmax(sums, fabs(get(s.sum.data, l) - total[l]) / (total[l] + 1e-300) / unit);
    }
  }
  CHECK(worst <= 3 && bad == 0, "softmax: keys %d width %d: %g ulp, %d wrong", keys, width, worst,
        bad);
  CHECK(sums <= 40 + keys, "softmax sums: keys %d width %d: %g ulp", keys, width, sums);
  guarded_give(&x), guarded_give(&was), guarded_give(&top), guarded_give(&alpha), state_give(&s);
}

static void test_exp2(void) {
  guarded x = panel_take(MAX_KEYS, 1), top = panel_take(1, 1), alpha = panel_take(1, 1);
  double worst = 0;
  for (int round = 0; round < 200; ++round) {
    state s = state_take(1, 1);
    double t[MAX_KEYS * 16];
    for (int i = 0; i < MAX_KEYS * K->lanes; ++i) {
      put(x.data, i, -uniform() * (round % 2 ? 2 : K->real_bytes == 4 ? 126 : 1022));
      t[i] = get(x.data, i);
    }
    for (int l = 0; l < K->lanes; ++l) put(top.data, l, 0);
    K->softmax(x.data, MAX_KEYS, 1, top.data, &s.view, alpha.data);
    for (int i = 0; i < MAX_KEYS * K->lanes; ++i) {
      const long double want = exp2l((long double)t[i]);
      worst = fmax(worst, (double)(fabsl((long double)get(x.data, i) - want) / want) / unit);
    }
    state_give(&s);
  }
  CHECK(worst <= 2.4, "exp2: relative error %g units", worst);

  const double nothing = K->real_bytes == 4 ? -127 : -1023;
  const double special[] = {0, -0.0, -1, nothing, nothing - 0.25, -1e30, -HUGE_VAL, NAN};
  state s = state_take(1, 1);
  for (int i = 0; i < 8; ++i)
    for (int l = 0; l < K->lanes; ++l) put(x.data, i * K->lanes + l, special[i]);
  for (int l = 0; l < K->lanes; ++l) put(top.data, l, 0);
  K->softmax(x.data, 8, 1, top.data, &s.view, alpha.data);
  const double want[] = {1, 1, 0.5, 0, 0, 0, 0, NAN};
  for (int i = 0; i < 8; ++i) {
    const double got = get(x.data, i * K->lanes);
    CHECK(got == want[i] || (isnan(got) && isnan(want[i])), "exp2(%g) = %g", special[i], got);
  }
  state_give(&s), guarded_give(&x), guarded_give(&top), guarded_give(&alpha);
}

static void test_merge_and_finish(int d, int width) {
  const int lanes = width * K->lanes;
  state a = state_take(d, width), b = state_take(d, width), fresh = state_take(d, width);
  guarded factor = panel_take(2, width), lse = panel_take(1, width);
  for (int l = 0; l < lanes; ++l) {
    put(a.top.data, l, normal() * 5), put(a.sum.data, l, 1 + uniform());
    put(b.top.data, l, normal() * 5), put(b.sum.data, l, 1 + uniform());
  }
  fill(a.out.data, d * lanes), fill(b.out.data, d * lanes);
  K->merge(&fresh.view, &a.view, d, width);
  const int same = !memcmp(fresh.out.data, a.out.data, (size_t)(d * lanes) * real_bytes()) &&
                   !memcmp(fresh.sum.data, a.sum.data, (size_t)lanes * real_bytes());
  CHECK(same, "merge into a fresh state: d %d width %d", d, width);
  K->merge(&fresh.view, &b.view, d, width);
  double worst = 0;
  int bad = 0;
  unsigned char empty[MAX_PANEL];
  for (int l = 0; l < lanes; ++l) empty[l] = l % 5 == 3;
  K->factors(&fresh.view, width, empty, factor.data);
  K->lse(&fresh.view, width, empty, lse.data);
  for (int l = 0; l < lanes; ++l) {
    const double ta = get(a.top.data, l), tb = get(b.top.data, l), top = fmax(ta, tb);
    const double fa = exp2(ta - top), fb = exp2(tb - top);
    const double sum = fa * get(a.sum.data, l) + fb * get(b.sum.data, l);
    worst = fmax(worst, fabs(get(fresh.sum.data, l) - sum) / sum / unit);
    for (int k = 0; k < d; ++k) {
      const double x = fa * get(a.out.data, k * lanes + l), y = fb * get(b.out.data, k * lanes + l);
      worst = fmax(worst, fabs(get(fresh.out.data, k * lanes + l) - x - y) /
                              (fabs(x) + fabs(y) + 1e-30) / unit);
    }
    const double log_sum = top * log(2) + log(sum);
    const double whole = get(factor.data, l) + get(factor.data, lanes + l);
    const double exact = 1 / get(fresh.sum.data, l);
    const double off = fused() ? 0.01 * unit : 2 * unit;
    bad += empty[l] ? whole != 0 : fabs(whole / exact - 1) > off + 0x1p-52;
    bad += empty[l] ? get(lse.data, l) != -HUGE_VAL
                    : fabs(get(lse.data, l) - log_sum) > 30 * unit * (1 + fabs(log_sum));
  }
  CHECK(worst <= 30 && bad == 0, "merge: d %d width %d: %g ulp, %d wrong", d, width, worst, bad);
  CHECK(K->finite(&a.view, d, width), "finite: d %d width %d", d, width);
  put(a.out.data, below(d * lanes), below(2) ? NAN : HUGE_VAL);
  CHECK(!K->finite(&a.view, d, width), "not finite: d %d width %d", d, width);
  state_give(&a), state_give(&b), state_give(&fresh), guarded_give(&factor), guarded_give(&lse);
}

static void test_table(void) {
  for (int width = 1; width <= K->max_width; ++width) {
    for (int d = 1; d <= MAX_D; d += d < 36 ? 1 : 13)
      for (int gap = 0; gap < 2; ++gap) test_pack_and_write(d, width, gap, below(2));
    for (int i = 0; i < 150; ++i) {
      const int keys = 1 + below(MAX_KEYS), d = 1 + below(below(4) ? 24 : MAX_D);
      test_scores(keys, d, width, below(3), below(2));
      test_values(keys, d, width, below(3), below(2));
      test_hide(keys, width);
      test_softmax(keys, width);
      test_merge_and_finish(d, width);
    }
  }
  test_exp2();
}

int main(void) {
  const char *name;
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) {
    pa_isa_select(name);
    for (int type = 0; type < 2; ++type) {
      K = pa_dispatch((pa_type)type);
      unit = K->real_bytes == 4 ? 0x1p-24 : 0x1p-53;
      printf("%s f%d\n", name, 8 * K->real_bytes);
      test_table();
    }
  }
  return check_report();
}
