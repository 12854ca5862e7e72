/* Scores to outputs: every such kernel of every table this machine can run, against plain loops in
 * double. What comes between the scores and their softmax is in test_terms.c. */
#include "tables.h"

/* Bytes between numbers of a row: side by side, backwards, padded, misaligned, all the same. */
static ptrdiff_t any_step(int may_be_zero) {
  const ptrdiff_t steps[] = {1, -1, 2, -3}, which = below(may_be_zero ? 8 : 7);
  if (which < 4) return steps[which] * K->real_bytes;
  return which == 7 ? 0 : (below(2) ? 1 : -1) * (K->real_bytes + 1 + below(9));
}

/* Room for `count` numbers `step` bytes apart; *first: where the first of them lies. */
static guarded line_take(int count, ptrdiff_t step, int at_front, char **first) {
  const ptrdiff_t extent = (count - 1) * step;
  guarded g = guarded_take((size_t)(extent < 0 ? -extent : extent) + real_bytes(), at_front);
  *first = g.data + (extent < 0 ? -extent : 0);
  return g;
}

static double at_byte(const char *at) { return get(at, 0); }

static void test_pack_and_write(int d, int width, ptrdiff_t col) {
  const int lanes = width * K->lanes, at_front = below(2);
  const ptrdiff_t back_col = col ? col : any_step(0);
  guarded row[MAX_PANEL], back[MAX_PANEL];
  char *from[MAX_PANEL], *to[MAX_PANEL];
  for (int l = 0; l < lanes; ++l) {
    row[l] = line_take(d, col, at_front, &from[l]);
    back[l] = line_take(d, back_col, at_front, &to[l]);
    for (int k = 0; k < d; ++k) put(from[l] + k * col, 0, normal());
  }
  guarded panel = panel_take(d, width), factor = panel_take(2, width);
  K->pack[real_element()](panel.data, (const char *const *)from, col, d, width, 0.5);
  int bad = 0;
  for (int k = 0; k < d; ++k)
    for (int l = 0; l < lanes; ++l)
      bad += get(panel.data, k * lanes + l) != 0.5 * at_byte(from[l] + k * col);
  CHECK(bad == 0, "pack: d %d width %d col %td: %d wrong", d, width, col, bad);

  /* d numbers of a row, and nothing between them or in rows that only fill lanes */
  const int count = lanes - below(K->lanes);
  for (int l = 0; l < lanes; ++l) put(factor.data, l, 3), put(factor.data, lanes + l, 1);
  for (int k = 0; k < d; ++k) put(panel.data, k * lanes + below(lanes), below(2) ? -0.0 : 0.0);
  K->write[real_element()](to, back_col, panel.data, d, width, count, factor.data);
  bad = 0;
  for (int l = 0; l < lanes; ++l) {
    for (int k = 0; l < count && k < d; ++k) {
      char *at = to[l] + k * back_col;
      bad += !same(at_byte(at), 4 * get(panel.data, k * lanes + l) + 0.0);
      memset(at, GUARDED_PATTERN, real_bytes());
    }
    for (size_t i = 0; i < back[l].bytes; ++i) bad += back[l].data[i] != (char)GUARDED_PATTERN;
  }
  CHECK(bad == 0, "write: d %d width %d col %td count %d: %d wrong", d, width, back_col, count,
        bad);
  for (int l = 0; l < lanes; ++l) guarded_give(&row[l]), guarded_give(&back[l]);
  guarded_give(&panel), guarded_give(&factor);
}

/* Something to look ahead to; asking for memory that may not be touched is no error. */
static pa_ahead ahead_take(const guarded *g) {
  static const char *rows[3];
  const pa_region r = {g->map, 100, -7, 130, 5, 2};
  for (int i = 0; i < 3; ++i) rows[i] = g->map;
  return (pa_ahead){.regions = {r, r, r, r},
                    .lines = 3,
                    .region = 3,
                    .rows = rows,
                    .row_offset = -1,
                    .row_bytes = 200,
                    .row_count = 3,
                    .row_lines = 2};
}

/* A matrix in one of several orders, flush against a guard page at either end. */
static pa_matrix matrix_take(guarded *g, int rows, int cols, int may_be_zero) {
  pa_matrix m = {NULL, 0, any_step(may_be_zero)};
  const ptrdiff_t size = m.col < 0 ? -m.col : m.col ? m.col : K->real_bytes;
  m.row = (below(4) ? 1 : -1) * (size * cols + (below(2) ? 0 : K->real_bytes + below(5)));
  if (below(3) == 0) { /* column by column */
    m.row = any_step(may_be_zero);
    const ptrdiff_t high = m.row < 0 ? -m.row : m.row ? m.row : K->real_bytes;
    m.col = (below(4) ? 1 : -1) * (high * rows + (below(2) ? 0 : 3));
  }
  const ptrdiff_t row_extent = (rows - 1) * m.row, col_extent = (cols - 1) * m.col;
  *g = guarded_take((size_t)(labs(row_extent) + labs(col_extent)) + real_bytes(), below(2));
  char *data = g->data;
  if (row_extent < 0) data -= row_extent;
  if (col_extent < 0) data -= col_extent;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) put(data + r * m.row + c * m.col, 0, normal());
  m.data = data;
  return m;
}

static double entry(const pa_matrix *m, int r, int c) {
  return at_byte(m->data + r * m->row + c * m->col);
}

static void test_scores(int keys, int d, int width) {
  const int lanes = width * K->lanes;
  guarded memory, panel = panel_take(d, width), out = panel_take(keys, width);
  guarded top = panel_take(1, width);
  const pa_matrix key = matrix_take(&memory, keys, d, 1);
  pa_ahead ahead = ahead_take(&memory);
  K->scores(&key, keys, d, panel.data, width, out.data, top.data, &ahead);
  double worst = 0;
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double best = -HUGE_VAL;
    for (int r = 0; r < keys; ++r) {
      double sum = 0, size = 0;
      for (int k = 0; k < d; ++k) {
        const double term = entry(&key, r, k) * get(panel.data, k * lanes + l);
        sum += term, size += fabs(term);
      }
      const double got = get(out.data, r * lanes + l);
      worst = fmax(worst, fabs(got - sum) / (unit * size * (d + 1)));
      best = fmax(best, got);
    }
    bad += get(top.data, l) != best;
  }
  CHECK(worst <= 1 && bad == 0,
        "scores: keys %d d %d width %d strides %td %td: error %g, %d maxima wrong", keys, d, width,
        key.row, key.col, worst, bad);
  guarded_give(&memory), guarded_give(&panel), guarded_give(&out), guarded_give(&top);
}

static void test_values(int keys, int d, int width) {
  const int lanes = width * K->lanes;
  guarded memory, weights = panel_take(keys, width), out = panel_take(d, width);
  guarded before = panel_take(d, width), alpha = panel_take(1, width), again = panel_take(d, width);
  const pa_matrix value = matrix_take(&memory, keys, d, 0);
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
        const double term = entry(&value, r, k) * get(weights.data, r * lanes + l);
        sum += term, size += fabs(term);
      }
      worst = fmax(worst, fabs(get(out.data, k * lanes + l) - sum) / (unit * size * (keys + 1)));
    }
  CHECK(worst <= 1, "values: keys %d d %d width %d strides %td %td: error %g", keys, d, width,
        value.row, value.col, worst);

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
  for (int k = 0; k < d; ++k)
    put((char *)value.data + hidden_key * value.row + k * value.col, 0, NAN);
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
      bad += s.seen.data[l] != 0; /* whoever knows what rows may see sets it */
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
    CHECK(same(got, want[i]), "exp2(%g) = %g", special[i], got);
  }
  state_give(&s), guarded_give(&x), guarded_give(&top), guarded_give(&alpha);
}

static void test_merge(int d, int width) {
  const int lanes = width * K->lanes;
  state a = state_take(d, width), b = state_take(d, width), total = state_take(d, width);
  for (int l = 0; l < lanes; ++l) {
    put(a.top.data, l, normal() * 5), put(a.sum.data, l, 1 + uniform());
    put(b.top.data, l, normal() * 5), put(b.sum.data, l, 1 + uniform());
    a.seen.data[l] = below(3) > 0, b.seen.data[l] = below(3) > 0;
  }
  fill(a.out.data, d * lanes), fill(b.out.data, d * lanes);
  K->merge(&total.view, &a.view, d, width);
  CHECK(!memcmp(total.out.data, a.out.data, a.out.bytes) &&
            !memcmp(total.sum.data, a.sum.data, a.sum.bytes) &&
            !memcmp(total.top.data, a.top.data, a.top.bytes) &&
            !memcmp(total.seen.data, a.seen.data, a.seen.bytes),
        "merge into a fresh state: d %d width %d", d, width);
  K->merge(&total.view, &b.view, d, width);
  double worst = 0;
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    const double ta = get(a.top.data, l), tb = get(b.top.data, l), top = fmax(ta, tb);
    const double fa = exp2(ta - top), fb = exp2(tb - top);
    const double sum = fa * get(a.sum.data, l) + fb * get(b.sum.data, l);
    worst = fmax(worst, fabs(get(total.sum.data, l) - sum) / sum / unit);
    for (int k = 0; k < d; ++k) {
      const double x = fa * get(a.out.data, k * lanes + l), y = fb * get(b.out.data, k * lanes + l);
      worst = fmax(worst, fabs(get(total.out.data, k * lanes + l) - x - y) /
                              (fabs(x) + fabs(y) + 1e-30) / unit);
    }
    bad += get(total.top.data, l) != top;
    bad += total.seen.data[l] != (a.seen.data[l] || b.seen.data[l]);
  }
  CHECK(worst <= 30 && bad == 0, "merge: d %d width %d: %g ulp, %d wrong", d, width, worst, bad);
  CHECK(K->finite(&a.view, d, width), "finite: d %d width %d", d, width);
  put(a.out.data, below(d * lanes), below(2) ? NAN : below(2) ? HUGE_VAL : -HUGE_VAL);
  CHECK(!K->finite(&a.view, d, width), "not finite: d %d width %d", d, width);
  state_give(&a), state_give(&b), state_give(&total);
}

/* What rows are multiplied by in the end, and their lse; with sinks and without. */
static void test_finish(int width) {
  const int lanes = width * K->lanes;
  state s = state_take(1, width);
  guarded sinks = guarded_take((size_t)lanes * sizeof(double), below(2));
  guarded factor = panel_take(2, width), lse = panel_take(1, width);
  double *sink = (double *)sinks.data;
  for (int l = 0; l < lanes; ++l) {
    const double far[] = {0, 0, 60, -60, 400, -400};
    s.seen.data[l] = below(5) > 0;
    if (s.seen.data[l] || below(2)) {
      put(s.top.data, l, below(20) ? normal() * 5 : -real_max());
      put(s.sum.data, l, below(30) ? 1 + uniform() * 100 : NAN);
    }
    sink[l] = below(3) ? normal() * 3 + far[below(6)] : -HUGE_VAL;
  }
  K->factors(&s.view, width, sink, factor.data);
  K->lse(&s.view, width, sink, lse.data);
  int bad = 0;
  double worst = 0;
  for (int l = 0; l < lanes; ++l) {
    const double top = get(s.top.data, l), sum = get(s.sum.data, l);
    const double whole = get(factor.data, l) + get(factor.data, lanes + l),
                 log_sum = get(lse.data, l);
    if (!s.seen.data[l]) {
      bad += !same(whole, 0) || !same(get(factor.data, lanes + l), 0);
      bad += !(same(log_sum, sink[l]) || fabs(log_sum - sink[l]) <= unit * fabs(sink[l]));
    } else if (isnan(sum)) {
      bad += !isnan(whole) || !isnan(log_sum);
    } else if (sink[l] == -HUGE_VAL) {
      const double off = fused() ? 0.01 * unit : 2 * unit;
      const double want = top * log(2) + log(sum);
      bad += fabs(whole * sum - 1) > off + 0x1p-52;
      bad += fabs(log_sum - want) > unit * fabs(want) + 4 * 0x1p-53 * (fabs(top) + fabs(log(sum)));
    } else {
      const long double t = (long double)top * logl(2), high = fmaxl(t, sink[l]);
      const long double total = expl(t - high) * sum + expl(sink[l] - high);
      const double exact = (double)(expl(t - high) / total), want = (double)(high + logl(total));
      /* exponents are rounded before they are powers */
      const double off = unit * (8 + 2 * fabs(top) + 2 * fabs(sink[l]));
      if (exact > 8 * real_min()) worst = fmax(worst, fabs(whole / exact - 1) / off);
      else bad += !(whole >= 0 && whole <= 32 * real_min());
      bad +=
          fabs(log_sum - want) > unit * fabs(want) + 8 * 0x1p-53 * (1 + fabs(top) + fabs(log(sum)));
    }
  }
  CHECK(bad == 0 && worst <= 1, "factors and lse: width %d: %g of what is allowed, %d wrong", width,
        worst, bad);
  state_give(&s), guarded_give(&sinks), guarded_give(&factor), guarded_give(&lse);
}

/* --- The largest scores of a row */

enum { MAX_K = 80, MAX_SEEN = 4 * PA_KEY_BLOCK };

/* Larger first; of equal ones the first. NaN and -inf are never kept. */
static int keep_plainly(const double *scores, const int64_t *keys, int count, int k, double *kept,
                        int64_t *at) {
  int number = 0;
  for (int i = 0; i < count; ++i) {
    if (!(scores[i] > -HUGE_VAL)) continue;
    int place = number;
    while (place > 0 && kept[place - 1] < scores[i]) --place;
    if (place >= k) continue;
    number = number < k ? number + 1 : k;
    for (int n = number - 1; n > place; --n) kept[n] = kept[n - 1], at[n] = at[n - 1];
    kept[place] = scores[i], at[place] = keys[i];
  }
  return number;
}

static void test_strongest(int width) {
  const int lanes = width * K->lanes, count = lanes - below(K->lanes), k = 1 + below(MAX_K);
  const int blocks = 1 + below(4), coarse = below(2);
  guarded weights[MAX_PANEL], indices[MAX_PANEL];
  pa_strongest best = {.k = k, .count = count, .width = width};
  static double scores[MAX_PANEL][MAX_SEEN];
  int64_t keys[MAX_SEEN];
  for (int l = 0; l < count; ++l) {
    weights[l] = guarded_take((size_t)k * real_bytes(), below(2));
    indices[l] = guarded_take((size_t)k * sizeof(int64_t), below(2));
    memset(weights[l].data, below(2) ? 0xFF : 0x7F, weights[l].bytes); /* what lay there before */
    memset(indices[l].data, 0xFF, indices[l].bytes);
    best.weights[l] = weights[l].data, best.indices[l] = indices[l].data;
  }
  int seen = 0, bad = 0;
  for (int64_t block = 0, from = below(2) ? INT64_C(1) << 40 : 0; block < blocks; ++block) {
    const int more = 1 + below(MAX_KEYS);
    guarded x = panel_take(more, width);
    for (int key = 0; key < more; ++key) {
      keys[seen + key] = from + key;
      for (int l = 0; l < lanes; ++l) {
        double score = coarse ? floor(normal() * 2) : normal() * 4;
        if (below(6) == 0) score = -HUGE_VAL;
        if (below(40) == 0) score = NAN;
        put(x.data, key * lanes + l, score);
        scores[l][seen + key] = rounded(score);
      }
    }
    K->keep(&best, x.data, from, more);
    guarded_give(&x);
    seen += more;
    from += more + below(100);
  }
  state s = state_take(1, width);
  guarded factor = panel_take(2, width), tile = panel_take(MAX_K, width);
  for (int l = 0; l < lanes; ++l) put(s.top.data, l, 20 + uniform());
  for (int l = 0; l < count; ++l) {
    double kept[MAX_K];
    int64_t at[MAX_K];
    const int number = keep_plainly(scores[l], keys, seen, k, kept, at);
    for (int i = 0; i < k; ++i) {
      int64_t key;
      memcpy(&key, indices[l].data + i * (int)sizeof key, sizeof key);
      bad += key != (i < number ? at[i] : -1);
      if (i < number) bad += get(weights[l].data, i) != kept[i];
      put(tile.data, i * lanes + l, i < number ? kept[i] : -HUGE_VAL);
    }
  }
  CHECK(bad == 0, "keep: k %d width %d: %d wrong", k, width, bad);

  /* the bits of weights that are computed and written in the usual way */
  K->weigh(&best, &s.view, factor.data);
  guarded alpha = panel_take(1, width), back[MAX_PANEL];
  char *to[MAX_PANEL];
  for (int l = 0; l < count; ++l) {
    back[l] = guarded_take((size_t)k * real_bytes(), below(2));
    to[l] = back[l].data;
  }
  for (int from = 0; from < k; from += MAX_KEYS) /* nothing above the top: it stays */
    K->softmax(tile.data + (size_t)(from * lanes) * real_bytes(),
               k - from < MAX_KEYS ? k - from : MAX_KEYS, width, s.top.data, &s.view, alpha.data);
  K->write[real_element()](to, K->real_bytes, tile.data, k, width, count, factor.data);
  for (int l = 0; l < count; ++l) {
    bad += memcmp(back[l].data, weights[l].data, back[l].bytes) != 0;
    guarded_give(&back[l]), guarded_give(&weights[l]), guarded_give(&indices[l]);
  }
  CHECK(bad == 0, "weigh: k %d width %d: %d rows of other bits", k, width, bad);
  state_give(&s), guarded_give(&factor), guarded_give(&tile), guarded_give(&alpha);
}

static void test_probe(void) {
  guarded g = guarded_take(8 * 64 * 5, below(2));
  double sum = 0;
  for (size_t i = 0; i < g.bytes / real_bytes(); ++i)
    put(g.data, (ptrdiff_t)i, (double)i), sum += (double)i;
  CHECK(K->read(g.data, g.bytes) == sum, "read");
  CHECK(K->burn(3) >= 3 * 2 * 2 * K->lanes, "burn");
  guarded_give(&g);
}

static void test_table(void) {
  for (int width = 1; width <= K->max_width; ++width) {
    for (int d = 1; d <= MAX_D; d += d < 36 ? 1 : 13)
      for (int i = 0; i < 4; ++i)
        test_pack_and_write(d, width, i < 2 ? (i ? -K->real_bytes : K->real_bytes) : any_step(1));
    for (int i = 0; i < 150; ++i) {
      const int keys = 1 + below(MAX_KEYS), d = 1 + below(below(4) ? 24 : MAX_D);
      test_scores(keys, d, width);
      test_values(keys, d, width);
      test_softmax(keys, width);
      test_merge(d, width);
      test_finish(width);
      test_strongest(width);
    }
  }
  test_exp2();
  test_probe();
}

int main(void) {
  for_each_table(test_table);
  return check_report();
}
