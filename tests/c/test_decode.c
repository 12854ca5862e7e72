/* Few rows against a block of keys, and rows of pages: every such kernel of every table this
 * machine can run, against plain loops. Every operand is flush against an inaccessible page in
 * front or behind. */
#include "elements.h"

#if defined(__SANITIZE_ADDRESS__) || defined(CHECK_UNDER_QEMU) /* slow */
enum { ROUNDS = 60 };
#else
enum { ROUNDS = 250 };
#endif

enum { MAX_ROWS = PA_FEW_ROWS, MAX_VECTORS = 11, LONGEST_ROW = MAX_VECTORS * 16 };

static const double log2_e = 1.4426950408889634074;

/* What the arrays of callers may hold that this table computes with. */
static int of_this_table(pa_element e) { return (e == PA_ELEMENT_FLOAT64) == (K->real_bytes == 8); }

static void element_fill(pa_element e, char *at) {
  if (e == PA_ELEMENT_INT8) *at = (char)(below(255) - 127);
  else element_put(e, at, normal());
}

/* `rows` rows of contiguous numbers, apart or not, upwards or downwards. */
static pa_matrix rows_take(guarded *g, pa_element e, int rows, int cols) {
  const ptrdiff_t bytes = element_bytes[e];
  pa_matrix m = {NULL, bytes * (cols + (below(2) ? below(9) : 0)), bytes};
  if (below(4) == 0) m.row = 0;
  const ptrdiff_t extent = (rows - 1) * m.row;
  *g = guarded_take((size_t)(extent + bytes * cols), below(2));
  m.data = g->data;
  if (below(4) == 0) m.data += extent, m.row = -m.row;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < cols; ++k) element_fill(e, (char *)m.data + r * m.row + k * bytes);
  return m;
}

static double entry(const pa_matrix *m, pa_element e, int r, int k) {
  return element_at(e, m->data + r * m->row + k * m->col);
}

static guarded numbers_take(ptrdiff_t count) {
  guarded g = guarded_take((size_t)count * real_bytes(), below(2));
  fill(g.data, count);
  return g;
}

/* Rows of scores end with the last one's places for a block. */
static guarded scores_take(int rows) { return numbers_take((ptrdiff_t)rows * PA_KEY_BLOCK); }

/* What is asked for ahead of time may lie anywhere. */
static ptrdiff_t any_distance(void) { return below(2) ? 0 : (ptrdiff_t)(uniform() * 0x1p40); }

static void test_row_scores(pa_element e, int keys, int d, int rows) {
  guarded memory, queries = numbers_take(rows * d), out = scores_take(rows);
  const pa_matrix key = rows_take(&memory, e, keys, d);
  guarded before = copy_take(&out);
  K->row_scores[e](&key, keys, d, queries.data, rows, out.data, any_distance());
  double worst = 0;
  int bad = 0;
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < keys; ++j) {
      loose sum = 0, size = 0;
      for (int k = 0; k < d; ++k) {
        const loose term = (loose)entry(&key, e, j, k) * get(queries.data, r * d + k);
        sum += term, size += term < 0 ? -term : term;
      }
      const double got = get(out.data, r * PA_KEY_BLOCK + j);
      worst =
          fmax(worst, (double)fabsl((long double)(got - sum)) / (unit * (double)size * (d + 1)));
    }
    for (int j = keys + K->lanes - 1; j < PA_KEY_BLOCK; ++j)
      bad += !same(get(out.data, r * PA_KEY_BLOCK + j), get(before.data, r * PA_KEY_BLOCK + j));
  }
  CHECK(worst <= 1 && bad == 0, "row_scores: type %d keys %d d %d rows %d: error %g, %d others", e,
        keys, d, rows, worst, bad);
  guarded_give(&memory), guarded_give(&queries), guarded_give(&out), guarded_give(&before);
}

static void test_row_values(pa_element e, int keys, int d, int rows, int guarded_too) {
  guarded memory, weights = scores_take(rows), alpha = numbers_take(rows);
  guarded out = numbers_take(rows * d), before = copy_take(&out);
  const pa_matrix value = rows_take(&memory, e, keys, d);
  const int hidden = guarded_too && e != PA_ELEMENT_INT8 && value.row ? below(keys) : -1;
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < PA_KEY_BLOCK; ++j)
      put(weights.data, r * PA_KEY_BLOCK + j, j == hidden ? -0.0 : j < keys ? uniform() : NAN);
  if (hidden >= 0)
    element_put(e, (char *)value.data + hidden * value.row + below(d) * value.col, NAN);
  K->row_values[e](&value, keys, d, weights.data, rows, guarded_too, alpha.data, out.data,
                   any_distance());
  double worst = 0;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < d; ++k) {
      loose sum = (loose)get(alpha.data, r) * get(before.data, r * d + k);
      loose size = sum < 0 ? -sum : sum;
      for (int j = 0; j < keys; ++j) {
        if (j == hidden) continue;
        const loose term = (loose)entry(&value, e, j, k) * get(weights.data, r * PA_KEY_BLOCK + j);
        sum += term, size += term < 0 ? -term : term;
      }
      const double error = (double)(get(out.data, r * d + k) - sum);
      worst = fmax(worst, isnan(error) ? HUGE_VAL : fabs(error) / (unit * (double)size * 24));
    }
  CHECK(worst <= 1, "row_values: type %d keys %d d %d rows %d guarded %d: error %g", e, keys, d,
        rows, guarded_too, worst);
  guarded_give(&memory), guarded_give(&weights), guarded_give(&alpha);
  guarded_give(&out), guarded_give(&before);
}

/* An attended NaN is one, whether guarded or not and however small its weight. */
static void test_attended_nan(pa_element e) {
  const int d = K->lanes, keys = 1 + below(PA_KEY_BLOCK), at = below(keys);
  guarded memory, weights = scores_take(1), alpha = numbers_take(1), out = numbers_take(d);
  pa_matrix value = rows_take(&memory, e, keys, d);
  for (int k = 0; k < d; ++k)
    element_put(e, (char *)value.data + at * value.row + k * value.col, NAN);
  put(weights.data, at, 0);
  K->row_values[e](&value, keys, d, weights.data, 1, below(2), alpha.data, out.data, 0);
  int bad = 0;
  for (int k = 0; k < d; ++k) bad += !isnan(get(out.data, k));
  CHECK(bad == 0, "row_values: type %d: %d NaNs lost", e, bad);
  guarded_give(&memory), guarded_give(&weights), guarded_give(&alpha), guarded_give(&out);
}

static void test_row_softmax(int keys, int rows) {
  guarded scores = scores_take(rows), top = numbers_take(rows), sum = numbers_take(rows);
  guarded alpha = numbers_take(rows);
  const int fresh = below(2);
  for (int r = 0; r < rows; ++r) {
    put(top.data, r, fresh ? -real_max() : 10 * normal());
    put(sum.data, r, fresh ? 0 : 1 + uniform());
    for (int j = 0; j < keys; ++j)
      put(scores.data, r * PA_KEY_BLOCK + j, below(8) ? 10 * normal() : -HUGE_VAL);
  }
  guarded before = copy_take(&scores), old_top = copy_take(&top), old_sum = copy_take(&sum);
  const pa_rows_state state = {top.data, sum.data, alpha.data, NULL};
  K->row_softmax(scores.data, keys, rows, &state);
  double worst = 0;
  int bad = 0;
  for (int r = 0; r < rows; ++r) {
    double best = get(old_top.data, r);
    for (int j = 0; j < keys; ++j) best = fmax(best, get(before.data, r * PA_KEY_BLOCK + j));
    const double factor = exp2(get(old_top.data, r) - best);
    double total = factor * get(old_sum.data, r);
    for (int j = 0; j < keys; ++j) {
      const double score = get(before.data, r * PA_KEY_BLOCK + j), weight = exp2(score - best);
      const double got = get(scores.data, r * PA_KEY_BLOCK + j);
      total += weight;
      bad += isinf(score) && !same(got, 0);
      worst =
          fmax(worst, fabs(got - weight) / (unit * (4 + fabs(score - best)) * weight + real_min()));
    }
    bad += get(top.data, r) != best;
    worst = fmax(worst, fabs(get(sum.data, r) - total) / (unit * 80 * total + real_min()));
    worst = fmax(worst, fabs(get(alpha.data, r) - factor) / (unit * 80 * factor + real_min()));
  }
  CHECK(worst <= 1 && bad == 0, "row_softmax: keys %d rows %d: error %g, %d wrong", keys, rows,
        worst, bad);
  guarded_give(&scores), guarded_give(&top), guarded_give(&sum), guarded_give(&alpha);
  guarded_give(&before), guarded_give(&old_top), guarded_give(&old_sum);
}

/* A tile [key][lane]: added, and where it hides, marked. */
static void test_tiles(int keys, int rows, int width) {
  const int lanes = width * K->lanes;
  if (rows > lanes) return;
  guarded scores = scores_take(rows), tile = panel_take(keys, width), weights = copy_take(&scores);
  for (int i = 0; i < keys * lanes; ++i)
    if (below(3) == 0) put(tile.data, i, below(2) ? -HUGE_VAL : below(2) ? -real_max() : NAN);
  guarded before = copy_take(&scores);
  K->row_add(scores.data, tile.data, keys, width, rows);
  K->row_mark(weights.data, tile.data, keys, width, rows);
  int bad = 0, unmarked = 0;
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < PA_KEY_BLOCK; ++j) {
      const ptrdiff_t at = r * PA_KEY_BLOCK + j;
      const double x = get(before.data, at);
      const double added = j < keys ? get(tile.data, j * lanes + r) : 0, got = get(scores.data, at);
      const int hides = added == -HUGE_VAL;
      unmarked += !same(get(weights.data, at), hides ? -0.0 : x);
      if (j >= keys) continue; /* the last vector of scores may be changed */
      if (hides || isnan(added)) bad += !same(got, added);
      else if (added == -real_max()) bad += !(got < -0.9 * real_max() && isfinite(got));
      else bad += !(fabs(got - (x + added * log2_e)) <= 4 * unit * (fabs(x) + fabs(added)));
    }
  CHECK(bad == 0 && unmarked == 0, "keys %d rows %d width %d: %d badly added, %d badly marked",
        keys, rows, width, bad, unmarked);
  guarded_give(&scores), guarded_give(&tile), guarded_give(&weights), guarded_give(&before);
}

static void test_row_scale(int keys, int rows) {
  guarded x = scores_take(rows), before = copy_take(&x);
  guarded scale = guarded_take((size_t)keys * sizeof(float), below(2));
  for (int j = 0; j < keys; ++j) ((float *)(void *)scale.data)[j] = (float)normal();
  K->row_scale(x.data, (float *)(void *)scale.data, keys, rows);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < PA_KEY_BLOCK; ++j) {
      const double was = get(before.data, r * PA_KEY_BLOCK + j);
      const double factor = j < keys ? (double)((float *)(void *)scale.data)[j] : 1;
      bad += !same(get(x.data, r * PA_KEY_BLOCK + j), rounded(was * factor));
    }
  CHECK(bad == 0, "row_scale: keys %d rows %d: %d wrong", keys, rows, bad);
  guarded_give(&x), guarded_give(&before), guarded_give(&scale);
}

/* Out of a panel, and back into the state of one. */
static void test_rows_and_panels(int d, int rows, int width) {
  const int lanes = width * K->lanes, whole = (d + K->lanes - 1) / K->lanes * K->lanes;
  if (rows > lanes) return;
  guarded panel = panel_take(d, width), queries = numbers_take(rows * whole);
  K->row_queries(queries.data, panel.data, d, width, rows);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < whole; ++k)
      bad += !same(get(queries.data, r * whole + k), k < d ? get(panel.data, k * lanes + r) : 0);
  CHECK(bad == 0, "row_queries: d %d rows %d width %d: %d wrong", d, rows, width, bad);

  guarded top = numbers_take(rows), sum = numbers_take(rows), out = numbers_take(rows * whole);
  const pa_rows_state few = {top.data, sum.data, NULL, out.data};
  state s = state_take(d, width);
  K->row_finish(&few, whole, rows, &s.view, d, width);
  for (int l = 0; l < lanes; ++l) {
    bad += l < rows && !same(get(s.view.top, l), get(top.data, l));
    bad += l < rows && !same(get(s.view.sum, l), get(sum.data, l));
    for (int k = 0; k < d; ++k)
      bad += l < rows && !same(get(s.view.out, k * lanes + l), get(out.data, l * whole + k));
  }
  CHECK(bad == 0, "row_finish: d %d rows %d width %d: %d wrong", d, rows, width, bad);
  K->row_reset(&few, whole, rows);
  for (int r = 0; r < rows; ++r) bad += get(top.data, r) != -real_max() || get(sum.data, r) != 0;
  for (int i = 0; i < rows * whole; ++i) bad += !same(get(out.data, i), 0);
  CHECK(bad == 0, "row_reset: d %d rows %d: %d wrong", d, rows, bad);
  state_give(&s), guarded_give(&panel), guarded_give(&queries);
  guarded_give(&top), guarded_give(&sum), guarded_give(&out);
}

/* Numbers of a row side by side, apart, or backwards. */
static pa_matrix spread_take(guarded *g, pa_element e, int rows, int cols) {
  const ptrdiff_t bytes = element_bytes[e], steps[] = {1, 1, -1, 3};
  pa_matrix m = {NULL, 0, steps[below(4)] * bytes};
  const ptrdiff_t extent = (cols - 1) * (m.col < 0 ? -m.col : m.col);
  m.row = extent + bytes + below(5);
  *g = guarded_take((size_t)((rows - 1) * m.row + extent + bytes), below(2));
  m.data = g->data + (m.col < 0 ? extent : 0);
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < cols; ++k) element_fill(e, (char *)m.data + r * m.row + k * m.col);
  return m;
}

static void test_widen_rows(pa_element e, int rows, int cols) {
  const int whole = (cols + K->lanes - 1) / K->lanes * K->lanes, scaled = below(2);
  guarded memory, to = numbers_take(rows * whole);
  guarded scale = guarded_take((size_t)rows * sizeof(float), below(2));
  float *factors = (float *)(void *)scale.data;
  for (int r = 0; r < rows; ++r) factors[r] = (float)normal();
  const pa_matrix from = spread_take(&memory, e, rows, cols);
  K->widen_rows[e](to.data, &from, rows, cols, scaled ? factors : NULL);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < whole; ++k) {
      const double x = k < cols ? entry(&from, e, r, k) : 0,
                   factor = scaled ? (double)factors[r] : 1;
      const double got = get(to.data, r * whole + k);
      bad += k < cols ? !same(got, rounded(x * factor)) : got != 0;
    }
  CHECK(bad == 0, "widen_rows: type %d rows %d cols %d step %td: %d wrong", e, rows, cols, from.col,
        bad);
  guarded_give(&memory), guarded_give(&to), guarded_give(&scale);
}

static void test_store_row(pa_element e, pa_element from_element, int cols) {
  guarded memory, to = guarded_take((size_t)(cols * element_bytes[e]), below(2));
  const pa_matrix from = spread_take(&memory, from_element, 1, cols);
  const int special = below(4);
  if (special == 0) element_put(from_element, (char *)from.data + below(cols) * from.col, NAN);
  if (special == 1) element_put(from_element, (char *)from.data + below(cols) * from.col, HUGE_VAL);
  if (special == 2) /* as nothing, or so small that a factor is not precise */
    for (int k = 0; k < cols; ++k)
      element_put(from_element, (char *)from.data + k * from.col,
                  cols % 2 ? 0 : 0x1p-141 * entry(&from, from_element, 0, k));
  float scale = -1;
  K->store_row[e](to.data, (int)from_element, from.data, from.col, cols, &scale);
  double most = 0;
  for (int k = 0; k < cols; ++k) most = fmax(most, fabs(entry(&from, from_element, 0, k)));
  int bad = 0;
  for (int k = 0; k < cols; ++k) {
    const double x = entry(&from, from_element, 0, k);
    const double got = element_at(e, to.data + k * element_bytes[e]);
    if (e != PA_ELEMENT_INT8) bad += !same(got, element_rounded(e, (loose)x));
    else if (special == 2) bad += !(fabs(got) <= 127 && got * x >= 0);
    else if (special == 3) bad += !(fabs(got * (double)scale - x) <= 0.501 * (double)scale);
  }
  if (e == PA_ELEMENT_INT8) {
    if (special < 2) bad += !isnan(scale);
    else bad += !(fabs((double)scale - most / 127) <= 0x1p-23 * most / 127 + 0x1p-149);
  }
  CHECK(bad == 0, "store_row: type %d from %d cols %d step %td special %d scale %g: %d wrong", e,
        from_element, cols, from.col, special, (double)scale, bad);
  guarded_give(&memory), guarded_give(&to);
}

static void test_elements(pa_element e, int i) {
  CHECK((K->row_scores[e] != NULL) == of_this_table(e), "row_scores of type %d", e);
  CHECK((K->row_values[e] != NULL) == of_this_table(e), "row_values of type %d", e);
  CHECK((K->widen_rows[e] != NULL) == of_this_table(e), "widen_rows of type %d", e);
  if (!of_this_table(e)) return;
  const int keys = 1 + below(PA_KEY_BLOCK), rows = 1 + below(MAX_ROWS);
  const int d = K->lanes * (1 + below(MAX_VECTORS));
  test_row_scores(e, keys, d, rows);
  test_row_values(e, keys, d, rows, i % 2);
  if (e != PA_ELEMENT_INT8) test_attended_nan(e);
  test_widen_rows(e, 1 + below(PA_KEY_BLOCK), 1 + below(LONGEST_ROW));
  if (K->real_bytes == 4)
    for (int from = PA_ELEMENT_FLOAT16; from <= PA_ELEMENT_FLOAT32; ++from)
      test_store_row(e, (pa_element)from, 1 + below(LONGEST_ROW));
}

static void test_table(void) {
  for (int i = 0; i < ROUNDS; ++i) {
    for (int e = PA_ELEMENT_FLOAT16; e <= PA_ELEMENT_INT8; ++e) test_elements((pa_element)e, i);
    const int keys = 1 + below(PA_KEY_BLOCK), rows = 1 + below(MAX_ROWS);
    test_row_softmax(keys, rows);
    test_row_scale(keys, rows);
    for (int width = 1; width <= K->max_width; ++width) {
      test_tiles(keys, rows, width);
      test_rows_and_panels(1 + below(LONGEST_ROW), rows, width);
    }
  }
}

int main(void) {
  for_each_table(test_table);
  return check_report();
}
