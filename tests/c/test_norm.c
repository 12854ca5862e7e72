/* Norms: the kernel and the call made of it, on every table this machine can run, against plain
 * loops. Every operand is flush against an inaccessible page in front or behind. */
#include "elements.h"
#include "planes.h"

#if defined(__SANITIZE_THREAD__) || defined(CHECK_UNDER_QEMU) /* slow */
enum { ROUNDS = 1, CALLS = 20 };
#else
enum { ROUNDS = 10, CALLS = 200 };
#endif

/* A row and what is done to it; NULL: there is none. */
typedef struct row {
  int64_t cols;
  const char *x, *residual, *weight, *bias;
  double eps;
  int centred;
} row;

/* How much of what it may be off by the result of a row is off by.
 *
 * y, the rounded sum, is y - mean after another rounding and off by as much as the mean; both are
 * relative to what they are of. The factor is off by some units, and by what that does to the
 * squares. Sums are made of vectors in four chains, along which errors drift. */
static double error_of(const row *row, const char *out) {
  const int64_t cols = row->cols;
  static double y[2048];
  loose sum = 0, squares = 0, sizes = 0;
  for (int64_t k = 0; k < cols; ++k) {
    y[k] = get(row->x, k);
    if (row->residual) y[k] = rounded(y[k] + get(row->residual, k));
    sum += y[k], sizes += fabs(y[k]);
  }
  const loose mean = row->centred ? sum / cols : 0;
  for (int64_t k = 0; k < cols; ++k) squares += (y[k] - mean) * (y[k] - mean);
  const loose factor = 1 / sqrtl(squares / cols + row->eps);
  const double drift = sqrt((double)cols / (4 * K->lanes)) / 2;
  const double moved = row->centred ? unit * (double)(sizes / cols) * (3 + drift) : 0;
  const double own = sizeof(loose) > real_bytes() ? 1 : 4; /* plain loops are off as well */
  double worst = 0;
  for (int64_t k = 0; k < cols; ++k) {
    const loose distance = y[k] - mean, by = row->weight ? get(row->weight, k) : 1;
    const loose plus = row->bias ? get(row->bias, k) : 0, want = distance * factor * by + plus;
    const double size = (double)(fabsl(distance) * factor * fabsl(by));
    const double shift = moved * (double)(factor * fabsl(by)) * (1 + (double)factor * moved);
    const double off = unit * ((5 + drift) * size + fabs((double)plus) + fabs((double)want)) +
                       shift + size * (double)factor * moved;
    const double error = fabs((double)(get(out, k) - want));
    worst = fmax(worst, isnan(error) ? HUGE_VAL : error / (own * off + 4 * real_tiny()));
  }
  return worst;
}

static double largest; /* error_of of all rows */

static guarded row_take(int64_t cols, double scale, double offset) {
  guarded g = guarded_take((size_t)cols * real_bytes(), below(2));
  for (int64_t k = 0; k < cols; ++k) put(g.data, k, normal() * scale + offset);
  return g;
}

/* In place or not: the same bits. Offsets large against what varies; tiny and large rows. */
static void test_row(int64_t cols, int centred, int how) {
  const double scale = ldexp(1, below(60) - 30), offset = below(3) ? 0 : scale * 1e4;
  guarded x = row_take(cols, scale, offset), residual = row_take(cols, scale, -offset / 3);
  guarded weight = row_take(cols, 1, 1), bias = row_take(cols, 1, 0);
  guarded out = row_take(cols, 0, 0);
  const row row = {.cols = cols,
                   .x = x.data,
                   .residual = how & 1 ? residual.data : NULL,
                   .weight = how & 2 ? weight.data : NULL,
                   .bias = how & 4 ? bias.data : NULL,
                   .eps = below(2) ? 1e-5 * scale * scale : 1e-40,
                   .centred = centred};
  pa_norm_row n = {.cols = cols,
                   .x = row.x,
                   .residual = row.residual,
                   .out = out.data,
                   .weight = row.weight,
                   .bias = row.bias,
                   .eps = row.eps,
                   .centred = centred};
  K->norm(&n);
  const double error = error_of(&row, out.data);
  largest = fmax(largest, error);
  CHECK(error <= 1, "cols %d centred %d residual %d weight %d bias %d scale %g offset %g: error %g",
        (int)cols, centred, how & 1, how >> 1 & 1, how >> 2 & 1, scale, offset, error);
  guarded *places[] = {&x, how & 1 ? &residual : &x};
  for (int i = 0; i < 2; ++i) {
    guarded was = copy_take(places[i]);
    n.out = places[i]->data;
    K->norm(&n);
    CHECK(!memcmp(places[i]->data, out.data, out.bytes), "cols %d: other bits in place", (int)cols);
    memcpy(places[i]->data, was.data, was.bytes);
    guarded_give(&was);
  }
  guarded_give(&x), guarded_give(&residual), guarded_give(&weight), guarded_give(&bias);
  guarded_give(&out);
}

/* All the same: nothing is left but the bias. Nothing at all: no division by 0 but where eps is. */
static void test_special(int64_t cols, int centred) {
  guarded x = row_take(cols, 0, 3), bias = row_take(cols, 1, 0), out = row_take(cols, 0, 0);
  const pa_norm_row n = {.cols = cols,
                         .x = x.data,
                         .out = out.data,
                         .bias = bias.data,
                         .eps = 1e-5,
                         .centred = centred};
  K->norm(&n);
  int bad = 0;
  const double one = centred ? 0 : 3 / sqrt(9 + 1e-5);
  for (int64_t k = 0; k < cols; ++k)
    bad += !(fabs(get(out.data, k) - (one + get(bias.data, k))) <= 8 * unit * (1 + one));
  CHECK(bad == 0, "cols %d of 3, centred %d: %d wrong", (int)cols, centred, bad);
  for (int64_t k = 0; k < cols; ++k) put(x.data, k, k % 2 ? -0.0 : 0);
  K->norm(&n);
  CHECK(!memcmp(out.data, bias.data, out.bytes), "cols %d of 0, centred %d", (int)cols, centred);
  const double odd[] = {NAN, HUGE_VAL, -HUGE_VAL};
  for (int i = 0; i < 3; ++i) {
    const int at = below((int)cols);
    for (int64_t k = 0; k < cols; ++k) put(x.data, k, normal());
    put(x.data, at, odd[i]);
    K->norm(&n);
    for (int64_t k = bad = 0; k < cols; ++k) {
      const double y = get(out.data, k); /* without a mean, others are divided by infinity */
      bad += centred || i == 0 || k == at ? !isnan(y) : y != get(bias.data, k);
    }
    CHECK(bad == 0, "cols %d centred %d, one of %g: %d wrong", (int)cols, centred, odd[i], bad);
  }
  guarded_give(&x), guarded_give(&bias), guarded_give(&out);
}

static int64_t next_cols(int64_t cols) {
  const int64_t more[] = {71, 96, 127, 128, 129, 384, 1000, 1025};
  if (cols < 70) return cols + 1;
  for (int i = 0; i < 8; ++i)
    if (more[i] > cols) return more[i];
  return 0;
}

static void test_kernel(void) {
  for (int64_t cols = 1; cols; cols = next_cols(cols))
    for (int centred = 0; centred < 2; ++centred) {
      for (int i = 0; i < ROUNDS; ++i)
        for (int how = 0; how < 8; ++how) test_row(cols, centred, how);
      test_special(cols, centred);
    }
}

/* --- The driver */

static int never(void) { return 0; }

static plane plane_of_rows(int64_t rows, int64_t cols, int shared) {
  plane p = plane_take(rows, cols, K->real_bytes, shared, WHOLE);
  for (int64_t n = 0; n < numbers(&p.memory); ++n) put(number_at(&p.memory, n), 0, normal());
  array_keep(&p.memory);
  p.view.col = (pa_axis){below(100), below(100), below(100)}; /* nobody looks at */
  return p;
}

static const char *row_at(const pa_plane *p, int64_t row) {
  return p->data + axis_at(&p->row, row);
}

static void test_call(pa_type type, int64_t rows, int64_t cols) {
  static int number;
  const int in_place = below(3), residuals = in_place == 2 || below(2); /* 1: of x, 2: of it */
  plane x = plane_of_rows(rows, cols, in_place == 1 ? 0 : SHARED_ROWS), residual = x, out = x;
  if (residuals) residual = plane_of_rows(rows, cols, in_place == 2 ? 0 : SHARED_ROWS);
  if (in_place == 0) out = plane_of_rows(rows, cols, 0);
  if (in_place == 2) out = residual;
  guarded weight = row_take(cols, 1, 1), bias = row_take(cols, 1, 0);
  pa_norm_call c = {.type = type,
                    .rows = rows,
                    .cols = cols,
                    .x = x.view,
                    .out = out.view,
                    .weight = below(2) ? weight.data : NULL,
                    .bias = below(2) ? bias.data : NULL,
                    .eps = 1e-5,
                    .centred = below(2),
                    .poll = below(2) ? never : NULL};
  if (residuals) c.residual = residual.view;
  const pa_plane x_before = plane_before(&x), residual_before = plane_before(&residual);
  char *first = malloc(out.memory.memory.bytes);
  ++number;
  for (int threads = 1; threads <= 7; threads += threads == 3 ? 4 : 1) {
    array_restore(&out.memory);
    pa_threads_set(threads);
    CHECK(pa_norm(&c) == PA_OK, "status");
    if (threads == 1) memcpy(first, out.memory.memory.data, out.memory.memory.bytes);
    else
      CHECK(!memcmp(first, out.memory.memory.data, out.memory.memory.bytes),
            "call %d: other bits on %d threads", number, threads);
  }
  guarded alone = row_take(cols, 0, 0);
  double worst = 0;
  int bad = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const row row = {.cols = cols,
                     .x = row_at(&x_before, r),
                     .residual = residuals ? row_at(&residual_before, r) : NULL,
                     .weight = c.weight,
                     .bias = c.bias,
                     .eps = c.eps,
                     .centred = c.centred};
    worst = fmax(worst, error_of(&row, row_at(&c.out, r)));
    const pa_norm_row n = {cols,     row.x,  row.residual, alone.data,
                           c.weight, c.bias, c.eps,        c.centred};
    K->norm(&n);
    bad += memcmp(alone.data, row_at(&c.out, r), alone.bytes) != 0;
  }
  largest = fmax(largest, worst);
  CHECK(worst <= 1 && bad == 0,
        "call %d: rows %d cols %d centred %d residual %d in place %d: error %g, %d rows are others "
        "alone",
        number, (int)rows, (int)cols, c.centred, residuals, in_place, worst, bad);
  CHECK(array_only_numbers(&out.memory, K->real_bytes), "written beside the results");
  if (in_place != 1) {
    CHECK(array_unchanged(&x.memory), "x changed");
    array_give(&x.memory);
  }
  if (residuals && in_place != 2) {
    CHECK(array_unchanged(&residual.memory), "residual changed");
    array_give(&residual.memory);
  }
  array_give(&out.memory), free(first);
  guarded_give(&weight), guarded_give(&bias), guarded_give(&alone);
}

/* --- Interruption */

static int polls;
static int at_once(void) { return ++polls; }

/* As many rows as it takes to be asked. Each number is new, or as it was; in place nobody asks, not
 * even at twice the rows. */
static void test_interrupted(int threads, int in_place) {
  enum { cols = 64 };
  float same[cols];
  for (int k = 0; k < cols; ++k) same[k] = 3;
  polls = 0;
  pa_threads_set(threads);
  static int64_t asked; /* rows of the call before, which was not in place */
  const int64_t first = in_place ? 2 * asked : 1 << 14, last = in_place ? first : 1 << 20;
  for (int64_t rows = first; rows <= last && polls == 0; rows *= 2) {
    guarded out = guarded_take((size_t)rows * sizeof same, 0);
    float *y = (float *)(void *)out.data;
    for (int64_t n = 0; n < rows * cols; ++n) y[n] = 3;
    const pa_norm_call c = {
        .type = PA_FLOAT32,
        .rows = rows,
        .cols = cols,
        .x = {in_place ? out.data : (char *)same, {rows, 0, in_place ? (int64_t)sizeof same : 0}},
        .out = {out.data, {rows, 0, sizeof same}},
        .centred = 0,
        .poll = at_once};
    const pa_status status = pa_norm(&c);
    CHECK((status == PA_INTERRUPTED) == (polls > 0), "status %d after %d polls", status, polls);
    asked = rows;
    int64_t done = 0, other = 0;
    for (int64_t n = 0; n < rows * cols; ++n) done += y[n] == 1, other += y[n] != 1 && y[n] != 3;
    CHECK(other == 0 && (done == rows * cols) <= (status == PA_OK || threads > 1),
          "%lld numbers done, %lld wrong", (long long)done, (long long)other);
    CHECK(!in_place || done == rows * cols, "left half done");
    guarded_give(&out);
  }
  CHECK((polls > 0) == !in_place, "asked %d times", polls);
}

static void test_table(void) {
  const pa_type type = K->real_bytes == 4 ? PA_FLOAT32 : PA_FLOAT64;
  largest = 0;
  if (!THREADS_ONLY) test_kernel();
  for (int i = 0; i < CALLS; ++i)
    test_call(type, 1 + below(i % 10 ? 20 : 2000), 1 + below(i % 10 ? 80 : 40));
  printf("; error %.2f of what is allowed", largest);
}

int main(void) {
  for_each_table(test_table);
  for (int threads = 1; threads <= 3; ++threads)
    for (int in_place = 0; in_place < 2; ++in_place) test_interrupted(threads, in_place);
  return check_report();
}
