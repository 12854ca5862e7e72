/* Activations of every table this machine can run, by way of sums that become results, against
 * functions of more digits: over all sizes of numbers, and what is no number. */
#include "activations.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || defined(CHECK_UNDER_QEMU)
enum { BLOCKS = 40 };
#else
enum { BLOCKS = 400 };
#endif

enum { ROWS = 32, LANES_AT_MOST = 64, NUMBERS = ROWS * LANES_AT_MOST };

/* y[i] = activation(x[i]) for all numbers of a block: of rows of `lanes`, the kernel adds 0 * 0. */
static void activate_block(int activation, const double *x, double *y) {
  const int lanes = K->max_width * K->lanes;
  ptrdiff_t rows[ROWS], cols[LANES_AT_MOST];
  guarded sums = guarded_take((size_t)(ROWS * lanes) * real_bytes(), below(2));
  guarded bias = panel_take(1, K->max_width), out = guarded_take(sums.bytes, below(2));
  guarded panel = panel_take(1, K->max_width);
  for (int i = 0; i < ROWS * lanes; ++i) put(sums.data, i, x[i]);
  for (int l = 0; l < lanes; ++l)
    put(bias.data, l, -0.0), put(panel.data, l, 0), cols[l] = l * K->real_bytes;
  for (int r = 0; r < ROWS; ++r) rows[r] = r * lanes * K->real_bytes;
  const double zero = 0;
  const pa_matrix nothing = {(const char *)&zero, 0, 0};
  const pa_completion completion = {.activation = activation,
                                    .count = lanes,
                                    .bias = bias.data,
                                    .out = {out.data, rows, cols, (1U << K->max_width) - 1}};
  K->linear(&nothing, ROWS, 1, panel.data, K->max_width, 0, sums.data, &completion);
  for (int i = 0; i < ROWS * lanes; ++i) y[i] = get(out.data, i);
  guarded_give(&sums), guarded_give(&bias), guarded_give(&out), guarded_give(&panel);
}

static const char *const names[] = {"identity", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu"};

/* Any bits, or numbers between which and 0 something happens. */
static double any_size(int block) {
  const double size = block % 2 ? 12 : K->real_bytes == 4 ? 100 : 800;
  float single;
  const uint32_t bits = (uint32_t)(uniform() * 0x1p32);
  memcpy(&single, &bits, sizeof single);
  if (block % 4 == 0) return isnan(single) ? 0 : (double)single;
  return (2 * uniform() - 1) * size * (block % 3 ? 1 : uniform() * uniform());
}

static void test_sizes(int activation) {
  static double x[NUMBERS], y[NUMBERS];
  double worst = 0, worst_positive = 0, part = 0;
  int bad = 0;
  for (int block = 0; block < BLOCKS; ++block) {
    for (int i = 0; i < NUMBERS; ++i) x[i] = rounded(any_size(block));
    activate_block(activation, x, y);
    for (int i = 0; i < ROWS * K->max_width * K->lanes; ++i) {
      if (isinf(x[i])) continue;
      const double want = (double)activated(activation, x[i]);
      const double off = fabs(y[i] - want), size = unit * fabs(want);
      const double allowed =
          activation_units(activation, x[i]) * size + activation_rest(activation, x[i]);
      bad += !(off <= allowed);
      if (fabs(want) > 100 * activation_rest(activation, x[i])) {
        if (x[i] > -1) worst_positive = fmax(worst_positive, off / size);
        worst = fmax(worst, off / size), part = fmax(part, off / allowed);
      }
    }
  }
  CHECK(bad == 0, "%s: %d wrong, error %g units (%g above -1), %g of what is allowed",
        names[activation], bad, worst, worst_positive, part);
  printf("; %s %.1f, %.1f above -1 (%.2f)", names[activation], worst, worst_positive, part);
}

/* NaN stays; infinity is infinity; far below 0 there is 0; zero is zero. Of -infinity the limit, or
 * what the formula says: NaN. */
static void test_special(int activation) {
  static double x[NUMBERS], y[NUMBERS];
  const double tiny = real_tiny(), most = real_max();
  const double special[] = {NAN, HUGE_VAL, -HUGE_VAL, 0, most, -most, tiny, -tiny};
  for (int i = 0; i < NUMBERS; ++i) x[i] = special[i % 8];
  activate_block(activation, x, y);
  const int low = activation != PA_IDENTITY; /* nothing is left of large negative numbers */
  for (int i = 0; i < ROWS * K->max_width * K->lanes; ++i) {
    const double zero = low ? 0 : x[i];
    const int right = isnan(x[i])          ? isnan(y[i])
                      : x[i] == -HUGE_VAL  ? y[i] == zero || (low && isnan(y[i]))
                      : x[i] == -most      ? y[i] == zero
                      : fabs(x[i]) <= tiny ? fabs(y[i]) <= tiny
                                           : y[i] == x[i];
    CHECK(right, "%s(%g) = %g", names[activation], x[i], y[i]);
  }
}

static void test_table(void) {
  for (int activation = 0; activation < ACTIVATIONS; ++activation)
    test_sizes(activation), test_special(activation);
}

int main(void) {
  for_each_table(test_table);
  return check_report();
}
